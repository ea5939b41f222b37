"""Which target images are proposed for a label, in Python and by the command, and what comes of their labels."""

import hashlib
import json
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import blobs, draw, write_feature_set
from made_pages import QUICK, make_features

from ftransfer import FeatureSet, FtransferError, load_task, race, suggest_labels, write_report
from ftransfer.cli import main
from ftransfer.features.joined import open_features
from ftransfer.report.thumbnails import thumbnail
from ftransfer.search.suggest import Target, choose_rows, draw_evenly, margins, rows_of


def run(*command):
    return CliRunner().invoke(main, [str(word) for word in command])


def target(X, labels, **known):
    known = {
        "predicted": labels,
        "margin": np.linspace(0, 1, len(X)),
        "contents": np.arange(len(X)),
        "labelled": np.zeros(len(X), dtype=bool),
        "undecided": np.empty(0, dtype=int),
    } | known
    return Target(**known)


@pytest.fixture
def rows():
    """Source and target rows, and the classes of the target's."""
    X, y, labels = blobs(90, 200, n_classes=4)
    return X[:90], X[90:], labels[90:]


def test_half_of_the_images_are_drawn_at_random_and_evenly_over_the_predicted_classes(rows):
    source, X, labels = rows
    chosen = choose_rows(source, X, target(X, labels), 40)
    assert not chosen["row"].duplicated().any()
    counts = chosen["why"].value_counts()
    assert counts.to_dict() == {"random": 20, "spread": 7, "doubtful": 7, "far": 6}
    drawn = chosen["row"][chosen["why"] == "random"]
    assert np.bincount(labels[drawn]).tolist() == [5, 5, 5, 5]
    assert (chosen["why"][:20:2] == "random").all(), "whoever stops early has labelled some of both"
    pd.testing.assert_frame_equal(chosen, choose_rows(source, X, target(X, labels), 40))
    other = choose_rows(source, X, target(X, labels), 40, random_state=1)
    assert set(other["row"]) != set(chosen["row"])


def test_every_image_has_the_same_chance_to_be_drawn_and_every_class_its_share():
    groups = np.repeat([0, 1, 2], [70, 20, 10])
    seen = np.zeros(100)
    for seed in range(2000):
        drawn = draw_evenly(np.arange(100), groups, 13, np.random.default_rng(seed))
        assert (np.abs(np.bincount(groups[drawn], minlength=3) - 13 * np.array([0.7, 0.2, 0.1])) < 1).all()
        seen[drawn] += 1
    assert np.abs(seen / 2000 - 0.13).max() < 4.5 * np.sqrt(0.13 * 0.87 / 2000)


def test_images_on_which_explanations_disagree_come_first_and_images_with_a_label_not_again(rows):
    source, X, labels = rows
    labelled = np.arange(200) < 50
    undecided = np.arange(100, 140)
    chosen = choose_rows(source, X, target(X, labels, labelled=labelled, undecided=undecided), 60)
    assert chosen["row"].min() >= 50
    first = chosen["row"][chosen["why"] == "undecided"].tolist()
    assert len(first) == 15
    drawn = set(chosen["row"][chosen["why"] == "random"])
    assert first == [row for row in undecided if row not in drawn][:15]


def test_images_with_the_same_content_are_proposed_once_and_copies_of_labelled_ones_not_at_all(rows):
    source, X, labels = rows
    contents = np.arange(200) // 2
    labelled = np.arange(200) == 7
    chosen = choose_rows(source, X, target(X, labels, contents=contents, labelled=labelled), 200)
    assert sorted(chosen["row"]) == [i for i in range(0, 200, 2) if i != 6]
    with pytest.raises(FtransferError, match="all 200 target images have a label already"):
        choose_rows(source, X, target(X, labels, labelled=np.ones(200, dtype=bool)), 5)
    with pytest.raises(FtransferError, match="should be at least 1; given 0"):
        choose_rows(source, X, target(X, labels), 0)


def test_the_least_sure_and_a_class_that_no_source_has_are_among_the_useful_half(rows):
    source, X, labels = rows
    margin = np.where(np.arange(200) < 10, 0.01, 0.9)
    X[150:160] += 40  # as no class of the source
    chosen = choose_rows(source, X, target(X, labels, margin=margin), 30)
    of = {why: set(part) for why, part in chosen.groupby("why")["row"]}
    assert of["doubtful"] <= set(range(10))
    assert of["far"] & set(range(150, 160))
    assert set(choose_rows(source, X, target(X, labels, margin=None), 30)["why"]) == {
        "random",
        "far",
        "spread",
    }


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_images_are_drawn_of_a_few(rows, n):
    source, X, labels = rows
    chosen = choose_rows(source, X[:2], target(X[:2], labels[:2]), n)
    assert len(chosen) == min(n, 2)
    assert chosen["why"][0] == "random"


def test_margins_are_how_far_the_first_class_is_ahead():
    class Says:
        def predict_proba(self, X):
            return np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])

    class Decides:
        def decision_function(self, X):
            return np.array([-2.0, 0.5])

    assert margins(Says(), None) == pytest.approx([0.2, 0.7])
    assert margins(Decides(), None) == pytest.approx([2.0, 0.5])
    assert margins(object(), None) is None


def test_rows_are_found_by_their_folder_too_where_a_table_has_it():
    rows = pd.DataFrame({"root": ["a", "b"], "path": ["x.png", "x.png"]})
    assert rows_of(pd.DataFrame({"root": ["b"], "path": ["x.png"]}), rows).tolist() == [1]
    assert rows_of(None, rows).tolist() == []


# ---------------------------------------------------------------- of a run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A race of 120 labelled and 90 unlabelled images with pictures, its features, and its run folder."""
    folder = tmp_path_factory.mktemp("suggest")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftransfer.report.numbers.compare_domains", _not_measured)
        features = make_features("no-labels", folder)
        found = race(load_task(features, "day", "night"), QUICK)
        found = replace(found, expected=replace(found.expected, words="medium"))
        command = f"ftransfer fit {features.folder} --source day --target night"
        write_report(found, features, folder / "run", command=command)
    return found, features, folder / "run"


def _not_measured(*_, **__):
    raise FtransferError("not measured in this test")


def test_the_command_proposes_what_the_library_does_and_writes_table_and_page(made, tmp_path):
    found, features, folder = made
    result = run("suggest", folder, "--n", 20, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "to-label.csv: 20 images of night (10 random, 4 spread, 3 doubtful, 3 far)" in result.output
    assert (
        f"then: ftransfer fit {features.folder} --source day --target night --target-labels labels.csv"
        in (result.output)
    )
    table = pd.read_csv(tmp_path / "to-label.csv", keep_default_na=False)
    assert table.columns.tolist() == ["path", "label", "predicted", "why", "sha256"]
    by_library = suggest_labels(found.task, found, 20)
    for column in ("path", "label", "predicted", "why"):
        assert table[column].tolist() == by_library[column].tolist()
    assert by_library["row"].is_unique
    page = (tmp_path / "label.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 20
    assert not (folder / "to-label.csv").exists()


def test_labels_given_before_are_not_asked_for_again_and_more_than_there_are_is_said(made, tmp_path):
    found, _, folder = made
    paths = found.task.rows.loc[~found.task.is_source, "path"].tolist()
    lines = "".join(f"{path},class {i % 5}\n" for i, path in enumerate(paths[:80]))
    (tmp_path / "first.csv").write_text("path,label\n" + lines)
    result = run(
        "suggest", folder, "--n", 50, "--labels", tmp_path / "first.csv", "--out", tmp_path, "--json"
    )
    about = json.loads(result.output)
    assert (about["images"], about["requested"]) == (10, 50)
    assert set(pd.read_csv(tmp_path / "to-label.csv")["path"]) == set(paths[80:])
    assert about["command"].endswith(f"--target-labels {tmp_path / 'first.csv'} --target-labels labels.csv")
    said = run("suggest", folder, "--labels", tmp_path / "first.csv", "--out", tmp_path).output
    assert "50 images were requested; these are all that have no label yet" in said
    given = np.where(np.arange(90) < 88, 0, -1)
    assert len(suggest_labels(found.task, replace(found, target_labels=given), 5)) == 2
    with pytest.raises(FtransferError, match="the target was left out"):
        suggest_labels(replace(found.task, unseen=True), found, 5)


def test_images_added_after_the_run_are_proposed_and_a_refit_takes_their_labels(made, tmp_path):
    _, features, folder = made
    grown = FeatureSet.create(tmp_path / "grown", features.fingerprint)
    manifest = features.manifest
    grown.write_part(manifest["sha256"].tolist(), features.load(manifest))
    new = manifest[manifest["domain"] == "night"].iloc[:30]
    new = new.assign(path=[f"new/{i}.png" for i in range(30)], sha256=[f"{i + 5:064x}" for i in range(30)])
    grown.write_part(new["sha256"].tolist(), features.load(manifest[manifest["domain"] == "night"].iloc[:30]))
    grown.write_manifest(pd.concat([manifest, new], ignore_index=True))
    result = run("suggest", folder, "--features", grown.folder, "--n", 60, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "to-label.csv", dtype=str)
    assert table["path"].str.startswith("new/").sum() > 5
    table.assign(label=table["predicted"]).to_csv(tmp_path / "labels.csv", index=False)
    task, labels = _read(grown, tmp_path / "labels.csv")
    assert (labels != -1).sum() == 60
    assert "60 target labels were used" in task.notes[-1]


def _read(features, file):
    from ftransfer.task import read_target_labels

    return read_target_labels(load_task(features, "day", "night"), file)


def test_without_images_there_is_a_table_to_fill_in_and_one_line_says_so(tmp_path):
    X, y, labels = blobs(60, 45)
    names = np.array(["ash", "elm", "oak"])[labels]
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    found = race(load_task(features, "day", "night"), QUICK)
    write_report(found, features, tmp_path / "run")
    result = run("suggest", tmp_path / "run", "--n", 10)
    assert result.exit_code == 0, result.output
    assert "no page was written, because none of the images can be shown" in result.output
    file = tmp_path / "run" / "to-label.csv"
    assert f"then: ftransfer fit ... --target-labels {file}" in result.output
    assert not (tmp_path / "run" / "label.html").exists()
    pd.read_csv(file).assign(label="oak").to_csv(file, index=False)
    _, given = _read(features, file)
    assert (given == 2).sum() == 10


def test_what_is_no_run_that_labels_can_be_given_to_is_refused_in_one_line(made, tmp_path):
    _, _, folder = made
    results = json.loads((folder / "results.json").read_text())
    for name, change, message in (
        ("several", {"runs": {"a": {"folder": "a"}}}, "holds several runs; choose one"),
        ("regression", {"kind": "regression"}, "is a regression"),
        ("unseen", {"task": results["task"] | {"unseen": True}}, "was left out of"),
        ("damaged", {"task": 1}, "cannot be read"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results | change))
        result = run("suggest", tmp_path / name)
        assert result.exit_code == 1, result.output
        assert message in result.output
        assert result.output.count("\n") == 1
    assert "is not a run folder" in run("suggest", tmp_path).output
    assert "name its place now with --features" in run("suggest", _moved(folder, tmp_path / "moved")).output
    other = write_feature_set(tmp_path / "other", np.ones((4, 3), np.float32), None, "night")
    assert run("suggest", folder, "--features", other.folder).exit_code == 1


def test_images_of_decide_csv_come_first_and_those_filled_in_there_are_not_asked_for_again(made, tmp_path):
    _, _, folder = made
    copy = _moved(folder, tmp_path / "run", features=made[1].folder)
    predictions = pd.read_csv(folder / "predictions.csv").iloc[:30]
    table = predictions[["root", "path"]].assign(label=["class 0", "class 1", *[""] * 28], plain="class 0")
    table.to_csv(copy / "decide.csv", index=False)
    assert run("suggest", copy, "--n", 24).exit_code == 0
    chosen = pd.read_csv(copy / "to-label.csv")
    assert not set(chosen["path"]) & set(table["path"][:2])
    assert (chosen["why"] == "undecided").sum() == 12
    assert set(chosen["path"][chosen["why"] == "undecided"]) <= set(table["path"])


def test_a_further_file_of_labels_has_a_name_of_its_own(made, tmp_path):
    _, features, folder = made
    (tmp_path / "labels.csv").write_text(f"path,label\n{made[0].task.rows['path'].iloc[-1]},class 1\n")
    result = run("suggest", folder, "--n", 4, "--labels", tmp_path / "labels.csv", "--out", tmp_path)
    fit = f"ftransfer fit {features.folder} --source day --target night --target-labels {tmp_path}/labels.csv"
    assert f"then: {fit} --target-labels labels-2.csv\n" in result.output
    page = (tmp_path / "label.html").read_text()
    assert "Save labels-2.csv" in page
    assert '"file": "labels-2.csv"' in page


def test_of_very_many_images_a_random_part_is_considered(made, tmp_path, monkeypatch):
    monkeypatch.setattr("ftransfer.report.labelling.MOST_CONSIDERED", 20)
    assert "20 images of night" in run("suggest", made[2], "--out", tmp_path).output


def test_two_feature_sets_of_a_run_are_opened_again_as_they_were(made, tmp_path):
    _, features, _ = made
    joined = open_features([features.folder, _copy(features, tmp_path / "again")])
    found = race(load_task(joined, "day", "night"), QUICK[:1])
    write_report(found, joined, tmp_path / "run")
    result = run("suggest", tmp_path / "run", "--n", 5)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(tmp_path / "run" / "to-label.csv")["path"].tolist() == (
        suggest_labels(found.task, found, 5)["path"].tolist()
    )


def _copy(features, folder):
    """Write the same embeddings as a feature set of another name."""
    again = FeatureSet.create(folder, features.fingerprint | {"backbone": "another"})
    again.write_part(features.manifest["sha256"].tolist(), features.load(features.manifest))
    again.write_manifest(features.manifest)
    return folder


def test_images_of_a_shard_are_shown_and_those_of_a_store_only_if_allowed(tmp_path):
    draw(tmp_path / "0.png", 1, seed=0)
    content = (tmp_path / "0.png").read_bytes()
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(tmp_path / "0.png", "0.png")
    of = hashlib.sha256(content).hexdigest()
    assert thumbnail(str(tmp_path), "shard.tar#0.png", of, side=20).startswith("data:image/jpeg;base64,")
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: the extra [remote]")
    with fsspec.open("memory://bucket/0.png", "wb") as file:
        file.write(content)
    assert thumbnail("memory://bucket", "0.png", of) is None
    assert thumbnail("memory://bucket", "0.png", of, anywhere=True)
    assert thumbnail("memory://bucket", "1.png", of, anywhere=True) is None


def _moved(folder, to, features="gone"):
    """Copy a run whose features are no longer where they were."""
    shutil.copytree(folder, to)
    results = json.loads((to / "results.json").read_text())
    results["task"]["features"] = str(features)
    (to / "results.json").write_text(json.dumps(results))
    return to


def test_a_run_that_is_not_sure_names_the_command_in_its_report_and_on_the_terminal(made):
    from ftransfer.cli.fit_answer import describe
    from ftransfer.report import suggest_command

    found, _, folder = made
    results = json.loads((folder / "results.json").read_text())
    assert results["suggest"] == f"ftransfer suggest {folder} --n 50"
    assert f"<code>ftransfer suggest {folder} --n 50</code>" in (folder / "report.html").read_text()
    assert f"would make it surer: ftransfer suggest {folder} --n 50" in describe(results, folder)
    assert suggest_command(replace(found, expected=replace(found.expected, words="high")), folder) is None
    assert suggest_command(replace(found, task=replace(found.task, unseen=True)), folder) is None
