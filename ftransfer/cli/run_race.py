"""From options to a race: load the task, race, and name the run folder."""

from functools import partial
from pathlib import Path

import click

from ftransfer.cli import say_warning, split_names
from ftransfer.cli.progress import progress_bar
from ftransfer.errors import unknown
from ftransfer.storage.writing import release


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
    from ftransfer.features.joined import open_features
    from ftransfer.recipes import load_recipe
    from ftransfer.report import start_run
    from ftransfer.scoring.scorer import load_scorer
    from ftransfer.search.race import race
    from ftransfer.search.settings import SEARCHES
    from ftransfer.task import draw_target_labels, load_task, read_target_labels

    if cluster is not None:
        race = partial(race_on_cluster, cluster=cluster, warn=say_warning)
    if target_labels and use_target_labels:
        raise click.UsageError(
            "--target-labels and --use-target-labels are two ways to give the guard labels"
        )
    if leave_target_out and (target_labels or use_target_labels):
        raise click.UsageError("--leave-target-out lets no label of the target choose; leave out the labels")
    load_scorer(scorer)  # names that are wrong are said before anything is read
    if search not in SEARCHES:
        raise unknown("search", search, SEARCHES, plural="searches")
    feature_set = open_features(features)
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
        release(folder)
        raise KeyboardInterrupt(
            f"interrupted: what was found so far is kept in {folder}; the same command goes on from there"
        ) from None
    except BaseException:
        release(folder)
        raise
    return result, feature_set, folder
