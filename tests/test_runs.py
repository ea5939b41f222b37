import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import blobs, write_feature_set
from sklearn.linear_model import LogisticRegression
from test_search import QUICK

from ftransfer import FtransferError, compare_runs, load_task, race, write_comparison, write_report
from ftransfer.cli import main
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe

OTHER = [*QUICK, Recipe("<b>plain", AdaptationPipeline([("logistic", LogisticRegression())]), {})]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on the same features, the second with other values of a parameter, another score and a recipe more."""
    folder = tmp_path_factory.mktemp("runs")
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])[labels]
    features = write_feature_set(folder / "features", X, names, np.where(y == -1, "night", "day"))
    task = load_task(features, "day", "night")
    write_report(race(task, QUICK, jobs=1), features, folder / "a" / "run")
    other = race(task, OTHER, jobs=1, scorer="entropy", grids={"coral__ridge": [5.0]})
    write_report(other, features, folder / "b" / "run", command="ftransfer fit --scorer entropy")
    return folder


def test_two_runs_are_told_apart_by_what_differs(runs):
    found = compare_runs([runs / "a" / "run", runs / "b" / "run"])
    assert found.table["run"].tolist() == ["a/run", "b/run"]
    assert found.differences["score"] == ["consistency", "entropy"]
    assert found.differences["grid of aligned"] == ["ridge 1.0", "ridge 5.0"]
    assert "<b>plain" in found.differences["recipes"][1]
    assert "grid of plain" not in found.differences
    assert found.same["target"] == "night"
    assert found.recipes.loc["<b>plain", ["a/run"]].isna().all()
    results = json.loads((runs / "a" / "run" / "results.json").read_text())
    assert found.table["target_accuracy"][0] == pytest.approx(results["counted"]["recommended"])
    best = max(row["score"] for row in results["candidates"])
    assert found.recipes["a/run"].max() == pytest.approx(best)
    assert "the scores are not comparable between runs with different scores" in found.notes[0]
    labels = [pd.read_csv(runs / r / "run" / "predictions.csv")["label"] for r in ("a", "b")]
    assert found.agreement.loc["a/run", "b/run"] == pytest.approx((labels[0] == labels[1]).mean())


def test_the_page_and_the_table_hold_both_runs_and_ask_nothing_of_the_network(runs, tmp_path):
    write_comparison(compare_runs([runs / "a" / "run", runs / "b" / "run"]), tmp_path / "both")
    page = (tmp_path / "both" / "runs.html").read_text()
    assert "could not be drawn" not in page
    assert page.count("<table") == page.count("<caption") == 4
    assert "&lt;b&gt;plain" in page
    assert "<b>plain" not in page
    assert "ftransfer fit --scorer entropy" in page
    assert "http" not in page.replace("http-equiv", "")
    assert pd.read_csv(tmp_path / "both" / "runs.csv")["scorer"].tolist() == ["consistency", "entropy"]


def test_the_command_prints_the_table_and_the_differences(runs, tmp_path):
    asked = ["compare-runs", str(runs / "a" / "run"), str(runs / "b" / "run")]
    said = CliRunner().invoke(main, [*asked, "--out", str(tmp_path / "both")], catch_exceptions=False)
    assert said.exit_code == 0
    assert "b/run  day" in said.stdout
    assert re.search("grid of aligned +ridge 1.0 +ridge 5.0", said.stdout)
    assert (tmp_path / "both" / "runs.html").is_file()
    told = json.loads(CliRunner().invoke(main, [*asked, "--json"], catch_exceptions=False).stdout)
    assert [run["scorer"] for run in told["runs"]] == ["consistency", "entropy"]


def test_runs_that_are_the_same_have_no_differences(runs, tmp_path):
    (tmp_path / "copy").mkdir()
    for file in (runs / "a" / "run").glob("*.*"):
        if file.name != ".lock":
            (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    twin = compare_runs([runs / "a" / "run", tmp_path / "copy"])
    assert twin.differences == {}
    assert twin.notes == []
    assert twin.agreement.iloc[0, 1] == 1.0


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["a/run"], "compare-runs takes two or more run folders; given 1"),
        (["a/run", "features"], "features is not a run folder: it has no results.json"),
        (["a/run", "a/run"], "the same run folder is named twice"),
        (["a/run", "broken"], "broken/results.json cannot be read"),
    ],
)
def test_what_is_no_run_is_refused(runs, given, match):
    (runs / "broken").mkdir(exist_ok=True)
    (runs / "broken" / "results.json").write_text('{"task": 3}')
    with pytest.raises(FtransferError, match=match):
        compare_runs([runs / each for each in given])
