"""TAB: what it completes, in the shells themselves where they are there, and that it imports nothing large."""

import os
import shutil
import subprocess
import sys

import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

import ftransfer
from ftransfer.cli import COMMANDS, complete, main


@pytest.fixture
def tab(monkeypatch, tmp_path):
    """Complete the last word of a line, in a folder with the feature set features/ and the images pictures/."""
    monkeypatch.chdir(tmp_path)

    def complete(*line, shell="bash"):
        for name, value in ask(line, shell).items():
            monkeypatch.setenv(name, value)
        asked = get_completion_class(shell)(main, {}, "ftransfer", "_FTRANSFER_COMPLETE")
        return asked.complete().splitlines()

    return complete


def ask(line, shell="bash"):
    """What a shell says to the program, by click's protocol."""
    words = ["ftransfer", *line]
    if shell == "fish":
        return {"COMP_WORDS": " ".join(words), "COMP_CWORD": words[-1]}
    return {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["fit", "features", "--source", ""], ["day", "night"]),
        (["fit", "features", "--source", "n"], ["night"]),
        (["fit", "features", "--source", "day", "--target", ""], ["night"]),
        (["fit", "features", "--source", "day,"], ["day,night"]),
        (["compare", "features", "--source", "d"], ["day"]),
        (["extract", "pictures", "--adapt-bn", ""], ["day", "night"]),
        (["fit", "features", "--scorer", "en"], ["entropy", "ensemble"]),
        (["fit", "features", "--search", ""], ["auto", "grid", "random", "halving", "bayesian"]),
        (["fit", "features", "--pipeline", "pseudo"], ["pseudo_logistic", "pseudo_shares", "pseudo_svm"]),
        (["extract", "pictures", "--tier", ""], ["exact", "fast"]),
        (["extract", "pictures", "--backbone", "resnet1"], ["resnet101", "resnet152", "resnet18"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["fit", "features", "--targ"], ["--target", "--target-labels"]),
        (["pre"], ["predict"]),
        (["fit", "nothing-there", "--source", ""], []),
    ],
    ids=lambda each: " ".join(each),
)
def test_tab_completes(line, expected, feature_set, pictures, tab):
    assert tab(*line) == [f"plain,{value}" for value in expected]


@pytest.mark.parametrize(
    "line", [[""], ["fit", "features", "--source", ""], ["extract", "pictures", "--backbone", "small"]]
)
def test_tab_imports_nothing_large(line, feature_set, tmp_path):
    code = (
        "import sys, atexit; from ftransfer.cli import main\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'scipy'}\n"
        "atexit.register(lambda: print('imported:', *heavy & set(sys.modules)))\n"
        "main(prog_name='ftransfer')"
    )
    environment = os.environ | ask(line) | {"_FTRANSFER_COMPLETE": "bash_complete"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    first, *_, last = result.stdout.splitlines()
    assert first.startswith("plain,"), result.stderr
    assert last == "imported:"


@pytest.mark.parametrize("option", ["--pipeline", "--target-labels", "--out"])
def test_where_no_name_is_meant_the_shell_completes_files(option, tab):
    kind = "dir" if option == "--out" else "file"
    assert tab("fit", "features", option, "./my") == [f"{kind},./my"]


@pytest.mark.parametrize(("shell", "form"), [("zsh", "plain\n{}\n_"), ("fish", "plain,{}")])
def test_the_other_shells_get_the_same_names(shell, form, feature_set, tab):
    line = ("fit", "features", "--source", "da")
    assert "\n".join(tab(*line, shell=shell)) == form.format("day")


def test_what_completes_words_imports_no_library_that_takes_long():
    check = "import sys, ftransfer.cli.fit; print({'numpy', 'pandas', 'sklearn', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_scorers_and_searches_are_completed_as_the_library_has_them(tab):
    assert tab("fit", "f", "--scorer", "") == [f"plain,{name}" for name in ftransfer.list_scorers()]
    assert tab("fit", "f", "--search", "h") == ["plain,halving"]


def test_a_damaged_manifest_completes_nothing(feature_set, tab):
    (feature_set.folder / "manifest.parquet").write_bytes(b"PAR1 and nothing more")
    assert tab("fit", "features", "--source", "") == []


def test_the_names_that_tab_knows_are_those_of_the_library():
    assert complete.recipes(None, None, "") == ftransfer.list_recipes()
    assert complete.backbones(None, None, "") == sorted(ftransfer.list_backbones())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(shell):
    printed = CliRunner().invoke(main, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_FTRANSFER_COMPLETE={shell}_complete" in printed.output
    assert "ftransfer" in printed.output.splitlines()[0] + printed.output.splitlines()[-1]


def test_an_unknown_shell_is_wrong_usage():
    result = CliRunner().invoke(main, ["completion", "tcsh"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.output


ASK = {
    "bash": """
        eval "$(ftransfer completion bash)"
        complete -p ftransfer
        COMP_WORDS=(ftransfer fit features --source ""); COMP_CWORD=4
        _ftransfer_completion ftransfer 2> errors; echo "${COMPREPLY[*]}"
    """,
    "zsh": """
        autoload -Uz compinit; compinit -u -d dump
        eval "$(ftransfer completion zsh)"; echo $_comps[ftransfer]
        compadd() { shift 4; echo ${(P)1} }
        words=(ftransfer fit features --source ""); CURRENT=5; _ftransfer_completion
    """,
    "fish": """
        ftransfer completion fish | source
        complete --do-complete "ftransfer fit features --source "
    """,
}


@pytest.mark.parametrize("shell", ASK)
def test_the_shell_itself_completes_domains(shell, feature_set, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed; the protocol is tested without it")
    program = tmp_path / "bin" / "ftransfer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ftransfer "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        [shell, "-c", ASK[shell]],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split()[-2:] == ["day", "night"], result.stderr


def test_every_command_is_completed(tab):
    assert tab("") == [f"plain,{name}" for name in COMMANDS]
