"""Two answers that exclude each other: on which rows of the target a label would decide between them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ftransfer.search.candidate import Candidate
from ftransfer.task import Task

MOST_ROWS = 50  # to be labelled


def rows_to_decide(task: Task, rivals: Sequence[Candidate], random_state: int = 0) -> pd.DataFrame:
    """List target rows on which two candidates disagree, in random order, at most 50.

    Parameters
    ----------
    task : Task
    rivals : sequence of two Candidate
    random_state : int, default=0

    Returns
    -------
    DataFrame with the columns ``root`` (where the task has it), ``path``, an empty ``label``, and the name of either
    recipe with the class that it predicts
    """
    one, other = (np.asarray(each.result.predicted) for each in rivals)
    rng = np.random.default_rng(random_state)
    at = rng.permutation(np.flatnonzero(one != other))[:MOST_ROWS]
    rows = task.rows[~task.is_source].reset_index(drop=True)
    table = rows[[name for name in ("root", "path") if name in rows]].iloc[at].assign(label="")
    for each, predicted in zip(rivals, (one, other), strict=True):
        table[each.pipeline] = np.asarray(task.classes)[predicted[at]]
    return table.reset_index(drop=True)


def describe_rivals(rivals: Sequence[Candidate], chosen: Candidate) -> str:
    """Say which two answers there are, and how to decide."""
    one, other = rivals
    apart = np.not_equal(np.asarray(one.result.predicted), np.asarray(other.result.predicted))
    how = "preferred" if chosen in rivals else "the cautious choice"
    return (
        f"two explanations fit the target: different class proportions ({one.pipeline}) or shifted features "
        f"({other.pipeline}). They disagree on {apart.sum()} of {len(apart)} images; {chosen.pipeline} is {how}. "
        f"A few labels would decide: fill in decide.csv and pass it as --target-labels"
    )
