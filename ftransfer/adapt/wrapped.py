"""What the methods share that fit an estimator of the user on labelled rows of their choice, or with their weights."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ftransfer.adapt.ask import ask
from ftransfer.adapt.base import is_unlabelled, read_domain


def _estimator_has(method: str) -> Callable[[Any], bool]:
    def check(self: Any) -> bool:
        getattr(getattr(self, "estimator_", self._template()), method)  # the wrapped one's error, if any
        return True

    return check


class FittedOnLabelled(MetaEstimatorMixin, BaseEstimator):
    """Base of the methods that fit a user's estimator on labelled rows, and predict as it does.

    A subclass has the parameter ``estimator``, and its ``fit`` leaves the fitted clone in ``estimator_``.
    """

    # with metadata routing switched on, sample_domain is asked for without the user's doing
    __metadata_request__fit = {"sample_domain": True}

    estimator: Any
    estimator_: Any
    classes_: np.ndarray

    def _read(
        self, X: ArrayLike, y: ArrayLike, sample_domain: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Check what `fit` is given; return rows, labels, domains, and which rows have a label."""
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        y, domain = read_domain(y, sample_domain, len(X))
        labelled = ~is_unlabelled(y)
        if is_classifier(self._template()):
            check_classification_targets(y[labelled])
        return X, y, domain, labelled

    def _fit_estimator(self, X: np.ndarray, y: np.ndarray, **params: Any) -> None:
        """Fit a clone of the estimator, and note its classes."""
        self.estimator_ = clone(self._template()).fit(X, y, **params)
        if is_classifier(self.estimator_):
            self.classes_ = self.estimator_.classes_

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict each row: array of shape (n_samples,)."""
        return self._ask("predict", X)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Predict the probability of each class: array of shape (n_samples, n_classes)."""
        return self._ask("predict_proba", X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Compute the estimator's decision function: array of shape (n_samples,) or (n_samples, n_classes)."""
        return self._ask("decision_function", X)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy of a classifier, or the R2 of a regressor, on labels given."""
        measure = accuracy_score if is_classifier(self) else r2_score
        return measure(y, self.predict(X), sample_weight=sample_weight)

    def _ask(self, method: str, X: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return ask(self.estimator_, method, X)

    def _template(self) -> BaseEstimator:
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Tags:
        tags, wrapped = super().__sklearn_tags__(), get_tags(self._template())
        tags.estimator_type = wrapped.estimator_type
        tags.classifier_tags = deepcopy(wrapped.classifier_tags)
        tags.regressor_tags = deepcopy(wrapped.regressor_tags)
        tags.target_tags.required = True
        return tags
