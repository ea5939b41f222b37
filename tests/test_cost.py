"""What is tried first, what is left out on many rows, and a budget that is kept."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, RaceSettings, load_recipe, load_task, make_pipeline, race
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search import contest, cost, finalists, trials
from ftransfer.search.contest import Contest
from ftransfer.search.cost import Clock, approximate_svm, fit_to_size, operations
from ftransfer.search.strategy import Trial


@pytest.fixture
def task(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=60, shift=8.0)
    names = np.array(["a", "b", "c"])[labels]
    return load_task(write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "t", "s")), "s", "t")


def test_on_many_rows_a_support_vector_machine_is_the_dearest_and_labels_of_its_own_cost_their_rounds():
    names = ["coral_logistic", "coral_forest", "coral_svm", "pseudo_svm"]
    asked = [operations(load_recipe(name).pipeline, 200_000, 512) for name in names]
    assert asked == sorted(set(asked))
    assert asked[3] == 10 * asked[2] > 1e4 * asked[0]


def test_an_expectation_is_that_of_the_recipe_or_else_scaled_by_the_others():
    clock = Clock(1000, 10)
    logistic, svm = (Trial(load_recipe(name)) for name in ("coral_logistic", "coral_svm"))
    before = clock.expect(svm)
    clock.took(logistic, 7 * clock.guess(logistic))
    assert clock.expect(svm) == pytest.approx(7 * before)
    clock.took(svm, 3.0)
    clock.took(svm, 2.0)
    assert clock.expect(svm) == 3.0


@pytest.mark.parametrize("budget", [20.0, 100.0, 300.0])
def test_a_budget_is_kept_to_within_a_tenth_with_what_the_guard_fits_at_the_end(task, monkeypatch, budget):
    now = [0.0]
    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(LogisticRegression):
        def fit(self, X, y):
            now[0] += 0.5 if self.C < 1 else 9.0  # seconds
            return super().fit(X, y)

    def recipe(name, *steps, C):
        return Recipe(name, make_pipeline(*steps, Slow()), {"slow__C": C})

    many = np.linspace(0.1, 0.9, 200).tolist()
    recipes = [
        Recipe("plain", AdaptationPipeline([("slow", Slow())]), {"slow__C": many}),
        recipe("scaled", DomainScaler(), C=many),
        recipe("quick", DomainScaler(), CORAL(), C=many),
        recipe("slow", DomainScaler(), CORAL(), C=[1.0, 2.0, 3.0] * 9),
    ]
    found = race(task, recipes, budget=budget, jobs=1)
    assert now[0] <= 1.1 * budget
    assert now[0] >= 0.4 * budget
    assert "the time budget was used up" in found.task.notes[-1]
    assert {"source only", "per-domain scaling", "alignment"} == set(found.table["step"])


@pytest.mark.parametrize("budget", [30.0, 60.0])
def test_rounds_on_few_rows_leave_time_for_a_trial_of_each_step_on_all(tmp_path, monkeypatch, budget):
    X, y, labels = blobs(n_source=900, n_target=600, shift=8.0)
    names = np.array(["a", "b", "c"])[labels]
    task = load_task(write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "t", "s")), "s", "t")
    now = [0.0]
    monkeypatch.setattr(trials, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for module in (trials, finalists):
        monkeypatch.setattr(module, "MANY_ROWS", 300)

    class Slow(LogisticRegression):
        def fit(self, X, y):
            now[0] += len(X) / 300  # seconds: 3 on all rows of the source
            return super().fit(X, y)

    def recipe(name, *steps):
        return Recipe(name, make_pipeline(*steps, Slow()), {"slow__C": np.linspace(0.1, 0.9, 40).tolist()})

    recipes = [recipe("scaled", DomainScaler()), recipe("aligned", DomainScaler(), CORAL())]
    found = race(task, recipes, budget=budget, jobs=1, search="halving")
    assert now[0] <= 1.1 * budget
    assert now[0] >= 0.5 * budget
    assert {"source only", "per-domain scaling"} <= set(found.table["step"])


def test_the_cheapest_setting_of_each_step_is_tried_first_and_the_table_is_as_without(task, monkeypatch):
    begun, fit = [], trials.fit_trial
    monkeypatch.setattr(
        trials, "fit_trial", lambda judge, trial: begun.append(trial.recipe.name) or fit(judge, trial)
    )
    recipes = ["source_only_svm", "source_only_logistic", "scaled_svm", "scaled_logistic"]
    found = race(task, recipes, jobs=1)
    assert len(begun) == len(found.table)
    monkeypatch.setattr(Clock, "guess", lambda self, trial: len(trial.recipe.name))
    assert race(task, recipes, jobs=1).table["pipeline"].tolist() == found.table["pipeline"].tolist()


def test_on_many_rows_what_nobody_named_is_left_out_or_thinned_and_a_note_says_so(task, monkeypatch):
    monkeypatch.setattr(cost, "KERNEL_ROWS", 100)
    monkeypatch.setattr(cost, "TREE_ROWS", 30)
    contest = Contest(task, None, RaceSettings())
    assert not holding_svm(contest)
    approximated = {"coral_svm", "scaled_svm", "source_only_svm", "subspace_svm"}
    assert {r.name for r in contest.recipes if "svm" in r.name} == approximated
    forest = next(r for r in contest.recipes if r.name == "coral_forest").pipeline
    assert forest.named_steps["randomforestclassifier"].max_samples == pytest.approx(30 / 90)
    assert "not run, because support vector machines scale" in contest.notes[0]
    assert "in place of a support vector machine, logistic regression on 500 components" in contest.notes[1]
    assert "each tree of a forest is grown on a random sample of 30 source rows" in contest.notes[2]
    named = Contest(task, ["coral_svm", Recipe("own", make_pipeline(SVC()), {})], RaceSettings())
    assert holding_svm(named) == {"coral_svm", "own"}


def holding_svm(contest):
    return {
        r.name for r in contest.recipes for each in r.pipeline.get_params().values() if isinstance(each, SVC)
    }


@pytest.mark.parametrize("name", ["coral_svm", "source_only_svm", "subspace_svm"])
def test_what_takes_the_place_of_a_support_vector_machine_has_its_grid_and_labels_as_it_does(name):
    X, y, labels = blobs(n_source=300, n_target=300, n_features=50, n_classes=4, shift=1.0)
    recipe = load_recipe(name)
    instead = approximate_svm(recipe)
    (part,) = recipe.grid if isinstance(recipe.grid, list) else [recipe.grid]
    assert instead.grid == [{k.replace("svc__C", "svc__logisticregression__C"): v for k, v in part.items()}]
    found = [
        clone(r.pipeline).set_params(**next(iter(ParameterGrid(r.grid)))).fit(X, y).predict(X[300:])
        for r in (recipe, instead)
    ]
    assert np.mean(found[0] == found[1]) > 0.97


def test_only_a_machine_on_rows_of_unit_length_with_a_grid_of_its_c_is_replaced():
    unit = load_recipe("scaled_svm")
    assert approximate_svm(unit)
    for grid in ({"svc__gamma": [1.0]}, [{"svc__C": [1.0]}, {"svc__kernel": ["rbf"]}]):
        assert approximate_svm(replace(unit, grid=grid)) is None
    for pipeline in (
        make_pipeline(DomainScaler(), SVC()),
        make_pipeline(DomainScaler(), Normalizer(), SVC(kernel="poly")),
        load_recipe("pseudo_svm").pipeline,
        load_recipe("scaled_logistic").pipeline,
    ):
        assert approximate_svm(Recipe("other", pipeline, {})) is None


def test_on_few_rows_nothing_is_left_out():
    recipes = [load_recipe("coral_svm"), load_recipe("coral_forest")]
    assert fit_to_size(recipes, 20_000, 10_000) == (recipes, [])


def test_with_many_classes_neither_pairs_of_classes_nor_their_shares_in_every_node_are_counted():
    recipes = [
        load_recipe(name) for name in ("source_only_logistic", "prior_svm", "pseudo_svm", "coral_forest")
    ]
    kept, notes = fit_to_size(recipes, 6000, 3000, 1000)
    assert [recipe.name for recipe in kept] == ["source_only_logistic"]
    assert notes == [
        "not run, because a support vector machine compares all pairs of the 1,000 classes for each row: "
        "prior_svm, pseudo_svm; to run them anyway, name them with --pipeline",
        "not run, because each node of a forest stores the proportions of all 1,000 classes, up to 10 GB: "
        "coral_forest; to run them anyway, name them with --pipeline",
    ]
    assert fit_to_size(recipes, 8000, 4000, 65) == (recipes, [])


def test_with_many_rows_settings_are_compared_on_few_of_them_first_and_grid_tries_all(task, monkeypatch):
    monkeypatch.setattr(contest, "MANY_ROWS", 100)
    monkeypatch.setattr(finalists, "MANY_ROWS", 100)
    names = ["source_only_logistic", "scaled_logistic", "coral_logistic", "pseudo_logistic"]
    found = race(task, names, jobs=1)
    assert any("successive halving" in note for note in found.task.notes)
    assert len(found.table) < 20
    whole = race(task, names, jobs=1, search="grid")
    assert len(whole.table) == 20
    assert found.sentence == whole.sentence
    assert found.table["source_accuracy"].max() > 0.9  # cross-validated on a share of the rows


def test_pseudo_labelling_learns_from_a_sample_of_many_rows():
    recipes, notes = fit_to_size([load_recipe("pseudo_logistic")], 200_000, 100_000, 10)
    assert recipes[0].pipeline[-1].max_rows == cost.PSEUDO_ROWS
    assert notes == [
        "pseudo-labelling learns from a random sample of 20,000 rows of each domain: pseudo_logistic"
    ]
