import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import blobs, draw, write_feature_set
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, precision_recall_fscore_support
from sklearn.multiclass import OutputCodeClassifier
from sklearn.svm import SVC
from test_search import QUICK

from ftransfer import (
    CORAL,
    DomainScaler,
    FtransferError,
    Model,
    compare_domains,
    load_task,
    make_pipeline,
    race,
    write_report,
)
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.report import run_folder, start_run
from ftransfer.report.grid import curves
from ftransfer.report.metrics import average_classes, score_classes
from ftransfer.report.numbers import calibration, most_confused, plain
from ftransfer.report.pictures import HUES, draw_curve, scale, shorten, tenths, ticks
from ftransfer.report.plane import draw_plane, lay_out, mixing, sample
from ftransfer.report.thumbnails import choose, thumbnail
from ftransfer.storage.writing import release
from ftransfer.task import draw_target_labels

SURE = [
    Recipe("plain", AdaptationPipeline([("logistic", LogisticRegression())]), {"logistic__C": [0.1, 1.0]})
]
SURE += [Recipe("scaled", make_pipeline(DomainScaler(), LogisticRegression()))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A race of three recipes on small blobs, its results and its run folder; only read by the tests."""
    folder = tmp_path_factory.mktemp("report")
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])[labels]
    features = write_feature_set(folder / "features", X, names, np.where(y == -1, "night", "day"))
    found = race(load_task(features, "day", "night"), QUICK)
    results = write_report(found, features, folder / "run", command="ftransfer fit f")
    return found, results, folder / "run"


def test_a_run_folder_holds_tables_numbers_model_labels_and_page(run):
    found, results, folder = run
    names = ["classes.csv", "model.skops", "predictions.csv", "report.html", "results.csv", "results.json"]
    assert sorted(p.name for p in folder.iterdir() if p.name != ".lock") == names
    table = pd.read_csv(folder / "results.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["score"].to_numpy() == pytest.approx(found.table["score"].to_numpy())
    assert table["param_svc__C"].isna().tolist() == [
        "svc__C" not in params for params in found.table["params"]
    ]
    splits = table.filter(regex=r"^split\d+_test_score$").to_numpy()
    assert splits == pytest.approx(found.resampled, abs=1e-6)
    assert table["rank_test_score"].tolist() == found.cv_results_["rank_test_score"].tolist()
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["recommendation"]["pipeline"] == found.table["pipeline"][found.chosen]
    assert results["score"]["uses_target_labels"] is False
    classes = pd.read_csv(folder / "classes.csv")
    assert classes["class"].tolist() == ["ash", "elm", "oak"]
    assert classes["predicted"].sum() == 45


def test_every_target_image_gets_a_label(run, feature_set):
    found, _, folder = run
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 45
    model = Model.load(folder / "model.skops")
    assert predictions["label"].tolist() == model.predict(found.task.X_target).tolist()
    assert model.fingerprint == feature_set.fingerprint


def test_the_count_is_the_confusion_of_the_recommended_pipeline(run):
    found, results, _ = run
    confusion = np.array(results["counted"]["confusion"])
    assert confusion.sum() == results["counted"]["labelled"] == 45
    assert np.trace(confusion) / 45 == pytest.approx(results["counted"]["recommended"])
    by_class = {row["class"]: row for row in results["classes"]}
    assert by_class["elm"]["right"] == pytest.approx(confusion[1, 1] / confusion[1].sum())
    before = found.source_only.predict(found.task.X_target)
    assert by_class["elm"]["source_only_share"] == pytest.approx(np.mean(before == 1))


def test_the_page_is_whole_and_asks_nothing_of_the_network(run):
    _, results, folder = run
    page = (folder / "report.html").read_text()
    assert not re.search(r"url\(|@import|https?:", page)
    assert set(re.findall(r"href=\"(.)", page)) == {"#"}
    assert not re.search(r"(?<!data-)src\s*=\s*\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert results["recommendation"]["sentence"] in page
    assert page.count("<tr") >= 3 + 4 + 3 + 3
    assert "not used" in page
    for anchor in re.findall(r"href=\"#(\w+)\"", page):
        assert f'id="{anchor}"' in page


def test_headings_are_in_order_and_tables_have_captions(run):
    page = (run[2] / "report.html").read_text()
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    assert page.count("<table") == page.count("<caption") > 3
    assert page.count("<svg") == page.count('role="img" aria-label="') + page.count('aria-hidden="true">')


def test_the_answer_comes_first_and_says_how_sure_it_is(run):
    found, results, folder = run
    page = (folder / "report.html").read_text()
    order = [page.index(f'id="{name}"') for name in ("answer", "race", "confusion", "classes", "calibration")]
    order += [page.index(f'id="{name}"') for name in ("plane", "images", "grid", "again")]
    assert order == sorted(order)
    assert results["expected"]["sentence"].split("(")[0] in page
    assert found.table["low"][found.chosen] <= results["recommendation"]["score"]


def test_without_target_labels_nothing_is_counted(tmp_path):
    X, y, labels = blobs()
    domains = np.where(y == -1, "night", "day")
    names = [None if d == "night" else "abc"[c] for d, c in zip(domains, labels, strict=True)]
    features = write_feature_set(tmp_path / "f", X, names, domains)
    results = write_report(race(load_task(features, "day", "night"), QUICK), features, tmp_path / "run")
    assert results["counted"] is None
    assert all(row["target_accuracy"] is None for row in results["candidates"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "ounted" not in re.sub(r"<style>.*</style>", "", page, flags=re.S)
    assert "not used" not in page
    assert "Not available: calibration on the target can only be checked with target labels" in page


def test_names_from_strangers_are_escaped(tmp_path):
    X, y, labels = blobs()
    evil = np.array(["<script>alert(1)</script>", "b & c", 'd"onload="x'])
    features = write_feature_set(tmp_path / "f", X, evil[labels], np.where(y == -1, "<b>t</b>", "s"))
    manifest = features.manifest.assign(path=[f"<i>{i}.png" for i in range(len(y))])
    features.write_manifest(manifest)
    named = [Recipe("<u>mine</u>", QUICK[1].pipeline, {"svc__C": [1.0, 2.0]}), *QUICK]
    found = race(load_task(features, "s", "<b>t</b>"), named)
    write_report(found, features, tmp_path / "run", command="<em>x")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<script>") == 1
    assert "alert(1)" not in re.search(r"<script>(.*)</script>", page, re.S).group(1)
    for raw in ("<b>t", "<i>", "<u>mine", "<em>x", 'd"onload'):
        assert raw not in page, raw
    assert "&lt;script&gt;" in page
    assert "share of &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Race from" in repr(found)
    assert "<u>" not in found._repr_html_()


def test_a_score_that_is_no_share_has_its_own_scale(feature_set, tmp_path):
    found = race(load_task(feature_set, "day", "night"), SURE, scorer="entropy")
    assert (found.table["score"] < 0).all()
    results = write_report(found, feature_set, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert results["score"]["name"] == "entropy"
    assert results["expected"]["basis"] == "panel"
    assert "Block: the score" in page
    assert 'class="counted" cx' not in page


def test_labels_that_the_guard_used_are_not_counted(feature_set, tmp_path):
    task, labels = draw_target_labels(load_task(feature_set, "day", "night"), 10)
    results = write_report(race(task, QUICK, target_labels=labels), feature_set, tmp_path / "run")
    assert results["recommendation"]["target_labels_used"] == 10
    assert results["counted"]["labelled"] == 35
    assert pd.read_csv(tmp_path / "run" / "predictions.csv")["used_by_guard"].sum() == 10
    assert "10 target labels were used to choose" in (tmp_path / "run" / "report.html").read_text()


def test_the_page_says_how_far_apart_the_domains_are(run, tmp_path):
    found, results, folder = run
    rows = {row["measure"]: row for row in results["similarity"]["rows"]}
    task = found.task
    alone = compare_domains(task.X[task.is_source], task.X_target, task.classes[task.y[task.is_source]])
    assert list(rows) == alone["measure"].tolist()
    assert rows["mean shift"]["value"] == alone["value"][0] > 2 * rows["mean shift"]["yardstick"]
    assert "by target labels" not in str(rows)
    page = (folder / "report.html").read_text()
    assert all(escape(row["meaning"]) in page for row in rows.values())


def test_domains_too_small_to_compare_are_said_to_be(tmp_path):
    X, y, labels = blobs(60, 6)
    names = np.array(["a", "b", "c"])[labels]
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "t", "s"))
    results = write_report(race(load_task(features, "s", "t"), QUICK), features, tmp_path / "run")
    assert results["similarity"]["rows"] == []
    assert "8" in results["similarity"]["notes"][0]
    assert "Note: " in (tmp_path / "run" / "report.html").read_text()


def test_a_failed_candidate_is_shown_with_its_error(feature_set, tmp_path):
    broken = Recipe("broken", QUICK[1].pipeline, {"svc__C": [-1.0]})
    write_report(
        race(load_task(feature_set, "day", "night"), [*QUICK, broken]), feature_set, tmp_path / "run"
    )
    assert "failed: InvalidParameterError" in (tmp_path / "run" / "report.html").read_text()
    with open(tmp_path / "run" / "results.csv") as file:
        assert list(csv.DictReader(file))[-1]["score"] == ""


def test_a_page_without_a_source_only_candidate_is_whole(feature_set, tmp_path):
    broken = Recipe("plain", QUICK[0].pipeline, {"svc__C": [-1.0]})
    results = write_report(
        race(load_task(feature_set, "day", "night"), [broken, QUICK[1]]), feature_set, tmp_path / "run"
    )
    assert results["expected"] is not None
    assert results["counted"]["source_only"] is None
    assert "source_only_share" not in results["classes"][0]
    assert "Only scale" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_sixty_classes_and_sixty_candidates_stay_under_five_megabytes(tmp_path):
    X, y, labels = blobs(600, 600, 16, 60)
    names = np.array([f"a class with quite a long name, number {i:02d}" for i in range(60)])
    features = write_feature_set(tmp_path / "f", X, names[labels], np.where(y == -1, "t", "s"))
    settings = {"logistic__C": np.logspace(-4, 1, 30)}
    recipes = [
        Recipe("plain", AdaptationPipeline([("logistic", LogisticRegression(max_iter=3))]), settings),
        Recipe(
            "scaled",
            AdaptationPipeline([("scale", DomainScaler()), ("logistic", LogisticRegression(max_iter=3))]),
            settings,
        ),
    ]
    results = write_report(race(load_task(features, "s", "t"), recipes), features, tmp_path / "run")
    assert len(results["candidates"]) == 60
    assert sum(f.stat().st_size for f in (tmp_path / "run").iterdir()) < 5e6
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('<th scope="row" title="a class with') == 60
    assert "the other 48 are grey" in page


def test_a_run_replaces_a_run_but_nothing_else(run, tmp_path):
    folder = shutil.copytree(run[2], tmp_path / "run")
    assert start_run(folder) == folder
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(FtransferError, match=r"is not empty and not a run folder \(chapter.tex\)"):
        start_run(tmp_path / "thesis")
    with pytest.raises(FtransferError, match="cannot write to /proc/nothing"):
        start_run("/proc/nothing")


# ---------------------------------------------------------------- numbers


def test_a_run_folder_has_one_writer_and_another_is_told(run, feature_set, tmp_path):
    code = "import sys; from ftransfer.report import start_run; start_run(sys.argv[1]); print(flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        other.stdout.readline()
        before = {p.name for p in (tmp_path / "run").iterdir()}
        with pytest.raises(FtransferError, match="being written by another ftransfer fit.*--out"):
            write_report(run[0], feature_set, tmp_path / "run")
        assert {p.name for p in (tmp_path / "run").iterdir()} == before == {".lock", "running"}
    finally:
        other.kill()
        other.communicate()
    write_report(run[0], feature_set, tmp_path / "run")
    held = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "run"], input=b"\n", check=True, capture_output=True
    )
    assert not held.stderr


def test_the_calibration_error_is_the_mean_gap_weighted_by_the_bins():
    sure = np.array([0.55, 0.55, 0.95, 0.95, 0.95, 1.0])
    right = np.array([True, False, True, True, True, True])
    found = calibration(sure, right)
    assert found["error"] == pytest.approx((2 * abs(0.55 - 0.5) + 4 * abs(0.9625 - 1)) / 6)
    assert [b["count"] for b in found["bins"]] == [0] * 5 + [2, 0, 0, 0, 4]
    assert found["bins"][0]["right"] is None


def test_calibration_is_counted_only_where_there_are_probabilities(feature_set, tmp_path, run):
    found, results, folder = run
    calibrated = results["counted"]["calibration"]
    assert sum(b["count"] for b in calibrated["bins"]) == 45
    assert calibrated["right"] == pytest.approx(results["counted"]["recommended"])
    model = Model.load(folder / "model.skops")
    assert results["temperature"] == pytest.approx(model.temperature)
    probability = model.describe(found.task.X_target)["probability"]
    assert calibrated["mean_probability"] == pytest.approx(probability.mean())
    assert pd.read_csv(folder / "predictions.csv")["probability"].tolist() == pytest.approx(
        probability.tolist()
    )
    # this one has neither probabilities nor a decision function
    mute = OutputCodeClassifier(LogisticRegression(), code_size=3, random_state=0)
    recipes = [
        Recipe("mute", AdaptationPipeline([("mute", mute)])),
        Recipe("scaled", make_pipeline(DomainScaler(), mute)),
    ]
    results = write_report(
        race(load_task(feature_set, "day", "night"), recipes), feature_set, tmp_path / "mute"
    )
    assert results["counted"]["calibration"] is None
    page = (tmp_path / "mute" / "report.html").read_text()
    assert "gives no probabilities" in page
    assert "gives no confidence" in page


def test_the_commonest_mistakes_come_first():
    confusion = np.array([[5, 3, 0], [1, 9, 0], [0, 7, 0]])
    found = most_confused(confusion, ["a", "b", "c"])
    assert [(f["label"], f["predicted"], f["count"]) for f in found] == [
        ("c", "b", 7),
        ("a", "b", 3),
        ("b", "a", 1),
    ]
    assert found[1]["share"] == 3 / 8
    assert most_confused(np.diag([1, 2]), ["a", "b"]) == []


@pytest.mark.parametrize("shares", [[1.0, 1.0], [0.7, 0.7], [0.0], [0.3, 0.6], [0.95, 1.0], [0.31]])
def test_curves_have_a_scale_whatever_is_drawn(shares):
    low, high = tenths(shares)
    assert 0 <= low < high <= 1
    assert low <= min(shares) <= max(shares) <= high
    points = [{"value": i, "score": s, "target_accuracy": s} for i, s in enumerate(shares)]
    assert "<svg" in draw_curve({"pipeline": "p", "parameter": "C", "points": points}, (low, high))


def test_precision_recall_f1_and_their_means_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    codes, predicted = rng.integers(0, 6, 200), rng.integers(0, 5, 200)  # the last class is never predicted
    expected = precision_recall_fscore_support(codes, predicted, zero_division=np.nan)
    found = score_classes(codes, predicted, 6)
    for name, values in zip(("precision", "recall", "f1", "labelled"), expected, strict=True):
        assert found[name].to_numpy() == pytest.approx(values, nan_ok=True)
    means = average_classes(codes, predicted, 6)
    wanted = precision_recall_fscore_support(codes, predicted, average="macro", zero_division=0.0)
    assert [means[n] for n in ("macro_precision", "balanced_accuracy", "macro_f1")] == pytest.approx(
        wanted[:3]
    )
    assert means["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(codes, predicted))


def test_images_without_a_label_count_for_nothing_and_those_of_other_classes_against_the_precision():
    codes, predicted = np.array([0, 0, 1, -1, -2]), np.array([0, 0, 1, 1, 1])
    scores = score_classes(codes, predicted, 3)
    assert scores["precision"].tolist() == pytest.approx([1.0, 0.5, np.nan], nan_ok=True)
    assert scores["recall"].tolist() == pytest.approx([1.0, 1.0, np.nan], nan_ok=True)
    assert average_classes(codes, predicted, 3)["classes_averaged"] == 2


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_the_ticks_of_an_axis_are_apart_and_within_it(low, span, most):
    high = low + span
    found = ticks(low, high, most)
    assert 2 <= len(found) <= most + 3
    assert len({text for _, text in found}) == len(found)
    assert all(low - 1e-3 * span <= value <= high + 1e-3 * span for value, _ in found)


@pytest.mark.parametrize(
    "values", [[1.0, 1.0 + 2**-52], [0.999, 1.0 + 2**-23], [1.0, 1.0], [-3.0, -3.0], [5.0], [0.0], [1e9, 1e9]]
)
def test_a_score_that_is_the_same_everywhere_has_an_axis(values):
    low, high = scale(values)
    assert low < high
    assert len({text for _, text in ticks(low, high)}) >= 2
    assert low <= min(values) <= max(values) <= high + 1e-6
    assert (high == 1.0) == (0 <= min(values) < 2 > max(values))


@given(st.lists(st.text(max_size=60), min_size=1, max_size=30, unique=True), st.integers(12, 24))
def test_names_that_are_cut_stay_apart(names, length):
    assert len(set(shorten(names, length))) == len(names)
    assert all(len(text) <= length for text in shorten(names, length))


def test_a_perfect_race_has_its_page(tmp_path):
    X, y, labels = blobs(64, 64)
    X = (10 * np.eye(8)[labels]).astype(np.float32)
    features = write_feature_set(tmp_path / "f", X, np.array([*"abc"])[labels], np.where(y == -1, "n", "d"))
    found = race(load_task(features, "d", "n"), SURE)
    write_report(found, features, tmp_path / "run")
    assert "Score of plain over" in (tmp_path / "run" / "report.html").read_text()


def test_a_fault_of_the_page_costs_nothing_but_the_page(run, feature_set, tmp_path, monkeypatch):
    found, results, _ = run

    def fault(*_):
        raise ZeroDivisionError("<float> division")

    monkeypatch.setattr("ftransfer.report.draw_page", fault)
    with pytest.warns(RuntimeWarning, match="could not be drawn.*division"):
        again = write_report(found, feature_set, tmp_path / "run")
    assert again["candidates"] == results["candidates"]
    assert Model.load(tmp_path / "run").classes.tolist() == ["ash", "elm", "oak"]
    assert len(pd.read_csv(tmp_path / "run" / "predictions.csv")) == 45
    assert "&lt;float&gt; division" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "running").exists()


def test_a_fault_of_the_numbers_leaves_model_and_predictions(run, feature_set, tmp_path, monkeypatch):
    monkeypatch.setattr("ftransfer.report.numbers.curves", lambda table: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="division"):
        write_report(run[0], feature_set, tmp_path / "run")
    kept = {p.name for p in (tmp_path / "run").iterdir()} - {".lock"}
    assert kept == {"model.skops", "predictions.csv", "results.csv", "running"}


def test_a_curve_takes_the_best_of_the_other_parameters_and_is_in_order():
    rows = [
        ({"C": 10, "k": None}, 0.9),
        ({"C": 2, "k": "b"}, 0.8),
        ({"C": 10, "k": "b"}, 0.7),
        ({"C": 2, "k": None}, 0.1),
    ]
    table = pd.DataFrame(rows, columns=["params", "score"]).assign(pipeline="p", target_accuracy=0.5)
    by_c, by_k = curves(table)
    assert [(p["value"], p["score"]) for p in by_c["points"]] == [(2, 0.8), (10, 0.9)]
    assert [(p["value"], p["score"]) for p in by_k["points"]] == [(None, 0.9), ("b", 0.8)]
    assert curves(table.iloc[:1]) == []


def test_numbers_become_what_json_holds():
    given = {
        "a": np.float32(0.5),
        "b": [np.int64(2), np.nan],
        "c": SVC(C=2.0),
        "d": np.bool_(True),
        1: (None, "x"),
    }
    assert plain(given) == {"a": 0.5, "b": [2, None], "c": "SVC(C=2.0)", "d": True, "1": [None, "x"]}


# ---------------------------------------------------------------- pictures


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722], linear


def contrast(a, b):
    """Contrast ratio of the Web Content Accessibility Guidelines 2.2."""
    light, dark = sorted((luminance(a)[0], luminance(b)[0]), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(a, b, share):
    values = [round(share * int(a[i : i + 2], 16) + (1 - share) * int(b[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{v:02x}" for v in values)


@pytest.mark.parametrize("theme", [0, 1])
def test_text_and_marks_stand_out_in_both_themes(run, theme):
    page = (run[2] / "report.html").read_text()
    themes = re.findall(r":root \{(.*?)\}", page, re.S)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", themes[theme]))
    for ground in (colours["paper"], colours["panel"]):
        for ink in ("ink", "soft", "mark", "good", "bad"):
            assert contrast(colours[ink], ground) >= 4.5, (ink, ground)
    for mark in (colours["base"], colours["other"], *(pair[theme] for pair in HUES)):
        assert contrast(mark, colours["paper"]) >= 3.0, mark
    assert contrast(colours["ink"], mixed(colours["mark"], colours["panel"], 0.45)) >= 4.5


@pytest.mark.parametrize("hues", list(zip(*HUES, strict=True)))
def test_hues_differ_for_colour_blind_readers_as_much_as_those_of_okabe_and_ito(hues):
    # Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009
    protan = [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    lms = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566]]
    lms += [[0.0883024619, 0.2817188376, 0.6299787005]]
    lab = [[0.2104542553, 0.793617785, -0.0040720468], [1.9779984951, -2.428592205, 0.4505937099]]
    lab += [[0.0259040371, 0.7827717662, -0.808675766]]

    def least_distance(colours):
        linear = np.array([luminance(c)[1] for c in colours])
        nearest = []
        for seen in (linear @ np.array(protan).T, linear @ np.array(deutan).T):
            oklab = np.cbrt(seen.clip(0, 1) @ np.array(lms).T) @ np.array(lab).T
            gaps = np.linalg.norm(oklab[:, None] - oklab[None], axis=2)
            nearest.append(gaps[~np.eye(len(gaps), dtype=bool)].min())
        return min(nearest)

    okabe_ito = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"]
    assert len(set(hues)) == 12
    assert least_distance(hues) >= 0.95 * least_distance(okabe_ito)


def test_the_plane_shows_both_domains_and_says_how_far_they_mix(run):
    found = run[0]
    plane = draw_plane(found)
    assert [points.shape for points in plane.points] == [(105, 2), (105, 2)]
    assert found.task.is_source[plane.rows].sum() == 60
    assert plane.mixing_expected == pytest.approx(2 * 60 * 45 / (105 * 104))
    assert plane.mixing[0] < plane.mixing[1]
    np.testing.assert_array_equal(lay_out(found.task.X[plane.rows], 0), plane.points[0])


def test_a_pipeline_without_a_map_shows_the_same_points_with_its_labels(feature_set, tmp_path):
    from ftransfer import PseudoLabelled

    pseudo = Recipe("pseudo", AdaptationPipeline([("pseudo", PseudoLabelled(structured=False))]))
    found = race(load_task(feature_set, "day", "night"), [*SURE, pseudo])
    found.chosen = int(found.table.index[found.table["pipeline"] == "pseudo"][0])
    found.pipeline = pseudo.pipeline.fit(found.task.X, found.task.y)
    assert len(draw_plane(found).points) == 1
    write_report(found, feature_set, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "pseudo does not change the features, so the points are the same" in page


def test_a_sample_is_half_of_each_domain_where_both_have_as_many():
    is_source = np.arange(5000) < 3000
    rows = sample(is_source, 0)
    assert len(rows) == len(set(rows)) == 1000
    assert is_source[rows].sum() == 500
    few = sample(np.arange(5000) < 100, 0)
    assert (few < 100).sum() == 100
    assert len(few) == 1000


@pytest.mark.parametrize("X", [np.arange(12.0)[:, None], np.zeros((12, 3)), np.eye(12)])
def test_odd_features_are_laid_out_too(X):
    points = lay_out(X, 0)
    assert points.shape == (12, 2)
    assert np.isfinite(points).all()


def test_mixing_is_the_share_of_neighbours_from_the_other_domain():
    X = np.random.default_rng(0).normal(size=(400, 3))
    is_source = np.arange(400) < 200
    assert mixing(X, is_source) == pytest.approx(0.5, abs=0.05)
    X[is_source] += 100
    assert mixing(X, is_source) == 0


# ---------------------------------------------------------------- thumbnails


def test_the_surest_of_each_class_in_turn_and_the_least_sure():
    sure = np.r_[np.linspace(0.9, 0.8, 30), np.linspace(0.7, 0.6, 30)]
    chosen = choose(sure, np.repeat([0, 1], 30))
    assert chosen["most"].tolist() == [0, 30, 1, 31, 2, 32, 3, 33, 4, 34, 5, 35]
    assert chosen["least"].tolist() == list(range(59, 47, -1))
    few = choose(sure[:5], np.zeros(5, dtype=int))
    assert sorted([*few["most"], *few["least"]]) == [0, 1, 2, 3, 4]


def test_a_thumbnail_is_a_small_picture_of_the_very_image(tmp_path):
    draw(tmp_path / "a.png", 1, seed=0, size=(400, 300))
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    uri = thumbnail(str(tmp_path), "a.png", digest)
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 12_000
    assert thumbnail(str(tmp_path), "a.png", "0" * 64) is None
    assert thumbnail(str(tmp_path), "gone.png", digest) is None
    assert thumbnail(str(tmp_path / "b"), "../a.png", digest) is None
    assert thumbnail(str(tmp_path), str(tmp_path / "a.png"), digest) is None
    assert thumbnail("torchvision:CIFAR10:train:/x", "00001", digest) is None
    (tmp_path / "text.png").write_text("no image")
    digest = hashlib.sha256(b"no image").hexdigest()
    assert thumbnail(str(tmp_path), "text.png", digest) is None


def test_a_thumbnail_stands_upright(tmp_path):
    import base64
    import io

    from PIL import Image

    image = Image.new("RGB", (200, 100))
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was turned
    image.save(tmp_path / "a.jpg", exif=exif)
    digest = hashlib.sha256((tmp_path / "a.jpg").read_bytes()).hexdigest()
    uri = thumbnail(str(tmp_path), "a.jpg", digest)
    assert Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).size == (48, 96)


def test_images_that_are_gone_are_counted_on_the_page(run):
    page = (run[2] / "report.html").read_text()
    assert "24 images are not shown: they were moved" in page
    assert "<img" not in page


# ---------------------------------------------------------------- notebooks


def test_a_race_shows_its_answer_and_table_in_a_notebook(run):
    found = run[0]
    shown = found._repr_html_()
    assert found.sentence in shown
    assert shown.count("<tr") == 1 + 3
    assert "it was not used to fit or to choose" in shown


def test_a_pipeline_says_in_a_notebook_which_steps_read_the_target():
    X, y, _ = blobs()
    pipeline = make_pipeline(DomainScaler(), None, CORAL(), SVC())
    assert "Read the target rows (y == -1): DomainScaler, CORAL." in pipeline._repr_html_()
    assert pipeline._repr_mimebundle_()["text/html"].count("Read the target rows") == 1
    block = pipeline.fit(X, y)._sk_visual_block_()
    assert hasattr(block.estimators[2], "sources_")
    assert "Fitted on the source only." in make_pipeline(SVC())._repr_html_()
    with sklearn.config_context(display="text"):
        assert "text/html" not in pipeline._repr_mimebundle_()


def test_the_page_says_what_target_labels_were_used_for_and_shows_a_possible_new_class(feature_set, tmp_path):
    task, labels = draw_target_labels(load_task(feature_set, "day", "night"), 30)
    labels[np.flatnonzero(labels != -1)[:4]] = -2
    results = write_report(race(task, QUICK, target_labels=labels), feature_set, tmp_path / "run")
    told, page = results["labels"], (tmp_path / "run" / "report.html").read_text()
    assert (told["given"], told["fitted"]) == (30, 26)
    assert told["first_pass"] + told["held_back"] == 30
    assert "The final model is fitted on all 26 that name a class" in page
    assert all(row["low"] <= row["share"] <= row["high"] for row in told["shares"])
    assert told["new_class"]["labelled"] == 4
    assert "4 labelled target images are of none of the source's classes" in page
    assert [point["coverage"] for point in results["coverage"]][-1] == 1
    sure = pd.read_csv(tmp_path / "run" / "predictions.csv")["probability"].to_numpy()
    rest = (labels == -1) & (task.answers.codes != -1)
    assert rest.sum() < 25, "too few are left: calibrated on all"
    assert sure.mean() == pytest.approx(results["expected"]["value"], abs=0.05)
    assert "Leaving images unknown" in page


def test_a_run_folder_goes_with_work_that_fails_and_stays_with_what_was_written(tmp_path):
    def fail(written):
        with run_folder(tmp_path / "run") as folder:
            (folder / "running").write_bytes(written)
            raise ValueError("a fault")

    for written, left in ((b"", False), (b"a result\n", True)):
        with pytest.raises(ValueError, match="a fault"):
            fail(written)
        assert (tmp_path / "run").exists() == left
    start_run(tmp_path / "run")  # it was let go of
    release(tmp_path / "run")
