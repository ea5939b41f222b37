"""A few labels of the target: what is fitted on them, what they decide, what they promise."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from ftransfer import DomainScaler, Model, draw_target_labels, load_task, make_pipeline, race
from ftransfer.features.label_file import TargetLabels
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.candidate import Candidate, TrialResult
from ftransfer.search.expected import expect_by_labels
from ftransfer.search.labelled import LabelFits, class_shares, fit_candidates
from ftransfer.search.strategy import Trial


class Spy(LogisticRegression):
    """Notes the rows that it is fitted on."""

    seen: list = []

    def fit(self, X, y, sample_weight=None):
        Spy.seen.append(X[:, 0].tolist())
        return super().fit(X, y, sample_weight)


NAMES = np.array(["elm", "fir", "oak"])
RECIPES = [
    Recipe("plain", AdaptationPipeline([("svc", SVC())]), {}),
    Recipe("scaled", make_pipeline(DomainScaler(), SVC()), {}),
]


@pytest.fixture
def task(tmp_path):
    return few_rows(tmp_path, shift=6.0)


def few_rows(folder, *, shift, wrong=False):
    """A task; with `wrong`, the source's labels are those of other classes."""
    X, y, labels = blobs(n_source=90, n_target=90, shift=shift)
    names = np.where(y == -1, NAMES[labels], NAMES[(labels + wrong) % len(NAMES)])
    features = write_feature_set(folder / "f", X, names, np.where(y == -1, "t", "s"))
    return load_task(features, "s", "t")


class Rows:
    """A judge, for its rows alone."""

    def __init__(self, task):
        self.X, self.y, self.domain = task.X, task.y, task.sample_domain


def test_what_is_held_back_is_not_fitted_on_before_the_choice_and_all_labels_are_after_it(task):
    X = task.X.copy()
    X[:, 0] += np.arange(len(X)) / 1e3  # no two rows alike
    labels = np.full(90, -1)
    labels[:40] = task.answers.codes[:40]
    labels[3] = -2
    random = np.arange(90) < 20
    rows = Rows(replace(task, X=X))
    fits = LabelFits(TargetLabels(labels, random), lambda trial: rows, task)
    np.testing.assert_array_equal(fits.held_back, np.arange(20))
    np.testing.assert_array_equal(fits.useful, np.arange(20, 40))
    Spy.seen = []
    recipe = Recipe("spy", AdaptationPipeline([("spy", Spy())]), {})
    found = fit_candidates(fits, [Candidate(Trial(recipe), TrialResult(None, None, 0.0, ""))], jobs=1)
    target, seen = X[90:, 0], {value for rows in Spy.seen for value in rows}
    assert len(Spy.seen) == 3 * 4, (
        "three weights, each fitted on all of the first pass and without each third"
    )
    assert seen & set(target.tolist()) == set(target[20:40].tolist())
    assert [len(each.hits) for each in found] == [40, 40, 40]
    assert not any(each.held_back[3] for each in found), "no prediction is right for none of the classes"
    Spy.seen = []
    fits.fit(found[0], fits.fitted)
    assert set(Spy.seen[0]) >= set(np.delete(target[:40], 3).tolist())
    assert not set(Spy.seen[0]) & {target[3], *target[40:]}
    Spy.seen = []
    assert len(fits.estimate(found[0])) == 20
    assert all(len(set(rows) & set(target[:20].tolist())) in (15, 16) for rows in Spy.seen)


def test_of_labels_that_were_all_drawn_alike_half_are_held_back_in_equal_class_shares_groups_whole(task):
    codes = task.answers.codes.copy()
    codes[60:] = -1
    rows = task.rows.assign(group=[None] * 90 + [f"g{i // 2}" for i in range(90)])
    for given in (task, replace(task, rows=rows)):
        fits = LabelFits(TargetLabels(codes, codes != -1), lambda trial: None, given)
        assert not fits.drawn
        assert sorted([*fits.useful, *fits.held_back]) == list(range(60))
        assert abs(len(fits.useful) - 30) <= 4
        shares = [np.bincount(codes[part], minlength=3) for part in (fits.useful, fits.held_back)]
        assert np.abs(np.subtract(*shares)).max() <= (1 if given is task else 8)
    assert not set(fits.useful // 2) & set(fits.held_back // 2)


def test_labels_are_fitted_on_and_the_blind_race_is_what_it_was(task):
    few, labels = draw_target_labels(task, 40)
    without, found = race(task, RECIPES), race(few, RECIPES, target_labels=labels)
    blind = found.table[found.table["step"] != "target labels"]
    assert blind["score"].tolist() == without.table["score"].tolist()
    assert set(found.table["pipeline"]) == {
        *without.table["pipeline"],
        "plain + labels",
        "scaled + labels",
        "target_only_means",
        "target_only_logistic",
    }
    best = found.table.iloc[found.chosen]
    assert best["step"] == "target labels"
    rest = labels == -1
    predicted = found.pipeline.predict(task.X_target)
    assert best["target_accuracy"] == np.mean(predicted[rest] == task.answers.codes[rest])
    assert best["target_accuracy"] >= without.table["target_accuracy"][without.chosen]
    assert "40 target labels" in found.sentence
    use = found.label_use
    assert len(use.useful) + len(use.held_back) == use.n_fitted == 40
    assert found.expected.basis == "labels"
    shown = f"cross-validated on {len(use.held_back)} labelled target images drawn at random."
    assert shown in found.expected.sentence  # drawn here, not said to be by a file
    taken = race(few, RECIPES)  # the task knows its labels
    assert taken.sentence == found.sentence
    assert race(replace(few, labels=None), RECIPES).label_use is None


def test_where_the_source_is_wrong_the_target_labels_are_fitted_alone(tmp_path):
    task = few_rows(tmp_path, shift=0.0, wrong=True)
    few, _ = draw_target_labels(task, 45)
    found = race(few, RECIPES)
    assert found.sentence.startswith("Fit on the 45 target labels alone: target_only_")
    assert found.sentence.endswith("The source is not needed.")
    assert not found.adapt
    assert not found.label_use.source_needed
    assert found.table["target_accuracy"][found.chosen] > 0.9


def test_too_few_labels_are_not_fitted_on(task):
    few, _ = draw_target_labels(task, 9)
    found = race(few, RECIPES)
    assert found.label_use is None
    assert "target labels" not in set(found.table["step"])


def test_class_shares_and_accuracy_by_labels_have_intervals_that_hold_nineteen_in_twenty():
    rng = np.random.default_rng(0)
    true, covered, right = np.array([0.5, 0.3, 0.2]), [], []
    for _ in range(300):
        found = class_shares(rng.choice(3, 60, p=true), 3)
        covered.append((found[:, 1] <= true) & (true <= found[:, 2]))
        told = expect_by_labels(rng.random(60) < 0.8, True)
        right.append(told.low <= 0.8 <= told.high)
    assert 0.92 < np.mean(covered) < 0.98
    assert 0.92 < np.mean(right) < 0.98


def test_probabilities_are_calibrated_to_the_accuracy_by_labels_on_rows_that_were_not_fitted_on(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=90, shift=2.0)
    X = X + np.random.default_rng(0).normal(scale=3.0, size=X.shape).astype(np.float32)
    features = write_feature_set(tmp_path / "f", X, NAMES[labels], np.where(y == -1, "t", "s"))
    few, given = draw_target_labels(load_task(features, "s", "t"), 40)
    found = race(few, [Recipe("plain", AdaptationPipeline([("lr", LogisticRegression())]), {})])
    chosen_by = {"expected_accuracy": 0.6}
    use = found.label_use
    assert sorted(use.fitted) == np.flatnonzero(given != -1).tolist()
    model = Model.of(found.pipeline, few.visible, features, chosen_by, labelled=use.fitted)
    sure = model.describe(few.X_target)["probability"].to_numpy()
    assert sure[given == -1].mean() == pytest.approx(0.6, abs=0.01)
    assert Model.of(found.pipeline, few.visible, features, chosen_by).temperature != model.temperature
