"""What the methods share that fit an estimator of the user on labelled rows of their choice, or with their weights."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data


def _estimator_has(method: str) -> Callable[[Any], bool]:
    def check(self: Any) -> bool:
        getattr(getattr(self, "estimator_", self._template()), method)  # the wrapped one's error, if any
        return True

    return check


class FittedOnLabelled(MetaEstimatorMixin, BaseEstimator):
    """Base of the methods that fit a user's estimator on labelled rows, and predict as it does.

    A subclass has the parameter ``estimator``, and its ``fit`` leaves the fitted clone in ``estimator_``.
    """

    estimator: Any
    estimator_: Any

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
        return getattr(self.estimator_, method)(X)

    def _template(self) -> BaseEstimator:
        return LogisticRegression(max_iter=1000) if self.estimator is None else self.estimator

    def __sklearn_tags__(self) -> Tags:
        tags, wrapped = super().__sklearn_tags__(), get_tags(self._template())
        tags.estimator_type = wrapped.estimator_type
        tags.classifier_tags = deepcopy(wrapped.classifier_tags)
        tags.regressor_tags = deepcopy(wrapped.regressor_tags)
        tags.target_tags.required = True
        return tags
