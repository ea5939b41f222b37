"""The README's commands and code are run, in an empty folder, as a newcomer would."""

import os
import re
import shlex
import subprocess
import sys
from itertools import takewhile

import pytest
from conftest import ROOT, draw

from ftransfer import list_recipes

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.S)


def commands():
    for language, text in BLOCKS:
        if language == "console":
            # what follows the first lines is output; the demo echoes the commands that it stands for
            yield from (line[2:] for line in takewhile(lambda line: line.startswith("$ "), text.splitlines()))


def shape(text):
    """Blank out the numbers: they may differ by a little on another machine."""
    return re.sub(r"\d+(\.\d+)?", "0", text)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """An empty folder with photos/ as the README has them, and the weights where torchvision looks for them."""
    import torch
    from torchvision import models

    home = tmp_path_factory.mktemp("newcomer")
    for place in ("catalogue", "phone"):
        for c, label in enumerate(["mug", "bike", "lamp"]):
            for i in range(4):
                draw(home / "photos" / place / label / f"{i}.jpg", c, seed=10 * c + i, size=(80, 70))
    for file in (home / "photos" / "phone").rglob("*.jpg"):
        file.rename(home / "photos" / "phone" / f"{file.parent.name}{file.name}")
    weights = home / "torch" / "hub" / "checkpoints" / models.ResNet50_Weights.DEFAULT.url.rsplit("/", 1)[1]
    weights.parent.mkdir(parents=True)
    torch.save(models.resnet50().state_dict(), weights)
    for language, text in BLOCKS:
        if language == "python" and text.startswith("# my_recipe.py\n"):
            (home / "my_recipe.py").write_text(text.partition("\n")[2])
    environment = {**os.environ, "TORCH_HOME": str(home / "torch")}

    def run(*command):
        result = subprocess.run(
            command, cwd=home, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="module")
def outputs(newcomer):
    """Run every ftransfer command of the README, in its order; what pip and pytest do is .ci/run's to check."""
    done = {}
    for command in commands():
        last = shlex.split(command.split("&&")[-1])
        if last[0] == "ftransfer":
            done[command] = newcomer(sys.executable, "-m", *last)
    return done


@pytest.mark.slow
def test_every_command_runs(outputs):
    assert [shlex.split(c.split("&&")[-1])[1] for c in outputs] == [
        "demo",
        "extract",
        "fit",
        "compare",
        "predict",
        "fit",
    ]


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(outputs):
    shown = next(text for language, text in BLOCKS if language == "console" and "ftransfer demo" in text)
    command, _, shown = shown.partition("\n")
    printed = outputs[command.removeprefix("$ ")]
    table = re.compile(r"^ *\d+ +(\w+)", re.M)
    assert sorted(table.findall(shown)) == sorted(table.findall(printed)) == list_recipes()
    for line in shown.splitlines():
        if line.startswith(
            ("$ ", "ftransfer-demo/", "  ", "rank", "* counted", "report:", "model:", "labels for")
        ):
            assert table.match(line) or shape(line) in shape(printed).splitlines(), line


@pytest.mark.slow
def test_the_comparison_prints_what_the_readme_shows(outputs):
    shown = next(text for language, text in BLOCKS if language == "console" and "ftransfer compare" in text)
    command, *lines = shown.splitlines()
    printed = [shape(" ".join(line.split()[:2])) for line in outputs[command.removeprefix("$ ")].splitlines()]
    for line in lines:
        assert line.startswith(("...", "  ")) or shape(" ".join(line.split()[:2])) in printed, line


@pytest.mark.slow
def test_the_code_prints_what_the_readme_shows(outputs, newcomer):
    # the second block goes on with what the first one loaded
    code = "".join(text for language, text in BLOCKS if language == "python" and "task.X" in text)
    shown = "".join(text for language, text in BLOCKS if language == "text")
    printed = newcomer(sys.executable, "-c", code)
    assert printed.splitlines()[0] == shown.splitlines()[0]
    assert [shape(line) for line in printed.splitlines()] == [shape(line) for line in shown.splitlines()]


def test_every_file_that_the_readme_names_is_there():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
