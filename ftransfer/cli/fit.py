"""ftransfer fit."""

import json
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ftransfer.cli import complete, options
from ftransfer.cli.fit_answer import describe
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.run_race import FitSettings, log_run, run_race
from ftransfer.cli.text import say
from ftransfer.scoring.names import DEFAULT_SCORER, SCORERS
from ftransfer.search.settings import MAX_ROWS, SEARCHES


class Duration(click.ParamType):
    """A time such as 90, 90s, 5m or 2h, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Turn text into seconds."""
        if isinstance(value, int | float):
            return float(value)
        number, unit = (value[:-1], value[-1]) if value[-1:] in "smh" else (value, "s")
        try:
            seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
        except (ValueError, KeyError):
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"'{value}' is not a time; write 90s, 5m or 2h", param, ctx)
        return seconds


@click.command()
@click.argument("features", shell_complete=complete.folders, nargs=-1, required=True, metavar="FEATURES...")
@click.option(
    "--source",
    shell_complete=complete.domains,
    required=True,
    help="Labelled domain; several separated by commas: photo,cartoon.",
)
@click.option(
    "--target", shell_complete=complete.domains, required=True, help="Domain to transfer the labels to."
)
@click.option(
    "--via",
    shell_complete=complete.domains,
    metavar="DOMAINS",
    help="Unlabelled domains on the way from source to target, in order: spring,summer. Adds the recipe gradual.",
)
@click.option(
    "--all-sources",
    is_flag=True,
    help="With several sources: only fit on all together, not on each alone.",
)
@click.option(
    "--pipeline",
    "pipelines",
    multiple=True,
    shell_complete=complete.recipes,
    help="Recipe, by name or path; may be repeated. Baselines always race too.  [default: all]",
)
@click.option(
    "--grid",
    shell_complete=complete.paths,
    metavar="FILE",
    help="YAML or JSON file of values to search: a grid by the name of its recipe, or values by parameter.",
)
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="PARAMETER=VALUES",
    help="Values to search in every recipe that has the parameter: coral__ridge=1,10,100; in one recipe: "
    "coral_svm:coral__ridge=1,10,100. May be repeated.",
)
@click.option(
    "--classes",
    shell_complete=complete.words("strict", "shared", "all"),
    default="strict",
    show_default=True,
    help="strict: both domains must have the same; shared: those in both; all; or by name: mug,bike.",
)
@click.option(
    "--label-map",
    shell_complete=complete.paths,
    metavar="FILE",
    help="CSV with the columns from and to, which renames classes that the domains call differently.",
)
@click.option(
    "--balance/--no-balance",
    default=True,
    help="With several feature sets: scale the rows of each to unit length.  [default: balance]",
)
@click.option(
    "--scorer",
    shell_complete=complete.words(*SCORERS),
    default=DEFAULT_SCORER,
    show_default=True,
    help=f"Score that needs no target labels: {', '.join(SCORERS[:-1])} or {SCORERS[-1]}.",
)
@click.option(
    "--target-labels",
    multiple=True,
    shell_complete=complete.paths,
    metavar="FILE",
    help="CSV with path and label of a few target images, to decide between recipes and to fit; they are "
    "excluded from the reported accuracy. May be repeated; ftransfer suggest makes a page for labelling.",
)
@click.option(
    "--use-target-labels",
    type=click.IntRange(1),
    metavar="N",
    help="The same with N of the target labels in FEATURES, drawn at random.",
)
@click.option(
    "--leave-target-out",
    is_flag=True,
    help="Treat the target as unseen: use it only to measure the accuracy.",
)
@click.option(
    "--search",
    shell_complete=complete.words(*SEARCHES),
    default="auto",
    show_default=True,
    help="auto: halving with more than 30,000 images, else grid; grid: all settings; random: some; halving: all "
    "on few images, the best on more; bayesian: proposed by Optuna.",
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    metavar="N",
    help="Number of settings for a random or bayesian search.  [default: as many as the grid has]",
)
@click.option(
    "--max-rows",
    type=click.IntRange(1000),
    default=MAX_ROWS,
    show_default=True,
    metavar="N",
    help="Images of both domains to compare recipes and to fit on, drawn at random where there are more.",
)
@click.option("--budget", type=Duration(), help="Time limit: 90s, 5m, 2h.")
@click.option(
    "--label-column",
    "label_columns",
    multiple=True,
    help="Label column in FEATURES; repeat it for several tasks.  [default: label]",
)
@click.option(
    "--alternatives",
    is_flag=True,
    help="Compare recipes on each feature set separately instead of joining them.",
)
@click.option(
    "--regression/--classification",
    default=None,
    help="Whether labels are numbers to predict, or classes.  [default: numbers if nearly all differ]",
)
@click.option("--out", shell_complete=complete.folders, help="Run folder.  [default: runs/SOURCE-to-TARGET]")
@click.option("--jobs", type=click.IntRange(1), help="Candidates fitted at once.  [default: usable cores]")
@options.cluster
@click.option(
    "--mlflow",
    metavar="EXPERIMENT",
    help="Log the run to MLflow, too, under this experiment; MLFLOW_TRACKING_URI names the server (extra "
    "[mlflow]).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def fit(
    features: tuple[str, ...],
    label_columns: tuple[str, ...],
    alternatives: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare adaptation pipelines on FEATURES from SOURCE to TARGET, choose one, write report and model.

    Several feature sets of the same images (of several backbones) are joined; with --alternatives recipes are compared
    on each separately.

    Target labels are never used to fit or to choose, except for those given with --target-labels or
    --use-target-labels. If the feature set has others, the accuracy on them is measured at the end and shown.
    """
    settings = FitSettings(**options)
    labels = list(dict.fromkeys(label_columns))
    from ftransfer.cli.fit_regression import describe_regressions, is_regression, run_regressions

    if alternatives and settings.regression:
        raise click.UsageError("--alternatives is for classes; join the feature sets for a regression")
    if not alternatives and is_regression(features, settings, labels):
        results, folder = run_regressions(features, settings, labels)
        say(json.dumps(results) if as_json else describe_regressions(results, folder))
        return
    if alternatives or len(labels) > 1:
        from ftransfer.cli.fit_several import describe_several, run_several

        results, folder = run_several(features, settings, labels, alternatives=alternatives)
        say(json.dumps(results) if as_json else describe_several(results, folder))
        return
    results, folder = run_fit(features, replace(settings, label=next(iter(labels), None)))
    say(json.dumps(results) if as_json else describe(results, folder))


def run_fit(
    features: Sequence[str | Path], settings: FitSettings, *, command: str | None = None
) -> tuple[dict[str, Any], Path]:
    """Load the task, race, and write the run folder; return the results and the folder."""
    settings.check()
    from ftransfer.features.joined import open_features

    opened = open_features(features, balance=settings.balance)
    from ftransfer.report import PARTS, write_report

    result, folder = run_race(opened, settings)
    command = command or shlex.join(["ftransfer", *sys.argv[1:]])
    with progress_bar(PARTS, " parts", "report") as bar:
        results = write_report(result, opened, folder, command=command, progress=bar.update)
    log_run(results, folder, settings.mlflow)
    return results, folder
