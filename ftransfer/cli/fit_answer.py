"""What ftransfer fit prints: the ranked recipes, the answer with the steps that led to it, and where the files are."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftransfer.cli.text import COLUMNS, in_columns, in_numbers, number, spreadsheet_notes, visible

NOT_USED = "measured with the target's labels after the choice; not used to fit or to choose"


def describe(results: dict[str, Any], folder: Path) -> str:
    """Show the ranked table, the answer, and where the files are."""
    counted, answer = results["counted"], results["recommendation"]
    lines = [*_ranked(results), *_notes(results), ""]
    said = [visible(counted["sentence"])] if counted else []
    wrong = bool(counted and counted["contradicts"])
    lines += [*(said if wrong else []), visible(answer["sentence"]), "", visible(answer["ground"])]
    lines += describe_steps(answer["steps"])
    lines += ["", visible(results["expected"]["sentence"])] if results["expected"] else []
    lines += [] if wrong else said
    if results["suggest"]:
        lines += [f"Labels of a few target images would make it surer: {visible(results['suggest'])}"]
    lines += ["", f"report: {folder / 'report.html'}", f"predictions: {folder / 'predictions.csv'}"]
    return "\n".join([*lines, f"model: {folder / 'model.skops'}"])


def _ranked(results: dict[str, Any]) -> Iterator[str]:
    """The best setting of each recipe, and what the columns mean."""
    from ftransfer.report import setting

    counted, candidates = results["counted"], results["candidates"]
    header = ["rank", *COLUMNS, *(["target*"] if counted else []), "setting"]
    rows, seen = [], set()
    for row in candidates:
        if row["pipeline"] in seen:
            continue
        seen.add(row["pipeline"])
        numbers = in_numbers(row, counted)
        note = f"failed: {row['error']}" if row["error"] else setting(row["params"])
        rows.append([str(row["rank"]), row["pipeline"], row["adaptation"], *numbers, note])
    yield from in_columns([header, *rows], right={0, *range(3, len(header) - 1)})
    if len(candidates) > len(rows):
        yield f"rank: among all {len(candidates)} settings (in results.csv); here, the best setting of each recipe"
    yield "source: cross-validated accuracy on the source, only for the best recipe of each step"
    if counted:
        yield f"* target accuracy, {NOT_USED}"


def _notes(results: dict[str, Any]) -> list[str]:
    from ftransfer.report import setting

    failed = [row for row in results["candidates"] if row["error"]]
    notes = [
        f"{len(failed)} of {len(results['candidates'])} settings failed; the first: {row['pipeline']} "
        f"({setting(row['params'])}): {row['error']}"
        for row in failed[:1]
    ]
    notes += [*results["task"]["notes"], *spreadsheet_notes(results["task"]["classes"])]
    return [f"note: {visible(note)}" for note in notes]


def describe_steps(steps: list[Mapping[str, Any]]) -> list[str]:
    """Lay out the steps from no adaptation to the strongest as a table."""
    if not steps:
        return []
    rows = [["step", "pipeline", "score", "gain", "against", "taken"]]
    for step in steps:
        taken = "" if step["against"] is None else "yes" if step["taken"] else "no"
        score = number(step["score"], "{:.3f}")
        rows.append([step["step"], step["pipeline"], score, step["compared"], step["against"] or "", taken])
    return [f"  {line}" for line in in_columns(rows, right={2})]
