"""ftransfer fit."""

import json
import shlex
import sys
from pathlib import Path

import click

from ftransfer.cli.progress import progress_bar


@click.command()
@click.argument("features")
@click.option("--source", required=True, help="Domain with labels; several with commas: photo,cartoon.")
@click.option("--target", required=True, help="Domain that the labels are carried to.")
@click.option(
    "--pipeline", "pipelines", multiple=True, help="Recipe, by name or path; may be repeated.  [default: all]"
)
@click.option(
    "--classes",
    default="strict",
    show_default=True,
    help="strict: both domains have the same; shared: those that both have; all; or some by name: mug,bike.",
)
@click.option("--out", help="Run folder.  [default: runs/SOURCE-to-TARGET]")
@click.option("--jobs", type=click.IntRange(1), help="Candidates fitted at once.  [default: usable cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def fit(features, source, target, pipelines, classes, out, jobs, as_json):
    """Race adaptation pipelines on FEATURES from SOURCE to TARGET; write report and model.

    Labels of the target are never used to fit or to choose. Where the feature set has some, they are
    counted at the end and shown beside.
    """
    results, folder = run_fit(features, source, target, pipelines, classes, out, jobs)
    click.echo(json.dumps(results) if as_json else describe(results, folder))


def run_fit(features, source, target, pipelines=(), classes="strict", out=None, jobs=None, command=None):
    """Load the task, race, and write the run folder; return the results and the folder."""
    from ftransfer.features import FeatureSet
    from ftransfer.pipeline import load_recipe
    from ftransfer.report import start_run, write_report
    from ftransfer.search import race
    from ftransfer.task import load_task

    feature_set = FeatureSet(features)
    recipes = [load_recipe(p) for p in pipelines]
    sources = [name.strip() for name in source.split(",") if name.strip()]
    if classes not in ("strict", "shared", "all"):
        classes = [name.strip() for name in classes.split(",") if name.strip()]
    task = load_task(feature_set, sources, target, classes=classes)
    folder = start_run(out or Path("runs") / f"{'+'.join(sources)}-to-{target}".replace("/", "_"))
    try:
        with progress_bar(0, " settings", f"{'+'.join(sources)} to {target}") as bar:
            result = race(task, recipes, jobs=jobs, progress=bar.update, announce=bar.reset)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted: {features} is as it was, {folder} holds no results") from None
    command = command or shlex.join(["ftransfer", *sys.argv[1:]])
    return write_report(result, feature_set, folder, command=command), folder


def describe(results, folder) -> str:
    """Show the ranked table, the answer, and where the files are."""
    from ftransfer.report import setting

    counted = results["counted"]
    header = (
        ["rank", "pipeline", "adaptation", "score", "source"] + (["target*"] if counted else []) + ["setting"]
    )
    rows, seen = [], set()
    for row in results["candidates"]:
        if row["pipeline"] in seen:
            continue
        seen.add(row["pipeline"])
        numbers = [_number(row["score"], "{:.3f}"), _number(row["source_accuracy"], "{:.1%}")]
        numbers += [_number(row["target_accuracy"], "{:.1%}")] if counted else []
        note = f"failed: {row['error']}" if row["error"] else setting(row["params"])
        rows.append([str(row["rank"]), row["pipeline"], row["adaptation"], *numbers, note])
    lines = list(_in_columns([header, *rows], right={0, *range(3, len(header) - 1)}))
    if counted:
        lines.append("* counted with the target's labels, by which nothing was fitted or chosen")
    lines += [f"note: {note}" for note in results["task"]["notes"]]
    answer = results["recommendation"]
    lines += ["", answer["sentence"], answer["reason"]]
    lines += [counted["sentence"]] if counted else []
    lines += ["", f"report: {folder / 'report.html'}", f"labels for the target: {folder / 'predictions.csv'}"]
    return "\n".join([*lines, f"model: {folder / 'model.skops'}"])


def _number(value, form) -> str:
    return "" if value is None else form.format(value)


def _in_columns(rows, right):
    """Yield each row as a line, its cells under one another; the columns in `right` are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        yield "  ".join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in cells).rstrip()
