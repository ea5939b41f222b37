"""Subspace alignment."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.linalg import eigh, eigvalsh
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.extmath import svd_flip

from ftransfer.adapt.base import DomainAdapter


class SubspaceAlignment(ClassNamePrefixFeaturesOutMixin, DomainAdapter):
    """Rotate the source's principal axes onto the target's.

    Each domain is centred and projected on its own leading principal components; the source's are then
    aligned with the target's by the linear map that brings them closest.

    Parameters
    ----------
    n_components : int or float, default=40
        Number of principal components of either domain. More than both domains have (rows less one, or
        features) is lowered to what they have, with a warning. A float between 0 and 1 is a share of
        variance: as many as keep that share in every domain.

    Attributes
    ----------
    n_components_ : int
        Number of components used.
    source_components_ : dict of {int: ndarray of shape (n_features, n_components_)}
        One entry a source domain, keyed by its code in `sample_domain` (1 without it).
    target_components_ : ndarray of shape (n_features, n_components_)
    source_mean_ : dict of {int: ndarray of shape (n_features,)}
    target_mean_ : ndarray of shape (n_features,)
    sources_ : ndarray of int
        Codes of the source domains; each is aligned by itself.

    Notes
    -----
    The rotated axes suit linear and kernel classifiers; forests, which split along axes, gain less.

    References
    ----------
    Fernando, Habrard, Sebban, Tuytelaars, "Unsupervised visual domain adaptation using subspace
    alignment", ICCV 2013, equations 1 to 3: ``X_S P_S (P_S^T P_T)`` against ``X_T P_T``.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import SubspaceAlignment
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 5)) * [5, 4, 1, 1, 1]
    >>> X[30:] = X[30:, [1, 0, 2, 3, 4]]
    >>> y = np.repeat([0, 1, -1], [15, 15, 30])
    >>> SubspaceAlignment(n_components=2).fit_transform(X, y).shape
    (60, 2)
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="neither")]
    }

    def __init__(self, n_components=40):
        self.n_components = n_components

    def _fit_domains(self, sources, target):
        rows = min(len(target), *(len(s) for s in sources.values()))
        most = max(1, min(rows - 1, target.shape[1]))
        wanted = self.n_components
        if wanted < 1:
            wanted = max(_count_for_share(each, wanted) for each in (target, *sources.values()))
        self.n_components_ = min(wanted, most)
        if self.n_components_ < self.n_components:
            warnings.warn(
                f"n_components={self.n_components} is more than the domains allow; {most} are used (the "
                f"smallest has {rows} rows, of {target.shape[1]} features)",
                UserWarning,
                stacklevel=5,
            )
        self.target_mean_, self.target_components_ = _principal_axes(target, self.n_components_)
        self.source_mean_, self.source_components_, self._aligned = {}, {}, {}
        for code, rows in sources.items():
            self.source_mean_[code], axes = _principal_axes(rows, self.n_components_)
            self.source_components_[code] = axes
            self._aligned[code] = axes @ (axes.T @ self.target_components_)
        self._n_features_out = self.n_components_

    def _map_source(self, X, domain):
        return (X - self.source_mean_[domain]) @ self._aligned[domain]

    def _map_target(self, X):
        return (X - self.target_mean_) @ self.target_components_


def _count_for_share(rows, share):
    """Return how many leading components keep this share of the variance."""
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    inner = centred @ centred.T if len(rows) < rows.shape[1] else centred.T @ centred
    kept = np.cumsum(np.maximum(eigvalsh(inner)[::-1], 0.0))
    return int(np.searchsorted(kept, share * kept[-1]) + 1)


def _principal_axes(rows, k):
    """Return the mean and the k leading principal axes (n_features, k) of rows, by the smaller Gram matrix."""
    mean = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    centred = rows - mean
    n, d = centred.shape
    size = min(n, d)
    chosen = [size - k, size - 1]
    if n < d:
        w, U = eigh(centred @ centred.T, subset_by_index=chosen)
        axes = centred.T @ U
        # a direction without variance has no axis: it stays zero and contributes nothing
        length = np.linalg.norm(axes, axis=0)
        axes = axes / np.where(
            length > np.finfo(rows.dtype).eps * max(length.max(), 1e-30) * n, length, np.inf
        )
    else:
        w, axes = eigh(centred.T @ centred, subset_by_index=chosen)
    axes = axes[:, ::-1]
    return mean, np.ascontiguousarray(svd_flip(None, axes.T, u_based_decision=False)[1].T, dtype=rows.dtype)
