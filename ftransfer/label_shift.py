"""Label shift: how often each class occurs in the target, from source labels and unlabelled target rows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ftransfer.errors import FtransferError

RESAMPLES = 500


@dataclass(frozen=True)
class ClassShares:
    """Class shares of the target, estimated.

    Attributes
    ----------
    shares : DataFrame
        One row a class: label, source (its share there), value, low, high (its share in the target, with a
        95 % bootstrap interval). NaN where `problem` says why.
    distance : tuple of (value, low, high)
        Total variation distance between the shares of source and target: from 0 to 1, the share of the rows
        that would have to change their class.
    problem : str
        Why nothing can be said; empty where something can.
    """

    shares: pd.DataFrame
    distance: tuple[float, float, float]
    problem: str = ""


def estimate_class_shares(X_source, y_source, X_target, random_state=0) -> ClassShares:
    """Estimate the class shares of the target by black box shift estimation (BBSE).

    A logistic regression is cross-validated on the source. Its confusion matrix says what it predicts for rows of
    each class; the shares wanted are those that explain what it predicts for the target: the nearest ones, in
    least squares, that are not negative, scaled to sum to one. This holds if only the shares differ, and rows of a
    class are alike in both domains; where that fails, so does the estimate.

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

    References
    ----------
    Lipton, Wang, Smola, "Detecting and correcting for label shift with black box predictors", ICML 2018,
    section 4, with non-negative least squares instead of an inverse.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> draw = lambda y: rng.normal(size=(len(y), 2)) + 2 * y[:, None]
    >>> y_source, y_target = np.repeat([0, 1], [100, 100]), np.repeat([0, 1], [40, 160])
    >>> found = estimate_class_shares(draw(y_source), y_source, draw(y_target))
    >>> found.shares.set_index("label")["value"].round(1).tolist()
    [0.2, 0.8]
    """
    labels, codes = np.unique(np.asarray(y_source), return_inverse=True)
    counts = np.bincount(codes)
    shares = pd.DataFrame({"label": labels, "source": counts / counts.sum()})
    if len(labels) < 2:
        raise FtransferError(
            f"label shift needs at least two classes in the source; found: {labels.tolist()}"
        )
    folds = min(5, counts.min())
    if folds < 2:
        return _unknown(shares, f"class {labels[counts.argmin()]} has one row in the source")
    confusion, guesses = _predict(X_source, codes, X_target, folds, random_state)
    smallest = np.linalg.svd(confusion / counts, compute_uv=False)[-1]
    # below 0.1 an error in the predicted shares grows tenfold; sampling alone makes about 1 / sqrt(rows of a class)
    if smallest < 0.1 + 1 / np.sqrt(counts.min()):
        return _unknown(shares, "a linear classifier confuses the source's own classes too often")
    rng = np.random.default_rng(random_state)
    estimate = _solve(confusion / counts, guesses.mean(axis=0))
    weights = rng.multinomial(len(guesses), np.full(len(guesses), 1 / len(guesses)), RESAMPLES) / len(guesses)
    columns = [rng.multinomial(n, confusion[:, k] / n, RESAMPLES) / n for k, n in enumerate(counts)]
    resampled = np.array(
        [_solve(c, m) for c, m in zip(np.stack(columns, -1), weights @ guesses, strict=True)]
    )
    shares["value"] = estimate
    shares["low"], shares["high"] = _bounds(resampled)
    distance = _total_variation(estimate, shares["source"].to_numpy())
    low, high = _bounds(_total_variation(resampled, shares["source"].to_numpy()))
    return ClassShares(shares, (float(distance), float(low), float(high)))


def _predict(X_source, codes, X_target, folds, random_state):
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


def _solve(confusion, predicted):
    """Return the shares that explain the predicted shares best, none negative."""
    shares, _ = nnls(confusion, predicted)
    return shares / shares.sum()


def _total_variation(shares, others):
    return np.abs(shares - others).sum(axis=-1) / 2


def _bounds(resampled):
    return np.quantile(resampled, [0.025, 0.975], axis=0)


def _unknown(shares, problem):
    return ClassShares(shares.assign(value=np.nan, low=np.nan, high=np.nan), (np.nan,) * 3, problem)
