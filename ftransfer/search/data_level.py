"""Which rows are learned from: domains on the way from source to target, and source rows near the target."""

from collections.abc import Sequence
from dataclasses import replace

from ftransfer.adapt.gradual import GradualSelfTraining
from ftransfer.adapt.selection import SourceSelected
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.protocol import Features
from ftransfer.pipeline import AdaptationPipeline, make_pipeline
from ftransfer.recipes import Recipe
from ftransfer.task import Task

GRADUAL = "gradual"  # name of the recipe


def with_via(task: Task, features: Features, via: Sequence[str]) -> Task:
    """Give a task the domains on the way; their labels, if they have any, are not used.

    Parameters
    ----------
    task : Task
    features : FeatureSet or JoinedFeatures
        What the task was taken from.
    via : sequence of str
        From the domain next to the source to the one next to the target.

    Raises
    ------
    FtransferError
        If a domain is not there, is source or target, comes twice, or the target is left out.
    """
    if task.unseen:
        raise FtransferError("--via needs images of the target to end at; drop it or --leave-target-out")
    manifest = features.complete
    found, notes = [], list(task.notes)
    for name in via:
        if name not in set(manifest["domain"]):
            raise unknown("domain", name, sorted(manifest["domain"].unique()))
        if name in (*task.sources, task.target) or list(via).count(name) > 1:
            raise FtransferError(
                f"a domain on the way must be neither source nor target, and named once; given {', '.join(via)}"
            )
        rows = manifest[(manifest["domain"] == name) & (manifest["status"] == "ok")]
        if rows.empty:
            raise FtransferError(f"no image of '{name}' could be read")
        found.append((name, features.load(rows)))
    said = ", ".join(f"{name} ({len(rows)} images)" for name, rows in found)
    notes.append(f"domains on the way, without labels, for the recipe {GRADUAL} only: {said}")
    return replace(task, via=tuple(found), notes=notes)


def gradual_recipe(task: Task) -> Recipe:
    """Make the recipe that carries the labels through the domains on the way."""
    pipeline = make_pipeline(GradualSelfTraining(via=[rows for _, rows in task.via]))
    names = " > ".join([" + ".join(task.sources), *(name for name, _ in task.via), task.target])
    grid = {"gradualselftraining__scale": [True, False]}
    return Recipe(GRADUAL, pipeline, grid, f"Self-training from domain to domain: {names}.")


def learns_from_chosen_rows(pipeline: AdaptationPipeline) -> bool:
    """Whether there is something to say of the rows that a pipeline learns from: see `describe_rows`."""
    return isinstance(pipeline.steps[-1][1], SourceSelected | GradualSelfTraining)


def describe_rows(name: str, pipeline: AdaptationPipeline, task: Task) -> str:
    """Say which source rows a fitted pipeline kept, or how far labels changed from domain to domain.

    Parameters
    ----------
    name : str
        Of its recipe.
    pipeline : AdaptationPipeline, fitted on the task
        Its last step is `SourceSelected` or `GradualSelfTraining`.
    task : Task
    """
    last = pipeline.steps_[-1][1]
    if isinstance(last, SourceSelected):
        kept = zip(task.sources, last.kept_by_domain_.values(), strict=True)
        said = ", ".join(f"{kept} of {of} of {source}" for source, (kept, of) in kept)
        return f"{name} learns from the source images nearest to the target (by {last.criterion}): {said}"
    steps = zip([*(via for via, _ in task.via), task.target], last.agreement_, strict=True)
    said = ", ".join(f"{domain} {agreement:.0%}" for domain, agreement in steps)
    return f"{name}: images of each domain whose label the classifier fitted on it confirms: {said}"
