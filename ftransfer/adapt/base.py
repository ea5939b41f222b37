"""What all adapters share: the domain is read from `y`, and each row is mapped by its own domain."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from ftransfer.adapt.containers import domain_known, refuse_surroundings
from ftransfer.errors import FtransferError, warn_user

RULE = "y == -1 marks the target rows (NaN in a regression), other values are the labels of source rows"


class DomainAdapter(TransformerMixin, BaseEstimator):
    """Base of the adapters: bring source and target rows into one space.

    ``fit(X, y)`` takes source and target rows in any order; ``y == -1`` marks the target rows, as in
    scikit-learn's semi-supervised module (NaN in a regression). ``fit_transform(X, y)`` maps every row
    by its own domain; ``transform(X)`` takes every row for a target row. On source rows the two
    therefore differ, as they do for scikit-learn's ``TargetEncoder``. Held-out source rows are mapped by
    ``transform_source``.

    A subclass learns in ``_fit_domains(sources, target)`` and maps in ``_map_source(X, domain)`` and
    ``_map_target(X)``. With labelled rows only, they stand for the target too, and a warning says so.
    """

    # with metadata routing switched on, sample_domain is asked for without the user's doing
    __metadata_request__fit = {"sample_domain": True}
    __metadata_request__transform = {"sample_domain": True}

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Learn the maps from source and target rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels of the source rows, -1 (or NaN) on target rows.
        sample_domain : array of shape (n_samples,), int, optional
            Positive for a source, negative for a target, one number a domain; for what `y` cannot say:
            several sources, each mapped by itself, and target rows with a label. `domain_codes` makes
            it from names.

        Returns
        -------
        self

        Raises
        ------
        FtransferError
            If no row is labelled, labels are strings, -1 was meant as a class, or `sample_domain` is of
            another form.
        """
        self._fit(X, y, sample_domain)
        return self

    def fit_transform(
        self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None
    ) -> np.ndarray:
        """Learn the maps, and map each row by its own domain.

        Returns
        -------
        array of shape (n_samples, n_features_out), rows in the order given.
        """
        X, domain, mapped = self._fit(X, y, sample_domain)
        return self._by_domain(X, domain, mapped)

    def transform(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> np.ndarray:
        """Map rows of the target domain, or each row by the domain that is named for it.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        sample_domain : array of shape (n_samples,), int, optional
            Positive for a source, as in `fit`; negative for the target. Default: all are target rows.

        Returns
        -------
        array of shape (n_samples, n_features_out)
        """
        known = domain_known()
        if sample_domain is None and known and known.of_source:
            return self.transform_source(X, sample_domain=known.domain)
        X = self._check(X)
        if sample_domain is None:
            return self._map_target(X)
        return self._by_domain(X, self._known(sample_domain, len(X)))

    def transform_source(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> np.ndarray:
        """Map rows of the source, such as held-out ones, by the source's map.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        sample_domain : array of shape (n_samples,), int, optional
            The source of each row, as in `fit`; needed where there are several. Negative: target.

        Returns
        -------
        array of shape (n_samples, n_features_out)
        """
        X = self._check(X)
        if sample_domain is None:
            if len(self.sources_) > 1:
                raise FtransferError(
                    f"fitted on {len(self.sources_)} sources ({self.sources_.tolist()}): transform_source "
                    f"needs sample_domain: the source of each row"
                )
            sample_domain = np.full(len(X), self.sources_[0])
        return self._by_domain(X, self._known(sample_domain, len(X)))

    def _known(self, sample_domain: ArrayLike, n_samples: int) -> np.ndarray:
        domain = np.asarray(sample_domain)
        strange = np.setdiff1d(domain[domain > 0], self.sources_)
        if len(domain) != n_samples or strange.size:
            raise FtransferError(
                f"sample_domain must give the source of each row of X: fitted on {self.sources_.tolist()}, "
                f"{n_samples} rows; given {np.unique(domain).tolist()}, {len(domain)} rows"
            )
        return domain

    def _fit(
        self, X: ArrayLike, y: ArrayLike | None, sample_domain: ArrayLike | None
    ) -> tuple[np.ndarray, np.ndarray, Callable[[int], np.ndarray] | None]:
        self._validate_params()
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        y, domain = read_domain(y, sample_domain, len(X))
        self.sources_ = np.unique(domain[domain > 0])
        if not (domain < 0).any():
            warn_of_no_target(self)
        return X, domain, self._learn(X, y, domain)

    def _learn(self, X: np.ndarray, y: np.ndarray, domain: np.ndarray) -> Callable[[int], np.ndarray] | None:
        """Learn from checked rows; only a method that needs the labels overrides this.

        Returns None or, where a method has the mapped rows at hand, a function that gives those of a source by its
        code, and those of the target by -1.
        """
        sources = {code: X[domain == code] for code in self.sources_.tolist()}
        target = X[domain < 0] if (domain < 0).any() else X.copy()
        return self._fit_domains(sources, target)

    def _by_domain(
        self, X: np.ndarray, domain: np.ndarray, mapped: Callable[[int], np.ndarray] | None = None
    ) -> np.ndarray:
        codes = [code for code in self.sources_.tolist() if (domain == code).any()]
        parts = [
            (rows, mapped(code) if mapped else self._map_source(X[rows], code))
            for code in codes
            for rows in [domain == code]
        ]
        if (rows := domain < 0).any():
            parts.append((rows, mapped(-1) if mapped else self._map_target(X[rows])))
        out = np.empty((len(X), parts[0][1].shape[1]), dtype=parts[0][1].dtype)
        for rows, mapped in parts:
            out[rows] = mapped
        return out

    def _check(self, X: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=(np.float64, np.float32), reset=False)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SharedMapAdapter(DomainAdapter):
    """Base of the adapters that map source and target rows alike; several sources count as one."""

    def transform_source(self, X: ArrayLike, *, sample_domain: ArrayLike | None = None) -> np.ndarray:
        """Map rows of the source: by the same map as rows of the target."""
        return self._map_target(self._check(X))

    def _by_domain(
        self, X: np.ndarray, domain: np.ndarray, mapped: Callable[[int], np.ndarray] | None = None
    ) -> np.ndarray:
        return self._map_target(X)


def warn_of_no_target(estimator: object) -> None:
    """Warn that `estimator` was given labelled rows only."""
    warn_user(f"no target rows: {RULE}; {type(estimator).__name__} uses the source in place of the target")


def read_domain(
    y: ArrayLike | None, sample_domain: ArrayLike | None, n_samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Check `y` and tell each row's domain: a positive number for a source, a negative one for the target.

    Parameters
    ----------
    y : array of shape (n_samples,)
        Labels; -1 marks target rows, or NaN where there is a NaN.
    sample_domain : array of shape (n_samples,), int, or None
        Overrides what `y` says.

    Returns
    -------
    y : ndarray of shape (n_samples,)
    domain : ndarray of shape (n_samples,), int

    Raises
    ------
    FtransferError
        If `y` breaks the rule, or `sample_domain` is of another form or length.
    """
    if y is None:
        raise FtransferError(f"requires y to be passed, but the target y is None; {RULE}")
    refuse_surroundings()
    y, known = check_labels(y), domain_known()
    if sample_domain is None and known:
        sample_domain = known.domain
    if len(y) != n_samples:
        raise FtransferError(f"X and y have inconsistent numbers of samples: [{n_samples}, {len(y)}]")
    if sample_domain is None:
        return y, np.where(is_unlabelled(y), -1, 1)
    domain = np.asarray(sample_domain)
    if domain.dtype.kind not in "iu" or domain.shape != (n_samples,) or (domain == 0).any():
        raise FtransferError(
            f"sample_domain must hold one integer per row, positive for a source and negative for a target "
            f"(domain_codes makes it from names); given {domain.dtype} of shape {domain.shape}"
        )
    if not (domain > 0).any():
        raise FtransferError("sample_domain has no source rows: a positive number marks a source row")
    return y, domain


class TargetClassifier(ClassifierMixin, BaseEstimator):
    """Base of the classifiers that learn from target rows, too: they predict the most probable class.

    A subclass has ``predict_proba``, and its ``fit`` leaves ``classes_``.
    """

    # with metadata routing switched on, sample_domain is asked for without the user's doing
    __metadata_request__fit = {"sample_domain": True}

    predicts_most_probable = True  # so that whoever wants labels and probabilities asks for the latter alone
    classes_: np.ndarray

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class for target rows: array of shape (n_samples, n_classes)."""
        raise NotImplementedError

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the class of each row: array of shape (n_samples,)."""
        probability = self.predict_proba(X)
        return self.classes_[probability.argmax(axis=1)]


def read_rows(
    estimator: BaseEstimator, X: ArrayLike, y: ArrayLike, sample_domain: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Check the rows that a classifier is fitted on which learns from the target's, too.

    Parameters
    ----------
    estimator : BaseEstimator
        Notes the number of features.
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)
    sample_domain : array of shape (n_samples,), int, optional
        Checked, but not used.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    y : ndarray of shape (n_samples,)
    unlabelled : bool ndarray of shape (n_samples,)
    codes : ndarray of shape (n_labelled,), int
        Class of each labelled row, the classes in order.

    Raises
    ------
    FtransferError
        As `read_domain`.
    """
    X = validate_data(estimator, X, dtype=(np.float64, np.float32))
    y, _ = read_domain(y, sample_domain, len(X))
    unlabelled = is_unlabelled(y)
    check_classification_targets(y[~unlabelled])
    return X, y, unlabelled, np.unique(y[~unlabelled], return_inverse=True)[1]


def check_labels(y: ArrayLike | None) -> np.ndarray:
    """Return `y` as an array, or say which rule it breaks; the caller's `y` is left as it is."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.dtype.kind == "b":
        y = y.astype(int)
    if y.dtype == object:
        try:
            y = y.astype(float)
        except (TypeError, ValueError):
            y = y.astype(str)
    if y.dtype.kind in "US":
        raise FtransferError(
            f"labels are strings such as '{y.ravel()[0]}'; {RULE}: number the classes first "
            f"(sklearn.preprocessing.LabelEncoder on the source labels)"
        )
    y = check_array(y, ensure_2d=False, ensure_all_finite="allow-nan", dtype=None, input_name="y")
    unlabelled = is_unlabelled(y)
    if y.ndim == 2 and np.isin(y, (-1, 0, 1)).all() and (y[~unlabelled].sum(axis=1) == 1).all():
        raise FtransferError(
            f"y has one column per class ({y.shape[1]} of them); {RULE}: give one number per row: "
            f"y.argmax(axis=1), with -1 on target rows"
        )
    if unlabelled.all():
        raise FtransferError(f"all {len(y)} rows are unlabelled; {RULE}")
    if np.isin(y, (-1, 1)).all() and unlabelled.any():
        raise FtransferError(
            f"y holds only -1 and 1; {RULE}. If -1 is one of your classes, give that class another number"
        )
    return y


def is_unlabelled(y: np.ndarray) -> np.ndarray:
    """Mark the rows without a label: NaN where there is one, else -1."""
    rows = y.reshape(len(y), -1)
    if y.dtype.kind == "f" and (nan := np.isnan(rows).any(axis=1)).any():
        return nan
    return (rows == -1).all(axis=1)


def content_order(X: np.ndarray) -> np.ndarray:
    """Order rows by their bytes, so that what is drawn from them does not depend on the order they came in."""
    return _bytes_of_rows(X).argsort(kind="stable")


def distinct_rows(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the first of each row and its copies, ordered by content, and which of these each row is.

    >>> distinct_rows(np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]))
    (array([1, 0]), array([1, 0, 1]))
    """
    rows, order = _bytes_of_rows(X), content_order(X)
    is_new = np.r_[True, rows[order[1:]] != rows[order[:-1]]] if len(rows) else np.empty(0, dtype=bool)
    which = np.empty(len(rows), dtype=int)
    which[order] = np.cumsum(is_new) - 1
    return order[is_new], which


def _bytes_of_rows(X: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(X)
    return rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel()


def domain_codes(domain: ArrayLike, target: str | Sequence[str]) -> np.ndarray:
    """Number the domains of rows: 1, 2, ... for sources, -1, -2, ... for targets.

    Parameters
    ----------
    domain : array of shape (n_samples,), str
    target : str or list of str
        Names of the target domains; all others are sources, numbered in alphabetical order.

    Returns
    -------
    ndarray of shape (n_samples,), int

    Examples
    --------
    >>> from ftransfer import domain_codes
    >>> domain_codes(["photo", "cartoon", "sketch", "photo"], target="sketch")
    array([ 2,  1, -1,  2])
    """
    domain = np.asarray(domain)
    targets = [target] if isinstance(target, str) else list(target)
    missing = sorted(set(targets) - set(domain.tolist()))
    if missing:
        raise FtransferError(
            f"no row of domain {', '.join(missing)}; found: {', '.join(sorted(set(domain.tolist())))}"
        )
    sources = sorted(set(domain.tolist()) - set(targets))
    codes = {name: i + 1 for i, name in enumerate(sources)} | {name: -i - 1 for i, name in enumerate(targets)}
    return np.array([codes[name] for name in domain.tolist()])
