"""Selection of source rows that look like the target."""

from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, is_classifier
from sklearn.dummy import DummyClassifier
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from ftransfer.adapt.base import warn_of_no_target
from ftransfer.adapt.importance import ImportanceWeighted
from ftransfer.adapt.wrapped import FittedOnLabelled
from ftransfer.errors import FtransferError

ROWS = 1024  # source rows whose similarities to all target rows are in memory at once


class SourceSelected(FittedOnLabelled):
    """Fit on the source rows that look most like the target, and leave out the others.

    The last step of a pipeline; it is fitted on all rows, and ``y == -1`` (NaN in a regression) marks the target
    rows. Of each class (in a regression, of all rows) the same share is kept, so that no class is lost; of several
    sources the nearer one thus keeps more.

    Parameters
    ----------
    estimator : classifier or regressor, default=None
        None: ``LogisticRegression(max_iter=1000)``.
    keep : float in (0, 1], default=0.75
        Share of the source rows of each class that is kept, at least one row.
    criterion : {"nearest", "odds"}, default="nearest"
        How target-like a source row is: its mean cosine similarity to the `n_neighbors` target rows nearest to it, or
        the odds of a classifier that tells target from source, as in `ImportanceWeighted`.
    n_neighbors : int, default=5

    Attributes
    ----------
    estimator_ : fitted estimator
    affinity_ : ndarray of shape (n_labelled,)
        How target-like each labelled row is, by `criterion`, in the order given; infinite for labelled target rows.
    kept_ : ndarray of shape (n_labelled,), bool
        Labelled target rows are always kept.
    kept_by_domain_ : dict of {int: tuple of int}
        Of each source, by its code in `sample_domain` (1 without it): rows kept, and rows in all.
    classes_ : ndarray of shape (n_classes,), of a classifier

    See Also
    --------
    ImportanceWeighted : Weight the rows instead of leaving some out.

    Notes
    -----
    Fewer rows to learn from cost accuracy by themselves: it helps only if the rows that are left out would mislead by
    more than that. Bring the domains together before (`DomainScaler`): it compares rows by their direction.

    References
    ----------
    Gong, Grauman, Sha, "Connecting the dots with landmarks: discriminatively learning domain-invariant features for
    unsupervised domain adaptation", ICML 2013, choose source rows by the match of their distribution (equation 4);
    here each row is judged by itself.

    Examples
    --------
    Three quarters of the source come from elsewhere, and there the classes lie the other way round.

    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ftransfer import SourceSelected
    >>> rng = np.random.default_rng(0)
    >>> labels, far = np.arange(300) % 2, np.arange(300) < 150
    >>> X = rng.normal(size=(300, 2)) + [4, 0] + 3 * np.outer(np.where(far, -labels, labels), [0, 1])
    >>> X[far] -= [8, 0]
    >>> y = np.where(np.arange(300) < 200, labels, -1)
    >>> plain = LogisticRegression().fit(X[:200], y[:200])
    >>> selected = SourceSelected(LogisticRegression(), keep=0.25).fit(X, y)
    >>> [round(float(each.score(X[200:], labels[200:])), 1) for each in (plain, selected)]
    [0.1, 0.9]
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "keep": [Interval(Real, 0, 1, closed="right")],
        "criterion": [StrOptions({"nearest", "odds"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        keep: float = 0.75,
        criterion: str = "nearest",
        n_neighbors: int = 5,
    ) -> None:
        self.estimator = estimator
        self.keep = keep
        self.criterion = criterion
        self.n_neighbors = n_neighbors

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Choose source rows and fit the estimator on them.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, -1 (or NaN) on target rows.
        sample_domain : array of shape (n_samples,), int, optional
            Positive for a source, negative for a target; needed where target rows have labels.

        Returns
        -------
        self

        Raises
        ------
        FtransferError
            If `y` or `sample_domain` break the rule, or (``criterion="odds"``) a domain has a single row.
        """
        self._validate_params()
        X, y, domain, labelled = self._read(X, y, sample_domain)
        target = domain < 0
        source, affinity = labelled & ~target, np.full(len(X), np.inf)
        if not target.any():
            warn_of_no_target(self)
        elif source.any():
            affinity[source] = self._affinity(X, source, target)
        kept = labelled.copy()
        if target.any():
            groups = y if is_classifier(self) else np.zeros(len(y))
            for group in np.unique(groups[source]):
                rows = np.flatnonzero(source & (groups == group))
                order = rows[np.argsort(-affinity[rows], kind="stable")]
                kept[order[int(np.ceil(self.keep * len(rows))) :]] = False
        self.affinity_, self.kept_ = affinity[labelled], kept[labelled]
        self.kept_by_domain_ = {
            int(code): (int(kept[domain == code].sum()), int((labelled & (domain == code)).sum()))
            for code in np.unique(domain[source])
        }
        self._fit_estimator(X[kept], y[kept])
        return self

    def _affinity(self, X: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        if self.criterion == "odds":
            if min(target.sum(), source.sum()) < 2:
                raise FtransferError(
                    f"the criterion odds needs at least two rows of each domain; given {source.sum()} source and "
                    f"{target.sum()} target rows; nearest does with one"
                )
            rows, y = source | target, np.where(target, -1, 0)
            weighted = ImportanceWeighted(DummyClassifier(), clip=None).fit(X[rows], y[rows])
            return weighted.sample_weight_
        near, of_target = normalize(X[source]), normalize(X[target])
        k, found = min(self.n_neighbors, len(of_target)), np.empty(len(near))
        for rows in gen_batches(len(near), ROWS):
            similarity = near[rows] @ of_target.T
            found[rows] = np.partition(similarity, -k, axis=1)[:, -k:].mean(axis=1)
        return found
