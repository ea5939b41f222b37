"""Selective pseudo-labelling with structured prediction."""

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from ftransfer.adapt.ask import ask
from ftransfer.adapt.base import TargetClassifier, read_rows, warn_of_no_target
from ftransfer.adapt.prior import PriorCorrected

SHARPNESS = 4.0  # of the clusters' probabilities: distances between unit vectors are at most 2


class PseudoLabelled(MetaEstimatorMixin, TargetClassifier):
    """Take target rows into the training set over rounds, the surest of each class first.

    The last step of a pipeline; it is fitted on all rows, and ``y == -1`` marks the target rows. In each
    round the classifier is fitted on the labelled rows and the target rows chosen so far, and its
    probabilities are averaged with those of *structured prediction*: the target rows are clustered, starting
    from the class prototypes, and clusters are matched with classes one to one. Of each predicted class the
    surest rows are chosen, a larger share in every round, so that no class crowds out another.

    Parameters
    ----------
    estimator : classifier, default=None
        With ``predict_proba`` or ``decision_function``. None: ``LogisticRegression(C=10)``.
    n_rounds : int, default=10
        In round r the surest ``r / n_rounds`` of each class are taken in.
    structured : bool, default=True
        Whether clusters of the target have a say.
    limit : bool, default=False
        Whether at most as many rows of a class are taken in as its share of the target allows, which is estimated
        as in `PriorCorrected` before the first round: no class is filled that the target lacks.
    max_rows : int, optional
        Rows of each side that are learned from, at most: labelled ones drawn at random in proportion to the classes,
        and target rows drawn at random. Default: all.

    Attributes
    ----------
    estimator_ : classifier, fitted on the labelled rows and all target rows with their last labels
    classes_ : ndarray of shape (n_classes,)
    cluster_centers_ : ndarray of shape (n_classes, n_features) or None
        Unit vectors, in the order of `classes_`; None without structured prediction.
    transduction_ : ndarray of shape (n_samples,)
        Labels of all rows that `fit` saw: given ones as they are, the others as predicted.
    target_shares_ : ndarray of shape (n_classes,) or None
        Estimated shares of the classes in the target; None without `limit`.

    Notes
    -----
    Rows are compared by their angle in the clustering; bring the domains together before (`DomainScaler`).
    It believes that each class is one cluster of the target. Where that is wrong, errors feed on themselves:
    compare with the same pipeline without it.

    References
    ----------
    Wang, Breckon, "Unsupervised domain adaptation via structured prediction based selective
    pseudo-labeling", AAAI 2020, section 3 and algorithm 1. There the classifier is the nearest prototype
    in a learned subspace and the larger of the two probabilities counts; here the classifier is given and
    their mean counts.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import DomainScaler, PseudoLabelled, make_pipeline
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(200) % 2
    >>> X = rng.normal(size=(200, 5)) + 2 * labels[:, None] * np.array([1, 1, 0, 0, 0])
    >>> X[100:] = X[100:] @ np.diag([1, 0.3, 1, 1, 1]) + 1.0
    >>> y = np.where(np.arange(200) < 100, labels, -1)
    >>> fitted = make_pipeline(DomainScaler(scale=None), PseudoLabelled()).fit(X, y)
    >>> bool(np.mean(fitted.predict(X[100:]) == labels[100:]) > 0.8)
    True
    """

    self_labelling = True  # for the guard of a race
    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "structured": ["boolean"],
        "limit": ["boolean"],
        "max_rows": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        n_rounds: int = 10,
        structured: bool = True,
        limit: bool = False,
        max_rows: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_rounds = n_rounds
        self.structured = structured
        self.limit = limit
        self.max_rows = max_rows

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Fit over the rounds.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, -1 on target rows; labelled target rows count as labelled.
        sample_domain : array of shape (n_samples,), int, optional
            Checked, but not used: all that matters here is which rows have a label.

        Returns
        -------
        self

        Raises
        ------
        FtransferError
            If no row is labelled, labels are strings, -1 was meant as a class, or `sample_domain` is of
            another form.
        """
        self._validate_params()
        X, y, unlabelled, codes = read_rows(self, X, y, sample_domain)
        self.classes_ = np.unique(y[~unlabelled])
        self.transduction_ = y.copy()
        labelled, target = self._drawn(np.flatnonzero(~unlabelled), codes, np.flatnonzero(unlabelled))
        X_labelled, X_target = X[labelled], X[target]
        codes = np.searchsorted(self.classes_, y[labelled])
        self.cluster_centers_: np.ndarray | None = None
        self.estimator_: Any = None
        self.target_shares_: np.ndarray | None = None
        chosen = np.full(len(X_target), -1)
        if len(X_target) == 0:
            warn_of_no_target(self)
        else:
            most = None
            if self.limit:
                rows = np.r_[labelled, target]
                prior = PriorCorrected(self._template()).fit(X[rows], y[rows])
                self.target_shares_ = prior.target_shares_
                most = np.ceil(self.target_shares_ * len(X_target)).astype(int)
            for r in range(1, self.n_rounds + 1):
                probability = self._round(X_labelled, codes, X_target, chosen)
                chosen = surest(probability, r / self.n_rounds, most)
            self.transduction_[target] = self.classes_[probability.argmax(axis=1)]
        self._fit_estimator(X_labelled, codes, X_target, chosen)
        if len(rest := np.setdiff1d(np.flatnonzero(unlabelled), target)):
            self.transduction_[rest] = self.classes_[self._probability(X[rest]).argmax(axis=1)]
        return self

    def _drawn(
        self, labelled: np.ndarray, codes: np.ndarray, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the rows that are learned from: labelled ones, and those of the target."""
        rng, most = np.random.default_rng(0), self.max_rows or np.inf
        if len(target) > most:
            target = np.sort(rng.permutation(target)[: self.max_rows])
        if len(labelled) > most:
            share = most / len(labelled)
            of_classes = [rng.permutation(labelled[codes == k]) for k in range(len(self.classes_))]
            labelled = np.sort(
                np.concatenate([rows[: max(1, int(share * len(rows)))] for rows in of_classes])
            )
        return labelled, target

    def _round(
        self, X_labelled: np.ndarray, codes: np.ndarray, X_target: np.ndarray, chosen: np.ndarray
    ) -> np.ndarray:
        """Fit on the labelled and the chosen rows; return the probabilities of the target rows."""
        self._fit_estimator(X_labelled, codes, X_target, chosen)
        if self.structured and len(X_target) >= len(self.classes_):
            taken = chosen >= 0
            rows = normalize(np.vstack([X_labelled, X_target[taken]]))
            labels = np.r_[codes, chosen[taken]]
            prototypes = np.stack([rows[labels == k].mean(axis=0) for k in range(len(self.classes_))])
            self.cluster_centers_ = _matched_clusters(normalize(X_target), normalize(prototypes))
        return self._probability(X_target)

    def _fit_estimator(
        self, X_labelled: np.ndarray, codes: np.ndarray, X_target: np.ndarray, chosen: np.ndarray
    ) -> None:
        taken = chosen >= 0
        rows, labels = np.vstack([X_labelled, X_target[taken]]), np.r_[codes, chosen[taken]]
        before, estimator = self.estimator_, clone(self._template())
        if type(estimator) is LogisticRegression and isinstance(before, LogisticRegression):
            # its loss has one minimum, and that of the round before is near: found in a fraction of the steps
            estimator.coef_, estimator.intercept_ = before.coef_.copy(), before.intercept_.copy()
            estimator.set_params(warm_start=True).fit(rows, self.classes_[labels])
            estimator.set_params(warm_start=self._template().warm_start)
        else:
            estimator.fit(rows, self.classes_[labels])
        self.estimator_ = estimator

    def _template(self) -> BaseEstimator:
        return LogisticRegression(C=10.0, max_iter=1000) if self.estimator is None else self.estimator

    def _probability(self, X: np.ndarray) -> np.ndarray:
        if hasattr(self.estimator_, "predict_proba"):
            probability = self.estimator_.predict_proba(X)
        else:
            score = ask(self.estimator_, "decision_function", X)
            probability = softmax(np.c_[-score, score] if score.ndim == 1 else score, axis=1)
        if self.cluster_centers_ is None:
            return probability
        # between unit vectors |a - b|^2 = 2 - 2 a.b, which needs no array of rows x classes x features
        distance = np.sqrt(np.maximum(2 - 2 * normalize(X) @ self.cluster_centers_.T, 0))
        return (probability + softmax(-SHARPNESS * distance, axis=1)) / 2

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Mean of the classifier's and the clusters' probabilities: array of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return self._probability(validate_data(self, X, dtype=(np.float64, np.float32), reset=False))


def surest(probability: np.ndarray, share: float, most: np.ndarray | None = None) -> np.ndarray:
    """Label the surest `share` of the rows of each predicted class, at least one; -1 for the others.

    `most` limits them to so many rows of each class: array of shape (n_classes,).
    """
    label, confidence = probability.argmax(axis=1), probability.max(axis=1)
    chosen = np.full(len(label), -1)
    for k in np.unique(label):
        rows = np.flatnonzero(label == k)
        count = int(np.ceil(share * (len(rows) if most is None else min(len(rows), most[k]))))
        chosen[rows[np.argsort(-confidence[rows], kind="stable")[:count]]] = k
    return chosen


def _matched_clusters(rows: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Cluster unit rows from the prototypes on; return unit centres in the order of the prototypes."""
    found = KMeans(len(prototypes), init=prototypes, n_init=1, random_state=0).fit(rows).cluster_centers_
    distance = np.linalg.norm(prototypes[:, None] - found[None], axis=2)
    return normalize(found[linear_sum_assignment(distance)[1]]).astype(rows.dtype)
