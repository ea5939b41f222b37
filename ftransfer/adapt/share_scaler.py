"""Per-domain scaling that allows for other class shares in the target."""

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ftransfer.adapt.base import is_unlabelled
from ftransfer.adapt.mixture import TargetMixture
from ftransfer.adapt.prior import (
    calibrate,
    held_out_logits,
    logits_of,
    most_likely_shares,
    plain_classifier,
)
from ftransfer.adapt.scaler import BLOCK, DomainScaler


class ShareWeightedScaler(DomainScaler):
    """Standardise each domain by itself, the source with its classes weighted as the target has them.

    `DomainScaler` takes it for a shift of the features where the target lacks a class, or has much of one. Here the
    class shares of the target are estimated first, and the centre and the spread of the source are those that it
    would have with these shares.

    Parameters
    ----------
    scale : {"std"} or None, default="std"
        What features are divided by: the standard deviation, or nothing.
    trust : float from 0 to 1, default=1.0
        How far the weights go from the source's shares to the estimated ones; 0 is `DomainScaler`. Less than 1 is
        safer where a classifier of the source knows little of the target, so that the estimate is poor.
    estimator : classifier, "mixture" or None, default=None
        Estimates the shares. A classifier is fitted on the labelled rows as they are; None: logistic regression on
        standardised features. "mixture": a `TargetMixture` on all rows, each domain centred by itself and rows of unit
        length. That one knows more of a target that is far off, and less of one that lacks most classes.

    Attributes
    ----------
    source_center_, source_scale_ : dict of {int: ndarray of shape (n_features,)}
        One entry a source domain, keyed by its code in `sample_domain` (1 without it).
    target_center_, target_scale_ : ndarray of shape (n_features,)
    classes_ : ndarray of shape (n_classes,)
    target_shares_ : ndarray of shape (n_classes,), float64
        Estimated shares of the classes in the target.
    sources_ : ndarray of int
        Codes of the source domains.

    See Also
    --------
    PriorCorrected : Where only the shares differ, and the features are not shifted.

    References
    ----------
    The shares are estimated as in `PriorCorrected`, or by `TargetMixture`.

    Examples
    --------
    The target is the source's second class alone, moved by ten. Scaled by its own mean, it falls between the classes:

    >>> import numpy as np
    >>> from ftransfer import DomainScaler, ShareWeightedScaler
    >>> X = np.array([[0.0], [1.0], [8.0], [9.0]] * 25 + [[10.0], [11.0]] * 50)
    >>> y = np.array([0, 0, 1, 1] * 25 + [-1, -1] * 50)
    >>> for scaler in (DomainScaler(None), ShareWeightedScaler(None)):
    ...     mapped = scaler.fit_transform(X, y).ravel()
    ...     print([f"{mapped[y == label].mean():+.1f}" for label in (0, 1, -1)])
    ['-4.0', '+4.0', '+0.0']
    ['-7.9', '+0.1', '+0.0']
    """

    _parameter_constraints = {
        "scale": [StrOptions({"std"}), None],
        "trust": [Interval(Real, 0, 1, closed="both")],
        "estimator": [HasMethods(["fit", "predict"]), StrOptions({"mixture"}), None],
    }

    def __init__(
        self, scale: str | None = "std", *, trust: float = 1.0, estimator: BaseEstimator | str | None = None
    ) -> None:
        self.scale = scale
        self.trust = trust
        self.estimator = estimator

    def _learn(self, X: np.ndarray, y: np.ndarray, domain: np.ndarray) -> None:
        known = ~is_unlabelled(y) & (domain > 0)
        self.classes_, codes = np.unique(y[known], return_inverse=True)
        shares = np.bincount(codes) / len(codes)
        target = X[domain < 0] if (domain < 0).any() else X
        if len(shares) < 2:
            self.target_shares_ = shares
        elif isinstance(self.estimator, str):
            self.target_shares_ = _shares_by_mixture(X[known], codes, domain[known], target)
        else:
            self.target_shares_ = self._shares_by_classifier(X[known], codes, target, shares)
        self.source_center_, self.source_scale_ = {}, {}
        for code in self.sources_.tolist():
            rows = known & (domain == code)
            weights = self._weights(np.searchsorted(self.classes_, y[rows]))
            self.source_center_[code], self.source_scale_[code] = self._centre_and_scale(X[rows], weights)
        self.target_center_, self.target_scale_ = self._centre_and_scale(target)

    def _shares_by_classifier(
        self, X: np.ndarray, codes: np.ndarray, target: np.ndarray, shares: np.ndarray
    ) -> np.ndarray:
        template = plain_classifier() if self.estimator is None else self.estimator
        temperature, bias = calibrate(held_out_logits(template, X, codes), codes)
        logits = logits_of(clone(template).fit(X, codes), target)
        return most_likely_shares(logits / temperature + bias, shares)

    def _weights(self, codes: np.ndarray) -> np.ndarray:
        own = np.bincount(codes, minlength=len(self.classes_)) / len(codes)
        wanted = (1 - self.trust) * own + self.trust * self.target_shares_
        return (wanted / np.maximum(own, np.finfo(float).tiny))[codes]

    def _centre_and_scale(
        self, rows: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        share = np.full(len(rows), 1 / len(rows)) if weights is None else weights / weights.sum()
        center, variance = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        blocks = [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]
        for block in blocks:
            center += share[block] @ rows[block].astype(np.float64)
        for block in blocks if self.scale is not None else []:
            variance += share[block] @ (rows[block] - center) ** 2
        scale = np.ones_like(center) if self.scale is None else np.sqrt(variance)
        return self._leave_constant(rows, center, scale)


def _shares_by_mixture(
    X: np.ndarray, codes: np.ndarray, domain: np.ndarray, target: np.ndarray
) -> np.ndarray:
    y = np.concatenate([codes, np.full(len(target), -1)])
    domain = np.concatenate([domain, np.full(len(target), -1)])
    centred = DomainScaler(None).fit_transform(np.concatenate([X, target]), y, sample_domain=domain)
    return TargetMixture().fit(normalize(centred, copy=False), y).target_shares_
