"""Domains on the way from source to target, and the recipe that goes through them."""

from collections.abc import Sequence
from dataclasses import replace

from ftransfer.adapt import GradualSelfTraining
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.protocol import Features
from ftransfer.pipeline import make_pipeline
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
