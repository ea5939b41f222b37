"""A vote of several fitted pipelines on each target row, which its neighbours in the target join."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.base import clone
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from ftransfer.adapt.base import TargetClassifier, read_rows, warn_of_no_target
from ftransfer.adapt.rows import nearest
from ftransfer.errors import FtransferError

MOST_ROWS = 2000  # of the target that are kept to find neighbours among
CHUNK = 4096  # rows that are voted on at once
LEAST, MOST = 0.1, 0.98  # a member's mean probability
LARGEST = 5.0  # of the logarithm of a temperature, either way


class TargetVote(TargetClassifier):
    """Average the probabilities of several pipelines, and those of the nearest target rows.

    Each member is fitted on all rows. Probabilities of different classifiers are not alike: each member's are
    calibrated by one temperature, so that their mean on the target is the share of the target rows on which the
    member agrees with another one, on average. A row's own vote is then averaged with the votes on its nearest
    target rows (cosine; the features centred, and standardised): what two rows next to each other are called by
    different members is settled between them.

    Parameters
    ----------
    estimators : list of (name, AdaptationPipeline)
        The members.
    weights : list of float, default=None
        Of the members' votes. None: all the same.
    n_neighbors : int, default=6
        Target rows whose votes count; a target row of the fit is its own nearest one.
    smoothing : float, default=0.7
        Share of their votes in the whole.

    Attributes
    ----------
    members_ : list of AdaptationPipeline, fitted
    temperatures_ : ndarray of shape (n_members,)
    classes_ : ndarray of shape (n_classes,)
    rows_, probability_ : ndarray of shape (n_kept, n_features) and (n_kept, n_classes)
        Target rows of the fit, at most 2,000, and the vote on each.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ftransfer import CORAL, DomainScaler, make_pipeline
    >>> from ftransfer.adapt.vote import TargetVote
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 5)) + 2 * labels[:, None] * np.array([1, 1, 0, 0, 0])
    >>> X[100:] = X[100:] @ np.diag([1, 0.3, 1, 1, 1]) + 1.0
    >>> y = np.where(np.arange(200) < 100, labels, -1)
    >>> scaled = make_pipeline(DomainScaler(), LogisticRegression())
    >>> aligned = make_pipeline(CORAL(), LogisticRegression())
    >>> fitted = make_pipeline(TargetVote([("scaled", scaled), ("aligned", aligned)])).fit(X, y)
    >>> bool(np.mean(fitted.predict(X[100:]) == labels[100:]) > 0.85)
    True
    """

    self_labelling = True  # for the guard of a race
    _parameter_constraints = {
        "estimators": [list],
        "weights": [list, None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        weights: list[float] | None = None,
        n_neighbors: int = 6,
        smoothing: float = 0.7,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.n_neighbors = n_neighbors
        self.smoothing = smoothing

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Fit the members, and let them vote on the target rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, -1 on target rows.
        sample_domain : array of shape (n_samples,), int, optional
            Passed to the members.

        Returns
        -------
        self

        Raises
        ------
        FtransferError
            If there are no members or not as many weights; or as each member's `fit`.
        """
        self._validate_params()
        X, y, unlabelled, _ = read_rows(self, X, y, sample_domain)
        members = [clone(each).fit(X, y, sample_domain=sample_domain) for _, each in self.estimators]
        target = unlabelled if sample_domain is None else np.asarray(sample_domain) < 0
        if not target.any():
            warn_of_no_target(self)
            target = np.ones(len(X), dtype=bool)
        return self._settle(members, X[target])

    @classmethod
    def of(cls, fitted: Sequence[tuple[str, Any]], X_target: np.ndarray, weights: list[float]) -> Self:
        """Make the vote of members that are fitted already.

        Parameters
        ----------
        fitted : sequence of (name, AdaptationPipeline)
        X_target : array of shape (n_target, n_features)
            The target rows that they were fitted on.
        weights : list of float
        """
        vote = cls([(name, clone(each)) for name, each in fitted], weights=weights)
        validate_data(vote, X_target, dtype=(np.float64, np.float32))
        return vote._settle([each for _, each in fitted], np.asarray(X_target))

    def _settle(self, members: list[Any], X_target: np.ndarray) -> Self:
        """Calibrate the members, and keep what the neighbours of a new row are found among."""
        if not members or (self.weights is not None and len(self.weights) != len(members)):
            n = 0 if self.weights is None else len(self.weights)
            raise FtransferError(
                f"a vote takes members, and as many weights or none; given {len(members)} members and {n} weights"
            )
        self.members_ = members
        self.classes_ = np.unique(np.concatenate([each.classes_ for each in members]))
        self.center_, spread = X_target.mean(axis=0), X_target.std(axis=0)
        self.scale_ = np.where(spread > 0, spread, 1).astype(X_target.dtype)
        self.rows_ = X_target[np.sort(np.random.default_rng(0).permutation(len(X_target))[:MOST_ROWS])]
        logits = [self._ask(each, lambda member, how: getattr(member, how)(self.rows_)) for each in members]
        labels = np.stack([each.argmax(axis=1) for each in logits])
        self.temperatures_ = np.ones(len(members))
        for i, each in enumerate(logits):
            others = [np.mean(labels[i] == one) for j, one in enumerate(labels) if j != i]
            self.temperatures_[i] = _temperature(each, float(np.clip(np.mean(others or 1.0), LEAST, MOST)))
        self.probability_ = self._mean(logits)
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Mean of the vote on each row and on its neighbours: array of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        parts = [X[start : start + CHUNK] for start in range(0, len(X), CHUNK)]
        spaces = [(scale, normalize((self.rows_ - self.center_) / scale)) for scale in (1.0, self.scale_)]
        return np.concatenate([self._vote_on(part, spaces) for part in parts])

    def _vote_on(self, X: np.ndarray, spaces: list[tuple[Any, np.ndarray]]) -> np.ndarray:
        """Vote on rows, with the nearest of those that are kept in each space."""
        if np.array_equal(X, self.rows_):  # whose votes are known
            own = self.probability_
        else:
            own = self._ballot(lambda member, how: getattr(member, how)(X))
        if not self.smoothing:
            return own
        near = np.zeros_like(own)
        for scale, kept in spaces:
            k = min(self.n_neighbors, len(kept))
            likeness = normalize((X - self.center_) / scale) @ kept.T
            near += self.probability_[nearest(likeness, k)].mean(axis=1) / len(spaces)
        return (1 - self.smoothing) * own + self.smoothing * near

    def predict_source(
        self, X: ArrayLike, *, sample_domain: ArrayLike | None = None, method: str = "predict"
    ) -> np.ndarray:
        """Let the members vote on rows of the source, each mapped by its own domain's map; no target row joins in.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        sample_domain : array of shape (n_samples,), int, optional
        method : {"predict", "predict_proba"}, default="predict"
        """
        check_is_fitted(self)
        X = np.asarray(X)

        def ask(member: Any, how: str) -> np.ndarray:
            return member.predict_source(X, sample_domain=sample_domain, method=how)

        probability = self._ballot(ask)
        return self.classes_[probability.argmax(axis=1)] if method == "predict" else probability

    def _ballot(self, ask: Callable[[Any, str], np.ndarray]) -> np.ndarray:
        """Average the calibrated probabilities that members give when asked by a method."""
        return self._mean([self._ask(each, ask) for each in self.members_])

    def _mean(self, logits: list[np.ndarray]) -> np.ndarray:
        weights = np.ones(len(logits)) if self.weights is None else np.asarray(self.weights, dtype=float)
        votes = zip(weights / weights.sum(), self.temperatures_, logits, strict=True)
        return sum(weight * softmax(each / temperature, axis=1) for weight, temperature, each in votes)

    def _ask(self, member: Any, ask: Callable[[Any, str], np.ndarray]) -> np.ndarray:
        """Logits of a member that is asked by the method it has, a column for each class of the vote."""
        has = hasattr(member, "predict_proba")
        values = np.asarray(ask(member, "predict_proba" if has else "decision_function"), dtype=np.float64)
        if has:
            values = np.log(values.clip(1e-6, 1))  # a forest says 0 where it means seldom
        elif values.ndim == 1:
            values = np.c_[-values, values] / 2
        if len(member.classes_) == len(self.classes_):
            return values
        found = np.full((len(values), len(self.classes_)), values.min() - 20)
        found[:, np.searchsorted(self.classes_, member.classes_)] = values
        return found


def _temperature(logits: np.ndarray, wanted: float) -> float:
    """Find the temperature at which the mean of the largest probabilities is as wanted."""

    def too_sure(log_temperature: float) -> float:
        return float(softmax(logits / np.exp(log_temperature), axis=1).max(axis=1).mean() - wanted)

    if too_sure(-LARGEST) <= 0:
        return float(np.exp(-LARGEST))
    return float(np.exp(brentq(too_sure, -LARGEST, LARGEST) if too_sure(LARGEST) < 0 else LARGEST))
