"""The README's commands and code are run, in an empty folder, as a newcomer would."""

import re

import pytest
from conftest import ROOT
from pages import Page, shape

from ftransfer import list_recipes

README = Page("README.md")


@pytest.fixture(scope="module")
def outputs(newcomer):
    """Run every ftransfer command of the README, in its order; what pip and pytest do is .ci/run's to check."""
    commands = [command.split("&& ")[-1] for command in README.commands]
    return {command: newcomer.run(command) for command in commands if command.startswith("ftransfer ")}


@pytest.mark.slow
def test_every_command_runs(outputs):
    assert [command.split()[1] for command in outputs] == ["demo", "extract", "fit"]


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(outputs):
    printed, shown = outputs["ftransfer demo"], README.shown_after("ftransfer demo")
    table = re.compile(r"^ *\d+ +(\w+)", re.M)
    named = sorted([*list_recipes(), "vote"])
    assert sorted(table.findall("\n".join(shown))) == sorted(table.findall(printed)) == named
    for line in shown:
        if line.startswith(
            ("$ ", "ftransfer-demo/", "  ", "rank", "* target", "report:", "model:", "predictions:")
        ):
            assert table.match(line) or shape(line) in shape(printed).splitlines(), line


@pytest.mark.slow
def test_the_code_prints_what_the_readme_shows(outputs, newcomer):
    printed = newcomer.python(README.code)
    assert printed.splitlines()[0] == README.output.splitlines()[0]
    assert shape(printed) == shape(README.output)


def test_every_file_that_the_readme_names_is_there():
    for target in re.findall(r"\]\(([^)]+)\)", README.text):
        assert target.startswith("https://") or (ROOT / target.split("#")[0]).exists(), target
