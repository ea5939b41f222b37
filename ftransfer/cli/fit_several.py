"""ftransfer fit, for several columns of labels or several feature sets side by side."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftransfer.cli.fit_answer import NOT_USED
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.run_race import FitSettings, log_run, run_race
from ftransfer.cli.text import COLUMNS, in_columns, in_numbers, visible

if TYPE_CHECKING:
    from ftransfer.features.protocol import Features


def run_several(
    features: Sequence[str], settings: FitSettings, label_columns: Sequence[str], *, alternatives: bool
) -> tuple[dict[str, Any], Path]:
    """Race for each column of labels, or for each feature set; write a run folder each, and one above them.

    Returns
    -------
    The results, as `write_several` gives them, and the folder.
    """
    from ftransfer.features.joined import open_alternatives, open_features
    from ftransfer.report import PARTS, name_folders, run_folder, write_report, write_several

    if alternatives and len(label_columns) > 1:
        raise click.UsageError("--alternatives compares feature sets for a single label column; give one")
    settings.check()
    label = next(iter(label_columns), None)
    members: dict[str, tuple[Features, str | None]]
    if alternatives:
        members = {name: (opened, label) for name, opened in open_alternatives(features).items()}
    else:
        joined = open_features(features, balance=settings.balance)
        members = {name: (joined, name) for name in label_columns}
    folders = name_folders(members)
    found = {}
    with run_folder(settings.folder) as folder:
        for name, (opened, label) in members.items():
            # all races before any report: a journal is kept until its report is written
            own = replace(settings, out=folder / folders[name], label=label)
            found[name] = (*run_race(opened, own, name=name), opened)
    command, results = shlex.join(["ftransfer", *sys.argv[1:]]), {}
    with progress_bar(PARTS * len(found), " parts", "reports") as bar:
        for name, (race, run, opened) in found.items():
            results[name] = write_report(race, opened, run, command=command, progress=bar.update)
            log_run(results[name], run, settings.mlflow)
    kind = "features" if alternatives else "labels"
    return write_several(kind, results, folder, command=command), Path(folder)


def describe_several(results: dict[str, Any], folder: Any) -> str:
    """Show the leading candidates of all races, the answers, and where the files are."""
    from ftransfer.report import KINDS, setting

    kind, runs = results["kind"], results["runs"]
    counted = any(run["counted"] for run in runs.values())
    header = [kind, *COLUMNS, *(["target*"] if counted else []), "setting"]
    rows = [header]
    for name, run in runs.items():
        for row in run["leading"]:
            numbers = in_numbers(row, counted)
            mark = " <" if row["chosen"] else ""
            rows.append([name, row["pipeline"] + mark, row["adaptation"], *numbers, setting(row["params"])])
    lines = list(in_columns(rows, right=set(range(3, len(header) - 1))))
    lines.append("< recommended")
    if counted:
        lines.append(f"* target accuracy, {NOT_USED}")
    for name, run in runs.items():
        lines += [f"note: {visible(name)}: {visible(note)}" for note in run["task"]["notes"]]
    lines.append("")
    lines += [f"{visible(name)}: {visible(run['recommendation']['sentence'])}" for name, run in runs.items()]
    lines += [KINDS[kind]] if kind == "features" else []
    lines += ["", f"report: {folder / 'report.html'}", f"predictions: {folder / 'predictions.csv'}"]
    models = ", ".join(str(folder / run["folder"] / "model.skops") for run in runs.values())
    return "\n".join([*lines, f"models: {models}"])
