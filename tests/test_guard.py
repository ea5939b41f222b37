import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set
from scipy.stats import binomtest
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, FtransferError, draw_target_labels, load_task, make_pipeline, race
from ftransfer.compare.label_shift import LabelShift
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.guard import paired_interval, recommend
from ftransfer.search.steps import BASELINES
from ftransfer.task import read_target_labels

NAMES = np.array(["ash", "elm", "oak"])
STEP_OF = dict(zip(BASELINES, BASELINES, strict=True)) | {
    "PseudoLabelled": "labels of its own",
    "SubspaceAlignment + PseudoLabelled": "labels of its own",
}


def candidates(rows, noise=0.01, hits=None):
    """Rank rows of (pipeline, adaptation, score, predicted)."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rows, columns=["pipeline", "adaptation", "score", "predicted"])
    table["step"] = [STEP_OF.get(name, "alignment") for name in table["adaptation"]]
    table["resampled"] = [score + noise * rng.normal(size=200) for score in table["score"]]
    table["hits"] = [None] * len(table) if hits is None else hits
    return table.sort_values("score", ascending=False).reset_index(drop=True)


def one_each(*scores):
    names = ["source only", "per-domain scaling", "CORAL", "SubspaceAlignment + PseudoLabelled"]
    return [(n[0], n, score, np.zeros(4)) for n, score in zip(names, scores, strict=False)]


@pytest.mark.parametrize(
    ("scores", "noise", "answer"),
    [
        ((0.5, 0.6, 0.7, 0.8), 0.01, "Adapt with SubspaceAlignment + PseudoLabelled: S."),
        ((0.5, 0.6, 0.7, 0.705), 0.01, "Adapt with CORAL: C."),
        ((0.5, 0.6, 0.605), 0.01, "Scale each domain by itself and leave it at that: p."),
        ((0.5, 0.4, 0.7), 0.01, "Adapt with CORAL: C."),
        ((0.5, 0.51, 0.52, 0.53), 0.2, "Do not adapt: s, trained on the source only,"),
        ((0.7, 0.6, 0.5), 0.01, "Do not adapt: s, trained on the source only,"),
    ],
)
def test_a_step_is_taken_only_where_it_is_worth_more_than_its_error(scores, noise, answer):
    table = candidates(one_each(*scores), noise)
    found = recommend(table)
    assert found.sentence.startswith(answer)
    assert table["pipeline"][found.chosen] in answer
    start = f"The consistency of source only (s) is {scores[0]:.3f}; per-domain scaling (p) changes"
    assert found.reason.startswith(start)
    assert found.reason.count("standard error") == len(scores) - 1
    assert found.ruled_out == []


def test_among_recipes_that_cannot_be_told_apart_the_one_that_agrees_most_is_taken():
    together = np.arange(10) % 3
    alone, other = np.where(np.arange(10) < 4, 0, together), np.where(np.arange(10) < 2, 0, together)
    rows = [
        ("plain", "source only", 0.1, alone),
        ("astray", "CORAL", 0.52, alone),
        ("fine", "CORAL", 0.51, together),
        ("fine", "CORAL", 0.50, together),
        ("near", "CORAL", 0.50, other),
        ("clearly worse", "CORAL", 0.30, together),
    ]
    table = candidates(rows, noise=0.03)
    found = recommend(table)
    assert found.sentence == "Adapt with CORAL: fine."
    assert table["score"][found.chosen] == 0.51
    assert recommend(candidates(rows, noise=1e-4)).sentence == "Adapt with CORAL: astray."


def test_what_swaps_the_names_of_classes_is_ruled_out_however_well_it_scores():
    labels = np.arange(30) % 3
    swapped, moved = np.array([0, 2, 1])[labels], np.where(np.arange(30) < 9, 0, labels)
    rows = [
        ("plain", "source only", 0.3, labels),
        ("scaled", "per-domain scaling", 0.35, labels),
        ("a", "PseudoLabelled", 0.9, swapped),
        ("a", "PseudoLabelled", 0.5, moved),
    ]
    table = candidates(rows)
    found = recommend(table)
    assert found.sentence == "Adapt with PseudoLabelled: a."
    assert table["score"][found.chosen] == 0.5
    assert found.ruled_out == [0]
    found = recommend(candidates(rows[:3]))
    assert found.sentence.startswith("Scale each domain by itself")
    assert found.reason.endswith("; with labels of its own, every candidate swaps the names of classes.")


@pytest.mark.parametrize(("share", "answer"), [(0.8, "Do not adapt"), (0.34, "Adapt with CORAL")])
def test_under_clear_label_shift_the_score_must_rise_by_half(share, answer):
    rest = (1 - share) / 2
    target, source = np.array([share, rest, rest]), np.full(3, 1 / 3)
    distance = np.abs(target - source).sum() / 2
    shift = LabelShift(np.arange(3), source, target, target, target, (distance,) * 3)
    asked = []
    table = candidates([("a", "source only", 0.5, np.arange(3)), ("b", "CORAL", 0.7, np.arange(3))])
    found = recommend(table, label_shift=lambda row: asked.append(table["pipeline"][row]) or shift)
    assert found.sentence.startswith(answer)
    assert found.shift is shift
    assert asked == ["b"], "the shift is estimated by what would be chosen without one"
    assert ("must raise it by 50%" in found.reason) == shift.clear
    much = candidates([("a", "source only", 0.3, np.arange(3)), ("b", "CORAL", 0.7, np.arange(3))])
    assert recommend(much, label_shift=lambda row: shift).sentence.startswith("Adapt with CORAL")


def test_a_race_warns_of_label_shift(tmp_path):
    X, y, labels = blobs(n_source=300, n_target=300)
    rare = (y == -1) & (labels > 0) & (np.arange(600) % 10 > 0)
    X, y, labels = X[~rare], y[~rare], labels[~rare]
    features = write_feature_set(tmp_path / "f", X, NAMES[labels], np.where(y == -1, "t", "s"))
    found = race(load_task(features, "s", "t"), ["source_only_svm", "scaled_svm"])
    assert found.task.notes[-1].startswith(
        "the classes seem to have other shares in the target (ash 33% -> about"
    )


def test_a_candidate_that_is_ruled_out_ranks_last_in_a_race(tmp_path):
    class Swapped(SVC):
        def predict(self, X):
            return np.array([1, 0, 2])[super().predict(X)]

    X, y, labels = blobs(n_source=90, n_target=90)
    features = write_feature_set(tmp_path / "f", X, NAMES[labels], np.where(y == -1, "t", "s"))
    recipes = [
        Recipe("plain", AdaptationPipeline([("svc", SVC())]), {}),
        Recipe("scaled", make_pipeline(DomainScaler(), SVC()), {}),
        Recipe("swapped", make_pipeline(DomainScaler(), CORAL(), SVC()), {"svc": [Swapped(), SVC()]}),
    ]
    found = race(load_task(features, "s", "t"), recipes, jobs=1)
    assert found.table["note"].tolist() == ["", "", "", "ruled out: it swaps the names of classes"]
    assert found.table["pipeline"].iloc[-1] == "swapped"
    assert found.best_of_each["source_accuracy"].notna().all()


@pytest.mark.parametrize(
    ("right_new", "answer"),
    [(range(40), "Adapt with CORAL"), (range(10), "Do not adapt"), (range(1, 21), "Adapt with CORAL")],
)
def test_labels_decide_where_they_can_tell_and_else_the_score(right_new, answer):
    hits = [np.arange(40) < 20, np.isin(np.arange(40), right_new)]
    rows = [("a", "source only", 0.5, np.arange(2)), ("b", "CORAL", 0.7, np.arange(2))]
    found = recommend(candidates(rows, hits=hits))
    assert found.sentence.startswith(answer)
    assert "on 40 labelled target images by" in found.reason


def test_labels_can_ask_for_a_step_that_the_score_would_not_take():
    rows = [("a", "source only", 0.5, np.arange(2)), ("b", "CORAL", 0.4, np.arange(2))]
    assert recommend(candidates(rows)).sentence.startswith("Do not adapt")
    hits = [np.arange(40) < 10, np.arange(40) < 30]
    assert recommend(candidates(rows, hits=hits)).sentence.startswith("Adapt with CORAL")


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (4, 0), (9, 1), (3, 7), (0, 6), (30, 12)])
def test_the_interval_leaves_zero_out_exactly_where_mcnemars_test_rejects(better, worse):
    new = np.r_[np.ones(better), np.zeros(worse), np.ones(20)]
    old = np.r_[np.zeros(better), np.ones(worse), np.ones(20)]
    difference, low, high = paired_interval(new, old)
    assert low <= difference <= high
    assert difference == (better - worse) / len(new)
    p = min(1.0, 2 * binomtest(min(better, worse), better + worse).pvalue / 2) if better + worse else 1.0
    assert (low > 0 or high < 0) == (p < 0.1)


# ---------------------------------------------------------------- labels of the target


@pytest.fixture
def task(feature_set):
    return load_task(feature_set, "day", "night")


def test_labels_that_the_guard_uses_are_not_counted(task):
    counted, labels = draw_target_labels(task, 10)
    used = labels != -1
    assert used.sum() == 10
    np.testing.assert_array_equal(labels[used], task.answers.codes[used])
    np.testing.assert_array_equal(counted.answers.codes != -1, ~used)
    assert "labels of 10 target images were used by the guard" in counted.notes[-1]
    assert (task.answers.codes != -1).all(), "the task given is left as it is"
    np.testing.assert_array_equal(draw_target_labels(task, 10)[1], labels)
    with pytest.raises(FtransferError, match="labels of 46 images of 'night' are asked for, and 45 have one"):
        draw_target_labels(task, 46)


def test_a_copy_of_an_image_whose_label_is_used_is_not_counted(task):
    rows = task.rows.copy()
    rows.loc[len(rows) - 45 :, "sha256"] = [str(i // 2) for i in range(45)]  # each picture twice
    from dataclasses import replace

    counted, labels = draw_target_labels(replace(task, rows=rows), 5)
    copies = {i // 2 for i in np.flatnonzero(labels != -1)}
    assert {i // 2 for i in np.flatnonzero(counted.answers.codes == -1)} == copies
    assert (counted.answers.codes == -1).sum() == sum(1 + (2 * c + 1 < 45) for c in copies)


def test_labels_are_read_from_a_table(task, tmp_path):
    paths = task.rows.loc[~task.is_source, "path"].tolist()
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\n{paths[3]},elm\n{paths[0]},beech\n")
    counted, labels = read_target_labels(task, file)
    assert labels[3] == 1
    assert labels[0] == -2, "a class that no source has is right for no candidate"
    assert (labels == -1).sum() == 43
    assert (counted.answers.codes == -1).sum() == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("file,label\na,elm\n", "has no column path; it needs path and label, and has file, label"),
        (
            "path,label\nnowhere.png,elm\n",
            "names 1 images that are not in the target 'night', nowhere.png for one",
        ),
        ("path,label\n60.png,elm\n60.png,oak\n", "gives 60.png two labels"),
        ("path,label\n", "holds no label"),
        ("", "cannot be read"),
    ],
)
def test_a_table_of_labels_that_is_wrong_is_said_to_be(task, tmp_path, text, message):
    file = tmp_path / "labels.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(FtransferError, match=message):
        read_target_labels(task, file)


def test_a_race_takes_the_labels_into_its_reason_and_ranks_as_without_them(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=90, shift=8.0)
    features = write_feature_set(tmp_path / "f", X, NAMES[labels], np.where(y == -1, "t", "s"))
    recipes = [
        Recipe("plain", AdaptationPipeline([("svc", SVC())]), {}),
        Recipe("scaled", make_pipeline(DomainScaler(), SVC()), {}),
    ]
    whole = load_task(features, "s", "t")
    task, labels = draw_target_labels(whole, 30)
    without, found = race(whole, recipes), race(task, recipes, target_labels=labels)
    assert found.table["score"].tolist() == without.table["score"].tolist()
    assert "on 30 labelled target images by +" in found.reason
    assert "labelled target images" not in without.reason
    predicted = found.pipeline.predict(task.X_target)
    rest = labels == -1
    expected = np.mean(predicted[rest] == whole.answers.codes[rest])
    assert found.table["target_accuracy"][found.chosen] == pytest.approx(expected)
