"""What a choice rests on: the panel that candidates are compared with, the assumptions, the accuracy to be expected."""

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from ftransfer import DomainKFold, DomainScaler, load_scorer, load_task, make_pipeline, race
from ftransfer.scoring import judge as judges
from ftransfer.scoring.judge import Judge
from ftransfer.scoring.panel import seat_panel
from ftransfer.scoring.reference import make_reference
from ftransfer.search.assumptions import Assumptions, check_assumptions, separation
from ftransfer.search.expected import expect_accuracy

NAMES = np.array(["ash", "elm", "oak", "yew"])


def rows(shares, n=200, move=2.0, d=12, seed=0):
    """Four classes in equal shares in the source; the target has `shares` and is moved."""
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(n) % 4, rng.choice(4, n, p=shares)]
    X = (rng.normal(size=(2 * n, d)) + 5 * np.eye(4, d)[labels]).astype(np.float32)
    X[n:] += move
    return X, np.where(np.arange(2 * n) < n, labels, -1), labels


@pytest.mark.parametrize(
    ("shares", "alike"),
    [((0.25,) * 4, True), ((0.5, 0.5, 0, 0), False), ((0.85, 0.05, 0.05, 0.05), False)],
)
def test_the_panel_tells_whether_all_classes_are_there_and_reads_the_target(shares, alike):
    X, y, labels = rows(shares)
    panel = seat_panel(X, y, np.where(y == -1, -1, 1))
    assert panel.alike == alike
    assert panel.weights.sum() == pytest.approx(1)
    leading = panel.labels[panel.weights.argmax()]
    assert np.mean(leading == labels[200:]) > 0.9
    np.testing.assert_allclose(panel.shares, np.bincount(labels[200:], minlength=4) / 200, atol=0.15)
    assert 0 <= panel.agreement <= 1


def test_reference_classifiers_bear_out_the_truth_more_than_labels_that_fill_or_leave_out_a_class():
    X, y, labels = rows((0.5, 0.5, 0, 0))
    reference = make_reference(X, y, np.where(y == -1, -1, 1))
    truth, rng = labels[200:], np.random.default_rng(0)
    filled = np.where(rng.random(200) < 0.3, rng.integers(2, 4, 200), truth)
    assert reference(truth) > reference(filled) + 0.1
    assert reference(truth) > reference(np.zeros(200, dtype=int)) + 0.1


def test_the_panel_is_seated_once_and_sees_no_label_of_the_target():
    X, y, labels = rows((0.25,) * 4, n=80)
    domain = np.where(y == -1, -1, 1)
    judge = Judge(X, y)
    assert judge.panel is judge.panel
    told = Judge(X, labels, domain)
    np.testing.assert_array_equal(told.panel.labels, judge.panel.labels)
    assert Judge(X, y, panel=judge.panel).panel is judge.panel


def test_a_single_target_row_is_no_obstacle():
    X, y, _ = rows((0.25,) * 4, n=40)
    judge = Judge(X[:41], y[:41])
    assert judge.panel.labels.shape[1] == 1
    assumptions = check_assumptions(judge)
    assert not assumptions.enough_rows
    assert assumptions.describe(NAMES) == [
        "1 target images are too few to compare recipes; at least 25 are needed"
    ]
    assert expect_accuracy(judge.panel, assumptions, np.zeros(1)) is None


def test_separation_sees_a_move_a_change_of_shape_and_no_difference():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(400, 5))
    assert separation(base, rng.normal(size=(300, 5))) < 0.6
    assert separation(base, rng.normal(size=(300, 5)) + 3) > 0.97
    ring = rng.normal(size=(300, 5))
    ring *= 4 / np.linalg.norm(ring, axis=1, keepdims=True)
    assert separation(base, ring) > 0.8, "no line tells these apart, and their neighbours do"


def test_what_does_not_hold_is_said():
    source, target = np.full(4, 0.25), np.array([0.45, 0.45, 0.05, 0.05])
    said = Assumptions(200, source, target, False, 1.0).describe(NAMES)
    assert said[0].startswith("the class proportions seem to differ in the target (")
    assert "by about 40% of the rows" in said[0]
    assert said[1] == "classes that may be missing in the target: oak, yew"
    assert Assumptions(200, source, source, True, 1.0).describe(NAMES) == []


@pytest.fixture(scope="module")
def seated():
    X, y, _ = rows((0.25,) * 4, n=100)
    judge = Judge(X, y)
    return judge.panel, check_assumptions(judge)


def test_the_expected_accuracy_falls_with_what_a_candidate_makes_of_its_own(seated):
    panel, assumptions = seated
    leading = panel.labels[panel.weights.argmax()]
    values = [
        expect_accuracy(panel, assumptions, np.where(np.arange(100) < wrong, (leading + 1) % 4, leading))
        for wrong in (0, 20, 60)
    ]
    assert values[0].value > values[1].value > values[2].value
    assert all(each.low <= each.value <= each.high for each in values)
    assert values[0].basis == "panel"
    assert values[0].words == "high"
    assert values[2].words == "low"


def test_labels_and_held_out_source_rows_come_before_the_panel(seated):
    panel, assumptions = seated
    predicted = panel.labels[0]
    held_out = expect_accuracy(panel, assumptions, predicted, source_accuracy=0.7)
    assert (held_out.basis, held_out.value) == ("source", 0.7)
    counted = expect_accuracy(panel, assumptions, predicted, source_accuracy=0.7, hits=np.arange(50) < 20)
    assert (counted.basis, counted.value) == ("labels", 0.4)
    assert counted.low < 0.4 < counted.high
    assert "measured on 50 labelled target images" in counted.sentence


def test_it_is_never_called_sure_where_an_assumption_fails(seated):
    panel, assumptions = seated
    shifted = Assumptions(100, assumptions.source, assumptions.target, False, 1.0)
    found = expect_accuracy(panel, shifted, panel.labels[panel.weights.argmax()])
    assert found.words == "medium"
    assert "class proportions seem to differ" in found.sentence


def test_a_race_warns_of_missing_classes_and_estimates_its_accuracy(tmp_path):
    X, y, labels = rows((0.5, 0.5, 0, 0), n=120)
    features = write_feature_set(tmp_path / "f", X, NAMES[labels], np.where(y == -1, "t", "s"))
    found = race(
        load_task(features, "s", "t", classes="all"), ["source_only_svm", "scaled_svm", "mixture_shares"]
    )
    assert any("class proportions seem to differ" in note for note in found.task.notes)
    assert any("classes that may be missing in the target: oak, yew" in note for note in found.task.notes)
    assert found.expected.basis == "panel"
    assert found.expected.words != "high"
    assert found.expected.sentence in found._repr_html_()


def test_too_few_rows_fall_back_to_the_source(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=12)
    features = write_feature_set(tmp_path / "f", X, NAMES[labels], np.where(y == -1, "t", "s"))
    found = race(load_task(features, "s", "t"), ["source_only_svm", "scaled_svm"])
    assert found.sentence.startswith("Do not adapt: source_only_svm")
    assert found.expected is None
    assert "12 target images are too few to compare recipes" in found.task.notes[-1]


def test_a_grid_search_seats_a_panel_once_for_each_fold(monkeypatch):
    X, y, _ = rows((0.25,) * 4, n=80)
    seated = []
    monkeypatch.setattr(judges, "seat_panel", lambda *given: (seated.append(given), seat_panel(*given))[1])
    monkeypatch.setattr(judges, "SEATED", {})
    pipeline, values = (
        make_pipeline(DomainScaler(), LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
    )
    GridSearchCV(pipeline, values, scoring=load_scorer("consistency"), cv=DomainKFold(3)).fit(X, y)
    assert len(seated) == 3
    fold = next(DomainKFold(3).split(X, y))[1]
    remembered = Judge(X[fold], y[fold], remember=True).panel
    assert len(seated) == 3
    np.testing.assert_array_equal(remembered.labels, Judge(X[fold], y[fold]).panel.labels)


def test_only_the_panels_of_the_last_rows_are_remembered(monkeypatch):
    X, y, _ = rows((0.25,) * 4, n=20)
    monkeypatch.setattr(judges, "seat_panel", lambda *given: len(given))
    monkeypatch.setattr(judges, "SEATED", {})
    for i in range(judges.MOST_SEATED + 1):
        assert Judge(X + i, y, remember=True).panel
    assert len(judges.SEATED) == judges.MOST_SEATED
