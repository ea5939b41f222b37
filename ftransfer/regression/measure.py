"""Errors of predicted numbers, with bootstrap intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

RESAMPLES = 1000
INTERVAL = [0.025, 0.975]


@dataclass(frozen=True)
class Estimate:
    """A number and the 95 % interval of its bootstrap resamples."""

    value: float
    low: float
    high: float


def measure_errors(
    truth: ArrayLike, predicted: ArrayLike, *, resamples: int = RESAMPLES, random_state: int = 0
) -> dict[str, Estimate]:
    """Measure R2, MAE, RMSE and the mean error of predictions, each with a 95 % percentile bootstrap interval.

    The rows are resampled; the model is not fitted again, so that the intervals tell what another sample of images
    would change, not what another training set would.

    Parameters
    ----------
    truth, predicted : array of shape (n_rows,)
        Rows with a NaN in `truth` are left out.
    resamples : int, default=1000
        0 for no intervals.

    Returns
    -------
    dict of str to Estimate: ``r2``, ``mae``, ``rmse`` and ``bias`` (mean of predicted minus true), the last three in
    the unit of the labels. NaN where fewer than two rows are known.

    Examples
    --------
    >>> errors = measure_errors([1.0, 2.0, 3.0, 4.0], [1.1, 2.1, 3.1, 4.1])
    >>> f"{errors['r2'].value:.3f} {errors['mae'].value:.1f} {errors['bias'].value:+.1f}"
    '0.992 0.1 +0.1'
    """
    y, p = np.asarray(truth, dtype=float), np.asarray(predicted, dtype=float)
    known = ~np.isnan(y)
    y, p = y[known], p[known]
    if len(y) < 2:
        return {name: Estimate(np.nan, np.nan, np.nan) for name in ("r2", "mae", "rmse", "bias")}
    once = _errors(y, p)
    rng = np.random.default_rng(random_state)
    drawn = (rng.integers(len(y), size=len(y)) for _ in range(resamples))
    again = pd.DataFrame([_errors(y[rows], p[rows]) for rows in drawn], columns=list(once), dtype=float)
    return {
        name: Estimate(value, *map(float, again[name].quantile(INTERVAL))) for name, value in once.items()
    }


def _errors(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    error = p - y
    squares, spread = float(np.mean(error**2)), float(y.var())
    return {
        "r2": 1 - squares / spread if spread > 0 else np.nan,
        "mae": float(np.abs(error).mean()),
        "rmse": squares**0.5,
        "bias": float(error.mean()),
    }
