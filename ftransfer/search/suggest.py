"""Which target images are worth a label: half of them at random, half where a label would change the model most."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_argmin_min

from ftransfer.errors import FtransferError
from ftransfer.features.label_file import RANDOM
from ftransfer.search.outcome import Race
from ftransfer.task import Task

MOST_ROWS = 5000  # of the target among which the useful half is looked for, and of the source
COMPONENTS = 32  # in which distances are measured
ENOUGH = 12  # labels that decide between two explanations


class Target(NamedTuple):
    """What is known of the target's rows.

    Attributes
    ----------
    predicted : ndarray of shape (n_target,), int
    margin : ndarray of shape (n_target,), or None
        How far ahead of the second class the predicted one is; None where the pipeline does not say.
    contents : ndarray of shape (n_target,)
        Equal for images with the same content.
    labelled : ndarray of shape (n_target,), bool
        Rows that have a label already.
    undecided : ndarray of int
        Rows on which two explanations disagree, the first to be labelled first.
    """

    predicted: np.ndarray
    margin: np.ndarray | None
    contents: np.ndarray
    labelled: np.ndarray
    undecided: np.ndarray


def suggest_labels(task: Task, race: Race, n: int, *, random_state: int = 0) -> pd.DataFrame:
    """Choose target images that are worth a label.

    Half of them are drawn at random, evenly over the predicted classes, each image with the same probability: on these
    an accuracy can be estimated. The others would change the model most: first of all images on which two
    explanations of the target disagree, then images of which the model is least sure, images far from all labelled
    ones, and the middles of the clusters that have no label yet.

    Parameters
    ----------
    task : Task
        No label of the target is looked at. Rows whose labels it or the race was given are not proposed again.
    race : Race
    n : int
        At least 1. With fewer images than that, all are proposed.
    random_state : int, default=0

    Returns
    -------
    DataFrame
        ``row``, the position among the target's rows; ``root`` (where the task has it), ``path``, an empty ``label``,
        the class that is ``predicted``, and ``why``: "random", or "undecided", "doubtful", "far" or "spread". The two
        halves take turns, so that whoever stops early has labelled some of both.

    Raises
    ------
    FtransferError
        If `n` is below 1, every target image has a label, or the target was left out of the race.
    """
    if task.unseen:
        raise FtransferError(
            "the target was left out of this race; a race that is to use its labels must not"
        )
    is_target = ~task.is_source
    rows = task.rows[is_target].reset_index(drop=True)
    labelled = np.zeros(len(rows), dtype=bool)
    for given in (race.target_labels, None if task.labels is None else task.labels.codes):
        labelled |= False if given is None else given != -1
    X_target = np.asarray(task.X_target)
    known = Target(
        predicted=np.asarray(race.pipeline.predict(X_target)),
        margin=margins(race.pipeline, X_target),
        contents=rows["sha256"].to_numpy() if "sha256" in rows else np.arange(len(rows)),
        labelled=labelled,
        undecided=rows_of(race.decide, rows),
    )
    chosen = choose_rows(np.asarray(task.X_source), X_target, known, n, random_state)
    return describe_rows(chosen, rows, task.classes[known.predicted])


def describe_rows(chosen: pd.DataFrame, rows: pd.DataFrame, predicted: np.ndarray) -> pd.DataFrame:
    """Put paths and predicted classes beside chosen rows, in the columns that `suggest_labels` returns."""
    at = chosen["row"].to_numpy()
    shown = rows[[name for name in ("root", "path") if name in rows]].iloc[at].reset_index(drop=True)
    table = pd.concat([chosen[["row"]], shown], axis=1)
    return table.assign(label="", predicted=predicted[at], why=chosen["why"].to_numpy())


def rows_of(table: pd.DataFrame | None, rows: pd.DataFrame) -> np.ndarray:
    """Find the positions in `rows` of the images of a table such as `Race.decide`, in its order."""
    if table is None:
        return np.empty(0, dtype=int)
    key = [name for name in ("root", "path") if name in table and name in rows]
    places = rows[key].astype(str).assign(at=np.arange(len(rows))).drop_duplicates(key)
    return table[key].astype(str).merge(places, on=key)["at"].to_numpy(dtype=int)


def margins(pipeline: Any, X: np.ndarray) -> np.ndarray | None:
    """Measure how far the predicted class of each row is ahead of the second; None where the pipeline does not say."""
    method = next((m for m in ("predict_proba", "decision_function") if hasattr(pipeline, m)), None)
    if method is None:
        return None
    values = np.asarray(getattr(pipeline, method)(X), dtype=float)
    if values.ndim == 1:
        return np.abs(values)
    first_two = np.sort(values, axis=1)[:, -2:]
    return first_two[:, -1] - first_two[:, 0]


def choose_rows(
    X_source: np.ndarray, X_target: np.ndarray, known: Target, n: int, random_state: int = 0
) -> pd.DataFrame:
    """Choose target rows that are worth a label, see `suggest_labels`.

    Parameters
    ----------
    X_source : array of shape (n_source, n_features)
    X_target : array of shape (n_target, n_features)
    known : Target
    n : int
    random_state : int, default=0

    Returns
    -------
    DataFrame with the columns ``row, why``

    Raises
    ------
    FtransferError
        If `n` is below 1, or every row has a label.
    """
    if n < 1:
        raise FtransferError(f"the number of images to label should be at least 1; given {n}")
    rng = np.random.default_rng(random_state)
    first = pd.Series(known.contents).duplicated().to_numpy() == 0
    free = np.flatnonzero(first & ~np.isin(known.contents, known.contents[known.labelled]))
    if not len(free):
        raise FtransferError(f"all {len(known.labelled)} target images have a label already")
    drawn = draw_evenly(free, known.predicted[free], min(len(free), (n + 1) // 2), rng)
    useful = _useful_rows(X_source, X_target, known, np.setdiff1d(free, drawn), drawn, n - len(drawn), rng)
    halves = [[(row, RANDOM) for row in drawn], useful]
    turns = [half[i] for i in range(max(map(len, halves))) for half in halves if i < len(half)]
    return pd.DataFrame(turns, columns=["row", "why"]).astype({"row": int})


def draw_evenly(rows: np.ndarray, groups: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows so that each group has its share, and each row the same probability: systematic sampling.

    Returns
    -------
    ndarray of int, in random order

    Examples
    --------
    >>> drawn = draw_evenly(np.arange(100), np.arange(100) % 10, 20, np.random.default_rng(0))
    >>> np.bincount(drawn % 10).tolist()
    [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    shuffled = rng.permutation(len(rows))
    in_groups = shuffled[np.argsort(groups[shuffled], kind="stable")]
    at = ((np.arange(n) + rng.random()) * len(rows) / n).astype(int)
    return rng.permutation(rows[in_groups[at]])


def _useful_rows(
    X_source: np.ndarray,
    X_target: np.ndarray,
    known: Target,
    free: np.ndarray,
    drawn: np.ndarray,
    n: int,
    rng: np.random.Generator,
) -> list[tuple[int, str]]:
    """Choose the rows that would change the model most, each with its reason."""
    few = known.undecided[np.isin(known.undecided, free)][: min(n, max(ENOUGH, n // 2))]
    found = [(int(row), "undecided") for row in few]
    pool = np.sort(rng.permutation(np.setdiff1d(free, few))[:MOST_ROWS])
    n = min(n - len(found), len(pool))
    if n <= 0:
        return found
    source, target = _space(X_source, X_target, pool, rng)
    has_label = np.r_[np.flatnonzero(known.labelled), drawn, few].astype(int)
    ways = {
        "spread": _middles(target[pool], target[has_label], n, rng),
        "doubtful": iter(()) if known.margin is None else iter(np.argsort(known.margin[pool], kind="stable")),
        "far": _farthest(target[pool], np.r_[source, target[has_label]]),
    }
    taken: set[int] = set()
    while len(taken) < n:
        for why, way in ways.items():
            at = next((int(i) for i in way if int(i) not in taken), None)
            if at is not None and len(taken) < n:
                taken.add(at)
                found.append((int(pool[at]), why))
    return found


def _space(
    X_source: np.ndarray, X_target: np.ndarray, pool: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bring source and target rows into one space: each domain standardised by itself, and its main directions."""
    some = np.sort(rng.permutation(len(X_source))[:MOST_ROWS])
    scaled = [
        (X - X[rows].mean(axis=0)) / np.where((spread := X[rows].std(axis=0)) > 0, spread, 1.0)
        for X, rows in ((X_source, some), (X_target, pool))
    ]
    both = np.r_[scaled[0][some], scaled[1][pool]]
    n_components = min(COMPONENTS, *both.shape)
    axes = PCA(n_components, svd_solver="randomized", random_state=0).fit(both)
    return axes.transform(scaled[0][some]), axes.transform(scaled[1])


def _middles(Z: np.ndarray, labelled: np.ndarray, n: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield the row nearest to the middle of each cluster without a label, the largest cluster first."""
    k = min(len(Z), n + len(labelled))
    clusters = KMeans(k, n_init=1, random_state=int(rng.integers(2**31))).fit(Z)
    covered = set(clusters.predict(labelled)) if len(labelled) else set()
    for cluster in np.argsort(-np.bincount(clusters.labels_, minlength=k), kind="stable"):
        inside = np.flatnonzero(clusters.labels_ == cluster)
        if cluster not in covered and len(inside):
            yield int(inside[np.linalg.norm(Z[inside] - clusters.cluster_centers_[cluster], axis=1).argmin()])


def _farthest(Z: np.ndarray, labelled: np.ndarray) -> Iterator[int]:
    """Yield the row farthest from all labelled rows and from those before it."""
    distance = pairwise_distances_argmin_min(Z, labelled)[1]
    for _ in range(len(Z)):
        at = int(distance.argmax())
        yield at
        distance = np.minimum(distance, np.linalg.norm(Z - Z[at], axis=1))
