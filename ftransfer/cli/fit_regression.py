"""ftransfer fit, where labels are numbers."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftransfer.cli.progress import progress_bar
from ftransfer.cli.run_race import FitSettings
from ftransfer.cli.text import in_columns, number, say, visible
from ftransfer.errors import FtransferError

if TYPE_CHECKING:
    from ftransfer.features.protocol import Features

TAKES = {
    "source", "target", "pipelines", "out", "jobs", "label", "target_labels", "use_target_labels", "balance",
    "regression", "all_sources", "grid", "values",
}  # fmt: skip


def is_regression(features: Sequence[str], settings: FitSettings, label_columns: Sequence[str]) -> bool:
    """Whether labels are numbers: as the user says, or else as the labels of the source look."""
    if settings.regression is not None:
        return settings.regression
    from ftransfer.recipes import list_recipes

    if _others(settings) or set(settings.pipelines) & set(list_recipes()):  # what only classes have
        return False
    from ftransfer.features.joined import open_features
    from ftransfer.regression.task import are_numbers

    try:
        opened = open_features(features, balance=settings.balance)
        columns: list[str | None] = list(label_columns) or [None]
        found = [are_numbers(opened, settings.sources, name) for name in columns]
    except FtransferError:
        return False  # the race says what is wrong
    if all(found):
        say(
            "note: the labels are numbers, nearly all different: fitting a regression (--classification for classes)",
            err=True,
        )
    return all(found)


def _others(settings: FitSettings) -> list[str]:
    """Name the options given that a regression does not take."""
    changed = [f.name for f in fields(settings) if getattr(settings, f.name) != f.default]
    return [name for name in changed if name not in TAKES]


def run_regressions(
    features: Sequence[str], settings: FitSettings, label_columns: Sequence[str]
) -> tuple[dict[str, Any], Path]:
    """Race regressors for each column of labels; write a run folder each, and one above them if there are several.

    Returns
    -------
    The results, and the run folder.
    """
    settings.check()
    if others := _others(settings):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in others)
        raise click.UsageError(f"a regression does not take {names}")
    from ftransfer.features.joined import open_features
    from ftransfer.regression.report import write_several_regressions
    from ftransfer.report import name_folders, run_folder

    opened, command = (
        open_features(features, balance=settings.balance),
        shlex.join(["ftransfer", *sys.argv[1:]]),
    )
    if len(label_columns) < 2:
        return _run(
            opened, settings, next(iter(label_columns), None), settings.folder, command
        ), settings.folder
    folders = name_folders(label_columns)
    with run_folder(settings.folder) as folder:
        runs = {name: _run(opened, settings, name, folder / folders[name], command) for name in label_columns}
    return write_several_regressions(runs, folder, command=command), folder


def _run(
    opened: Features, settings: FitSettings, label: str | None, folder: Path, command: str
) -> dict[str, Any]:
    from ftransfer.recipes import load_recipe
    from ftransfer.regression.race import race_regression
    from ftransfer.regression.report import write_regression_report
    from ftransfer.regression.task import draw_target_numbers, load_regression_task, read_target_numbers
    from ftransfer.report import run_folder

    recipes = [load_recipe(each, regression=True) for each in settings.pipelines]
    task, labels = load_regression_task(opened, settings.sources, settings.target, label=label), None
    if settings.target_labels:
        task, labels = read_target_numbers(task, settings.target_labels)
    elif settings.use_target_labels:
        task, labels = draw_target_numbers(task, settings.use_target_labels)
    title = f"{'+'.join(settings.sources)} to {settings.target}{f', {label}' if label else ''}"
    with run_folder(folder) as folder, progress_bar(0, " settings", title) as bar:
        race = race_regression(
            task,
            recipes,
            target_labels=labels,
            grids=settings.grids(),
            jobs=settings.jobs,
            progress=bar.update,
            announce=bar.reset,
        )
    return write_regression_report(race, opened, folder, command=command, target_labels=labels)


def describe_regressions(results: dict[str, Any], folder: Path) -> str:
    """Show the ranked tables, the answers, and where the files are."""
    if "runs" not in results:
        return _describe(results, folder)
    lines = []
    for name, run in results["runs"].items():
        lines += [f"{visible(name)}: {visible(run['recommendation']['sentence'])}"]
        lines += [f"  {visible(run['counted']['sentence'])}"] if run["counted"] else []
    models = ", ".join(str(folder / run["folder"] / "model.skops") for run in results["runs"].values())
    lines += ["", f"report: {folder / 'report.html'}", f"predictions: {folder / 'predictions.csv'}"]
    return "\n".join([*lines, f"models: {models}"])


def _describe(results: dict[str, Any], folder: Path) -> str:
    from ftransfer.report import setting

    counted = results["counted"]
    header = [
        "rank",
        "pipeline",
        "adaptation",
        "score",
        "source R2",
        *(["target R2*"] if counted else []),
        "setting",
    ]
    rows, seen = [], set()
    for row in results["candidates"]:
        if row["pipeline"] in seen:
            continue
        seen.add(row["pipeline"])
        numbers = [row["score"], row["source_r2"], *([row["target_r2"]] if counted else [])]
        note = f"failed: {row['error']}" if row["error"] else setting(row["params"])
        cells = [number(value, "{:.3f}") for value in numbers]
        rows.append([str(row["rank"]), row["pipeline"], row["adaptation"], *cells, note])
    lines = list(in_columns([header, *rows], right={0, *range(3, len(header) - 1)}))
    if len(results["candidates"]) > len(rows):
        lines.append(
            f"the best setting of each recipe; results.csv has all {len(results['candidates'])} settings"
        )
    if counted:
        lines.append("* measured with the target's labels, which were not used to fit or choose")
    lines += ["", *_steps(results)]
    lines += [f"note: {visible(note)}" for note in results["task"]["notes"]]
    answer = results["recommendation"]
    said = [visible(counted["sentence"])] if counted else []
    wrong = bool(counted and counted["contradicts"])
    lines += ["", *(said if wrong else []), visible(answer["sentence"]), visible(answer["reason"])]
    if results["expected"]:
        rmse = results["expected"]["rmse"]
        lines.append(
            f"Expected RMSE on the target: {rmse['value']:.4g} (95% interval {rmse['low']:.4g} to "
            f"{rmse['high']:.4g})."
        )
    lines += [] if wrong else said
    lines += ["", f"report: {folder / 'report.html'}", f"predictions: {folder / 'predictions.csv'}"]
    return "\n".join([*lines, f"model: {folder / 'model.skops'}"])


def _steps(results: dict[str, Any]) -> list[str]:
    """Show what the guard looked at, step by step."""
    labels = any(step["told"] for step in results["steps"])
    header = [
        "step",
        "recipe",
        results["score"]["name"],
        "gain",
        "error",
        *(["labels"] if labels else []),
        "taken",
    ]
    rows = [
        [
            step["step"],
            step["pipeline"],
            *(
                number(step[key], form)
                for key, form in (("score", "{:.3f}"), ("gain", "{:+.3f}"), ("error", "{:.3f}"))
            ),
            *([step["told"]] if labels else []),
            "yes" if step["taken"] else "no",
        ]
        for step in results["steps"]
    ]
    return list(in_columns([header, *rows], right={2, 3, 4}))
