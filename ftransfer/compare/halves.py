"""A domain and its halves: how far these lie apart is the yardstick of all that is measured between domains."""

from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ftransfer.compare import distances
from ftransfer.errors import FtransferError

FEWEST_ROWS = 8  # of a domain or class: halves of four
HALVES = 10  # of both domains, for the interval; half as many of each domain, for the yardstick
CLASSIFIERS = (
    ("A-distance, linear", "A linear classifier", "linear", False),
    ("A-distance, forest", "A random forest", "forest", False),
    (
        "A-distance, forest, scaled",
        "With each domain standardised separately, a random forest",
        "forest",
        True,
    ),
)
DISTANCES = {
    "mean shift": distances.mean_shift,
    "spread ratio": distances.spread_ratio,
    "shape": distances.shape_distance,
    "CORAL distance": distances.coral_distance,
    "Frechet distance": distances.frechet_distance,
    "principal angles": lambda A, B: float(np.degrees(distances.principal_angles(A, B).mean())),
}


class Domain:
    """The rows of a domain, and how far its halves lie apart: the yardstick of all pairs that it is in.

    Parameters
    ----------
    X : array of shape (n, n_features)
    labels : array of shape (n,), of str or None
    random_state : int

    Attributes
    ----------
    halves : list of (array, array)
        Divisions of the rows in two, at random.
    """

    def __init__(self, X: np.ndarray, labels: np.ndarray, random_state: int) -> None:
        self.X, self.labels, self.random_state = X, labels, random_state
        self.halves = divide(len(X), np.random.default_rng(random_state))

    @cached_property
    def within(self) -> list[dict[str, float]]:
        """All distances of single features and covariances between halves."""
        return [all_distances(self.X[i], self.X[j]) for i, j in self.halves]

    @cached_property
    def a_distances(self) -> dict[tuple[str, bool], float]:
        """The A-distance between two halves, by each classifier."""
        (i, j), *_ = self.halves
        found = {}
        for _, _, classifier, standardise in CLASSIFIERS:
            accuracy = distances.domain_accuracy(
                self.X[i], self.X[j], classifier, standardise, self.random_state
            )
            found[classifier, standardise] = distances.a_distance(accuracy.value)
        return found

    def measured(self) -> "Domain":
        """Compute what all its pairs need, once, and return itself."""
        self.within, self.a_distances  # noqa: B018
        return self


def make_domain(X: ArrayLike, y: ArrayLike | None, name: str, random_state: int) -> Domain:
    """Make a domain of rows and their labels; FtransferError where `check_rows` or `check_labels` refuses them."""
    checked = check_rows(X, name)
    return Domain(checked, check_labels(y, checked, name), random_state)


def all_distances(A: np.ndarray, B: np.ndarray) -> dict[str, float]:
    """Measure all distances of single features and of covariances."""
    return {name: measure(A, B) for name, measure in DISTANCES.items()}


def divide(n: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide n rows into two halves at random, HALVES // 2 times."""
    orders = [rng.permutation(n) for _ in range(HALVES // 2)]
    return [(order[: n // 2], order[n // 2 :]) for order in orders]


def check_rows(X: ArrayLike, name: str) -> np.ndarray:
    """Return rows as float64; FtransferError if they are too few, too much alike or not finite."""
    X = np.asarray(X, dtype=np.float64)
    if X.ndim != 2 or len(X) < FEWEST_ROWS or not X.shape[1]:
        raise FtransferError(
            f"comparing domains needs at least {FEWEST_ROWS} rows of features per domain; {name} has shape {X.shape}"
        )
    if not np.isfinite(X).all():
        raise FtransferError(f"{name} holds NaN or infinity; remove those rows or features first")
    if (distinct := len(np.unique(X, axis=0))) < FEWEST_ROWS:
        raise FtransferError(
            f"comparing domains needs at least {FEWEST_ROWS} different rows per domain; {name} has "
            f"{distinct} in {len(X)} rows"
        )
    return X


def check_labels(y: ArrayLike | None, X: np.ndarray, name: str) -> np.ndarray:
    """Return labels as an array of str, None where one is missing."""
    if y is None:
        return np.full(len(X), None)
    y = np.asarray(y, dtype=object)
    if y.shape != (len(X),):
        raise FtransferError(f"{name} must hold one label per row; it has shape {y.shape} for {len(X)} rows")
    return np.array([None if pd.isna(each) or each == -1 else str(each) for each in y], dtype=object)
