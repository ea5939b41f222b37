"""Importance-weighted cross-validation: an error on the target, estimated from held-out source rows.

The squared error on held-out source rows, each weighted by how much denser the target is there than the source, is an
almost unbiased estimate of the squared error on the target (Sugiyama, Krauledat, Mueller, "Covariate shift adaptation
by importance weighted cross validation", JMLR 2007, equation 10). It rests on two assumptions: a label depends on the
features alike in both domains, and the source has rows wherever the target does. The first cannot be tested without
target labels; the second can, by how well a classifier tells the domains apart, and by how many rows carry the weight.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, KFold
from sklearn.preprocessing import StandardScaler

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.regression.task import RegressionTask
from ftransfer.scoring.judge import bootstrap_weights, density_ratio

FOLDS = 5
COMPONENTS = 20  # of the features that the domains are told apart by, for the weights


class HeldOutSource:
    """The source rows of a task, in folds, with their importance weights.

    Parameters
    ----------
    task : RegressionTask
    random_state : int, default=0
        Of folds and resamples.
    """

    def __init__(self, task: RegressionTask, *, random_state: int = 0) -> None:
        self.task, self.random_state = task, random_state
        self.source, self.target = np.flatnonzero(task.is_source), np.flatnonzero(~task.is_source)
        self.y = task.y[self.source]

    @cached_property
    def weights(self) -> np.ndarray:
        """Density of the target divided by that of the source, at each source row; mean one."""
        X = StandardScaler().fit_transform(self.task.X)
        few = min(COMPONENTS, *X.shape)
        Z = PCA(few, random_state=self.random_state).fit_transform(X)
        return density_ratio(Z[self.source], Z[self.target])

    @property
    def effective_rows(self) -> float:
        """How many equally weighted rows would say as much (Kish): from 1 to the number of source rows."""
        return float(self.weights.sum() ** 2 / np.square(self.weights).sum())

    @cached_property
    def _drawn(self) -> np.ndarray:
        return bootstrap_weights(np.random.default_rng(self.random_state), len(self.y)).astype(float)

    def _resamples(self, weighted: bool) -> np.ndarray:
        """Weights of the rows as they are, then of bootstrap samples; each sums to one."""
        if not weighted:
            return self._drawn
        drawn = self._drawn * self.weights
        return drawn / drawn.sum(axis=1, keepdims=True)

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the source rows to fit on and those to hold out, as positions among the source rows."""
        groups = None if self.task.groups is None else self.task.groups[self.source]
        if groups is None:
            yield from KFold(FOLDS, shuffle=True, random_state=self.random_state).split(self.source)
        else:
            kept_together = GroupKFold(min(FOLDS, len(np.unique(groups))))
            yield from kept_together.split(self.source, groups=groups)

    def predict(self, pipeline: AdaptationPipeline) -> tuple[np.ndarray, np.ndarray]:
        """Predict each source row by a fit without its fold; all target rows take part in every fit.

        Returns
        -------
        as_target : ndarray of shape (n_source,)
            As the function does that will predict the target: each row mapped as a target row. It is this function's
            error on the target that is estimated, where a label depends on the features alike in both domains.
        as_source : ndarray of shape (n_source,)
            Each row mapped by its own source's map.
        """
        task, found = self.task, np.empty((2, len(self.source)))
        for train, test in self.folds():
            rows, held_out = np.r_[self.source[train], self.target], self.source[test]
            fitted = clone(pipeline).fit(task.X[rows], task.y[rows], sample_domain=task.sample_domain[rows])
            found[0, test] = fitted.predict(task.X[held_out])
            found[1, test] = predict_source(fitted, task.X[held_out], task.sample_domain[held_out])
        return found[0], found[1]

    def score(self, predicted: np.ndarray, *, weighted: bool = True) -> np.ndarray:
        """Estimate the R2 on the target: array of shape (1 + resamples,), the first from the rows as they are.

        Parameters
        ----------
        predicted : array of shape (n_source,)
        weighted : bool, default=True
            Whether rows count by their importance weights; else it is the R2 on the source.
        """
        weights = self._resamples(weighted)
        squares = weights @ np.square(predicted - self.y)
        spread = weights @ np.square(self.y - self.y.mean()) - np.square(weights @ (self.y - self.y.mean()))
        return 1 - squares / np.maximum(spread, 1e-12 * max(self.y.var(), 1e-300))

    def rmse(self, predicted: np.ndarray) -> np.ndarray:
        """Estimate the RMSE on the target, as `score` does."""
        return np.sqrt(self._resamples(True) @ np.square(predicted - self.y))


def predict_source(pipeline: Any, X: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Predict source rows, each by its own source's map."""
    several = len(np.unique(domain)) > 1 or domain[0] != 1
    return np.asarray(pipeline.predict_source(X, sample_domain=domain if several else None))
