"""Geodesic flow kernel (GFK)."""

from numbers import Integral

import numpy as np
from scipy.linalg import svd
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils._param_validation import Interval

from ftransfer.adapt.base import DomainAdapter
from ftransfer.adapt.spectrum import column_signs, decompose
from ftransfer.adapt.tca import clip_components


class GeodesicFlowKernel(ClassNamePrefixFeaturesOutMixin, DomainAdapter):
    """Average over all subspaces on the way from the source's principal axes to the target's.

    Each domain is centred by its own mean. The inner product of two rows that come out is the paper's
    kernel between them, so a linear classifier or a nearest neighbour on these rows uses the kernel.
    Several sources are centred each by itself and then count as one: target rows have one image, whereas
    a flow for each source would give one for each. Labels are not used.

    Parameters
    ----------
    n_components : int, default=20
        Number of principal components of either domain; twice as many features come out. More than half
        the features, or than either domain has, is lowered to that, with a warning.

    Attributes
    ----------
    n_components_ : int
        Number of components used.
    angles_ : ndarray of shape (n_components_,), float64
        Principal angles between the two subspaces in radians, rising: 0 is a shared direction.
    factor_ : ndarray of shape (n_features, 2 * n_components_), float64
        Half of the kernel: G = factor_ factor_^T, which itself is never formed.
    source_mean_ : dict of {int: ndarray of shape (n_features,)}
        One entry a source domain, keyed by its code in `sample_domain` (1 without it).
    target_mean_ : ndarray of shape (n_features,)
    sources_ : ndarray of int
        Codes of the source domains.

    See Also
    --------
    SubspaceAlignment : Go from the source's axes to the target's in one step.

    Notes
    -----
    G is the integral of ``Phi(t) Phi(t)^T`` over t from 0 to 1, where Phi(t) leads along the geodesic from
    the source's axes to the target's. The paper writes it with 2 x 2 blocks between the axes and their
    complement, and twice as large. Seen from the middle of the way, the blocks are diagonal: for
    principal vectors a of the source and b of the target, at an angle theta,
    ``G = sum (1 + sin(theta) / theta) / 2 m m^T + (1 - sin(theta) / theta) / 2 n n^T`` with m along a + b
    and n along b - a. Neither the complement nor a division by a small angle is needed.

    References
    ----------
    Gong, Shi, Sha, Grauman, "Geodesic flow kernel for unsupervised domain adaptation", CVPR 2012:
    ``<z_i, z_j>`` integrated over the flow is ``x_i^T G x_j``.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import GeodesicFlowKernel
    >>> rng = np.random.default_rng(0)
    >>> source = rng.normal(size=(100, 2)) * [5.0, 0.1]
    >>> turn = np.radians(60)
    >>> target = source @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]] + 7
    >>> y = np.repeat([0, 1, -1], [50, 50, 100])
    >>> gfk = GeodesicFlowKernel(n_components=1).fit(np.vstack([source, target]), y)
    >>> np.degrees(gfk.angles_).round()
    array([60.])
    """

    _parameter_constraints = {"n_components": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, n_components: int = 20) -> None:
        self.n_components = n_components

    def _fit_domains(self, sources: dict[int, np.ndarray], target: np.ndarray) -> None:
        dtype = target.dtype
        means = {code: rows.mean(axis=0, dtype=np.float64) for code, rows in sources.items()}
        target_mean = target.mean(axis=0, dtype=np.float64)
        source = np.concatenate([rows - means[code] for code, rows in sources.items()])
        target = target - target_mean
        rank = min(len(source) - len(sources), len(target) - 1)
        most = max(1, min(rank, target.shape[1] // 2, self.n_components))
        axes = [_spanned_axes(rows, most) for rows in (source, target)]
        most = min(a.shape[1] for a in axes)
        self.n_components_ = clip_components(self.n_components, most)
        source_axes, target_axes = (a[:, : self.n_components_] for a in axes)

        U, _, Vt = svd(source_axes.T @ target_axes)
        a, b = source_axes @ U, target_axes @ Vt.T
        a, b = a * column_signs(a), b * column_signs(a)
        # from both lengths the angle is exact for small angles too, unlike from its cosine
        length, gap = np.linalg.norm(a + b, axis=0), np.linalg.norm(b - a, axis=0)
        self.angles_ = angles = 2 * np.arctan2(gap, length)
        shared = np.sqrt((1 + np.sinc(angles / np.pi)) / 2) / length
        self.factor_ = np.hstack([(a + b) * shared, (b - a) * _turning(angles)])
        self.source_mean_ = {code: mean.astype(dtype) for code, mean in means.items()}
        self.target_mean_ = target_mean.astype(dtype)
        self._n_features_out = 2 * self.n_components_

    def _map_source(self, X: np.ndarray, domain: int) -> np.ndarray:
        return (X - self.source_mean_[domain]) @ self.factor_.astype(X.dtype)

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.target_mean_) @ self.factor_.astype(X.dtype)


def _turning(angles: np.ndarray) -> np.ndarray:
    """Return ``sqrt((1 - sin(t) / t) / 2) / (2 sin(t / 2))``, whose limit at 0 is 1 / sqrt(12)."""
    t = np.maximum(angles, 1e-2)
    exact = np.sqrt((1 - np.sinc(t / np.pi)) / 2) / (2 * np.sin(t / 2))
    # both series to the fourth power of t: (1 - t^2 / 20 + t^4 / 840) / 12, and t / (2 sin(t / 2))
    near = np.sqrt((1 - angles**2 / 20 + angles**4 / 840) / 12) / np.sinc(angles / (2 * np.pi))
    return np.where(angles < 1e-2, near, exact)


def _spanned_axes(centred: np.ndarray, k: int) -> np.ndarray:
    """Return at most k orthonormal principal axes: those along which the rows vary."""
    axes = decompose(centred, k).axes[:, :k]
    spread = np.linalg.norm(centred @ axes, axis=0)
    rank = max(1, int((spread > 1e-7 * spread.max()).sum()))
    return np.linalg.qr(axes[:, :rank])[0]
