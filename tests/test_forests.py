"""Forests are begun with a few trees, and grown on only where they may be the best of their step."""

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from ftransfer import CORAL, DomainScaler, load_recipe, load_task, make_pipeline, race
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.scoring.judge import Judge
from ftransfer.scoring.scorer import load_scorer
from ftransfer.search import trials
from ftransfer.search.forests import FEW, begin_forest, few_trees, more_trees
from ftransfer.search.strategy import Trial
from ftransfer.search.trials import fit_trial


@pytest.fixture
def task(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=60, shift=8.0)
    names = np.array(["a", "b", "c"])[labels]
    return load_task(write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "t", "s")), "s", "t")


@pytest.mark.parametrize("name", ["coral_forest", "source_only_forest"])
def test_a_forest_that_was_begun_and_grown_on_is_the_one_grown_at_once(task, name):
    judge, scorer = Judge(task.X, task.y, task.sample_domain), load_scorer("consistency")
    trial = Trial(load_recipe(name))
    begun = begin_forest(judge, scorer, few_trees(trial, scorer))
    assert len(begun.fitted.steps_[-1][1].estimators_) == FEW
    assert begun.hope >= begun.value
    doubled = begin_forest(judge, scorer, more_trees(trial, FEW, begun.fitted))
    assert len(doubled.fitted.steps_[-1][1].estimators_) == 2 * FEW
    last = more_trees(trial, 4 * FEW, doubled.fitted)
    assert last.trees is None
    grown = fit_trial(judge, last)
    at_once = fit_trial(judge, trial)
    assert grown.get_params().keys() == at_once.get_params().keys()
    assert grown.steps_[-1][1].get_params() == at_once.steps_[-1][1].get_params()
    assert np.array_equal(grown.predict_proba(task.X_target), at_once.predict_proba(task.X_target))


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_forest_that_cannot_be_the_best_of_its_step_is_stopped_and_the_choice_is_the_same(
    task, monkeypatch, jobs
):
    forest = RandomForestClassifier(100, min_samples_leaf=80, random_state=0)  # of leaves alone
    recipes = [
        Recipe("plain", AdaptationPipeline([("c", LogisticRegression())])),
        Recipe("scaled", make_pipeline(DomainScaler(), LogisticRegression())),
        Recipe("coral", make_pipeline(DomainScaler(), CORAL(), LogisticRegression())),
        Recipe("weak", make_pipeline(DomainScaler(), CORAL(), forest)),
        Recipe("only", make_pipeline(DomainScaler(), CORAL(), RandomForestClassifier(100, random_state=0))),
    ]
    found = race(task, recipes, jobs=jobs)
    assert "1 forests that fell behind were stopped before all their trees: weak" in found.task.notes
    monkeypatch.setattr(trials, "few_trees", lambda trial, scorer: trial)
    whole = race(task, recipes, jobs=jobs)
    assert found.sentence == whole.sentence
    assert found.table["pipeline"].tolist()[:4] == whole.table["pipeline"].tolist()[:4]


def test_where_a_step_has_forests_alone_the_best_of_them_has_all_its_trees(task):
    names = ["source_only_forest", "scaled_forest", "coral_forest"]
    found = race(task, names, jobs=1)
    assert len(found.pipeline.steps_[-1][1].estimators_) == 200


@pytest.mark.parametrize("scorer", ["entropy", "ensemble"])
def test_only_the_default_score_of_a_few_trees_tells_of_that_of_all(scorer):
    trial = Trial(load_recipe("coral_forest"))
    assert few_trees(trial, load_scorer(scorer)) is trial
    assert few_trees(trial, load_scorer("consistency")).trees == FEW
