import csv
import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set
from test_search import QUICK

from ftransfer import FtransferError, Model, load_task, race, write_report
from ftransfer.report import start_run


@pytest.fixture
def run(feature_set, tmp_path):
    found = race(load_task(feature_set, "day", "night"), QUICK)
    results = write_report(found, feature_set, tmp_path / "run", command="ftransfer fit f")
    return found, results, tmp_path / "run"


def test_a_run_folder_holds_table_numbers_model_labels_and_page(run):
    found, results, folder = run
    names = ["model.skops", "predictions.csv", "report.html", "results.csv", "results.json"]
    assert sorted(p.name for p in folder.iterdir()) == names
    table = pd.read_csv(folder / "results.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["score"].to_numpy() == pytest.approx(found.table["score"].to_numpy())
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["recommendation"]["pipeline"] == found.table["pipeline"][found.chosen]
    assert results["score"]["uses_target_labels"] is False


def test_every_target_image_gets_a_label(run, feature_set):
    found, _, folder = run
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 45
    model = Model.load(folder / "model.skops")
    assert predictions["label"].tolist() == model.predict(found.task.X_target).tolist()
    assert model.recipe == feature_set.recipe


def test_the_count_is_the_confusion_of_the_recommended_pipeline(run):
    found, results, _ = run
    confusion = np.array(results["counted"]["confusion"])
    assert confusion.sum() == results["counted"]["labelled"] == 45
    assert np.trace(confusion) / 45 == pytest.approx(results["counted"]["recommended"])


def test_the_page_is_whole_and_asks_nothing_of_the_network(run):
    _, results, folder = run
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=|url\(|@import|<script", page)
    assert results["recommendation"]["sentence"] in page
    assert page.count("<tr") >= 3 + 4 + 3 + 3
    assert "not used" in page


def test_without_target_labels_nothing_is_counted(tmp_path):
    X, y, labels = blobs()
    domains = np.where(y == -1, "night", "day")
    names = [None if d == "night" else "abc"[c] for d, c in zip(domains, labels, strict=True)]
    features = write_feature_set(tmp_path / "f", X, names, domains)
    results = write_report(race(load_task(features, "day", "night"), QUICK), features, tmp_path / "run")
    assert results["counted"] is None
    assert all(row["target_accuracy"] is None for row in results["candidates"])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Counted" not in page
    assert "not used" not in page


def test_names_from_strangers_are_escaped(tmp_path):
    X, y, labels = blobs()
    evil = np.array(["<script>alert(1)</script>", "b & c", 'd"'])
    features = write_feature_set(tmp_path / "f", X, evil[labels], np.where(y == -1, "<b>t</b>", "s"))
    write_report(race(load_task(features, "s", "<b>t</b>"), QUICK), features, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script>" not in page
    assert "<b>t" not in page
    assert "&lt;script&gt;" in page


def test_a_failed_candidate_is_shown_with_its_error(feature_set, tmp_path):
    from ftransfer.pipeline import Recipe

    broken = Recipe("broken", QUICK[1].pipeline, {"svc__C": [-1.0]})
    write_report(
        race(load_task(feature_set, "day", "night"), [*QUICK, broken]), feature_set, tmp_path / "run"
    )
    assert "failed: InvalidParameterError" in (tmp_path / "run" / "report.html").read_text()
    with open(tmp_path / "run" / "results.csv") as file:
        assert list(csv.DictReader(file))[-1]["score"] == ""


def test_a_run_replaces_a_run_but_nothing_else(run, tmp_path):
    _, _, folder = run
    assert start_run(folder) == folder
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(FtransferError, match=r"is not empty and no run folder \(chapter.tex\)"):
        start_run(tmp_path / "thesis")
    with pytest.raises(FtransferError, match="cannot write to /proc/nothing"):
        start_run("/proc/nothing")
