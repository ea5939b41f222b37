"""Gradual self-training through intermediate domains."""

from collections.abc import Sequence
from numbers import Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from ftransfer.adapt.base import TargetClassifier, read_rows, warn_of_no_target
from ftransfer.adapt.pseudo import surest
from ftransfer.errors import FtransferError


class GradualSelfTraining(MetaEstimatorMixin, TargetClassifier):
    """Carry the labels through unlabelled domains that lie between source and target, one after another.

    The last step of a pipeline; it is fitted on all rows, and ``y == -1`` marks the target rows. The classifier is
    fitted on the source, labels the first intermediate domain, is fitted anew on the surest of these rows, labels the
    next domain, and so on to the target. Each domain is scaled by its own mean and standard deviation.

    Parameters
    ----------
    estimator : classifier, default=None
        With ``predict_proba``. None: ``LogisticRegression(max_iter=1000)``.
    via : sequence of arrays of shape (n_rows, n_features), default=()
        The intermediate domains, unlabelled, from the one next to the source to the one next to the target. They are
        a parameter, not rows of `X`, so that no other step takes them for the target.
    share : float in (0, 1], default=0.9
        Share of the rows of each predicted class that the next classifier is fitted on, the surest.
    scale : bool, default=True
        Whether each domain is scaled by itself. False if that would undo what tells the steps apart: a turn of a few
        features, for example.

    Attributes
    ----------
    estimator_ : classifier, fitted on the target rows with their last labels
    source_estimator_ : classifier, fitted on the source
    classes_ : ndarray of shape (n_classes,)
    agreement_ : list of float
        Of each domain on the way, the target last: the share of its rows that the classifier fitted on it still labels
        as the one before did. A low one says that a step is too large.

    Raises
    ------
    FtransferError
        In `fit`, if a domain on the way is given one class alone.

    Notes
    -----
    It believes that each step is small: that the classifier of one domain is mostly right on the next. A domain
    that is not on the way (or the wrong order) costs accuracy, since each domain is learned from the one before only.

    References
    ----------
    Kumar, Ma, Liang, "Understanding self-training for gradual domain adaptation", ICML 2020, section 3.2: the least
    sure 10 % of each domain are left out (there of all rows, here of each class).

    Examples
    --------
    Two classes whose places turn by 120 degrees: in one step all would go wrong, in six steps of 20 it goes well.

    >>> import numpy as np
    >>> from ftransfer import GradualSelfTraining
    >>> rng, labels = np.random.default_rng(0), np.arange(200) % 2
    >>> def turned(degrees):
    ...     a = np.deg2rad(degrees)
    ...     return (rng.normal(size=(200, 2)) + np.outer(8 * labels - 4, [1, 0])) @ [
    ...         [np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]
    >>> X, y = np.vstack([turned(0), turned(120)]), np.r_[labels, np.full(200, -1)]
    >>> in_one = GradualSelfTraining(scale=False).fit(X, y)
    >>> in_steps = GradualSelfTraining(via=[turned(a) for a in (20, 40, 60, 80, 100)], scale=False).fit(X, y)
    >>> [round(float(each.score(X[200:], labels)), 1) for each in (in_one, in_steps)]
    [0.0, 1.0]
    """

    self_labelling = True  # for the guard of a race
    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "via": ["array-like"],
        "share": [Interval(Real, 0, 1, closed="right")],
        "scale": ["boolean"],
    }

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        via: Sequence[ArrayLike] = (),
        share: float = 0.9,
        scale: bool = True,
    ) -> None:
        self.estimator = estimator
        self.via = via
        self.share = share
        self.scale = scale

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Fit on the source, then on one domain after another.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, -1 on target rows; labelled target rows count as labelled.
        sample_domain : array of shape (n_samples,), int, optional
            Checked, but not used: several sources count as one.

        Returns
        -------
        self
        """
        self._validate_params()
        X, y, unlabelled, _ = read_rows(self, X, y, sample_domain)
        self.classes_ = np.unique(y[~unlabelled])
        self.agreement_: list[float] = []
        self.source_scaler_ = self.scaler_ = StandardScaler().fit(X[~unlabelled]) if self.scale else None
        rows = self._scaled(self.source_scaler_, X[~unlabelled])
        self.source_estimator_ = self.estimator_ = clone(self._template()).fit(rows, y[~unlabelled])
        if not unlabelled.any():
            warn_of_no_target(self)
            return self
        for number, domain in enumerate([*self.via, X[unlabelled]], start=1):
            rows = check_array(domain, dtype=(np.float64, np.float32))
            if rows.shape[1] != X.shape[1]:
                raise FtransferError(
                    f"domain {number} of via has {rows.shape[1]} features, and X has {X.shape[1]}"
                )
            self.scaler_ = StandardScaler().fit(rows) if self.scale else None
            self._step(self._scaled(self.scaler_, rows), number)
        return self

    def _step(self, rows: np.ndarray, number: int) -> None:
        """Label a domain, and fit on the surest of its rows."""
        probability = self.estimator_.predict_proba(rows)
        chosen, before = surest(probability, self.share), self.estimator_.classes_
        labels = before[chosen[chosen >= 0]]
        if len(np.unique(labels)) < min(2, len(self.classes_)):
            place = f"domain {number} of via" if number <= len(self.via) else "the target"
            raise FtransferError(
                f"self-training gives all rows of {place} the same class, {labels[0]}; the step is too large: give "
                f"domains between in via, or leave it out"
            )
        self.estimator_ = clone(self._template()).fit(rows[chosen >= 0], labels)
        same = self.estimator_.predict(rows) == before[probability.argmax(axis=1)]
        self.agreement_.append(float(same.mean()))

    def _template(self) -> BaseEstimator:
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    def _scaled(self, scaler: StandardScaler | None, rows: np.ndarray) -> np.ndarray:
        return rows if scaler is None else scaler.transform(rows)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Say how likely each class is for target rows: array of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._ask(self.estimator_, self._scaled(self.scaler_, X))

    def predict_source(
        self, X: ArrayLike, *, sample_domain: ArrayLike | None = None, method: str = "predict"
    ) -> np.ndarray:
        """Predict rows of the source, such as held-out ones, by the classifier that was fitted on the source."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        probability = self._ask(self.source_estimator_, self._scaled(self.source_scaler_, X))
        return self.classes_[probability.argmax(axis=1)] if method == "predict" else probability

    def _ask(self, estimator: BaseEstimator, rows: np.ndarray) -> np.ndarray:
        """Give a class that was lost on the way the probability 0."""
        found = estimator.predict_proba(rows)
        probability = np.zeros((len(rows), len(self.classes_)), found.dtype)
        probability[:, np.searchsorted(self.classes_, estimator.classes_)] = found
        return probability
