"""What TAB completes: names that can be told without importing torch or scikit-learn.

Each function takes what click gives a ``shell_complete``: the context, the parameter and the word as far as it is
written. A word that nothing here knows is left alone; no mistake is said while a user is still typing.
"""

import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from ftransfer.shipped import shipped_folder


def words(*known: str) -> Callable[..., list[str]]:
    """Complete one of some words."""
    return lambda context, parameter, incomplete: [word for word in known if word.startswith(incomplete)]


def paths(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a file or folder."""
    return [CompletionItem(incomplete, type="file")]


def folders(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a folder."""
    return [CompletionItem(incomplete, type="dir")]


def checkpoints(context: click.Context, parameter: click.Parameter, incomplete: str) -> list:
    """Complete DEFAULT, random, or a file."""
    return [w for w in ("DEFAULT", "random") if incomplete and w.startswith(incomplete)] or paths(
        context, parameter, incomplete
    )


def recipes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list:
    """Complete a recipe that ships, or a path."""
    names = sorted(file.stem for file in shipped_folder("pipelines").glob("[!_]*.py"))
    return [name for name in names if name.startswith(incomplete)] or paths(context, parameter, incomplete)


def backbones(context: click.Context, parameter: click.Parameter, incomplete: str) -> list:
    """Complete a backbone, read from the source of torchvision's models: an import takes seconds; or a file."""
    torchvision = find_spec("torchvision")
    sources = (
        Path(torchvision.origin).parent.glob("models/*.py") if torchvision and torchvision.origin else []
    )
    registered = re.compile(r"^@register_model\(\)\n.*?^def (\w+)", re.S | re.M)
    names = {name for file in sources for name in registered.findall(file.read_text("utf-8"))}
    found = [name for name in sorted({"small_cnn", *names}) if name.startswith(incomplete)]
    return found or paths(context, parameter, incomplete)


def domains(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a domain of the feature sets, or of the folder of images, that are on the line; several with commas."""
    before, comma, last = incomplete.rpartition(",")
    taken = {*before.split(","), *str(context.params.get("source") or "").split(",")}
    names = sorted({name for place in _places(context) for name in _domains_of(place)} - taken)
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _places(context: click.Context) -> Iterator[Path]:
    """Paths on the line: click has not taken them for arguments where an option still lacks its value."""
    arguments = [
        context.params.get(p.name) for p in context.command.params if p.param_type_name == "argument"
    ]
    for each in [*arguments, context.args]:
        for place in (each,) if isinstance(each, str) else each or ():
            yield Path(place).expanduser()


def _domains_of(place: Path) -> list[str]:
    if not place.is_dir():
        return []
    manifest = place / "manifest.parquet"
    if not manifest.is_file():
        return [folder.name for folder in place.iterdir() if folder.is_dir() and folder.name[0] != "."]
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(manifest, columns=["domain"])["domain"].unique().to_pylist()
        return [name for name in found if name and name.isprintable()]  # others would command the terminal
    except (pa.ArrowException, OSError, KeyError):
        return []
