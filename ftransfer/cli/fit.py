"""ftransfer fit."""

import json
import math
import shlex
import sys
from functools import partial
from pathlib import Path

import click

from ftransfer.cli import complete, options, say_warning, split_names
from ftransfer.cli.progress import progress_bar
from ftransfer.errors import unknown

COLUMNS = ("pipeline", "adaptation", "score", "source")  # of a table of candidates


class Duration(click.ParamType):
    """A time such as 90, 90s, 5m or 2h, in seconds."""

    name = "time"

    def convert(self, value, param, ctx):
        """Turn text into seconds."""
        if isinstance(value, int | float):
            return float(value)
        number, unit = (value[:-1], value[-1]) if value[-1:] in "smh" else (value, "s")
        try:
            seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
        except (ValueError, KeyError):
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"'{value}' is no time; write 90s, 5m or 2h", param, ctx)
        return seconds


@click.command()
@click.argument("features", shell_complete=complete.folders, nargs=-1, required=True, metavar="FEATURES...")
@click.option(
    "--source",
    shell_complete=complete.domains,
    required=True,
    help="Domain with labels; several with commas: photo,cartoon.",
)
@click.option(
    "--target", shell_complete=complete.domains, required=True, help="Domain that the labels are carried to."
)
@click.option(
    "--all-sources",
    is_flag=True,
    help="Learn from several sources together; do not let each alone race, too.",
)
@click.option(
    "--pipeline",
    "pipelines",
    multiple=True,
    shell_complete=complete.recipes,
    help="Recipe, by name or path; may be repeated.  [default: all]",
)
@click.option(
    "--classes",
    shell_complete=complete.words("strict", "shared", "all"),
    default="strict",
    show_default=True,
    help="strict: both domains have the same; shared: those that both have; all; or some by name: mug,bike.",
)
@click.option(
    "--scorer",
    shell_complete=complete.words(*complete.SCORERS),
    default="consistency",
    show_default=True,
    help=f"Score that needs no target labels: {', '.join(complete.SCORERS[:-1])} or {complete.SCORERS[-1]}.",
)
@click.option(
    "--target-labels",
    shell_complete=complete.paths,
    metavar="FILE",
    help="CSV with path and label of a few target images, for the guard alone; they are not counted.",
)
@click.option(
    "--use-target-labels",
    type=click.IntRange(1),
    metavar="N",
    help="Let the guard use N of the target's labels in FEATURES, drawn at random; they are not counted.",
)
@click.option(
    "--leave-target-out",
    is_flag=True,
    help="Take the target for a domain never seen: it is counted on, and nothing else.",
)
@click.option(
    "--search",
    shell_complete=complete.words(*complete.SEARCHES),
    default="grid",
    show_default=True,
    help="grid: every setting; random: some of them; halving: all on few rows, the better ones on more; bayesian: "
    "those that Optuna proposes.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    metavar="N",
    help="Settings that a random or bayesian search tries.  [default: as many as the grid has]",
)
@click.option("--budget", type=Duration(), help="Time after which no further setting is begun: 90s, 5m, 2h.")
@click.option(
    "--label-column",
    "label_columns",
    multiple=True,
    help="Column of labels in FEATURES; several are a task and a race each.  [default: label]",
)
@click.option(
    "--alternatives",
    is_flag=True,
    help="Race on each of several feature sets by itself, side by side, instead of joining them.",
)
@click.option("--out", shell_complete=complete.folders, help="Run folder.  [default: runs/SOURCE-to-TARGET]")
@click.option("--jobs", type=click.IntRange(1), help="Candidates fitted at once.  [default: usable cores]")
@options.cluster
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def fit(features, source, target, label_columns, alternatives, as_json, **settings):
    """Race adaptation pipelines on FEATURES from SOURCE to TARGET; write report and model.

    Several feature sets of the same images are joined: what several backbones know, side by side; with --alternatives
    each has a race of its own.

    Labels of the target are never used to fit or to choose, but for a few that the guard is given. Where the feature
    set has others, they are counted at the end and shown beside.
    """
    if alternatives or len(label_columns) > 1:
        from ftransfer.cli.fit_several import describe_several, run_several

        several = {"label_columns": dict.fromkeys(label_columns), "alternatives": alternatives}
        results, folder = run_several(features, source, target, **several, **settings)
        click.echo(json.dumps(results) if as_json else describe_several(results, folder))
        return
    label = next(iter(label_columns), None)
    results, folder = run_fit(features, source, target, label=label, **settings)
    click.echo(json.dumps(results) if as_json else describe(results, folder))


def run_fit(features, source, target, *, command=None, **settings):
    """Load the task, race, and write the run folder; return the results and the folder. See `run_race`."""
    from ftransfer.report import PARTS, write_report

    result, feature_set, folder = run_race(features, source, target, **settings)
    command = command or shlex.join(["ftransfer", *sys.argv[1:]])
    with progress_bar(PARTS, " parts", "report") as bar:
        return write_report(result, feature_set, folder, command=command, progress=bar.update), folder


def folder_for(source, target, leave_target_out=False) -> Path:
    """Name the run folder where none is named."""
    sources = "+".join(split_names(source))
    return Path("runs") / f"{sources}-to-{target}{'-unseen' * bool(leave_target_out)}".replace("/", "_")


def run_race(
    features,
    source,
    target,
    *,
    pipelines=(),
    classes="strict",
    out=None,
    jobs=None,
    label=None,
    name="",
    scorer="consistency",
    target_labels=None,
    use_target_labels=None,
    leave_target_out=False,
    search="grid",
    trials=None,
    budget=None,
    all_sources=False,
    cluster=None,
):
    """Load the task and race; return the race, the feature set and the run folder."""
    if cluster and jobs:
        raise click.UsageError("--jobs is for this machine; on a cluster, the threads of the workers decide")
    if cluster is not None:
        from ftransfer.cluster import check_address, race_on_cluster

        check_address(cluster)
    from ftransfer.guard import draw_target_labels, read_target_labels
    from ftransfer.join import open_features
    from ftransfer.pipeline import load_recipe
    from ftransfer.report import start_run
    from ftransfer.scoring import load_scorer
    from ftransfer.search import race
    from ftransfer.strategy import STRATEGIES
    from ftransfer.task import load_task

    if cluster is not None:
        race = partial(race_on_cluster, cluster=cluster, warn=say_warning)
    if target_labels and use_target_labels:
        raise click.UsageError(
            "--target-labels and --use-target-labels are two ways to give the guard labels"
        )
    if leave_target_out and (target_labels or use_target_labels):
        raise click.UsageError("--leave-target-out lets no label of the target choose; leave out the labels")
    load_scorer(scorer)  # names that are wrong are said before anything is read
    if search not in STRATEGIES:
        raise unknown("search", search, STRATEGIES, plural="searches")
    feature_set = features if hasattr(features, "load") else open_features(features)
    recipes = [load_recipe(p) for p in pipelines]
    sources = split_names(source)
    if classes not in ("strict", "shared", "all"):
        classes = split_names(classes)
    task = load_task(
        feature_set, sources, target, classes=classes, label=label, leave_target_out=leave_target_out
    )
    labels = None
    if target_labels:
        task, labels = read_target_labels(task, target_labels)
    elif use_target_labels:
        task, labels = draw_target_labels(task, use_target_labels)
    folder = start_run(out or folder_for(source, target, leave_target_out))
    try:
        with progress_bar(0, " settings", f"{'+'.join(sources)} to {target}{name and f', {name}'}") as bar:
            result = race(
                task,
                recipes,
                scorer=scorer,
                search=search,
                n_trials=trials,
                budget=budget,
                journal=folder / "running",
                target_labels=labels,
                choose_sources=not all_sources,
                jobs=jobs,
                progress=bar.update,
                announce=bar.reset,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: what was found so far is kept in {folder}; the same command goes on from there"
        ) from None
    return result, feature_set, folder


def describe(results, folder) -> str:
    """Show the ranked table, the answer, and where the files are."""
    from ftransfer.report import setting

    counted = results["counted"]
    header = ["rank", *COLUMNS, *(["target*"] if counted else []), "setting"]
    rows, seen = [], set()
    for row in results["candidates"]:
        if row["pipeline"] in seen:
            continue
        seen.add(row["pipeline"])
        numbers = in_numbers(row, counted)
        note = f"failed: {row['error']}" if row["error"] else setting(row["params"])
        rows.append([str(row["rank"]), row["pipeline"], row["adaptation"], *numbers, note])
    lines = list(in_columns([header, *rows], right={0, *range(3, len(header) - 1)}))
    if counted:
        lines.append("* counted with the target's labels, by which nothing was fitted or chosen")
    lines += [f"note: {note}" for note in results["task"]["notes"]]
    answer = results["recommendation"]
    lines += ["", answer["sentence"], answer["reason"]]
    lines += [counted["sentence"]] if counted else []
    lines += ["", f"report: {folder / 'report.html'}", f"labels for the target: {folder / 'predictions.csv'}"]
    return "\n".join([*lines, f"model: {folder / 'model.skops'}"])


def in_numbers(row, counted) -> list[str]:
    """Write a candidate's score and accuracies; that of the target only where it was counted."""
    numbers = [number(row["score"], "{:.3f}"), number(row["source_accuracy"], "{:.1%}")]
    return numbers + ([number(row["target_accuracy"], "{:.1%}")] if counted else [])


def number(value, form) -> str:
    return "" if value is None else form.format(value)


def in_columns(rows, right):
    """Yield each row as a line, its cells under one another; the columns in `right` are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        yield "  ".join(cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in cells).rstrip()
