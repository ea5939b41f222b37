"""Tables of text for the terminal."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

COLUMNS = ("pipeline", "adaptation", "score", "source")  # of a table of candidates


def in_numbers(row: Mapping[str, Any], counted: object) -> list[str]:
    """Write a candidate's score and accuracies; that of the target only where it was counted."""
    numbers = [number(row["score"], "{:.3f}"), number(row["source_accuracy"], "{:.1%}")]
    return numbers + ([number(row["target_accuracy"], "{:.1%}")] if counted else [])


def number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def in_columns(rows: Sequence[Sequence[str]], right: Collection[int]) -> Iterator[str]:
    """Yield each row as a line, its cells under one another; the columns in `right` are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        yield "  ".join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in cells).rstrip()
