"""Joint distribution adaptation (JDA), and its balanced variant (BDA)."""

from numbers import Integral, Real

import numpy as np
from scipy.linalg import qr
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils._param_validation import HasMethods, Interval

from ftransfer.adapt.base import SharedMapAdapter, is_unlabelled
from ftransfer.adapt.spectrum import column_signs
from ftransfer.adapt.tca import clip_components, leading_components


class JointDistributionAdaptation(ClassNamePrefixFeaturesOutMixin, SharedMapAdapter):
    """Project both domains on few components that bring the domain means and the class means together.

    Target rows get pseudo-labels from a classifier fitted on the projected labelled rows; projection
    and pseudo-labels are found in turn until the labels stop changing. Source and target rows share one
    map, so `transform` and `transform_source` do the same. Several sources count as one. Target rows
    that have a label (see `sample_domain`) keep it, and help to fit the classifier.

    Parameters
    ----------
    estimator : classifier, optional
        Gives the pseudo-labels; a clone of it is fitted. By default the nearest neighbour, as in the paper.
    n_components : int, default=20
        More than the rows or features allow is lowered to what they allow, with a warning.
    n_iterations : int, default=10
        At most so many projections. The first knows no pseudo-labels, so 1 means the domain means only.
    mu : float > 0, default=1.0
        Weight of the penalty on the size of the weights (the paper's lambda), in squared units of the
        features: more of it brings the domains less together.
    balance : float between 0 and 1, optional
        Weight of the classes against the domains (BDA): 0 matches the domain means only, 1 the class
        means only (but for the first projection). By default both count in full, as in JDA.

    Attributes
    ----------
    n_components_ : int
        Number of components used.
    n_iterations_ : int
        Number of projections made.
    eigenvalues_ : ndarray of shape (n_components_,), float64
        Variance kept by each component, over the distances of the means and the penalty; falling.
    pseudo_labels_ : ndarray of shape (n_target,), or None in a regression or without target rows
        Last label of each target row, in the order given; its own where it has one.
    mean_ : ndarray of shape (n_features,), float64
        Mean of all rows.
    weights_ : ndarray of shape (n_features, n_components_), float64
    sources_ : ndarray of int
        Codes of the source domains.

    See Also
    --------
    TransferComponentAnalysis : The domain means only, also with a kernel.

    Notes
    -----
    Rows are taken as they are. The published experiments scale them first, to unit length or unit
    variance, and `mu` is absolute: put a `DomainScaler`, a ``StandardScaler`` or a ``Normalizer`` before.
    Where one domain is stretched against the other, class means lie apart along the very directions
    that tell the classes from each other, and these are lost: scale each domain by itself then.

    The kernel is linear. With fewer rows than features all is done in the span of the rows, exactly.
    The projected rows have mean zero. The paper scales components to a scatter of one; here a
    component's scatter is its eigenvalue, so that the last ones, mostly noise, do not count like the
    first, and the number of components matters less. Without
    classes (labels that are not whole numbers, several labels a row, or a single class) only the domain
    means are matched. A class that no target row is taken for is left out of that iteration.

    References
    ----------
    Long, Wang, Ding, Sun, Yu, "Transfer feature learning with joint distribution adaptation", ICCV 2013,
    algorithm 1: ``(X sum_c M_c X^T + lambda I) A = X H X^T A Phi``, with c = 0 for the domains.

    Wang, Chen, Hao, Feng, Shen, "Balanced distribution adaptation for transfer learning", ICDM 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import JointDistributionAdaptation
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1, 0, 1], [40, 40, 30, 50])
    >>> X = rng.normal(size=(160, 3)) + np.outer(labels, [6.0, 0.0, 0.0])
    >>> X[80:, :2] += [4.0, 9.0]  # the target lies elsewhere
    >>> y = np.where(np.arange(160) < 80, labels, -1)
    >>> for n_iterations in (1, 10):  # with the domain means only, and with the class means
    ...     jda = JointDistributionAdaptation(n_components=2, n_iterations=n_iterations).fit(X, y)
    ...     print((jda.pseudo_labels_ == labels[80:]).mean().round(2))
    0.98
    1.0
    """

    self_labelling = True  # for the guard of a race
    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_iterations": [Interval(Integral, 1, None, closed="left")],
        "mu": [Interval(Real, 0, None, closed="neither")],
        "balance": [Interval(Real, 0, 1, closed="both"), None],
    }

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        n_components: int = 20,
        n_iterations: int = 10,
        mu: float = 1.0,
        balance: float | None = None,
    ) -> None:
        self.estimator = estimator
        self.n_components = n_components
        self.n_iterations = n_iterations
        self.mu = mu
        self.balance = balance

    def _learn(self, X: np.ndarray, y: np.ndarray, domain: np.ndarray) -> None:
        target, labelled = domain < 0, ~is_unlabelled(y)
        classes = _classes(y[labelled]) if target.any() else np.array([])
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        rows = X - self.mean_
        n, d = rows.shape
        basis = None
        if n < d:  # weights outside the span of the rows only add to the penalty
            basis = qr(rows.T, mode="economic")[0]
            rows = rows @ basis
        scatter = rows.T @ rows
        self.n_components_ = clip_components(self.n_components, min(n - 1, d))
        estimator = self.estimator
        if estimator is None:
            estimator = KNeighborsClassifier(n_neighbors=1, algorithm="brute")

        label, known = y.copy(), labelled.copy()
        guessed = target & ~labelled
        self.n_iterations_ = 0
        while self.n_iterations_ < self.n_iterations:
            self.n_iterations_ += 1
            gaps = rows.T @ self._signs(label, known, target, classes)
            self.eigenvalues_, vectors = leading_components(scatter, gaps, self.mu, self.n_components_)
            self.weights_ = vectors if basis is None else basis @ vectors
            signs = column_signs(self.weights_)
            self.weights_ *= signs
            if len(classes) == 0 or not guessed.any():
                break
            mapped = (rows @ (vectors * signs)).astype(X.dtype)
            classifier = clone(estimator).fit(mapped[labelled], y[labelled])
            before, label[guessed] = label[guessed], classifier.predict(mapped[guessed])
            if known[guessed].all() and np.array_equal(before, label[guessed]):
                break
            known |= guessed
        self.pseudo_labels_ = label[target] if len(classes) else None
        self._n_features_out = self.n_components_

    def _signs(
        self, label: np.ndarray, known: np.ndarray, target: np.ndarray, classes: np.ndarray
    ) -> np.ndarray:
        """Return l of each M_c = l l^T as columns: 1 / n on source rows, -1 / n on target rows."""
        whole, each = (1.0, 1.0) if self.balance is None else (1.0 - self.balance, self.balance)
        if not (known & target).any():  # the first projection, or no classes
            whole = 1.0
        groups = [(np.ones(len(target), dtype=bool), whole)]
        groups += [(known & (label == c), each) for c in classes.tolist()]
        columns = []
        for rows, weight in groups:
            n_source, n_target = (rows & ~target).sum(), (rows & target).sum()
            if n_source and n_target:
                sign = np.where(target, -1.0 / n_target, 1.0 / n_source)
                columns.append(np.sqrt(weight) * rows * sign)
        return np.column_stack(columns) if columns else np.zeros((len(target), 1))

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.mean_.astype(X.dtype)) @ self.weights_.astype(X.dtype)


def _classes(y: np.ndarray) -> np.ndarray:
    """Return the classes among labels; none if there is but one, or in a regression."""
    if y.ndim > 1 or (y != np.floor(y)).any():
        return np.array([])
    classes = np.unique(y)
    return classes if len(classes) > 1 else np.array([])
