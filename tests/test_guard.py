import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set
from sklearn import config_context
from sklearn.svm import SVC

from ftransfer import DomainScaler, FtransferError, draw_target_labels, load_task, make_pipeline, race
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe, load_recipe
from ftransfer.report import write_decide
from ftransfer.search.assumptions import Assumptions
from ftransfer.search.explanations import Explanations, explain
from ftransfer.search.guard import between_groups, paired_interval, recommend
from ftransfer.search.steps import BASELINES
from ftransfer.task import read_target_labels

NAMES = np.array(["ash", "elm", "oak"])
STEP_OF = dict(zip(BASELINES, BASELINES, strict=True)) | {
    "PseudoLabelled": "self-labelling",
    "PriorCorrected": "self-labelling",
    "SubspaceAlignment + PseudoLabelled": "self-labelling",
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
        ((0.5, 0.6, 0.605), 0.01, "Only scale each domain separately: p."),
        ((0.5, 0.4, 0.7), 0.01, "Adapt with CORAL: C."),
        (
            (0.5, 0.51, 0.52, 0.53),
            0.2,
            "Do not adapt: s, trained on the source only (no adaptation is clearly better).",
        ),
        (
            (0.7, 0.6, 0.5),
            0.01,
            "Do not adapt: s, trained on the source only (no adaptation is clearly better).",
        ),
    ],
)
def test_a_step_is_taken_only_where_it_is_worth_more_than_its_error(scores, noise, answer):
    table = candidates(one_each(*scores), noise)
    found = recommend(table)
    assert found.sentence.startswith(answer)
    assert table["pipeline"][found.chosen] in answer
    assert found.ground.startswith("Chosen step by step by consistency, a score that needs no target labels")
    assert f" source only (s) {scores[0]:.3f}; per-domain scaling (p) {scores[1]:.3f}, " in found.reason
    before = dict(zip("spCS", scores, strict=False))
    for step in found.steps[1:]:
        assert step.gain == pytest.approx(step.score - before[step.against])
        assert step.taken == (step.gain > step.error)
        assert f"{step.gain:+.3f} ± {step.error:.3f} against {step.against}" in str(step)
    assert [each.pipeline for each in found.steps if each.taken][-1] == table["pipeline"][found.chosen]
    assert found.source_only == table.index[table["step"] == "source only"][0]


def assumed(n_target=200, target=(0.3, 0.3, 0.4), alike=True, separation=1.0):
    return Assumptions(n_target, np.full(3, 1 / 3), np.array(target), alike, separation)


def test_with_too_few_target_rows_nothing_is_chosen():
    agreed, other = np.array([0, 1, 2, 0]), np.array([1, 1, 1, 1])
    rows = [
        ("astray", "source only", 0.4, other),
        ("a", "source only", 0.3, agreed),
        ("b", "source only", 0.2, agreed),
        ("c", "CORAL", 0.9, agreed),
    ]
    found = recommend(candidates(rows), assumptions=assumed(n_target=24))
    assert found.sentence.startswith(
        "Do not adapt: a, trained on the source only (with only 24 target images"
    )
    assert found.reason == "24 target images are too few to compare scores."
    assert recommend(candidates(rows), assumptions=assumed(n_target=25)).sentence.startswith("Adapt")


@pytest.mark.parametrize(("accuracy", "answer"), [(0.85, "Do not adapt: b"), (0.75, "Adapt with CORAL")])
def test_where_the_target_lies_within_the_source_held_out_rows_choose_source_only(accuracy, answer):
    rows = [(n, "source only", s, np.arange(3)) for n, s in (("a", 0.4), ("b", 0.3))]
    table = candidates([*rows, ("c", "CORAL", 0.9, np.arange(3))])
    asked = []

    def source_accuracy(rows):
        asked.append(table["pipeline"][rows].tolist())
        return [accuracy if name == "b" else 0.1 for name in asked[-1]]

    near = assumed(separation=0.9)
    found = recommend(table, assumptions=near, source_accuracy=source_accuracy)
    assert found.sentence.startswith(answer)
    assert asked == [["a", "b"]]
    far = recommend(table, assumptions=assumed(separation=0.96), source_accuracy=source_accuracy)
    assert far.sentence.startswith("Adapt with CORAL")
    assert len(asked) == 1, "elsewhere held-out source rows say little"


def test_labels_decide_even_where_the_target_lies_within_the_source():
    hits = [np.arange(40) < 20, np.arange(40) < 40]
    rows = [("a", "source only", 0.5, np.arange(2)), ("b", "CORAL", 0.4, np.arange(2))]
    near = assumed(separation=0.6)
    found = recommend(candidates(rows, hits=hits), assumptions=near, source_accuracy=lambda rows: [0.9])
    assert found.sentence.startswith("Adapt with CORAL")


@pytest.mark.parametrize(
    ("right_new", "answer"),
    [(range(40), "Adapt with CORAL"), (range(10), "Do not adapt"), (range(1, 21), "Adapt with CORAL")],
)
def test_labels_decide_where_they_can_tell_and_else_the_score(right_new, answer):
    hits = [np.arange(40) < 20, np.isin(np.arange(40), right_new)]
    rows = [("a", "source only", 0.5, np.arange(2)), ("b", "CORAL", 0.7, np.arange(2))]
    found = recommend(candidates(rows, hits=hits))
    assert found.sentence.startswith(answer)
    assert "points of accuracy on 40 labelled target images" in found.reason


def test_labels_can_ask_for_a_step_that_the_score_would_not_take():
    rows = [("a", "source only", 0.5, np.arange(2)), ("b", "CORAL", 0.4, np.arange(2))]
    assert recommend(candidates(rows)).sentence.startswith("Do not adapt")
    hits = [np.arange(40) < 10, np.arange(40) < 30]
    assert recommend(candidates(rows, hits=hits)).sentence.startswith("Adapt with CORAL")


WON, OPEN, UNCHANGED = (
    Explanations(0.25, 0.15, True, True, 3.0),
    Explanations(0.31, 0.32, True, True, -0.5),
    Explanations(0.0, 0.9, False, True, -9.0),
)


@pytest.mark.parametrize(
    ("told", "right", "answer", "open_"),
    [
        (WON, None, "Adapt with PriorCorrected: p.", False),
        (OPEN, None, "Do not adapt: s", True),
        (UNCHANGED, None, "Do not adapt: s", False),
        (OPEN, "p", "Adapt with PriorCorrected: p.", False),
        (OPEN, "z", "Only scale each domain separately", False),
        (OPEN, "both", "Do not adapt: s", True),
        (WON, "z", "Only scale each domain separately", False),
    ],
)
def test_within_the_source_the_better_explanation_is_taken_and_labels_decide(told, right, answer, open_):
    rows = [("s", "source only", 0.5, np.zeros(40)), ("z", "per-domain scaling", 0.8, np.ones(40))]
    rows += [("p", "PriorCorrected", 0.6, np.full(40, 2.0)), ("q", "PseudoLabelled", 0.9, np.ones(40))]
    hits = right and [np.full(12, name == right or right == "both") for name in ("q", "z", "p", "s")]
    found = recommend(
        candidates(rows, hits=hits),
        assumptions=assumed(separation=0.7),
        source_accuracy=lambda rows: [0.9] * len(rows),
        explain=lambda: told,
    )
    assert found.sentence.startswith(answer)
    assert (found.rivals == (2, 1)) is open_
    assert found.labels_of_rivals is (right in ("p", "z"))


@pytest.mark.parametrize(
    ("right", "chosen", "open_"),
    [(None, "q", True), ("q", "q", False), ("r", "r", False), ("both", "q", True), ("some", "r", False)],
)
def test_between_the_two_groups_of_the_panel_labels_decide(right, chosen, open_):
    rows = [("s", "source only", 0.2, np.zeros(40)), ("q", "PseudoLabelled", 0.9, np.ones(40))]
    rows += [("r", "PseudoLabelled", 0.8, np.full(40, 2.0))]
    hits = right and [np.full(12, name == right or right == "both") for name in "sqr"]
    if right == "some":  # of the ones that s has right q has none, so that the labels turn it down
        hits = [np.arange(12) < 7, np.zeros(12, dtype=bool), np.arange(12) < 10]
    table = candidates(rows, hits=hits)
    answer = between_groups(recommend(table, assumptions=assumed(alike=False)), table, (0, 1))
    assert table["pipeline"][answer.chosen] == chosen
    assert answer.sentence.startswith(f"Adapt with PseudoLabelled: {chosen}.")
    assert (answer.rivals == (0, 1)) is open_
    assert answer.labels_of_rivals is (right in ("q", "r", "some"))
    if right is None:
        mild = replace(answer, chosen=2, rivals=None)
        assert between_groups(mild, table, (0, 1)) is mild


def cross(n, share, rng):
    """Draw two classes that overlap little, with this share of the second."""
    labels = (rng.random(n) < share).astype(int)
    X = rng.normal(size=(n, 2)) * [1.0, 0.3] + labels[:, None] * [1.0, 2.0]
    return X, labels


def test_other_class_shares_and_moved_classes_are_told_apart_where_they_can_be():
    rng = np.random.default_rng(0)
    X, labels = cross(400, 0.5, rng)
    assert explain(X, labels, cross(400, 0.1, rng)[0]).shares_win
    same = explain(X, labels, cross(400, 0.5, rng)[0])
    assert not same.shares_win
    assert not same.open
    moved = explain(X, labels, 0.5 * cross(400, 0.5, rng)[0] + 3)
    assert not moved.shares_win
    assert moved.moved > moved.shares


def test_the_interval_of_a_difference_is_newcombes():
    # table II of the paper: 36, 12, 2, 0 of 50, and 0, 0, 0, 50 with no row that tells the two apart
    def rows(both, new_only, old_only, neither):
        counts = [both, new_only, old_only, neither]
        return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)

    difference, low, high = paired_interval(*rows(36, 12, 2, 0), confidence=0.95)
    assert (difference, low, high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-4)
    _, low, high = paired_interval(*rows(0, 0, 0, 50), confidence=0.95)
    assert (low, high) == pytest.approx((-0.0714, 0.0714), abs=2e-3)


@pytest.mark.parametrize(
    ("n", "better", "worse"), [(50, 0.1, 0.02), (30, 0.2, 0.2), (50, 0.15, 0.0), (100, 0.05, 0.01)]
)
def test_the_interval_holds_the_true_difference_as_often_as_it_says(n, better, worse):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        kind = rng.choice(4, n, p=[better, worse, 0.6, 0.4 - better - worse])
        new, old = np.isin(kind, [0, 2]), np.isin(kind, [1, 2])
        _, low, high = paired_interval(new, old)
        covered += low <= better - worse <= high
    assert covered / 400 >= 0.87, "90 % is promised"


def test_the_interval_does_not_vanish_where_no_row_tells_the_two_apart():
    same = np.arange(20) < 15
    difference, low, high = paired_interval(same, same)
    assert difference == 0
    assert low < -0.02
    assert high > 0.02


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
    assert "10 target labels were used to choose" in counted.notes[-1]
    assert (task.answers.codes != -1).all(), "the task given is left as it is"
    np.testing.assert_array_equal(draw_target_labels(task, 10)[1], labels)
    with pytest.raises(
        FtransferError, match="46 labelled images of 'night' were requested, but only 45 have a label"
    ):
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
    file.write_text(f"path,label\n{paths[3]},elm\n{paths[0]},None of these\n{paths[1]},\n")
    counted, labels = read_target_labels(task, file)
    assert labels[3] == 1
    assert labels[0] == -2, "a class that no source has is right for no candidate"
    assert (labels == -1).sum() == 43
    assert (counted.answers.codes == -1).sum() == 2
    assert any("1 of 2 labelled target images are 'none of these'" in note for note in counted.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("file,label\na,elm\n", "has no column path; it needs path and label, and has file, label"),
        (
            "path,label\nnowhere.png,elm\n",
            "lists 1 images that are not in the target 'night', such as nowhere.png",
        ),
        ("path,label\n60.png,elm\n60.png,oak\n", "gives two labels for 60.png"),
        ("path,label\n", "has no labels"),
        ("path,label\n60.png,Elm\n", r"no class 'Elm'; did you mean 'elm'\? \(classes of the source found: "),
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
    blind = found.table[found.table["step"] != "target labels"]
    assert blind["score"].tolist() == without.table["score"].tolist()
    assert re.search(r"\+\S+ points of accuracy on 30 labelled target images", found.reason)
    assert "labelled target images" not in without.reason
    predicted = found.pipeline.predict(task.X_target)
    rest = labels == -1
    expected = np.mean(predicted[rest] == whole.answers.codes[rest])
    assert found.table["target_accuracy"][found.chosen] == pytest.approx(expected)


def test_rows_whose_labels_would_decide_are_listed_and_labels_filled_in_are_kept(tmp_path):
    with config_context():  # what importing skada switches on is switched off again
        datasets = pytest.importorskip("skada.datasets", reason="skada is not installed")
    X, y, domain = datasets.make_shifted_datasets(
        n_samples_source=50, n_samples_target=50, shift="conditional_shift", noise=0.8, random_state=0
    )
    names = NAMES[y.astype(int)]
    features = write_feature_set(tmp_path / "f", X.astype(np.float32), names, np.where(domain < 0, "t", "s"))
    recipes = [load_recipe(name) for name in ("source_only_standardised_svm", "scaled_svm", "prior_svm")]
    task = load_task(features, "s", "t")
    found = race(task, recipes)
    assert found.sentence.startswith("Do not adapt")
    assert any("two explanations fit the target" in note for note in found.task.notes)
    assert abs(found.expected.value - found.table["target_accuracy"][found.chosen]) < 0.1
    write_decide(found.decide, tmp_path)
    table = pd.read_csv(tmp_path / "decide.csv")
    assert len(table) == 50
    assert (table["prior_svm"] != table["scaled_svm"]).all()
    assert table["label"].isna().all()

    manifest = features.complete
    truth = dict(zip(manifest["path"], manifest["label"], strict=True))
    table = table[:12].assign(label=table["path"][:12].map(truth))
    table.to_csv(tmp_path / "decide.csv", index=False)
    known, labels = read_target_labels(task, tmp_path / "decide.csv")
    decided = race(known, recipes, target_labels=labels)
    assert decided.sentence == "Only scale each domain separately: scaled_svm."
    assert decided.expected.basis == "panel"
    assert decided.decide is None
    write_decide(decided.decide, tmp_path)
    assert pd.read_csv(tmp_path / "decide.csv")["label"].notna().all()
    found.decide.to_csv(tmp_path / "decide.csv", index=False)
    write_decide(None, tmp_path)
    assert not (tmp_path / "decide.csv").exists()
