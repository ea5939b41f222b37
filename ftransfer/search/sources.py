"""Which sources to learn from, where there are several: all of them together, or one alone.

A source that is near the target can lose by being pooled with one that is far. So each source alone is a setting of
every recipe, as all together are, and the score decides: how well do the labels that a candidate gives the target
carry back to the sources that it learned from? All are compared on the same resamples of the target.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ftransfer.features.stored import take_rows
from ftransfer.recipes import Recipe
from ftransfer.task import Task

SOURCES = "sources"  # among the settings of a trial


def offer_sources(recipes: list[Recipe], task: Task) -> list[Recipe]:
    """Add to each grid which sources are learned from; nothing where there is no choice.

    A source that lacks a class is not offered alone: it could never name it.
    """
    alone = [
        name
        for code, name in enumerate(task.sources, start=1)
        if len(np.unique(task.y[task.sample_domain == code])) == len(task.classes)
    ]
    if len(task.sources) == 1 or not alone:
        return recipes
    offered = [_together(task), *alone]
    return [
        replace(
            r,
            grid=[{**part, SOURCES: offered} for part in (r.grid if isinstance(r.grid, list) else [r.grid])],
        )
        for r in recipes
    ]


def without_sources(params: dict[str, Any]) -> dict[str, Any]:
    """Leave what is a pipeline's own of a trial's settings."""
    return {key: value for key, value in params.items() if key != SOURCES}


def learned_from(task: Task, params: dict[str, Any]) -> Task:
    """Take the sources that a trial names, and the target; the task itself where it names none or all."""
    name = params.get(SOURCES, _together(task))
    if name == _together(task):
        return task
    kept = ~task.is_source | (task.sample_domain == 1 + task.sources.index(name))
    others = ", ".join(each for each in task.sources if each != name)
    return replace(
        task,
        X=take_rows(task.X, kept),
        y=task.y[kept],
        sample_domain=np.where(task.is_source, 1, -1)[kept],
        rows=task.rows[kept].reset_index(drop=True),
        sources=(name,),
        notes=[
            *task.notes,
            f"only the source {name} was used; not used: {others}",
        ],
    )


def _together(task: Task) -> str:
    return " + ".join(task.sources)
