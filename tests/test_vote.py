"""The vote of the best recipes and source only: its numbers, when it is taken, and that a model file holds it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, FtransferError, Model, load_recipe, load_task, make_pipeline, race
from ftransfer.adapt.rows import nearest
from ftransfer.adapt.vote import TargetVote
from ftransfer.recipes import Recipe
from ftransfer.scoring.scorer import load_scorer
from ftransfer.search.assumptions import Assumptions
from ftransfer.search.expected import accuracy_of_vote
from ftransfer.search.forests import FEW
from ftransfer.search.guard import Recommendation
from ftransfer.search.vote import turned_down, voters
from ftransfer.search.weighed import WeighedStep

ADAPTING = [
    "mixture_scaled",
    "mixture_shares",
    "coral_logistic",
    "subspace_logistic",
    "pseudo_shares",
    "pseudo_logistic",
]
BASELINES = ["source_only_logistic", "scaled_logistic"]
FINGERPRINT = {"layers": [{"name": "x", "width": 8}]}


def members():
    return [
        ("plain", make_pipeline(LogisticRegression())),
        ("aligned", make_pipeline(DomainScaler(), CORAL(), SVC())),
    ]


def recipes(names=(*BASELINES, *ADAPTING)):
    """Each with one setting."""
    return [replace(load_recipe(name), grid={}) for name in names]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Three classes that lie close; the target is moved and its features are mixed."""
    rng, n = np.random.default_rng(0), 90
    labels = np.arange(2 * n) % 3
    X = rng.normal(size=(2 * n, 8)) + 2.2 * np.eye(3, 8)[labels]
    X[n:] = X[n:] @ (np.eye(8) + 0.5 * rng.normal(size=(8, 8))) + 2
    domains = np.where(np.arange(2 * n) < n, "s", "t")
    names = np.array(["a", "b", "c"])[labels]
    folder = tmp_path_factory.mktemp("vote") / "f"
    return load_task(write_feature_set(folder, X.astype(np.float32), names, domains), "s", "t")


@pytest.fixture(scope="module")
def found(task):
    return race(task, recipes(), jobs=1)


def test_members_are_as_sure_on_average_as_they_agree_with_each_other():
    X, y, _ = blobs()
    vote = TargetVote(members(), smoothing=0.0).fit(X, y)
    one, other = vote.members_
    agreement = np.mean(one.predict(X[y == -1]) == other.predict(X[y == -1]))
    alone = [TargetVote(members(), weights=w, smoothing=0.0).fit(X, y) for w in ([1.0, 0.0], [0.0, 1.0])]
    each = [single.predict_proba(X[y == -1]) for single in alone]
    for probability in each:
        assert probability.max(axis=1).mean() == pytest.approx(np.clip(agreement, 0.1, 0.98), abs=0.01)
    np.testing.assert_allclose(vote.predict_proba(X[y == -1]), np.mean(each, axis=0), atol=1e-9)


def test_neighbours_in_the_target_settle_what_members_dispute():
    """One row that both members call wrong lies among rows that they call right."""
    X, y, labels = blobs()
    target = np.flatnonzero(y == -1)
    own = TargetVote(members(), smoothing=0.0).fit(X, y)
    near = TargetVote(members(), smoothing=1.0, n_neighbors=3).fit(X, y)
    for fitted in (own, near):
        np.testing.assert_allclose(fitted.predict_proba(X[target]).sum(axis=1), 1)
    Z = X[target] - X[target].mean(axis=0)
    expected = np.zeros((len(target), 3))
    for scaled in (Z, Z / X[target].std(axis=0)):
        unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
        nearest = np.argsort(-unit @ unit.T, axis=1)[:, :3]
        assert (nearest[:, 0] == np.arange(len(target))).all(), "a row is its own nearest one"
        expected += own.predict_proba(X[target])[nearest].mean(axis=1) / 2
    np.testing.assert_allclose(near.predict_proba(X[target]), expected, atol=1e-5)


@pytest.mark.parametrize("k", [1, 6, 60])
def test_the_nearest_rows_are_those_with_the_largest_entries_the_largest_first(k):
    likeness = np.random.default_rng(0).normal(size=(20, 70))
    kept = likeness.copy()
    assert np.array_equal(nearest(likeness, k), np.argsort(-likeness, axis=1)[:, :k])
    assert np.array_equal(likeness, kept)


def test_target_rows_of_the_fit_are_voted_on_as_any_others():
    X, y, _ = blobs()
    target = X[y == -1]
    vote = TargetVote(members()).fit(X, y)
    np.testing.assert_allclose(vote.predict_proba(target)[::-1], vote.predict_proba(target[::-1]), atol=1e-6)


def test_a_vote_takes_as_many_weights_as_members():
    X, y, _ = blobs()
    with pytest.raises(FtransferError, match="given 2 members and 3 weights"):
        TargetVote(members(), weights=[1.0, 1.0, 1.0]).fit(X, y)
    with pytest.raises(FtransferError, match="given 0 members"):
        TargetVote([]).fit(X, y)


def test_source_rows_are_voted_on_by_their_own_domains_map():
    X, y, labels = blobs()
    fitted = make_pipeline(TargetVote(members())).fit(X, y)
    source = y != -1
    assert np.mean(fitted.predict_source(X[source]) == labels[source]) > 0.95
    probability = fitted.predict_source(X[source], method="predict_proba")
    assert probability.shape == (source.sum(), 3)


def test_a_race_with_six_adapting_recipes_answers_by_a_vote(found, task):
    row = found.table.loc[found.chosen]
    assert (row["pipeline"], row["adaptation"], row["step"]) == ("vote", "TargetVote", "self-labelling")
    assert found.sentence == "Adapt by a vote of 6 recipes and source only."
    plain = found.table["pipeline"][found.source_only_row]
    assert f"and source only ({plain}) vote" in found.ground
    assert (found.table["pipeline"] == "vote").sum() == 1
    assert found.table["rank"].tolist() == list(range(1, len(found.table) + 1))
    assert found.table["score"].is_monotonic_decreasing
    assert found.expected.basis == "vote"
    vote = found.pipeline[-1]
    votes = np.array([1, 1 / 1.5, 1 / 2, 1 / 2.5, 1 / 3, 1 / 3.5])  # the best has the most
    np.testing.assert_allclose(vote.weights, [*(votes / votes.sum()), 0.7])
    assert vote.estimators[-1][0] == "source only"
    assert row["target_accuracy"] == task.answers.accuracy(found.pipeline.predict(task.X_target))


def test_a_vote_of_fitted_members_is_what_fitting_it_gives(found, task):
    visible = task.visible
    again = clone(found.pipeline).fit(visible.X, visible.y, sample_domain=visible.sample_domain)
    np.testing.assert_allclose(
        again.predict_proba(task.X_target), found.pipeline.predict_proba(task.X_target), atol=1e-5
    )


def test_a_forest_that_was_stopped_votes_with_the_trees_that_it_was_scored_with(task):
    forest = RandomForestClassifier(200, min_samples_leaf=80, random_state=0)  # of leaves alone
    weak = Recipe("weak", make_pipeline(DomainScaler(), CORAL(), forest))
    found = race(task, [*recipes((*BASELINES, *ADAPTING[:5])), weak], jobs=1)
    assert "1 forests that fell behind were stopped before all their trees: weak" in found.task.notes
    vote = found.pipeline[-1]
    member = dict(zip(dict(vote.estimators), vote.members_, strict=True))["weak"]
    row = found.table[found.table["pipeline"] == "weak"].iloc[0]
    assert len(member[-1].estimators_) == FEW
    assert task.answers.accuracy(member.predict(task.X_target)) == row["target_accuracy"]
    assert dict(vote.estimators)["weak"].steps[-1][1].n_estimators == 200, "fitted anew, it has all"


def test_a_model_file_holds_a_vote(found, task, tmp_path):
    Model(found.pipeline, FINGERPRINT, task.classes).save(tmp_path / "m.skops")
    loaded = Model.load(tmp_path / "m.skops")
    np.testing.assert_array_equal(
        loaded.predict(task.X_target), task.classes[found.pipeline.predict(task.X_target)]
    )


def test_there_is_no_vote_with_few_recipes_or_another_score(task):
    few = race(task, recipes((*BASELINES, *ADAPTING[:5])), jobs=1)
    other = race(task, recipes(), scorer="entropy", jobs=1)
    for found in (few, other):
        assert "vote" not in set(found.table["pipeline"])
        assert found.expected.basis == "panel"


def test_there_is_no_vote_where_nothing_is_adapted(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    X = (rng.normal(size=(150, 8)) + 4 * np.eye(3, 8)[labels]).astype(np.float32)
    names, domains = np.array(["a", "b", "c"])[labels], np.where(np.arange(150) < 90, "s", "t")
    same = load_task(write_feature_set(tmp_path / "f", X, names, domains), "s", "t")
    found = race(same, recipes(), jobs=1)
    assert found.sentence.startswith("Do not adapt")
    assert "vote" not in set(found.table["pipeline"])


def test_labels_of_the_target_turn_a_vote_down_that_they_tell_is_worse():
    def candidate(predicted):
        return SimpleNamespace(result=SimpleNamespace(predicted=np.array(predicted)))

    vote, chosen = candidate([0] * 40), candidate([1] * 40)
    assert not turned_down(vote, chosen, None)
    assert turned_down(vote, chosen, np.repeat([1, -1], 20)), "20 labels, all for the other"
    assert not turned_down(vote, chosen, np.repeat([0, -1], 20))
    one_apart = candidate([0] * 19 + [1] * 21)
    assert not turned_down(vote, one_apart, np.r_[np.zeros(19), 1, np.full(20, -1)]), (
        "they differ on one label"
    )


def test_the_accuracy_of_a_vote_is_expected_by_its_probability_and_by_neighbours():
    predicted, asked = np.array([0, 0, 1, 1]), np.array([0, 3])
    neighbours = np.array([[1, 2], [2, 0]])  # half of them have the label of the row that asks
    found = accuracy_of_vote(np.full(4, 0.8), predicted, asked, neighbours)
    assert found == pytest.approx(0.73 * 0.8 + 0.42 * 0.5 - 0.08)
    assert accuracy_of_vote(np.ones(4), np.zeros(4), asked, neighbours) == 0.98


def test_what_learned_from_other_sources_than_the_choice_has_no_vote():
    kinds = [*[(f"adapting {i}", "alignment") for i in range(6)], ("plain", "source only")]
    ranked = [
        SimpleNamespace(
            pipeline=name, step=step, scored=True, trial=SimpleNamespace(params={"sources": sources})
        )
        for sources in ("a + b", "a")
        for name, step in kinds
    ]
    step = WeighedStep("alignment", "adapting 0", "CORAL", 0.9, "plain", gain=0.1, error=0.01)
    told = Assumptions(100, np.full(3, 1 / 3), np.full(3, 1 / 3), True, 1.0)
    answer = Recommendation(0, "", "", (step,), 6, told)
    scorer = load_scorer("consistency")
    assert voters(ranked, answer, scorer) == ranked[:7]
    assert voters(ranked, replace(answer, chosen=7), scorer) == ranked[7:]
    assert voters(ranked, replace(answer, chosen=6), scorer) == [], "nothing is adapted"
    assert voters([*ranked[:5], ranked[6]], answer, scorer) == [], "five recipes adapt"
    assert voters(ranked, replace(answer, steps=()), scorer) == [], "the score did not decide"
