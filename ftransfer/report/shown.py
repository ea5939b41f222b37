"""The images that a page shows one by one: which, what they look like, and as data for its script."""

from typing import Any

import numpy as np
import pandas as pd

from ftransfer.report.plane import sample
from ftransfer.report.thumbnails import MOST_BYTES, Look, look_at, spread
from ftransfer.task import Task

OF_A_CELL = 24  # images behind one cell of the confusion matrix, one class, one bar
MOST_BEHIND = 600  # target images behind all of them
MOST_LOOKED_AT = 1200  # small pictures; of the other images the page shows the path


class Shown:
    """Sampled images of a task: those on the map, and some of each kind of mistake, class and probability.

    Parameters
    ----------
    task : Task
    predicted : ndarray of shape (n_target,), int
    sure : ndarray of shape (n_target,), or None
        Probability of the predicted class.

    Attributes
    ----------
    rows : ndarray of int
        Rows of the task.
    looks : list
        `Look` of each, None where the image is no longer there or was not looked at.
    """

    def __init__(self, task: Task, predicted: np.ndarray, sure: np.ndarray | None) -> None:
        self.task = task
        n_source = int(task.is_source.sum())
        on_map = sample(task.is_source, random_state=0)
        behind = n_source + _behind(task, predicted, sure)
        mapped = np.concatenate([on_map[1::2], on_map[::2]])  # both domains, should not all be looked at
        self.rows = np.array(list(dict.fromkeys([*behind.tolist(), *mapped.tolist()])), dtype=int)
        table = task.rows[["root", "path", "sha256"]].iloc[self.rows[:MOST_LOOKED_AT]].astype(str)
        self.looks: list[Look | None] = look_at(table.itertuples(index=False, name=None))
        self.looks += [None] * (len(self.rows) - len(self.looks))

    def as_data(self, labels: np.ndarray, predictions: list[np.ndarray], sure: np.ndarray | None) -> dict:
        """Put the images into lists for the page's script.

        Parameters
        ----------
        labels : ndarray of shape (n_samples,), int
            Class of each row of the task; -1 where it is not known, -2 for a class that no source has.
        predictions : list of ndarray of shape (n_target,)
            Without adaptation, and recommended.
        sure : ndarray of shape (n_target,), or None

        Returns
        -------
        dict of lists in the order of `rows`: ``path, domain`` (its place in ``domains``), ``label, before, predicted``
        (-1 for source rows), ``sure`` and ``picture``
        """
        task, n_source = self.task, int(self.task.is_source.sum())
        domains = [*task.sources, task.target]
        at = self.rows - n_source

        def of_target(values: np.ndarray, otherwise: Any) -> list:
            return [values[i].item() if i >= 0 else otherwise for i in at]

        smalls = ["" if each is None else each.small for each in self.looks]
        fit = np.cumsum([len(small) for small in smalls]) <= MOST_BYTES
        pictures = [small if small and fits else None for small, fits in zip(smalls, fit, strict=True)]
        return {
            "classes": task.classes.tolist(),
            "domains": domains,
            "path": task.rows["path"].iloc[self.rows].astype(str).tolist(),
            "domain": [domains.index(name) for name in task.rows["domain"].iloc[self.rows]],
            "label": labels[self.rows].tolist(),
            "before": of_target(predictions[0], -1),
            "predicted": of_target(predictions[-1], -1),
            "sure": [None] * len(at) if sure is None else of_target(np.round(sure, 4), None),
            "picture": pictures,
        }


def _behind(task: Task, predicted: np.ndarray, sure: np.ndarray | None) -> np.ndarray:
    """Draw target rows of every kind of mistake, class and probability; mistakes first."""
    codes = task.answers.codes
    k = len(task.classes) + 2
    wrong = np.flatnonzero((codes != -1) & (codes != predicted))
    cells = (codes + 2) * k + predicted
    drawn = [wrong[spread(cells[wrong], MOST_BEHIND // 2, OF_A_CELL)]]
    drawn.append(spread(predicted, MOST_BEHIND // 3, OF_A_CELL))
    if sure is not None:
        drawn.append(spread(np.minimum((10 * sure).astype(int), 9), 10 * OF_A_CELL, OF_A_CELL))
    return pd.unique(np.concatenate(drawn))[:MOST_BEHIND]
