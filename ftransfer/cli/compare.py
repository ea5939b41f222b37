"""ftransfer compare."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from ftransfer.cli import complete
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import say, visible


@click.command()
@click.argument("features", shell_complete=complete.folders)
@click.option("--source", shell_complete=complete.domains, help="Domain that the labels come from.")
@click.option("--target", shell_complete=complete.domains, help="Domain that they are carried to.")
@click.option(
    "--max-rows",
    type=click.IntRange(8),
    default=1000,
    show_default=True,
    help="Images of a domain, at random.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every pair's table as JSON.")
def compare(features: Any, source: str | None, target: str | None, max_rows: int, as_json: bool) -> None:
    """Say how far apart the domains of FEATURES are, before any transfer.

    Two domains give a table, each number beside its yardstick: the same between random halves of one domain. More
    than two give a matrix of all pairs; --source and --target then choose two.
    """
    if bool(source) != bool(target):
        raise click.UsageError("--source and --target belong together; without them all domains are compared")
    from ftransfer.compare.pairs import compare_all
    from ftransfer.features.feature_set import FeatureSet

    feature_set = FeatureSet(features)
    names = [source, target] if source and target else None
    n = len(names or feature_set.complete["domain"].unique())
    if n > 10:
        say(
            f"{n * (n - 1) // 2} pairs of {n} domains take about a second each; --source and --target compare two",
            err=True,
        )
    with progress_bar(n * (n - 1) // 2, " pairs", "compare") as bar:
        comparison = compare_all(feature_set, names, max_rows=max_rows, progress=bar.update)
    say(json.dumps(_as_dict(comparison)) if as_json else describe(comparison))


def _as_dict(comparison: Any) -> dict:
    pairs = []
    for (a, b), table in comparison.tables.items():
        measures = table.astype(object).where(table.notna(), None).to_dict("records")
        pairs.append({"source": a, "target": b, "measures": measures})
    return {
        "domains": list(comparison.domains),
        "pairs": pairs,
        "nearest": list(comparison.nearest),
        "notes": comparison.notes,
    }


def describe(comparison: Any) -> str:
    """Show the table of one pair, or the matrices of all."""
    notes = [f"note: {visible(note)}" for note in comparison.notes]
    if len(comparison.tables) == 1:
        ((pair, table),) = comparison.tables.items()
        return "\n".join([f"{visible(pair[0])} to {visible(pair[1])}", *_table(table), *notes])
    lines = [line for measure in MATRICES for line in (*_matrix(comparison, measure), "")]
    a, b = map(visible, comparison.nearest)
    return "\n".join(
        [*lines, *notes, f"Nearest by MMD: {a} and {b}. A pair in detail: --source {a} --target {b}"]
    )


MATRICES = {
    "A-distance, forest": "0: a random forest cannot tell the domains apart; 2: it always can",
    "A-distance, forest, scaled": "the same once each domain is standardised by itself",
    "MMD": "squared, unbiased; 0: the same distribution",
    "Frechet distance": "squared; in the scale of the features",
    "mean shift": "in standard deviations of a feature",
}


def _table(table: Any) -> Iterator[str]:
    wide = max(28, *(len(measure) + 2 for measure in table["measure"]))
    yield f"{'measure':<{wide}}{'value':>10}  {'95 % interval':^20}{'yardstick':>10}"
    for row in table.assign(measure=table["measure"].map(visible)).itertuples():
        interval = "" if row.low != row.low else f"{_short(row.low)} .. {_short(row.high)}"
        line = f"{row.measure:<{wide}}{_short(row.value):>10}  {interval:^20}{_short(row.yardstick):>10}".rstrip()
        if row.measure.startswith(("share of", "class ")):  # one a class: on one line
            yield f"{line:<{wide + 42}}  {row.meaning}"
            continue
        yield line
        yield from textwrap.wrap(row.meaning, 98, initial_indent="  ", subsequent_indent="  ")


def _matrix(comparison: Any, measure: str) -> Iterator[str]:
    matrix = comparison.matrix(measure).rename(index=visible, columns=visible)
    width = max(10, *(len(name) + 2 for name in matrix))
    yield f"{measure} ({MATRICES[measure]})"
    yield " " * width + "".join(name.rjust(width) for name in matrix)
    for name, row in matrix.iterrows():
        yield (name.ljust(width) + "".join(_short(value).rjust(width) for value in row)).rstrip()


def _short(value: Any) -> str:
    """Write three digits or more, without an exponent where that is readable."""
    if value != value:
        return ""
    if 0.001 <= abs(value) < 10 or value == 0:
        return f"{value:.3f}"
    return f"{value:.0f}" if 100 <= abs(value) < 1e6 else f"{value:#.3g}"
