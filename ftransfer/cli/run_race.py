"""From options to a race: load the task, race, and name the run folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ftransfer.cli import split_names
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import say_warning
from ftransfer.errors import unknown
from ftransfer.scoring.names import DEFAULT_SCORER, SCORERS
from ftransfer.search.settings import MAX_ROWS, SEARCHES, RaceSettings, Search
from ftransfer.storage.places import local

if TYPE_CHECKING:
    import numpy as np

    from ftransfer.features.protocol import Features
    from ftransfer.search.outcome import Race
    from ftransfer.task import Task


@dataclass(frozen=True)
class FitSettings:
    """What ``ftransfer fit`` is asked for: its options, under their names. See its help for what they mean.

    Attributes
    ----------
    source, target : str
        Several sources have commas between them.
    via : str or None
        Domains on the way, in order, with commas between them.
    pipelines : tuple of str
        None: all that ship.
    label : str or None
        Column of labels.
    budget : float or None
        In seconds.
    grid : str or None
        YAML or JSON file of grids.
    values : tuple of str
        ``PARAMETER=VALUE,VALUE`` each.
    mlflow : str or None
        Experiment in MLflow that the run is logged under, too.
    """

    source: str
    target: str
    pipelines: tuple[str, ...] = ()
    classes: str = "strict"
    out: str | Path | None = None
    jobs: int | None = None
    label: str | None = None
    scorer: str = DEFAULT_SCORER
    target_labels: tuple[str, ...] = ()
    use_target_labels: int | None = None
    leave_target_out: bool = False
    search: Search = "auto"
    trials: int | None = None
    budget: float | None = None
    max_rows: int = MAX_ROWS
    all_sources: bool = False
    via: str | None = None
    label_map: str | None = None
    balance: bool = True
    cluster: str | None = None
    grid: str | None = None
    values: tuple[str, ...] = ()
    regression: bool | None = None
    mlflow: str | None = None

    @property
    def sources(self) -> list[str]:
        """The sources, each by its name."""
        return split_names(self.source)

    @property
    def folder(self) -> Path:
        """The run folder; where none is named, after the domains."""
        if self.out:
            return local(self.out, "a run folder")
        unseen = "-unseen" * self.leave_target_out
        return Path("runs") / f"{'+'.join(self.sources)}-to-{self.target}{unseen}".replace("/", "_")

    def grids(self) -> dict[str, Any] | None:
        """Read the grids of the file, and over them the values that were set one by one."""
        from ftransfer.search.grids import read_grids, read_setting

        found = read_grids(self.grid) if self.grid else {}
        return found | dict(read_setting(each) for each in self.values) or None

    def check(self) -> None:
        """Refuse options that exclude each other and names that are wrong, before anything is read."""
        if self.cluster and self.jobs:
            raise click.UsageError("--jobs is for this machine; a cluster uses all threads of its workers")
        if self.cluster is not None:
            from ftransfer.cluster import check_address

            check_address(self.cluster)
        if self.target_labels and self.use_target_labels:
            raise click.UsageError(
                "--target-labels and --use-target-labels cannot be combined; give one of them"
            )
        if self.leave_target_out and (self.target_labels or self.use_target_labels):
            raise click.UsageError(
                "--leave-target-out does not use target labels to choose; drop --target-labels or --use-target-labels"
            )
        if self.scorer not in SCORERS:
            raise unknown("scorer", self.scorer, SCORERS)
        if self.search not in SEARCHES:
            raise unknown("search", self.search, SEARCHES, plural="searches")
        if self.trials and self.search not in ("random", "bayesian"):
            raise click.UsageError(
                "--trials is for --search random or bayesian; the others try every setting"
            )
        if self.mlflow:
            from ftransfer.report.mlflow_log import check_mlflow

            check_mlflow()


def run_race(features: Features, settings: FitSettings, *, name: str = "") -> tuple[Race, Path]:
    """Load the task and race.

    Parameters
    ----------
    features : Features
    settings : FitSettings
    name : str
        Of the race, where there are several.

    Returns
    -------
    The race and the run folder.
    """
    from ftransfer.recipes import load_recipe
    from ftransfer.report import run_folder
    from ftransfer.search.race import race

    if settings.cluster is not None:
        from ftransfer.cluster import race_on_cluster

        race = partial(race_on_cluster, cluster=settings.cluster, warn=say_warning)
    recipes = [load_recipe(each) for each in settings.pipelines]
    grids = settings.grids()
    task, labels = _load(features, settings)
    title = f"{'+'.join(settings.sources)} to {settings.target}{name and f', {name}'}"
    with run_folder(settings.folder) as folder:
        journal = folder / "running"
        how = RaceSettings(
            scorer=settings.scorer,
            search=settings.search,
            n_trials=settings.trials,
            budget=settings.budget,
            journal=journal,
            target_labels=labels,
            choose_sources=not settings.all_sources,
            jobs=settings.jobs,
            grids=grids,
            max_rows=settings.max_rows,
        )
        try:
            with progress_bar(0, " settings", title) as bar:
                return race(task, recipes, settings=how, progress=bar.update, announce=bar.reset), folder
        except KeyboardInterrupt:
            kept = (
                f"results so far are kept in {folder}"
                if journal.stat().st_size
                else "there are no results yet"
            )
            raise KeyboardInterrupt(f"interrupted: {kept}; run the same command again to resume") from None


def _load(features: Features, settings: FitSettings) -> tuple[Task, np.ndarray | None]:
    """Load the task, and the labels of the target that the guard may use."""
    from ftransfer.search.data_level import with_via
    from ftransfer.task import draw_target_labels, load_task, read_target_labels

    named = settings.classes not in ("strict", "shared", "all")
    task = load_task(
        features,
        settings.sources,
        settings.target,
        classes=split_names(settings.classes) if named else settings.classes,
        label=settings.label,
        leave_target_out=settings.leave_target_out,
        label_map=settings.label_map,
    )
    if settings.via:
        task = with_via(task, features, split_names(settings.via))
    if settings.target_labels:
        return read_target_labels(task, settings.target_labels)
    if settings.use_target_labels:
        return draw_target_labels(task, settings.use_target_labels)
    return task, None


def log_run(results: dict[str, Any], folder: Path, experiment: str | None) -> None:
    """Log a run to MLflow where an experiment is named; if that fails, say so: the run folder is written."""
    if not experiment:
        return
    from ftransfer.report.mlflow_log import log_to_mlflow

    try:
        log_to_mlflow(results, folder, experiment)
    except Exception as error:
        say_warning(
            f"the run is written to {folder}, but could not be logged to MLflow: {type(error).__name__}: {error}"
        )
