"""The same cases as in the library's tests, through the command line: what is printed, and how it ends."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from conftest import draw

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
    assert "24 images, 192 numbers each (24 computed, 0 already there" in first.output
    assert "day: 12 images, 3 classes" in first.output
    second = run(
        "fit", features, "--source", "day", "--target", "night", "--pipeline", "scaled_svm", "--out", out
    )
    assert second.exit_code == 0, second.output
    lines = second.output.splitlines()
    assert lines[0].split() == ["rank", "pipeline", "adaptation", "score", "source", "target*", "setting"]
    assert any(line.startswith("* counted with the target's labels") for line in lines)
    assert f"report: {out / 'report.html'}" in lines
    assert (out / "model.skops").is_file()
    for folder, word in ((features, "192 numbers an image"), (out, "day to night")):
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
    assert "1 could not be read and are marked so in the manifest:" in result.output
    assert f"{pictures / 'day' / 'ash' / '0.png'}: not an image that Pillow can read" in result.output
    assert "not an image" in run("info", tmp_path / "f").output


def test_the_demo_backbone_says_that_it_is_not_for_photographs(tmp_path):
    for i in range(4):
        draw(tmp_path / "day" / "ash" / f"{i}.jpg", 0, i, size=(200, 150))
    result = run("extract", tmp_path, "--out", tmp_path / "f", "--domain", "d", *SMALL, "--no-labels")
    assert "warning: small_cnn is a demo default" in result.output
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
        (["info", "{tmp}"], "is no feature set"),
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
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_ctrl_c_is_exit_code_130(monkeypatch, pictures, tmp_path):
    import ftransfer.images

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ftransfer.images, "find_images", interrupt)
    result = run("extract", pictures, "--out", tmp_path / "f")
    assert result.exit_code == 130
    assert result.output.strip() == "interrupted"


def test_ctrl_c_during_a_race_says_what_is_there(monkeypatch, feature_set, tmp_path):
    import ftransfer.search

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ftransfer.search, "race", interrupt)
    result = run("fit", feature_set.folder, "--source", "day", "--target", "night", "--out", tmp_path / "r")
    assert result.exit_code == 130
    assert f"{feature_set.folder} is as it was, {tmp_path / 'r'} holds no results" in result.output
    assert "was stopped" in run("info", tmp_path / "r").output


def test_a_stopped_fit_is_told_from_a_finished_one(tmp_path):
    from ftransfer.report import start_run

    start_run(tmp_path / "run")
    assert "is a run that has not ended, or was stopped" in run("info", tmp_path / "run").output


def test_backbones_are_listed_with_their_weights():
    lines = run("backbones").output.splitlines()
    assert any(line.split() == ["resnet50", "IMAGENET1K_V1", "IMAGENET1K_V2"] for line in lines)


def test_it_runs_as_a_module_too():
    result = subprocess.run([sys.executable, "-m", "ftransfer", "--version"], capture_output=True, text=True)
    assert result.stdout.startswith("ftransfer, version 0.1.0")
