"""The command line: options, one library call, one echo."""

import csv
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from keyword import iskeyword
from typing import Any

import click

from ftransfer import __version__
from ftransfer.cli.interrupt import leaving_on_interrupt
from ftransfer.cli.terminal import escaped_output, usage_errors_in_one_line
from ftransfer.cli.text import one_line, say
from ftransfer.errors import FtransferError, unknown

COMMANDS = {
    "extract": "Compute features of images with a frozen network.",
    "fit": "Compare adaptation pipelines, choose one, write report and model.",
    "compare": "Measure how far apart domains are.",
    "compare-runs": "Compare the results of several runs.",
    "suggest": "Choose target images that are worth a label, with a page to label them on.",
    "predict": "Label new images with the model of a run.",
    "demo": "Run the complete workflow on built-in digits, offline.",
    "info": "Show what is in a feature set, run folder or model file.",
    "export": "Write a feature set as Parquet, npz or CSV.",
    "import": "Make a feature set from existing embeddings.",
    "finetune": "Train a backbone further on labelled images; write a checkpoint for extract.",
    "backbones": "List the backbones that extract can run.",
    "completion": "Print the TAB completion script for bash, zsh or fish.",
}


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Let Python look for garbage seldom in the block, and no more after it, when all goes anyway.

    The objects that importing torch makes are looked through many times, and once more at the end: a second in all.
    """
    gc.set_threshold(50_000)
    try:
        yield
    finally:
        gc.freeze()


class Commands(click.Group):
    """Load a command when it is called, and turn mistakes that a user can mend into one line."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        # as the program alone: who calls `main` from Python lives on
        with leaving_on_interrupt(), escaped_output(), seldom_collecting():
            try:
                return super().__call__(*args, **options)
            except Exception:  # a fault of the program: its traceback may hold names, too
                sys.excepthook(*sys.exc_info())
                sys.exit(1)

    def main(self, *args: Any, **options: Any) -> Any:
        with escaped_output():
            return super().main(*args, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with usage_errors_in_one_line():
            return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        name = name.replace("-", "_") + "_" * iskeyword(name)
        module = __import__(f"ftransfer.cli.{name}", fromlist=[name])
        return getattr(module, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))  # from the table, so that --help imports nothing

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(str(unknown("command", args[0], COMMANDS)), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with usage_errors_in_one_line():
                return super().invoke(ctx)
        except FtransferError as error:
            say(f"error: {one_line(error)}", err=True)
            ctx.exit(1)
        except (KeyboardInterrupt, click.Abort) as interrupt:
            say(f"\n{one_line(interrupt) or 'interrupted'}", err=True)
            ctx.exit(130)


def split_names(text: str) -> list[str]:
    """Take names apart that have commas between them; a name with a comma in it stands in quotes.

    >>> split_names('mug, "pen, red"')
    ['mug', 'pen, red']
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True))
    except csv.Error:
        raise FtransferError(f"a name with a line break must be quoted: '{text}'") from None
    return [name.strip() for row in rows for name in row if name.strip()]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ftransfer")
def main() -> None:
    """Transfer labels from one image collection to another.

    Two commands: `ftransfer extract IMAGES --out FEATURES` computes features, once;
    `ftransfer fit FEATURES --source A --target B` transfers the labels of A to B and writes a report.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may hold what a terminal cannot show
