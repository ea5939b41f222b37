"""The same cases as in the library's tests, through the command line: what is printed, and how it ends."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import ROOT, blobs, draw, write_feature_set

from ftransfer import list_scorers
from ftransfer.cli import COMMANDS, main


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


SMALL = ("--backbone", "small_cnn", "--weights", "random")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_help(command):
    result = run(command, "--help") if command else run("--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert all(name in result.output for name in (COMMANDS if command is None else [command]))


def test_from_pictures_to_a_report_in_two_commands(pictures, tmp_path):
    features, out = tmp_path / "features", tmp_path / "run"
    first = run("extract", pictures, "--out", features, *SMALL)
    assert first.exit_code == 0, first.output
    assert "24 images, 192 features each (24 computed, 0 cached or duplicate" in first.output
    assert "day: 12 images, 3 classes" in first.output
    second = run(
        "fit", features, "--source", "day", "--target", "night", "--pipeline", "scaled_svm", "--out", out
    )
    assert second.exit_code == 0, second.output
    lines = second.output.splitlines()
    assert lines[0].split() == ["rank", "pipeline", "adaptation", "score", "source", "target*", "setting"]
    assert any(line.startswith("* target accuracy, measured with the target's labels") for line in lines)
    assert f"report: {out / 'report.html'}" in lines
    assert (out / "model.skops").is_file()
    for folder, word in ((features, "192 features per image"), (out, "day to night")):
        about = run("info", folder)
        assert about.exit_code == 0, about.output
        assert word in about.output
        assert json.loads(run("info", folder, "--json").output)


def test_several_sources_are_named_with_commas(pictures, tmp_path):
    (pictures / "day").rename(pictures / "dawn")
    for i, label in enumerate(["ash", "elm", "oak"]):
        for j in range(3):
            draw(pictures / "dusk" / label / f"{j}.png", i, 50 + 10 * i + j)
    assert run("extract", pictures, "--out", tmp_path / "f", *SMALL).exit_code == 0
    command = ("fit", tmp_path / "f", "--source", "dawn, dusk", "--target", "night", "--out", tmp_path / "r")
    result = run(*command, "--pipeline", "coral_logistic", "--json")
    assert result.exit_code == 0, result.output
    results = json.loads(result.output)
    assert results["task"]["sources"] == ["dawn", "dusk"]
    assert (results["task"]["n_source"], results["task"]["n_target"]) == (21, 12)
    assert results["recommendation"]["score"] > 0


def test_results_come_as_json_where_a_program_reads_them(pictures, tmp_path):
    did = run("extract", pictures, "--out", tmp_path / "f", *SMALL, "--json")
    assert json.loads(did.output)["computed"] == 24
    command = (
        "fit",
        tmp_path / "f",
        "--source",
        "day",
        "--target",
        "night",
        "--out",
        tmp_path / "r",
        "--json",
    )
    results = json.loads(run(*command, "--pipeline", "scaled_svm").output)
    assert results["task"]["n_target"] == 12


def test_unreadable_pictures_are_listed_and_do_not_stop(pictures, tmp_path):
    (pictures / "day" / "ash" / "0.png").write_bytes(b"junk")
    result = run("extract", pictures, "--out", tmp_path / "f", *SMALL)
    assert result.exit_code == 0
    assert "1 could not be read (status error in the manifest):" in result.output
    assert f"{pictures / 'day' / 'ash' / '0.png'}: not an image that Pillow can read" in result.output
    assert "not an image" in run("info", tmp_path / "f").output


def test_the_demo_backbone_says_that_it_is_not_for_photographs(tmp_path):
    for i in range(4):
        draw(tmp_path / "day" / "ash" / f"{i}.jpg", 0, i, size=(200, 150))
    result = run("extract", tmp_path, "--out", tmp_path / "f", "--domain", "d", *SMALL, "--no-labels")
    assert "warning: small_cnn is for the demo" in result.output
    assert "--backbone resnet50 --weights DEFAULT" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "{tmp}/nowhere", "--out", "{tmp}/f"], "error: no folder or table 'nowhere'"),
        (["extract", "{tmp}", "--out", "{tmp}/f"], "error: no images found in"),
        (["extract", "{pictures}", "--out", "/proc/nothing", *SMALL], "error: cannot write to /proc/nothing"),
        (["extract", "{pictures}", "--out", "{tmp}/f", "--backbone", "resnet5"], "did you mean 'resnet50'"),
        (["extract", "{pictures}/day", "--out", "{tmp}/f", *SMALL], "--domain NAME"),
        (["fit", "{tmp}/f", "--source", "a", "--target", "b"], "error: {tmp}/f does not exist; make one"),
        (["fit", "{set}", "--source", "dya", "--target", "night"], "no domain 'dya'; did you mean 'day'"),
        (["fit", "{set}", "--source", "day", "--target", "night", "--pipeline", "svm"], "no pipeline 'svm'"),
        (
            ["fit", "{set}", "--source", "day", "--target", "night", "--classes", "aok,elm"],
            "did you mean 'oak'",
        ),
        (
            ["fit", "{set}", "--source", "day", "--target", "night", "--out", "/proc/x"],
            "cannot write to /proc/x",
        ),
        (["info", "{tmp}"], "is not a feature set"),
        (["compare", "{tmp}/f"], "error: {tmp}/f does not exist; make one"),
        (["compare", "{set}", "--source", "day", "--target", "nigt"], "did you mean 'night'"),
        (
            ["compare", "{set}", "--source", "day", "--target", "day"],
            "at least two different domains are needed",
        ),
        (["backbones", "--rank", "{set}"], "error: ranking needs the labels of one domain, the source"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments, message, pictures, tmp_path, feature_set):
    empty = tmp_path / "empty"
    empty.mkdir()
    names = {"tmp": str(empty), "pictures": str(pictures), "set": str(feature_set.folder)}
    result = run(*(a.format(**names) for a in arguments))
    assert result.exit_code == 1, result.output
    assert message.format(**names) in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extrct"], "no command 'extrct'; did you mean 'extract'"),
        (["fit", "f"], "Missing option '--source'"),
        (["extract", "x", "--out", "f", "--batch-size", "-3"], "a positive whole number, or auto"),
        (["extract", "x", "--out", "f", "--nonsense"], "No such option"),
        (["compare", "f", "--max-rows", "2"], "2 is not in the range x>=8"),
        (["backbones", "f", "--json"], "to rank feature sets: ftransfer backbones --rank FEATURES"),
        (["backbones", "--rank"], "to rank feature sets: ftransfer backbones --rank FEATURES"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_ctrl_c_is_exit_code_130(monkeypatch, pictures, tmp_path):
    import ftransfer.images.find

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ftransfer.images.find, "find_images", interrupt)
    result = run("extract", pictures, "--out", tmp_path / "f")
    assert result.exit_code == 130
    assert result.output.strip() == "interrupted"


@pytest.mark.parametrize("found", ["", "a result\n"])
def test_ctrl_c_during_a_race_says_what_is_there(monkeypatch, feature_set, tmp_path, found):
    import ftransfer.search.race

    def interrupt(*args, settings, **kwargs):
        settings.journal.write_text(found)
        raise KeyboardInterrupt

    monkeypatch.setattr(ftransfer.search.race, "race", interrupt)
    result = run("fit", feature_set.folder, "--source", "day", "--target", "night", "--out", tmp_path / "r")
    assert result.exit_code == 130
    if found:
        assert f"results so far are kept in {tmp_path / 'r'}" in result.output
        assert "unfinished run" in run("info", tmp_path / "r").output
    else:
        assert "there are no results yet" in result.output
        assert not (tmp_path / "r").exists()


def test_a_stopped_fit_is_told_from_a_finished_one(tmp_path):
    from ftransfer.report import start_run

    start_run(tmp_path / "run")
    assert "holds an unfinished run" in run("info", tmp_path / "run").output


def test_backbones_are_listed_with_their_weights():
    lines = run("backbones").output.splitlines()
    assert any(line.split() == ["resnet50", "IMAGENET1K_V1", "IMAGENET1K_V2"] for line in lines)
    assert run("backbones", "resnet5*").output == "resnet50             IMAGENET1K_V1 IMAGENET1K_V2\n"
    assert "no backbone matches f; those of timm match 'timm:*'" in run("backbones", "f").output


def test_two_domains_are_compared_in_a_table_with_sentences(feature_set, monkeypatch):
    from ftransfer.compare import distances

    monkeypatch.setattr(distances, "TREES", 5)
    result = run("compare", feature_set.folder, "--source", "night", "--target", "day")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "night to day"
    assert lines[1].split() == ["measure", "value", "95", "%", "interval", "baseline"]
    assert any("(50 % is chance)" in line for line in lines)
    assert any(line.startswith("class oak (by target labels)") for line in lines)
    found = json.loads(run("compare", feature_set.folder, "--json").output)
    assert found["nearest"] == found["domains"] == ["day", "night"]
    measures = {row["measure"]: row for row in found["pairs"][0]["measures"]}
    assert measures["A-distance, linear"]["value"] > 1
    assert measures["MMD p-value"]["yardstick"] is None


def test_more_domains_are_compared_in_matrices(feature_set, monkeypatch):
    from ftransfer.compare import distances

    monkeypatch.setattr(distances, "TREES", 5)
    manifest = feature_set.manifest
    feature_set.write_manifest(manifest.assign(domain=["dawn"] * 30 + manifest["domain"].tolist()[30:]))
    result = run("compare", feature_set.folder)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].startswith("A-distance, forest (0: a random forest cannot")
    assert lines[1].split() == ["dawn", "day", "night"]
    assert lines[-1] == ("Nearest by MMD: dawn and day. A pair in detail: --source dawn --target day"), (
        "halves of one domain"
    )


def test_feature_sets_are_ranked_from_the_command_line(feature_set):
    command = ("backbones", "--rank", feature_set.folder, feature_set.folder, "--source", "day")
    result = run(*command)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["rank", "features", "backbone", "layer", "width", "LogME", "H-score"]
    assert lines[-1].startswith("By 60 labelled images of day; higher is better")
    found = json.loads(run(*command, "--json").output)
    assert [row["rank"] for row in found["ranked"]] == [1, 2]
    assert found["ranked"][0]["leep"] is None


def test_it_runs_as_a_module_too():
    result = subprocess.run([sys.executable, "-m", "ftransfer", "--version"], capture_output=True, text=True)
    assert result.stdout.startswith("ftransfer, version 0.1.0")


@pytest.fixture
def day_to_night(feature_set, tmp_path):
    recipes = ("--pipeline", "source_only_svm", "--pipeline", "scaled_svm", "--pipeline", "coral_svm")
    return (
        "fit",
        feature_set.folder,
        "--source",
        "day",
        "--target",
        "night",
        "--out",
        tmp_path / "run",
        *recipes,
    )


def test_the_help_names_every_scorer():
    words = run("fit", "--help").output.replace(",", " ").split()
    assert not [name for name in list_scorers() if name not in words and f"{name}." not in words]


@pytest.mark.parametrize("name", ["circular", "ensemble"])
def test_a_scorer_is_named(day_to_night, name):
    results = json.loads(run(*day_to_night, "--scorer", name, "--json").output)
    assert results["score"]["name"] == name
    assert results["recommendation"]["reason"].startswith(f"Chosen step by step by {name}, ")
    assert {row["pipeline"] for row in results["candidates"] if row["source_accuracy"]} == {
        "source_only_svm",
        "scaled_svm",
        "coral_svm",
    }


def test_a_scorer_that_is_not_there_is_said_before_anything_is_read(tmp_path):
    result = run("fit", tmp_path / "nowhere", "--source", "a", "--target", "b", "--scorer", "entrpy")
    assert result.exit_code == 1
    assert "no scorer 'entrpy'; did you mean 'entropy'?" in result.output


def test_labels_given_to_the_guard_are_recorded_and_not_counted(day_to_night, feature_set, tmp_path):
    night = feature_set.complete.query("domain == 'night'")
    night.head(20)[["path", "label"]].to_csv(tmp_path / "labels.csv", index=False)
    for option in (("--use-target-labels", 20), ("--target-labels", tmp_path / "labels.csv")):
        result = run(*day_to_night, *option, "--json")
        assert result.exit_code == 0, result.output
        results = json.loads(result.output)
        assert results["recommendation"]["target_labels_used"] == 20
        assert "on 20 labelled target images" in results["recommendation"]["reason"]
        assert results["counted"]["labelled"] == 25
        assert pd.read_csv(tmp_path / "run" / "predictions.csv")["used_by_guard"].sum() == 20
    both = run(*day_to_night, "--use-target-labels", 20, *option)
    assert both.exit_code == 2
    assert "--use-target-labels cannot be combined" in both.output


EVIL = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\nforged: line"


def test_no_name_from_a_stranger_reaches_the_terminal_as_a_command(tmp_path):
    X, y, labels = blobs()
    names = np.array(["=cmd|calc", EVIL, "oak"])[labels]
    domains = np.where(y == -1, f"night{EVIL}", f"day{EVIL}")
    folder = write_feature_set(tmp_path / "f", X, names, domains).folder
    pair = ["--source", f'"day{EVIL}"', "--target", f"night{EVIL}"]
    told = [
        run("info", folder),
        run("compare", folder),
        run("fit", folder, "--source", "x", "--target", EVIL),
    ]
    told += [run("fit", folder, *pair, "--pipeline", "scaled_svm", "--out", tmp_path / "run")]
    told += [
        run("info", tmp_path / "run"),
        run("predict", tmp_path / "run", folder, "--out", tmp_path / "p.csv"),
    ]
    for result in told:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", result.output), result.output
        assert not re.search("^forged", result.output, re.M)
    assert sum("\\x1b" in result.output for result in told) > 3, [result.output for result in told]
    assert "the label =cmd|calc looks like a formula to a spreadsheet" in told[3].output
    assert "=cmd|calc" in (tmp_path / "run" / "predictions.csv").read_text()


def test_no_argument_warning_or_fault_reaches_the_terminal_as_a_command(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, warnings, click\n"
        "from ftransfer.cli import main\n"
        "@main.command()\n"
        "@click.argument('name')\n"
        "def odd(name):\n"
        "    warnings.warn(name)\n"
        "    print(name)\n"
        "    raise RuntimeError(name)\n"
        "import ftransfer.cli\n"
        "ftransfer.cli.COMMANDS['odd'] = ''\n"
        "main.get_command = lambda ctx, name: odd if name == 'odd' else None\n"
        "main()\n"
    )
    for arguments, code in ((["odd", EVIL], 1), (["odd", f"--{EVIL}"], 2), ([f"--{EVIL}"], 2), ([EVIL], 2)):
        told = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
        output = told.stdout + told.stderr
        assert told.returncode == code, output
        assert "\\x1b" in output
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", output), output
        if code == 2:
            assert not re.search("^forged", output, re.M), output
        else:
            assert "warning: a\\x1b" in told.stderr
            assert "Traceback" in told.stderr


def test_what_is_printed_is_printed_by_one_function():
    for file in (ROOT / "ftransfer" / "cli").glob("*.py"):
        if file.name not in ("text.py", "completion.py"):
            assert not re.search(r"click\.echo|print\(", file.read_text("utf-8")), file


def test_trials_that_a_search_does_not_take_are_refused_and_a_failing_setting_is_mentioned(
    feature_set, tmp_path
):
    pair = ["fit", feature_set.folder, "--source", "day", "--target", "night", "--out", tmp_path / "run"]
    result = run(*pair, "--trials", 3)
    assert (result.exit_code, "--trials is for --search random or bayesian" in result.output) == (2, True)
    (tmp_path / "some.py").write_text(
        "from sklearn.svm import SVC\nfrom ftransfer import DomainScaler, make_pipeline\n"
        "pipeline, grid = make_pipeline(DomainScaler(), SVC()), {'svc__C': [1.0, -1.0]}\n"
    )
    result = run(*pair, "--pipeline", tmp_path / "some.py", "--pipeline", "source_only_svm")
    assert "1 of 4 settings failed; the first: some (C -1.0): InvalidParameterError" in result.output
