"""ftransfer compare-runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ftransfer.cli import complete
from ftransfer.cli.text import in_columns, number, say, visible

if TYPE_CHECKING:
    from ftransfer.report.runs import RunComparison

LONGEST = 60  # characters of a value that is printed


@click.command("compare-runs")
@click.argument("runs", shell_complete=complete.folders, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    shell_complete=complete.folders,
    help="Folder to write runs.html and runs.csv into.  [default: print only]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table and the differences as JSON.")
def compare_runs(runs: tuple[str, ...], out: str | None, as_json: bool) -> None:
    """Compare run folders: differences in data and settings, and the scores.

    A RUN is a folder that ftransfer fit wrote. A score compares recipes on the same features and target; where these
    differ between runs, compare the accuracies on labelled target images.
    """
    from ftransfer.report.numbers import plain
    from ftransfer.report.runs import compare_runs, write_comparison

    found = compare_runs(runs)
    if out:
        write_comparison(found, out)
    if as_json:
        told = {
            "runs": found.table.to_dict("records"),
            "differences": found.differences,
            "notes": found.notes,
        }
        say(json.dumps(plain(told)))
    else:
        say(describe(found))
        say(f"\nreport: {out}/runs.html\ntable: {out}/runs.csv" if out else "")


def describe(found: RunComparison) -> str:
    """Show the runs as a table, then what differs."""
    rows = found.table.astype(object).where(found.table.notna(), None).to_dict("records")
    counted = any(row["target_accuracy"] is not None for row in rows)
    header = [
        "run",
        "source",
        "target",
        "pipeline",
        "score",
        "expected",
        *(["target*"] if counted else []),
        "setting",
    ]
    lines = [header]
    for row in rows:
        numbers = [number(row["score"], "{:.3f}"), number(row["expected_accuracy"], "{:.0%}")]
        numbers += [number(row["target_accuracy"], "{:.1%}")] if counted else []
        lines.append([row["run"], row["sources"], row["target"], row["pipeline"], *numbers, row["setting"]])
    text = list(in_columns(lines, right=set(range(4, len(header) - 1))))
    if counted:
        text.append("* accuracy measured with the target's labels after the choice; not used")
    text += [f"note: {visible(note)}" for note in found.notes]
    if found.differences:
        names: list[Any] = found.table["run"].tolist()
        differing = [[fact, *map(_cut, values)] for fact, values in found.differences.items()]
        text += ["", *in_columns([["differs", *names], *differing], right=())]
    else:
        text += ["", "data, settings and versions are the same in all runs"]
    return "\n".join(text)


def _cut(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
