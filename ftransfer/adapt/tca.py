"""Transfer component analysis (TCA)."""

from numbers import Integral, Real

import numpy as np
from scipy.linalg import eigh, svd
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from ftransfer.adapt.base import SharedMapAdapter, content_order
from ftransfer.adapt.spectrum import column_signs
from ftransfer.errors import warn_user


class TransferComponentAnalysis(ClassNamePrefixFeaturesOutMixin, SharedMapAdapter):
    """Project both domains on few components that keep the variance and bring the domain means together.

    Source and target rows share one map, so `transform` and `transform_source` do the same. Several
    sources count as one. Labels are not used.

    Parameters
    ----------
    n_components : int, default=20
        More than the rows or features allow is lowered to what they allow, with a warning.
    kernel : {"linear", "rbf"}, default="linear"
    gamma : float > 0, optional
        Of the rbf kernel ``exp(-gamma |x - z|^2)``. By default 1 / (n_features * variance of all values).
    mu : float > 0, default=1.0
        Weight of the penalty on the size of the weights: more of it brings the domains less together.
        Absolute, as in the paper, against squared values of the kernel.
    n_landmarks : int, default=1000
        With the rbf kernel and more rows than this, the kernel is approximated from so many rows, drawn
        at random (Nystroem's method). The linear kernel is always exact.
    random_state : int, RandomState or None, default=None
        Draws the landmarks.

    Attributes
    ----------
    n_components_ : int
        Number of components used.
    eigenvalues_ : ndarray of shape (n_components_,), float64
        Variance kept by each component, over the distance of the domain means and the penalty; falling.
    weights_ : ndarray of shape (n_features, n_components_), or (n_landmarks, n_components_) for rbf, float64
    landmarks_ : ndarray of shape (n_landmarks, n_features), float64, or None for the linear kernel
        Rows against which the rbf kernel is taken: all that were fitted, or the landmarks.
    gamma_ : float, or None for the linear kernel
    sources_ : ndarray of int
        Codes of the source domains.

    See Also
    --------
    JointDistributionAdaptation : Bring the means of each class together as well.

    Notes
    -----
    With K the kernel of all rows, H the centring matrix and l = 1 / n_source on source and -1 / n_target
    on target rows, the weights W maximise ``W^T K H K W`` subject to ``W^T (K l l^T K + mu I) W = I``.
    That is the paper's problem solved as a symmetric one; the paper scales components to a scatter of
    one, here a component's scatter is its eigenvalue, so that leading components weigh more. The second
    matrix is diagonal plus rank one, and its inverse square root is explicit. With the linear kernel and
    more rows than features the same is solved among the features, exactly.

    Features on different scales want a `DomainScaler` or a ``StandardScaler`` first.

    References
    ----------
    Pan, Tsang, Kwok, Yang, "Domain adaptation via transfer component analysis", IEEE Transactions on
    Neural Networks 22(2), 2011: the leading eigenvectors of ``(K L K + mu I)^(-1) K H K``.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import TransferComponentAnalysis
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3)) * [3.0, 2.0, 1.0]
    >>> X[100:, 2] += 10  # the target lies elsewhere in the third feature
    >>> y = np.repeat([0, 1, -1], [50, 50, 100])
    >>> Z = TransferComponentAnalysis(n_components=2).fit_transform(X, y)
    >>> for rows in (X, Z):
    ...     print((np.abs(rows[:100].mean(0) - rows[100:].mean(0)) / rows.std(0)).max().round(2))
    1.96
    0.0
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "kernel": [StrOptions({"linear", "rbf"})],
        "gamma": [Interval(Real, 0, None, closed="neither"), None],
        "mu": [Interval(Real, 0, None, closed="neither")],
        "n_landmarks": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 20,
        kernel: str = "linear",
        gamma: float | None = None,
        mu: float = 1.0,
        n_landmarks: int = 1000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.mu = mu
        self.n_landmarks = n_landmarks
        self.random_state = random_state

    def _fit_domains(self, sources: dict[int, np.ndarray], target: np.ndarray) -> None:
        # in float64 throughout: the problem holds the fourth power of the features
        rows = np.concatenate([*sources.values(), target], dtype=np.float64)
        source = np.arange(len(rows)) < len(rows) - len(target)
        signs = np.where(source, 1.0 / source.sum(), -1.0 / len(target))
        self.landmarks_: np.ndarray | None = None
        self.gamma_: float | None = None
        solve = self._rbf_weights if self.kernel == "rbf" else self._linear_weights
        weights = solve(rows, signs)
        self.weights_ = weights * column_signs(weights)
        self._n_features_out = self.n_components_

    def _linear_weights(self, rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
        if len(rows) > rows.shape[1]:
            return self._solve_factor(rows, signs)
        return rows.T @ self._solve(rows @ rows.T, signs)

    def _rbf_weights(self, rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
        n, d = rows.shape
        self.gamma_ = float(self.gamma or 1.0 / (d * (rows.var() or 1.0 / d)))
        self.landmarks_ = rows
        if n <= self.n_landmarks:
            return self._solve(rbf_kernel(rows, gamma=self.gamma_), signs)
        chosen = check_random_state(self.random_state).choice(n, self.n_landmarks, replace=False)
        self.landmarks_ = rows[content_order(rows)[np.sort(chosen)]]
        w, U = eigh(rbf_kernel(self.landmarks_, gamma=self.gamma_))
        kept = w > 1e-10 * w[-1]  # directions below are rounding errors
        root = U[:, kept] / np.sqrt(w[kept])
        return root @ self._solve_factor(rbf_kernel(rows, self.landmarks_, gamma=self.gamma_) @ root, signs)

    def _solve(self, K: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """Return W of the Notes (n_samples, n_components_) for the whole kernel."""
        centred = K - K.mean(axis=0)
        return self._lead(centred.T @ centred, K @ signs, len(K) - 1)

    def _solve_factor(self, Z: np.ndarray, signs: np.ndarray) -> np.ndarray:
        """Return Z^T W for the kernel Z Z^T, of lower rank than rows.

        With Z = U S V^T, only W = U B counts; Z^T W is V S B, and B solves a problem of Z's width.
        """
        w, V = eigh(Z.T @ Z)
        root = V * np.sqrt(np.maximum(w, 0.0))
        centred = (Z - Z.mean(axis=0)) @ root
        return root @ self._lead(centred.T @ centred, root.T @ (Z.T @ signs), len(Z) - 1)

    def _lead(self, scatter: np.ndarray, gap: np.ndarray, rank: int) -> np.ndarray:
        self.n_components_ = clip_components(self.n_components, min(rank, len(scatter)))
        self.eigenvalues_, vectors = leading_components(scatter, gap[:, None], self.mu, self.n_components_)
        return vectors

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        if self.landmarks_ is None:
            return X @ self.weights_.astype(X.dtype)
        kernel = rbf_kernel(X.astype(np.float64), self.landmarks_, gamma=self.gamma_)
        return (kernel @ self.weights_).astype(X.dtype)


def leading_components(
    scatter: np.ndarray, gaps: np.ndarray, ridge: float, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Maximise ``V^T scatter V`` subject to ``V^T (gaps gaps^T + ridge I) V = I``.

    Returns
    -------
    values : ndarray of shape (k,), falling
    vectors : ndarray of shape (n, k); zero where there is no scatter left
    """
    Q, s, _ = svd(gaps, full_matrices=False)
    base = 1.0 / np.sqrt(ridge)
    change = 1.0 / np.sqrt(ridge + s**2) - base

    def whiten(M: np.ndarray) -> np.ndarray:  # (gaps gaps^T + ridge I)^(-1/2) M
        return base * M + Q @ (change[:, None] * (Q.T @ M))

    size = len(scatter)
    w, V = eigh(whiten(whiten(scatter).T), subset_by_index=[size - k, size - 1])
    w, V = w[::-1], V[:, ::-1]
    some = w > size * np.finfo(w.dtype).eps * max(w[0], 0.0)
    return np.where(some, w, 0.0), whiten(V * some)


def clip_components(wanted: int, most: int) -> int:
    """Lower the number of components to what rows and features allow, with a warning."""
    most = max(1, most)
    if wanted > most:
        warn_user(f"n_components={wanted} is more than the rows and features allow; {most} are used")
    return min(wanted, most)
