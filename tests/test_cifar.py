"""The page on CIFAR-10 and CIFAR-100: its commands, on small folders in place of the downloads."""

import re
import shlex

import pytest
from click.testing import CliRunner
from conftest import ROOT, draw

from ftransfer.cli import main

pytestmark = pytest.mark.slow  # three trainings


def commands():
    text = (ROOT / "docs" / "cifar.md").read_text("utf-8")
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ "))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_commands_of_the_page_run_on_pictures_of_that_size(tmp_path, monkeypatch):
    for folder, classes, each in (("ten", 3, 12), ("hundred-train", 6, 24), ("hundred-test", 6, 5)):
        for label in range(classes):
            for i in range(each):
                draw(tmp_path / folder / f"class{label}" / f"{i}.png", label, 100 * label + i, size=(32, 32))
    monkeypatch.chdir(tmp_path)
    found = list(commands())
    assert len(found) == 8
    for command in found:
        for name, folder in (("10", "ten"), ("100:train", "hundred-train"), ("100:test", "hundred-test")):
            command = re.sub(rf"torchvision:CIFAR{name}(?= )", folder, command)
        command = command.replace("torchvision:CIFAR100 ", "hundred-train ")
        words = shlex.split(command)[1:]
        words += ["--epochs", "1"] if words[0] == "finetune" else []
        words += ["--domain", words[1]] if words[0] in ("finetune",) else []
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, (command, result.output, result.exception)
        if "--accuracy" in words:
            assert re.search(r"of 30 images", result.stdout), result.stdout
    assert (tmp_path / "frozen-run" / "report.html").is_file()
