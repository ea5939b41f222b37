"""ftransfer compare."""

import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ftransfer.cli import complete
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import in_columns, say, visible

if TYPE_CHECKING:
    from ftransfer.compare.screen import Screening

MANY = 20  # domains, of which all pairs are measured
FEW_ROWS = 100  # of a domain, where there are more
SHOWN = 15  # pairs


@click.command()
@click.argument("features", shell_complete=complete.folders)
@click.option("--source", shell_complete=complete.domains, help="Labelled domain.")
@click.option("--target", shell_complete=complete.domains, help="Unlabelled domain.")
@click.option(
    "--max-rows",
    type=click.IntRange(8),
    help="Images per domain, drawn at random.  [1000; of many domains 100]",
)
@click.option(
    "--all-measures", is_flag=True, help=f"Of more than {MANY} domains, too: about a second a pair."
)
@click.option("--json", "as_json", is_flag=True, help="Print the tables of all pairs as JSON.")
def compare(
    features: Any,
    source: str | None,
    target: str | None,
    max_rows: int | None,
    all_measures: bool,
    as_json: bool,
) -> None:
    """Measure how far apart the domains of FEATURES are.

    Two domains give a table; the baseline of each measure is its value between random halves of one domain. More
    than two give a matrix of all pairs, and more than 20 the nearest and farthest pairs by two quick measures. --source
    and --target choose a pair; one of them alone, the pairs from or to that domain.
    """
    from ftransfer.compare.pairs import compare_all
    from ftransfer.compare.screen import screen_domains
    from ftransfer.features.feature_set import FeatureSet

    feature_set = FeatureSet(features)
    both = [source, target] if source and target else None
    n = len(both or feature_set.complete["domain"].unique())
    n_pairs = n - 1 if source or target else n * (n - 1) // 2
    if n > MANY and not (source or target or all_measures):
        say(
            f"{n} domains are {n_pairs:,} pairs: compared by MMD and mean shift of at most {max_rows or FEW_ROWS} "
            f"images each; all measures take about {duration(n_pairs)} of a core (--all-measures), of one domain and "
            f"the others {duration(n - 1)} (--source or --target)",
            err=True,
        )
        with progress_bar(n_pairs, " pairs", "compare") as bar:
            screening = screen_domains(feature_set, max_rows=max_rows or FEW_ROWS, progress=bar.update)
        say(json.dumps(_screening_as_dict(screening)) if as_json else _describe_screening(screening))
        return
    if n_pairs > MANY:
        say(f"{n_pairs:,} pairs take about {duration(n_pairs)} of a core", err=True)
    with progress_bar(n_pairs, " pairs", "compare") as bar:
        comparison = compare_all(
            feature_set,
            both,
            source=None if both else source,
            target=None if both else target,
            max_rows=max_rows or 1000,
            progress=bar.update,
        )
    say(json.dumps(_as_dict(comparison)) if as_json else describe(comparison))


def duration(seconds: float) -> str:
    """Say how long something takes, roughly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"


def _screening_as_dict(screening: "Screening") -> dict:
    return {
        "domains": list(screening.domains),
        "pairs": screening.pairs.to_dict("records"),
        "notes": screening.notes,
    }


def _describe_screening(screening: "Screening") -> str:
    """Show the nearest and the farthest pairs."""
    pairs, lines = screening.pairs, []
    for title, part in (("nearest", pairs.head(SHOWN)), ("farthest", pairs.tail(SHOWN)[::-1])):
        rows = [[title, "", *part.columns[2:]]]
        rows += [[a, b, *map(_short, values)] for a, b, *values in part.itertuples(index=False)]
        lines += [*in_columns(rows, right=(2, 3)), ""]
    a, b = map(visible, pairs.loc[0, ["source", "target"]])
    notes = [f"note: {visible(note)}" for note in screening.notes]
    return "\n".join([*lines, *notes, f"A pair in detail: --source {a} --target {b}. All pairs: --json"])


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
    whole = len(comparison.tables) == len(comparison.domains) * (len(comparison.domains) - 1) // 2
    if whole:
        lines = [line for measure in MATRICES for line in (*_matrix(comparison, measure), "")]
    else:
        lines = [*_list(comparison), ""]
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
    yield f"{'measure':<{wide}}{'value':>10}  {'95 % interval':^20}{'baseline':>10}"
    for row in table.assign(measure=table["measure"].map(visible)).itertuples():
        interval = "" if row.low != row.low else f"{_short(row.low)} .. {_short(row.high)}"
        line = f"{row.measure:<{wide}}{_short(row.value):>10}  {interval:^20}{_short(row.yardstick):>10}".rstrip()
        if row.measure.startswith(("share of", "class ")):  # one a class: on one line
            yield f"{line:<{wide + 42}}  {row.meaning}"
            continue
        yield line
        yield from textwrap.wrap(row.meaning, 98, initial_indent="  ", subsequent_indent="  ")


def _list(comparison: Any) -> Iterator[str]:
    """Show a pair a line, the nearest by MMD first."""
    rows = []
    for (a, b), table in comparison.tables.items():
        values = table.set_index("measure")["value"]
        rows.append((values["MMD"], [a, b, *(_short(values[name]) for name in MATRICES)]))
    columns = range(2, 2 + len(MATRICES))
    yield from in_columns([["source", "target", *MATRICES], *(row for _, row in sorted(rows))], right=columns)


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
