"""Keep what strangers named from commanding the terminal, whoever prints it: click, Python's warnings, a library."""

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

from ftransfer.cli.text import escape, one_line, visible


class EscapedStream:
    """A text stream that escapes control characters in all that is written to it.

    Parameters
    ----------
    stream : text stream

    Attributes
    ----------
    raw : text stream
        For what has to move the cursor: a progress bar.
    """

    def __init__(self, stream: TextIO) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        """Write text, escaped."""
        self.raw.write(escape(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts, escaped."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Run the block with both standard streams escaped, and Python's warnings in one line as the program's own."""
    before = sys.stdout, sys.stderr, warnings.formatwarning
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapedStream):
            setattr(sys, name, EscapedStream(stream))
    warnings.formatwarning = _format_warning
    try:
        yield
    finally:
        sys.stdout, sys.stderr, warnings.formatwarning = before


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {visible(one_line(message))}\n"


@contextmanager
def usage_errors_in_one_line() -> Iterator[None]:
    """Let no argument that click repeats begin a line of its own."""
    try:
        yield
    except click.UsageError as error:
        vars(error)["message"] = visible(error.message)  # click holds it to be final
        raise
