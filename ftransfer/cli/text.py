"""What is printed: lines, tables of text, and names from strangers in them."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click

# C0 and C1 controls but tab and newline, line separators, and what turns the direction of writing
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
FORMULA = re.compile(r"[=@]|[+-](?![\d.]+$)")  # how a text begins that a spreadsheet computes

COLUMNS = ("pipeline", "adaptation", "score", "source")  # of a table of candidates


def visible(text: object) -> str:
    """Escape what a terminal would obey instead of showing it, line breaks included: for a name among other text.

    >>> visible("a\\x1b]0;title\\x07\\nb")
    'a\\\\x1b]0;title\\\\x07\\\\nb'
    """
    return escape(str(text)).replace("\n", "\\n").replace("\t", "\\t")


def say(text: str, err: bool = False) -> None:
    """Print lines, to standard error if `err`; a name from a stranger cannot command the terminal."""
    click.echo(escape(text), err=err)


def escape(text: str) -> str:
    """Escape what a terminal would obey, but keep line breaks and tabs."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(error: BaseException | str) -> str:
    """Join a message to one line, whatever a file name in it holds."""
    return " ".join(str(error).split())


def say_warning(message: str) -> None:
    """Print a warning to standard error."""
    say(f"warning: {one_line(message)}", err=True)


def spreadsheet_notes(labels: Iterable[object]) -> list[str]:
    """Warn of labels that a spreadsheet would run; predictions.csv holds them as they are, for programs match them."""
    found = [str(label) for label in labels if FORMULA.match(str(label))]
    return [
        f"the label {visible(label)} looks like a formula to a spreadsheet: import the columns of "
        f"predictions.csv as text"
        for label in found[:1]
    ]


def in_numbers(row: Mapping[str, Any], counted: object) -> list[str]:
    """Write a candidate's score and accuracies; that of the target only where it was counted."""
    numbers = [number(row["score"], "{:.3f}"), number(row["source_accuracy"], "{:.1%}")]
    return numbers + ([number(row["target_accuracy"], "{:.1%}")] if counted else [])


def number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def in_columns(rows: Sequence[Sequence[str]], right: Collection[int]) -> Iterator[str]:
    """Yield each row as a line, its cells under one another; the columns in `right` are numbers."""
    rows = [[visible(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        yield "  ".join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in cells).rstrip()
