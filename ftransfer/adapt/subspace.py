"""Subspace alignment."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ftransfer.adapt.base import DomainAdapter
from ftransfer.adapt.spectrum import Spectrum, decompose_each
from ftransfer.errors import warn_user


class SubspaceAlignment(ClassNamePrefixFeaturesOutMixin, DomainAdapter):
    """Rotate the source's principal axes onto the target's.

    Each domain is centred and projected on its own leading principal components; the source's are then
    aligned with the target's by the linear map that brings them closest.

    Parameters
    ----------
    n_components : int, float or "auto", default=40
        Number of principal components of either domain. More than both domains have (rows less one, or
        features) is lowered to what they have, with a warning. A float between 0 and 1 is a share of
        variance: as many as keep that share in every domain. "auto" takes as many as stand out from noise in
        any domain, see the Notes.

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

    "auto" counts the eigenvalues of a domain's covariance above ``v (1 + sqrt(n_features / n_samples))^2``
    with v the mean variance of a feature: the largest that rows of pure noise would have (the edge of
    Marchenko and Pastur's law). The paper bounds the number by a stability of the axes instead, with a
    constant that is left to the user; with the paper's own choice of it (1e5) that gave 3 to 15 components on
    frozen features where more were better, but for one case.

    References
    ----------
    Fernando, Habrard, Sebban, Tuytelaars, "Unsupervised visual domain adaptation using subspace
    alignment", ICCV 2013, equations 1 to 3: ``X_S P_S (P_S^T P_T)`` against ``X_T P_T``.

    Marchenko, Pastur, "Distribution of eigenvalues for some sets of random matrices", 1967.

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
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ]
    }

    def __init__(self, n_components: float | str = 40) -> None:
        self.n_components = n_components

    def _fit_domains(self, sources: dict[int, np.ndarray], target: np.ndarray) -> Callable[[int], np.ndarray]:
        rows = min(len(target), *(len(s) for s in sources.values()))
        most = max(1, min(rows - 1, target.shape[1]))
        wanted = self.n_components
        if isinstance(wanted, str) or wanted < 1:  # both need to know all of the variance
            domains = decompose_each([*sources.values(), target])
            wanted = max(_count(each, wanted) for each in domains)
        else:
            domains = decompose_each([*sources.values(), target], min(wanted, most))
        self.n_components_ = k = min(wanted, most)
        if k < wanted:
            warn_user(
                f"n_components={self.n_components} is more than the domains allow; {most} are used (the "
                f"smallest domain has {rows} rows and {target.shape[1]} features)"
            )
        self.target_mean_ = domains[-1].mean
        self.target_components_ = domains[-1].axes[:, :k].copy()
        self.source_mean_, self.source_components_, self._aligned = {}, {}, {}
        rotations, scores = {}, {-1: domains[-1].scores}
        for code, spectrum in zip(sources, domains, strict=False):
            self.source_mean_[code] = spectrum.mean
            self.source_components_[code] = axes = spectrum.axes[:, :k].copy()
            rotations[code], scores[code] = axes.T @ self.target_components_, spectrum.scores
            self._aligned[code] = axes @ rotations[code]
        self._n_features_out = k
        # one projection of the rows serves every number of components
        return lambda code: scores[code][:, :k] @ rotations[code] if code > 0 else scores[code][:, :k]

    def _map_source(self, X: np.ndarray, domain: int) -> np.ndarray:
        return (X - self.source_mean_[domain]) @ self._aligned[domain]

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.target_mean_) @ self.target_components_


def _count(spectrum: Spectrum, wanted: float | str) -> int:
    """Return how many leading components keep a share of the variance, or stand out from noise ("auto")."""
    if isinstance(wanted, str):
        n, d = spectrum.rows.shape
        edge = spectrum.values.sum() / d * (1 + np.sqrt(d / n)) ** 2
        return max(1, int((spectrum.values > edge).sum()))
    kept = np.cumsum(spectrum.values)
    return int(np.searchsorted(kept, wanted * kept[-1]) + 1)
