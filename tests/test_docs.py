"""The documentation: its code and its commands are run, and nothing that a user has lacks its place."""

import json
import re
import runpy
import shlex

import numpy as np
import pytest
from conftest import ROOT, write_feature_set
from pages import DOCS, Page, numbers, shape
from PIL import Image

import ftransfer
from ftransfer import adapt
from ftransfer.cli import COMMANDS, main

METHODS = [
    name for name in adapt.__all__ if name in ftransfer.__all__ and isinstance(getattr(adapt, name), type)
]
NEEDS_A_RUN = ["docs/quickstart.md"]  # of the demo
RUN = ["quickstart", "extract", "files", "cli", "add-a-recipe", "add-a-method", "finetune"]
CODE = [name for name in DOCS if Page(name).code]


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """A folder with features as the demo leaves them, but few and made up."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    X = rng.normal(size=(10, 192))[labels] + 0.7 * rng.normal(size=(200, 192))
    X[120:] = 1.5 * X[120:] + 0.5
    domains = np.where(np.arange(200) < 120, "printed", "handwritten")
    write_feature_set(
        tmp_path / "ftransfer-demo" / "features", X.astype(np.float32), labels.astype(str), domains
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", [name for name in CODE if name not in NEEDS_A_RUN])
def test_the_code_of_a_page_runs_and_prints_what_it_shows(name, demo, capsys):
    page = Page(name)
    if "OptimalTransport" in page.code:
        pytest.importorskip("ot", reason="POT is not installed: the extra [ot]")
    page.write_files(demo)
    names = {"__name__": "page"}
    for code, shown in page.code_and_output:
        try:
            exec(compile(code, name, "exec"), names)
        except ModuleNotFoundError as error:
            if error.name.split(".")[0] == "ftransfer":
                raise
            pytest.skip(f"{error.name} is not installed")
        printed = capsys.readouterr().out
        assert shown is None or shape(printed) == shape(shown)
        if shown and "ftransfer-demo" not in page.code:  # the demo's own numbers take the demo
            assert numbers(printed) == pytest.approx(numbers(shown), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in CODE if "ftransfer-demo" in Page(name).code and Page(name).output]
)
def test_the_code_of_a_page_prints_what_it_shows_of_the_demo(name, newcomer):
    newcomer.run("ftransfer demo")
    page = Page(name)
    printed = newcomer.python(page.code)
    for code, shown in page.code_and_output:
        assert shown is None or shape(shown) in shape(printed), code
    if all(shown or "print(" not in code for code, shown in page.code_and_output):
        assert numbers(printed) == pytest.approx(numbers(page.output), rel=0.05)


@pytest.mark.parametrize(
    "name", ["scikit-learn", pytest.param("whole-way", marks=pytest.mark.slow)]
)  # the latter embeds images
def test_a_notebook_runs_and_prints_what_it_shows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = runpy.run_path(str(ROOT / "docs" / "run_notebooks.py"))["run"]
    notebook = json.loads((ROOT / "docs" / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
    for cell, printed in run(notebook):
        shown = "".join("".join(each["text"]) for each in cell["outputs"])
        assert shape(printed) == shape(shown), cell["source"]
        assert numbers(printed) == pytest.approx(numbers(shown), rel=0.05, abs=0.05)


@pytest.mark.parametrize("name", [name for name in DOCS if "$ ftransfer " in Page(name).text])
def test_the_commands_of_a_page_are_ones_that_there_are(name):
    for command in Page(name).commands:
        command = re.sub(r"\$\(.*\)", "X", re.sub(r"^(\w+=\S+ )+", "", command))
        if command.startswith("ftransfer "):
            words = shlex.split(command, comments=True)[1:]
            context = main.make_context("ftransfer", list(words))
            verb, found, rest = main.resolve_command(context, words)
            assert found.make_context(verb, rest, parent=context).params, command


@pytest.mark.slow
def test_the_commands_of_the_pages_run(newcomer):
    for name in RUN:
        for command in Page(f"docs/{name}.md").commands:
            newcomer.run(command)
    for left in ("digits.parquet", "quantile-run/report.html", "tuned.safetensors", "predictions.csv"):
        assert (newcomer.home / left).is_file()


@pytest.mark.slow
def test_the_comparison_prints_what_its_page_shows(newcomer):
    newcomer.run("ftransfer demo")
    page = Page("docs/compare.md")
    (command,) = page.commands
    printed = [shape(" ".join(line.split()[:2])) for line in newcomer.run(command).splitlines()]
    for line in page.shown_after("ftransfer compare"):
        assert line.startswith(("...", "  ")) or shape(" ".join(line.split()[:2])) in printed, line


@pytest.mark.slow
def test_predict_prints_what_its_page_shows(newcomer):
    newcomer.run("ftransfer demo")
    page = Page("docs/predict.md")
    (command,) = page.commands
    assert shape(newcomer.run(command)).splitlines() == [
        shape(x) for x in page.shown_after("ftransfer predict")
    ]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_page_with_picture_and_reference(name):
    page = Page(f"docs/methods/{name}.md")
    picture = ROOT / "docs" / "methods" / f"{name}.png"
    assert f"]({name}.png)" in page.text
    assert 0 < picture.stat().st_size < 60 * 1024
    assert f"autoclass:: ftransfer.{name}" in page.text
    for part in ("**When to use it", "**When not", "## In code"):
        assert part in page.text
    assert name in Page("docs/methods/index.md").text


def test_every_public_name_is_in_the_reference():
    shown = Page("docs/api.md").text
    missing = [name for name in ftransfer.__all__ if name not in METHODS and f"\n   {name}\n" not in shown]
    assert not missing, "put them into docs/api.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_on_the_page_of_the_command_line(name):
    described = runpy.run_path(str(ROOT / "docs" / "conf.py"))["describe_command"](name)
    assert described.startswith(f"## {name}\n")
    for parameter in main.get_command(None, name).params:
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert f"`{option}" in described or f" {option}" in described


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_picture_shows_what_its_page_computes(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: the extra [picture]")
    pytest.importorskip("ot", reason="POT is not installed: the extra [ot]")
    draw = runpy.run_path(str(ROOT / "docs" / "make_method_pictures.py"))["draw"]
    for name in [*METHODS, "source-only"]:
        page = tmp_path / f"{name}.md"
        page.write_text(Page(f"docs/methods/{name}.md").text)
        draw(page)
        drawn, kept = (
            np.asarray(Image.open(folder / f"{name}.png").convert("L").resize((152, 82)), dtype=float)
            for folder in (tmp_path, ROOT / "docs" / "methods")
        )
        assert np.abs(drawn - kept).mean() < 4, f"python docs/make_method_pictures.py draws {name} anew"
