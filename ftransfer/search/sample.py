"""Some rows of a task: a share of each class of each domain, for a round of halving or for a race on many rows."""

import math
from dataclasses import replace

import numpy as np

from ftransfer.features.stored import take_rows
from ftransfer.search.outcome import Race
from ftransfer.search.settings import RaceSettings
from ftransfer.search.sources import SOURCES, learned_from
from ftransfer.task import Answers, Task

LEAST = 50  # rows of each class of each source that a race on many rows keeps, where there are as many


def thin(task: Task, share: float) -> Task:
    """Take a share of the rows, each domain and class in proportion, groups whole."""
    return take(task, _draw(task, np.full(len(task.y), share)))


def raced_rows(task: Task, settings: RaceSettings) -> tuple[Task, RaceSettings, np.ndarray | None]:
    """Draw the rows that a race on many rows sees: half of them of either side, as far as it has as many.

    A class of a source keeps 50 rows at least, and labelled target rows are all kept.

    Returns
    -------
    The task and the settings for these rows, and a mask of them; None where the task is small enough.
    """
    n, most = len(task.y), settings.max_rows
    if n <= most:
        return task, settings, None
    n_source = int(task.is_source.sum())
    n_target = n - n_source
    of_source = min(n_source, max(most // 2, most - n_target))
    shares = np.where(task.is_source, of_source / n_source, min(1.0, (most - of_source) / n_target))
    taken = _draw(task, shares, LEAST)
    labels = [
        each for each in (settings.target_labels, task.labels and task.labels.codes) if each is not None
    ]
    for codes in labels:
        taken[n_source:] |= codes != -1
    some = take(task, taken)
    n_some = int(some.is_source.sum())
    note = (
        f"{len(some.y):,} of {n:,} images were raced on, drawn at random ({n_some:,} of {n_source:,} source images, "
        f"{len(some.y) - n_some:,} of {n_target:,} target images); the labels of all target images are predicted. "
        f"Accuracies of candidates are those on these images; --max-rows changes how many there are"
    )
    some = replace(some, notes=[*task.notes, note])
    if settings.target_labels is not None:
        settings = replace(settings, target_labels=settings.target_labels[taken[n_source:]])
    return some, settings, taken


def of_all_rows(found: Race, task: Task, settings: RaceSettings, taken: np.ndarray) -> Race:
    """Give what was found on some rows of a task for the whole of it: with all rows, and the numbers that they have.

    Parameters
    ----------
    found : Race
        On the rows of the mask `taken`.
    task : Task
    settings : RaceSettings
        As they were given for the whole task.
    taken : ndarray of shape (n_samples,), bool
    """
    params = found.table["params"].iloc[found.chosen]
    rows = np.flatnonzero(taken[~task.is_source])
    use = found.label_use
    labels = settings.target_labels
    if labels is None and task.labels is not None:
        labels = task.labels.codes
    return replace(
        found,
        task=replace(
            task if task.unseen else learned_from(task, params if SOURCES in params else {}),
            notes=found.task.notes,
        ),
        target_labels=labels,
        label_use=None
        if use is None
        else replace(use, useful=rows[use.useful], held_back=rows[use.held_back], none=rows[use.none]),
    )


def take(task: Task, taken: np.ndarray) -> Task:
    """Take the rows of a mask, and what is known of them."""
    of_target = taken[~task.is_source]
    labels, copies = task.labels, task.answers.copies
    return replace(
        task,
        X=take_rows(task.X, taken),
        y=task.y[taken],
        sample_domain=task.sample_domain[taken],
        rows=task.rows[taken],
        answers=Answers(task.answers.codes[of_target], None if copies is None else copies[of_target]),
        labels=labels and replace(labels, codes=labels.codes[of_target], random=labels.random[of_target]),
    )


def _draw(task: Task, shares: np.ndarray, least: int = 1) -> np.ndarray:
    """Draw a share of the rows of each domain and class, at least so many, and with a row all of its group."""
    rng, groups = np.random.default_rng(0), task.groups
    first = unit = np.arange(len(task.y))
    if groups is not None:
        _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    turn = rng.permutation(len(first))  # the same for every share, so that the smaller ones are in the larger
    chosen = np.zeros(len(first), dtype=bool)
    stratum = np.unique((task.sample_domain * (len(task.classes) + 1) + task.y)[first], return_inverse=True)[
        1
    ]
    order = np.lexsort((turn, stratum))
    for members in np.split(order, np.flatnonzero(np.diff(stratum[order])) + 1):
        share = shares[first[members[0]]]
        chosen[members[: max(math.ceil(share * len(members)), least)]] = True
    return chosen[unit]
