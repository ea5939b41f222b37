"""How far a prediction can be trusted: a calibrated probability, and a distance to what was trained on.

Neither uses a target label. The probability is calibrated by one temperature (Guo, Pleiss, Sun, Weinberger, "On
calibration of modern neural networks", ICML 2017, section 4.2): that at which the mean probability on the target is the
accuracy to be expected there, as a race or a panel of several methods estimates it; it stays an estimate. Where the
target has too few rows for one, it is that which suits held-out source rows. The distance is that to the k-th nearest
training row, rows scaled to unit length (Sun, Ming, Zhu, Li, "Out-of-distribution detection with deep nearest
neighbors", ICML 2022, section 3), for each domain relative to its own rows' distances to one another.
"""

import warnings
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from ftransfer.scoring.judge import Judge

FOLDS = 3
FEWEST_ROWS = 25  # of the target by which an accuracy is expected
MOST_ROWS = 2000  # of the source to fit the temperature; of all domains to measure distances to
NEIGHBOURS = 5
WITHIN = 0.99  # share of a domain's own rows that lie within its limit


def fit_temperature(
    pipeline: Any,
    X: np.ndarray,
    y: np.ndarray,
    sample_domain: np.ndarray,
    random_state: int = 0,
    *,
    expected: float | None = None,
) -> float | None:
    """Find the temperature at which the mean probability on the target is the accuracy to be expected there.

    Parameters
    ----------
    pipeline : AdaptationPipeline, fitted
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)
        Labels of the source rows, -1 on target rows.
    sample_domain : array of shape (n_samples,), int
    expected : float, optional
        The accuracy to be expected on the target. Default: by a `Panel`; with fewer than 25 target rows the
        temperature is the one that makes the labels of held-out source rows most likely.

    Returns
    -------
    float, or None where the pipeline has neither probabilities nor a decision function, a class has fewer
    than three rows, or a fit on two thirds of the source fails.
    """
    counts = np.unique(y[sample_domain > 0], return_counts=True)[1]
    if _method(pipeline) is None or len(counts) < 2 or counts.min() < FOLDS:
        return None
    if (sample_domain < 0).sum() < FEWEST_ROWS:
        return source_temperature(pipeline, X, y, sample_domain, random_state)
    return target_temperature(pipeline, X, y, sample_domain, random_state, expected=expected)


def source_temperature(
    pipeline: Any, X: np.ndarray, y: np.ndarray, sample_domain: np.ndarray, random_state: int = 0
) -> float | None:
    """Find the temperature that makes the labels of held-out source rows most likely; as `fit_temperature`.

    Without target rows, several sources are held out one after another, and taken for rows of the target.
    """
    method = _method(pipeline)
    rng = np.random.default_rng(random_state)
    source = rng.permutation(np.flatnonzero(sample_domain > 0))[:MOST_ROWS]
    target = np.flatnonzero(sample_domain < 0)
    known, counts = np.unique(y[source], return_counts=True)
    if method is None or len(known) < 2 or counts.min() < FOLDS:
        return None
    unseen = not len(target) and len(np.unique(sample_domain[source])) > 1
    folds = LeaveOneGroupOut() if unseen else StratifiedKFold(FOLDS)
    logits, codes = [], []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of fits on fewer rows; that on all rows has warned already
            for train, test in folds.split(source, y[source], sample_domain[source]):
                rows, held_out = np.r_[source[train], target], source[test]
                fitted = clone(pipeline).fit(X[rows], y[rows], sample_domain=sample_domain[rows])
                if len(fitted.classes_) < len(known):
                    return None
                domain = np.full(len(held_out), -1) if unseen else sample_domain[held_out]
                values = fitted.predict_source(X[held_out], sample_domain=domain, method=method)
                logits.append(_logits(values, method))
                codes.append(np.searchsorted(fitted.classes_, y[held_out]))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    logits, codes = np.vstack(logits), np.concatenate(codes)

    def surprise(log_temperature: float) -> float:
        each = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -each[np.arange(len(codes)), codes].mean()

    return float(np.exp(minimize_scalar(surprise, bounds=(-5, 5), method="bounded").x))


def target_temperature(
    pipeline: Any,
    X: np.ndarray,
    y: np.ndarray,
    sample_domain: np.ndarray,
    random_state: int = 0,
    *,
    expected: float | None = None,
) -> float:
    """Return the temperature at which the mean probability on the target is `expected`; from e^-5 to e^5."""
    source, target = np.flatnonzero(sample_domain > 0), np.flatnonzero(sample_domain < 0)
    rng = np.random.default_rng(random_state)
    target = rng.permutation(target)[:MOST_ROWS]
    method = _method(pipeline) or "predict_proba"
    logits = _logits(getattr(pipeline, method)(X[target]), method)
    if expected is None:
        rows = np.r_[rng.permutation(source)[:MOST_ROWS], target]
        panel = Judge(X[rows], y[rows], sample_domain[rows]).panel
        expected = panel.expected_accuracy(pipeline.predict(X[target]))

    def too_sure(log_temperature: float) -> float:
        return softmax(logits / np.exp(log_temperature), axis=1).max(axis=1).mean() - expected

    low, high = -5.0, 5.0
    if too_sure(low) <= 0:
        return float(np.exp(low))
    return float(np.exp(brentq(too_sure, low, high) if too_sure(high) < 0 else high))


def probability(
    pipeline: Any,
    X: np.ndarray,
    predicted: np.ndarray,
    temperature: float | None,
    values: np.ndarray | None = None,
) -> np.ndarray:
    """Estimate how likely each predicted label of a target row is right.

    Without a temperature it is the pipeline's own probability; NaN where it has none. `values` are what
    ``predict_proba`` gave, where it was asked before.
    """
    method = _method(pipeline)
    if method is None or (temperature is None and method != "predict_proba"):
        return np.full(len(X), np.nan)
    logits = _logits(getattr(pipeline, method)(X) if values is None else values, method)
    column = np.searchsorted(pipeline.classes_, predicted)
    return softmax(logits / (temperature or 1.0), axis=1)[np.arange(len(logits)), column]


def _method(pipeline: Any) -> str | None:
    return next((m for m in ("predict_proba", "decision_function") if hasattr(pipeline, m)), None)


def _logits(values: np.ndarray, method: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if method == "predict_proba":
        return np.log(values.clip(1e-6, 1))  # a forest says 0 where it means seldom
    return np.c_[-values, values] / 2 if values.ndim == 1 else values


class Familiar:
    """Measure how far rows lie from the domains that were trained on.

    Parameters
    ----------
    domains : list of array of shape (n_rows, n_features), float32
        Rows of each domain, of unit length.
    limits : list of float
        For each domain the distance to the `NEIGHBOURS`-th nearest within which 99 % of its own rows lie.
    """

    def __init__(self, domains: Any, limits: Any) -> None:
        self.domains, self.limits = domains, limits

    @classmethod
    def of(cls, X: np.ndarray, sample_domain: np.ndarray, random_state: int = 0) -> "Familiar":
        """Keep a sample of the rows of each domain, and learn its limit."""
        rng = np.random.default_rng(random_state)
        codes = np.unique(sample_domain)
        domains, limits = [], []
        for code in codes:
            rows = rng.permutation(np.flatnonzero(sample_domain == code))[: MOST_ROWS // len(codes)]
            unit = normalize(X[np.sort(rows)].astype(np.float32))
            if len(unit) > NEIGHBOURS:
                own = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(unit).kneighbors()[0]
                domains.append(unit)
                limits.append(float(max(np.quantile(own[:, -1], WITHIN), 1e-6)))
        return cls(domains, limits)

    def check(self, width: int) -> None:
        """Raise ValueError where this is not what `of` gives for rows of that width."""
        for rows, limit in zip(self.domains, self.limits, strict=True):
            fits = isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] == width
            if not fits or len(rows) <= NEIGHBOURS or rows.dtype != np.float32 or not np.isfinite(rows).all():
                raise ValueError("the rows that it measures distances to are damaged")
            if not (isinstance(limit, float) and 0 < limit < np.inf):
                raise ValueError("its distance limits are not positive numbers")

    def distance(self, X: np.ndarray) -> np.ndarray:
        """Measure the distance of each row to the nearest domain; above 1.0 it lies outside of all.

        Returns
        -------
        ndarray of shape (n_samples,); NaN where no domain had more than `NEIGHBOURS` rows.
        """
        unit = normalize(np.asarray(X, dtype=np.float32))
        found = np.full(len(unit), np.nan)
        for rows, limit in zip(self.domains, self.limits, strict=True):
            near = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(rows).kneighbors(unit)[0]
            found = np.fmin(found, near[:, -1] / limit)
        return found
