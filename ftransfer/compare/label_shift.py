"""Label shift: how often each class occurs in the target, from source labels and unlabelled target rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ftransfer.errors import FtransferError

RESAMPLES = 500
CLEAR = 0.2  # share of the target's rows that would have to change their class


@dataclass(frozen=True)
class LabelShift:
    """Class shares of source and target.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    source, target : ndarray of shape (n_classes,)
        Shares sum to one; the target's are estimated. NaN where `problem` says why.
    low, high : ndarray of shape (n_classes,)
        Bounds of the target's shares: 95 % bootstrap interval.
    distance : tuple of (value, low, high)
        Half the sum of absolute differences (total variation), with a 95 % bootstrap interval: from 0 to 1, the
        share of the rows that would have to change their class.
    problem : str
        Why nothing can be said; empty where something can.
    """

    classes: np.ndarray
    source: np.ndarray
    target: np.ndarray
    low: np.ndarray
    high: np.ndarray
    distance: tuple[float, float, float]
    problem: str = ""

    @property
    def clear(self) -> bool:
        """Whether more than a fifth of the rows changes class, beyond sampling error."""
        return self.distance[1] > CLEAR

    def describe(self, names: Sequence[str] | np.ndarray) -> str:
        """Say what is clearly there, for people; nothing where it is not. `names` are those of the classes."""
        if not self.clear:
            return ""
        most = np.argsort(-np.abs(self.target - self.source))[:3]
        changes = ", ".join(f"{names[i]} {self.source[i]:.0%} -> about {self.target[i]:.0%}" for i in most)
        return (
            f"the class proportions seem to differ in the target ({changes}), by about "
            f"{self.distance[0]:.0%} of the rows in total; methods that align whole domains can then do harm"
        )


def black_box_shift(
    classes: np.ndarray, source: np.ndarray, confusion: np.ndarray, predicted: np.ndarray
) -> LabelShift:
    """Estimate the class shares of the target by black box shift estimation (BBSE).

    Wanted are the shares that explain what a classifier predicts for the target by how it errs on the source: the
    nearest ones, in least squares, that are not negative, scaled to sum to one. This holds if only the shares
    differ, and rows of a class are alike in both domains; where that fails, so does the estimate.

    Parameters
    ----------
    classes : array of shape (n_classes,)
    source : array of shape (n_classes,)
        Shares of the classes in the source.
    confusion : array of shape (1 + n_resamples, n_classes, n_classes)
        ``[:, i, j]`` is the share of held-out source rows of class j that are predicted as i; first of all rows,
        then of bootstrap samples.
    predicted : array of shape (1 + n_resamples, n_classes)
        Shares of the labels predicted for the target, likewise.

    References
    ----------
    Lipton, Wang, Smola, "Detecting and correcting for label shift with black box predictors", ICML 2018,
    section 4, with non-negative least squares instead of an inverse.
    """
    shares = np.array([nnls(*each)[0] for each in zip(confusion, predicted, strict=True)])
    shares /= shares.sum(axis=1, keepdims=True)
    distances = np.abs(shares - source).sum(axis=1) / 2
    low, high = np.quantile(np.c_[shares, distances][1:], [0.025, 0.975], axis=0)
    distance = float(distances[0]), float(low[-1]), float(high[-1])
    return LabelShift(classes, source, shares[0], low[:-1], high[:-1], distance)


def estimate_class_shares(
    X_source: np.ndarray, y_source: np.ndarray, X_target: np.ndarray, random_state: int = 0
) -> LabelShift:
    """Estimate the class shares of the target before any adaptation, by `black_box_shift`.

    The classifier is a logistic regression, cross-validated on the source.

    Parameters
    ----------
    X_source : array of shape (n_source, n_features)
    y_source : array of shape (n_source,)
        Labels, without missing ones.
    X_target : array of shape (n_target, n_features)
    random_state : int, default=0
        Of the folds and of the bootstrap (500 resamples of source rows by class, and of target rows).

    Raises
    ------
    FtransferError
        If the source has fewer than two classes.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> draw = lambda y: rng.normal(size=(len(y), 2)) + 2 * y[:, None]
    >>> y_source, y_target = np.repeat([0, 1], [100, 100]), np.repeat([0, 1], [40, 160])
    >>> found = estimate_class_shares(draw(y_source), y_source, draw(y_target))
    >>> found.target.round(1).tolist()
    [0.2, 0.8]
    """
    labels, codes = np.unique(np.asarray(y_source), return_inverse=True)
    counts = np.bincount(codes)
    if len(labels) < 2:
        raise FtransferError(
            f"label shift needs at least two classes in the source; found: {labels.tolist()}"
        )
    source = counts / counts.sum()

    def unknown(problem: str) -> LabelShift:
        nothing = np.full(len(labels), np.nan)
        return LabelShift(labels, source, nothing, nothing, nothing, (np.nan,) * 3, problem)

    folds = min(5, counts.min())
    if folds < 2:
        return unknown(f"class {labels[counts.argmin()]} has only one row in the source")
    confusion, guesses = _predict(X_source, codes, X_target, folds, random_state)
    smallest = np.linalg.svd(confusion / counts, compute_uv=False)[-1]
    # below 0.1 an error in the predicted shares grows tenfold; sampling alone makes about 1 / sqrt(rows of a class)
    if smallest < 0.1 + 1 / np.sqrt(counts.min()):
        return unknown("a linear classifier confuses the source's own classes too often")
    rng = np.random.default_rng(random_state)
    weights = rng.multinomial(len(guesses), np.full(len(guesses), 1 / len(guesses)), RESAMPLES) / len(guesses)
    columns = [rng.multinomial(n, confusion[:, k] / n, RESAMPLES) / n for k, n in enumerate(counts)]
    return black_box_shift(
        labels,
        source,
        np.concatenate([[confusion / counts], np.stack(columns, -1)]),
        np.vstack([guesses.mean(axis=0), weights @ guesses]),
    )


def _predict(
    X_source: np.ndarray, codes: np.ndarray, X_target: np.ndarray, folds: int, random_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return counts of (predicted, true) on held-out source rows, and each target row's predicted shares.

    The target is predicted by the models of all folds, so that the confusion matrix is that of the same models.
    """
    k = codes.max() + 1
    confusion, guesses = np.zeros((k, k)), np.zeros((len(X_target), k))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"))
    splits = StratifiedKFold(folds, shuffle=True, random_state=random_state).split(X_source, codes)
    for train, test in splits:
        fitted = clone(model).fit(X_source[train], codes[train])
        np.add.at(confusion, (fitted.predict(X_source[test]), codes[test]), 1)
        guesses[np.arange(len(X_target)), fitted.predict(X_target)] += 1 / folds
    return confusion, guesses
