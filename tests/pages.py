"""The commands and the code of README and documentation, and a newcomer's folder in which they are run."""

import re
import shlex
from contextlib import contextmanager
from hashlib import sha256
from itertools import takewhile
from pathlib import Path

from conftest import ROOT, draw
from nursery import Nursery

from ftransfer.storage.writing import locked

DOCS = sorted(page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md"))
NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Page:
    """A page's blocks; a comment `<!-- not run: why -->` on the line before a block leaves it out."""

    def __init__(self, name):
        self.name, self.text = name, (ROOT / name).read_text("utf-8")
        found = re.findall(r"(<!-- not run: [^\n]+ -->\n)?```(\w+)\n(.*?)```", self.text, re.S)
        self.blocks = [(language, text) for left_out, language, text in found if not left_out]

    @property
    def commands(self):
        """The lines after `$` with which a console block begins; what follows is output, or what a command echoes."""
        for language, text in self.blocks:
            if language == "console":
                lines = text.replace("\\\n", " ").splitlines()
                yield from (line[2:] for line in takewhile(lambda x: x.startswith("$ "), lines))

    @property
    def code(self):
        """All Python blocks, in one."""
        return "\n".join(text for language, text in self.blocks if language == "python")

    @property
    def code_and_output(self):
        """Each Python block with the text block that follows it, or None."""
        for (language, text), (following, shown) in zip(
            self.blocks, [*self.blocks[1:], ("", "")], strict=True
        ):
            if language == "python":
                yield text, shown if following == "text" else None

    @property
    def output(self):
        """All that the page shows of what its code prints."""
        return "".join(shown for _, shown in self.code_and_output if shown)

    def shown_after(self, command):
        """What the page shows of a command's output, line by line."""
        block = next(text for language, text in self.blocks if language == "console" and command in text)
        return block.splitlines()[1:]

    def write_files(self, folder):
        """Save the Python blocks that begin with a file's name."""
        for language, text in self.blocks:
            if language == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
                (folder / name[1]).write_text(text.partition("\n")[2])


def shape(text):
    """Blank out the numbers: they may differ by a little on another machine."""
    return NUMBER.sub("0", text)


def numbers(text):
    """The numbers in a text."""
    return [float(number) for number in NUMBER.findall(text)]


class Newcomer:
    """An empty folder with photos/ as the pages have them, and the weights where torchvision looks for them.

    Several processes of tests share it: what one of them has run, the others need not run again.
    """

    def __init__(self, home: Path, nursery: Nursery):
        self.home, self.nursery = home, nursery
        with self.alone():
            if not (home / "printed").is_dir():
                self._furnish(home)
                (home / "printed").mkdir()

    @contextmanager
    def alone(self):
        """Keep other processes of tests out of the folder meanwhile."""
        self.home.mkdir(exist_ok=True)
        with locked(self.home):
            yield

    def _furnish(self, home: Path):
        import torch
        from torchvision import models

        for p, place in enumerate(["catalogue", "phone"]):
            for c, label in enumerate(["mug", "bike", "lamp"]):
                for i in range(4):
                    draw(
                        home / "photos" / place / label / f"{i}.jpg",
                        c,
                        seed=100 * p + 10 * c + i,
                        size=(80, 70),
                    )
        for file in (home / "photos" / "phone").rglob("*.jpg"):
            file.rename(home / "photos" / "phone" / f"{file.parent.name}{file.name}")
        draw(home / "new-photos" / "0.jpg", 1, seed=99, size=(80, 70))
        weights = (
            home / "torch" / "hub" / "checkpoints" / models.ResNet50_Weights.DEFAULT.url.rsplit("/", 1)[1]
        )
        weights.parent.mkdir(parents=True)
        torch.save(models.resnet50().state_dict(), weights)
        for name in ("README.md", *DOCS):
            Page(name).write_files(home)

    def run(self, command):
        """Run a command line, the same one once only; return what it prints."""
        printed = self.home / "printed" / f"{sha256(command.encode()).hexdigest()}.txt"
        with self.alone():
            if not printed.is_file():
                settings, _, words = command.partition("ftransfer ")
                assert not set("|&;<>$`*?") & set(words), f"no shell runs this: {command}"
                env = dict(each.split("=", 1) for each in settings.split())
                printed.write_text(self._run("-m", "ftransfer", *shlex.split(words), env=env), "utf-8")
        return printed.read_text("utf-8")

    def python(self, code):
        """Run code in a process of its own; return what it prints."""
        return self._run("-c", code, env={"PYTHONWARNINGS": "ignore"})

    def _run(self, *words, env=None):
        env = {"TORCH_HOME": str(self.home / "torch"), **(env or {})}
        result = self.nursery.run(*words, cwd=self.home, env=env)
        assert result.returncode == 0, result.stderr
        return result.stdout
