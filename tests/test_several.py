"""Several races in one run: a column of labels each, or a feature set each, side by side."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, draw, write_feature_set
from test_cli import run

import ftransfer.search.journal
import ftransfer.search.race
from ftransfer import FeatureSet, FtransferError, Model, find_images, load_task
from ftransfer.features.joined import open_alternatives
from ftransfer.report import name_folders

QUICK = ("--pipeline", "source_only_svm", "--pipeline", "scaled_svm", "--jobs", "1")
DAY = ("--source", "day", "--target", "night")


@pytest.fixture(scope="module")
def two_tasks(tmp_path_factory):
    """Folder with pictures and a table of two columns of labels, which some rows lack, and their features."""
    home = tmp_path_factory.mktemp("home")
    for d, domain in enumerate(["day", "night"]):
        for i in range(24):
            draw(
                home / "p" / domain / f"{i:02}.png",
                i % 3,
                seed=100 * d + i,
                size=(40, 32) if i % 2 else (20, 60),
            )
    table = find_images(home / "p", labels=False)
    number = table["path"].str[-6:-4].astype(int)
    table["colour"] = np.array(["red", "green", "blue"])[number % 3]
    table["shape"] = np.where(number % 2, "wide", "tall")
    table.loc[(table["domain"] == "day") & (number == 3), "shape"] = None
    table.drop(columns=["root", "label"]).to_csv(home / "p" / "table.csv", index=False)
    columns = ("--label-column", "colour", "--label-column", "shape")
    small = ("--backbone", "small_cnn", "--weights", "random", "--out", home / "f")
    result = run("extract", home / "p" / "table.csv", *columns, *small)
    assert result.exit_code == 0, result.output
    return home


@pytest.fixture(scope="module")
def fitted(two_tasks):
    columns = ("--label-column", "colour", "--label-column", "shape")
    result = run("fit", two_tasks / "f", *DAY, *columns, *QUICK, "--out", two_tasks / "run")
    assert result.exit_code == 0, result.output
    return two_tasks / "run", result.output


def test_a_feature_set_keeps_a_column_of_labels_for_each_task(two_tasks):
    features = FeatureSet(two_tasks / "f")
    assert features.manifest["label"].equals(features.manifest["label:colour"].rename("label"))
    colour, shape = (load_task(features, "day", "night", label=name) for name in ("colour", "shape"))
    assert colour.classes.tolist() == ["blue", "green", "red"]
    assert shape.classes.tolist() == ["tall", "wide"]
    assert shape.is_source.sum() == 23
    np.testing.assert_array_equal(colour.X_target, shape.X_target)
    with pytest.raises(FtransferError, match="no label column 'shap'; did you mean 'shape'"):
        load_task(features, "day", "night", label="shap")
    again = run("extract", two_tasks / "p" / "table.csv", "--label-column", "form", "--out", two_tasks / "g")
    assert again.exit_code == 1
    assert "no label column 'form'" in again.output


def test_each_column_of_labels_has_its_own_race_report_and_model(fitted, two_tasks):
    folder, output = fitted
    assert "colour: " in output
    assert "note: shape: 1 source images without a label were skipped" in output
    results = json.loads((folder / "results.json").read_text())
    assert list(results["runs"]) == ["colour", "shape"]
    predictions = pd.read_csv(folder / "predictions.csv")
    assert list(predictions) == ["root", "path", "colour", "colour probability", "shape", "shape probability"]
    assert len(predictions) == 24
    assert set(predictions["colour"]) <= {"red", "green", "blue"}
    for name, run_ in results["runs"].items():
        own = json.loads((folder / name / "results.json").read_text())
        assert own["recommendation"] == run_["recommendation"]
        assert own["task"]["label"] == name
        assert sum(row["chosen"] for row in run_["leading"]) == 1
        assert f'href="{name}/report.html"' in (folder / "report.html").read_text()
        assert "day to night, " + name in (folder / name / "report.html").read_text()
    assert "colour" in run("info", folder).output
    assert not list(folder.rglob("running"))


def test_a_run_that_is_stopped_at_the_second_column_keeps_what_the_first_one_found(
    two_tasks, tmp_path, monkeypatch
):
    columns = ("--label-column", "colour", "--label-column", "shape", "--out", tmp_path / "run")
    done, real = [], ftransfer.search.race.race

    def stop(task, *arguments, **options):
        if task.label == "shape" and not done:
            done.append(task)
            raise KeyboardInterrupt
        return real(task, *arguments, **options)

    monkeypatch.setattr(ftransfer.search.race, "race", stop)
    assert run("fit", two_tasks / "f", *DAY, *columns, *QUICK).exit_code == 130
    first = (tmp_path / "run" / "colour" / "running").read_text()
    assert len(first.splitlines()) > 2
    assert run("info", tmp_path / "run").exit_code == 1
    again = []
    monkeypatch.setattr(ftransfer.search.journal.Journal, "add", lambda self, trial, row: again.append(trial))
    assert run("fit", two_tasks / "f", *DAY, *columns, *QUICK).exit_code == 0
    assert len(again) == len(first.splitlines()) - 1  # those of shape alone
    with pytest.raises(FtransferError, match=r"holds several models; choose one: .*colour, .*shape"):
        Model.load(tmp_path / "run")


def test_predict_gives_all_columns_from_images_and_from_features(fitted, two_tasks, tmp_path):
    folder, _ = fitted
    (two_tasks / "p" / "night" / "torn.png").write_bytes(b"no picture")
    result = run("predict", folder, two_tasks / "p" / "night", "--out", tmp_path / "a.csv")
    (two_tasks / "p" / "night" / "torn.png").unlink()
    assert result.exit_code == 0, result.output
    assert "24 images labelled" in result.output
    assert "1 could not be read" in result.output
    table = pd.read_csv(tmp_path / "a.csv").dropna(subset=["colour"])
    told = [f"{c}{part}" for c in ("colour", "shape") for part in ("", " probability", " distance", " far")]
    assert list(table) == ["root", "path", *told, "error"]
    assert table["colour"].tolist() == pd.read_csv(folder / "predictions.csv")["colour"].tolist()
    assert table["shape"].tolist() == Model.load(folder / "shape").predict(two_tasks / "p" / "night").tolist()
    assert run("predict", folder, two_tasks / "f", "--out", tmp_path / "b.csv").exit_code == 0
    assert len(pd.read_csv(tmp_path / "b.csv")) == 48


def test_columns_of_labels_survive_export_and_import(two_tasks, tmp_path):
    for kind in ("csv", "parquet", "npz"):
        file = tmp_path / f"t.{kind}"
        assert run("export", two_tasks / "f", "--out", file).exit_code == 0
        assert run("import", file, "--out", tmp_path / kind).exit_code == 0
        back, features = FeatureSet(tmp_path / kind), FeatureSet(two_tasks / "f")
        assert back.width == features.width
        kept = ["path", "label", "label:colour", "label:shape"]
        pd.testing.assert_frame_equal(
            back.manifest[kept].sort_values("path", ignore_index=True),
            features.manifest[kept].sort_values("path", ignore_index=True),
        )


def test_a_table_of_embeddings_gives_a_task_for_each_column_that_is_named(tmp_path):
    X, y, labels = blobs()
    table = pd.DataFrame(X).add_prefix("e")
    table["domain"] = np.where(y == -1, "night", "day")
    table["kind"], table["half"] = labels, labels % 2
    table.to_csv(tmp_path / "t.csv", index=False)
    columns = ("--label-column", "kind", "--label-column", "half")
    result = run("import", tmp_path / "t.csv", *columns, "--out", tmp_path / "f")
    assert result.exit_code == 0, result.output
    features = FeatureSet(tmp_path / "f")
    assert features.width == X.shape[1]
    assert load_task(features, "day", "night", label="half").classes.tolist() == ["0", "1"]
    assert load_task(features, "day", "night").classes.tolist() == ["0", "1", "2"]


# ---------------------------------------------------------------- feature sets as alternatives


@pytest.fixture
def pair(tmp_path):
    """Two feature sets of the same images, the second without the first one, with a training noted."""
    X, y, labels = blobs()
    names, domains = np.array(["ash", "elm", "oak"])[labels], np.where(y == -1, "night", "day")
    write_feature_set(tmp_path / "frozen", X, names, domains)
    tuned = write_feature_set(tmp_path / "tuned", 2 * X[:, :5], names, domains)
    tuned.write_manifest(tuned.manifest.iloc[1:])
    history = [{"epoch": e, "loss": 1 / e, "accuracy": 0.5, "validation_loss": 2 / e} for e in (1, 2)]
    (tmp_path / "c.json").write_text(
        json.dumps(
            {
                "training": {"backbone": "small_cnn", "weights": "<b>DEFAULT", "rules": ["flip"]},
                "images": {"train": 10, "validation": 3, "test": 0},
                "history": history,
                "best_epoch": 2,
                "seconds": 3.5,
            }
        )
    )
    tuned.write_training(tmp_path / "c.safetensors")
    return tmp_path / "frozen", tmp_path / "tuned"


def test_alternatives_race_side_by_side_on_the_same_images_and_none_is_chosen(pair, tmp_path):
    result = run("fit", *pair, *DAY, *QUICK, "--alternatives", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    frozen, tuned = (results["runs"][name] for name in ("frozen", "tuned"))
    assert frozen["task"]["n_source"] == tuned["task"]["n_source"] == 59
    assert (frozen["task"]["n_features"], tuned["task"]["n_features"]) == (8, 5)
    assert frozen["training"] is None
    assert "There is no recommendation between them" in result.output
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("How tuned was trained") == 1
    assert page.count("<polyline") == 3
    assert "small_cnn from &lt;b&gt;DEFAULT, 10 images to train, varied by flip" in page
    assert "How the backbone was trained" in (tmp_path / "run" / "tuned" / "report.html").read_text()
    assert "How the backbone was trained" not in (tmp_path / "run" / "frozen" / "report.html").read_text()
    one = Model.load(tmp_path / "run" / "tuned")
    assert one.width == 5
    refused = run("predict", tmp_path / "run", pair[0], "--out", tmp_path / "p.csv")
    assert refused.exit_code == 1
    assert "holds several runs; choose one of them" in refused.output


def test_alternatives_of_one_name_get_their_whole_paths_and_one_alone_is_refused(pair, tmp_path):
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])[labels]
    other = write_feature_set(tmp_path / "more" / "tuned", X, names, np.where(y == -1, "night", "day")).folder
    assert list(open_alternatives([pair[1], other])) == [str(pair[1]), str(other)]
    with pytest.raises(FtransferError, match="alternatives needs at least two feature sets; given one"):
        open_alternatives([other, other])
    with pytest.raises(FtransferError, match="too similar to be used as folder names"):
        name_folders(["a b", "a/b"])
    both = ("--alternatives", "--label-column", "a", "--label-column", "b")
    assert run("fit", *pair, *DAY, *both).exit_code == 2


def test_a_file_that_holds_no_training_is_not_noted(pair, tmp_path):
    for number, text in enumerate(["no json", "[]", '{"history": [{"loss": "<script>"}]}', "[" * 100_000]):
        (tmp_path / f"{number}.json").write_text(text)
        FeatureSet(pair[0]).write_training(tmp_path / f"{number}.pth")
        assert FeatureSet(pair[0]).training is None
