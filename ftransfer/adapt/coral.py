"""Correlation alignment (CORAL)."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ftransfer.adapt.base import DomainAdapter
from ftransfer.adapt.spectrum import Spectrum, decompose_each


class CORAL(OneToOneFeatureMixin, DomainAdapter):
    """Match the source covariance, and by default the mean, to the target's.

    Source rows are whitened by their own covariance and coloured by the target's; target rows stay as
    they are. With fewer rows than features nothing of the size n_features x n_features is formed: all is
    done in the n x n Gram matrix, exactly.

    Parameters
    ----------
    ridge : float > 0 or "ledoit-wolf", default=1.0
        What is added to the diagonal of both covariances, in squared units of the features; absolute,
        as in the paper. More of it means a milder alignment. Standardised features (`DomainScaler`
        before it) make the default sensible. "ledoit-wolf" shrinks each domain's covariance towards a
        multiple of the identity by the share that Ledoit and Wolf estimate from its rows.
    center : bool, default=True
        Whether the source mean is moved onto the target's. The paper takes both means for zero.

    Attributes
    ----------
    source_mean_ : dict of {int: ndarray of shape (n_features,)}
        One entry a source domain, keyed by its code in `sample_domain` (1 without it).
    target_mean_ : ndarray of shape (n_features,)
    sources_ : ndarray of int
        Codes of the source domains; each is mapped by itself.

    See Also
    --------
    DomainScaler : Match the mean and the spread of single features only.
    coral : The same for two arrays.

    References
    ----------
    Sun, Feng, Saenko, "Return of frustratingly easy domain adaptation", AAAI 2016, algorithm 1:
    ``C_S = cov(D_S) + I``, ``C_T = cov(D_T) + I``, ``D_S C_S^(-1/2) C_T^(1/2)``.

    Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88, 2004: the shrinkage.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import CORAL
    >>> rng = np.random.default_rng(0)
    >>> source, target = rng.normal(size=(200, 2)), rng.normal(size=(300, 2)) @ [[2.0, 1.0], [0.0, 1.0]]
    >>> y = np.repeat([0, 1, -1], [100, 100, 300])
    >>> aligned = CORAL(ridge=1e-6).fit_transform(np.vstack([source, target]), y)[:200]
    >>> np.allclose(np.cov(aligned.T), np.cov(target.T), atol=1e-4)
    True
    """

    _parameter_constraints = {
        "ridge": [Interval(Real, 0, None, closed="neither"), StrOptions({"ledoit-wolf"})],
        "center": ["boolean"],
    }

    def __init__(self, ridge: float | str = 1.0, center: bool = True) -> None:
        self.ridge = ridge
        self.center = center

    def _fit_domains(self, sources: dict[int, np.ndarray], target: np.ndarray) -> None:
        *of_sources, of_target = decompose_each([*sources.values(), target])
        self.target_mean_ = of_target.mean
        self._color = _CovariancePower(of_target, self.ridge, 0.5)
        self.source_mean_, self._align = {}, {}
        for code, spectrum in zip(sources, of_sources, strict=True):
            self.source_mean_[code] = spectrum.mean
            whiten = _CovariancePower(spectrum, self.ridge, -0.5)
            # more rows than features on both sides: one matrix is less work than two one after the other
            dense = whiten.dense, self._color.dense
            both = None if dense[0] is None or dense[1] is None else dense[0] @ dense[1]
            self._align[code] = (whiten, both)

    def _map_source(self, X: np.ndarray, domain: int) -> np.ndarray:
        mean = self.source_mean_[domain]
        centre = self.target_mean_ if self.center else self._aligned(mean[None], domain)
        return self._aligned(X - mean, domain) + centre

    def _aligned(self, rows: np.ndarray, domain: int) -> np.ndarray:
        whiten, both = self._align[domain]
        return self._color(whiten(rows)) if both is None else rows @ both

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return X.copy()


def coral(
    source: ArrayLike, target: ArrayLike, *, ridge: float | str = 1.0, center: bool = True
) -> np.ndarray:
    """Match the covariance of `source` to that of `target`.

    Parameters
    ----------
    source : array of shape (n_source, n_features)
    target : array of shape (n_target, n_features)
    ridge, center
        As in `CORAL`.

    Returns
    -------
    array of shape (n_source, n_features): the source rows, aligned.
    """
    source, target = np.asarray(source), np.asarray(target)
    X = np.concatenate([source, target])
    y = np.r_[np.zeros(len(source), dtype=int), np.full(len(target), -1)]
    return CORAL(ridge=ridge, center=center).fit_transform(X, y)[: len(source)]


class _CovariancePower:
    """``(cov + ridge I)^power`` of some rows, for a power of 1/2 or -1/2; called with rows, it multiplies them.

    With U w U^T the decomposition of the centred rows' scatter ``C C^T``, or ``C^T C`` where there are no
    fewer rows than features, and a the covariance's scale, the eigenvalues are ``(a w + ridge)^power``.
    """

    def __init__(self, spectrum: Spectrum, ridge: float | str, power: float) -> None:
        n, d = spectrum.rows.shape
        w, U, dtype = spectrum.values, spectrum.vectors, spectrum.rows.dtype
        a, m = _ledoit_wolf(spectrum) if ridge == "ledoit-wolf" else (1.0 / max(n - 1, 1), float(ridge))
        self.dense: np.ndarray | None = None
        self.centred: Any = None
        if n >= d:
            self.dense = _weighted(U, (a * w + m) ** power)
            return
        root = np.sqrt(a * w + m)
        # ((a w + m)^power - m^power) / w without a difference of near numbers, nor a division by w
        excess = a / (root + np.sqrt(m)) / (1.0 if power > 0 else -root * np.sqrt(m))
        self.centred, self.vectors, self.factor = spectrum.centred, U, dtype.type(m**power)
        self.excess, self.root = excess.astype(dtype), root
        self.whitens = power < 0

    def __call__(self, X: np.ndarray) -> np.ndarray:
        if self.dense is not None:
            return X @ self.dense
        U = self.vectors
        if self.whitens and np.array_equal(X, self.centred):
            # f(C^T C) acts on C itself from the left, as f(C C^T): one product less for the rows of the fit
            return _weighted(U, 1 / self.root) @ X
        return X * self.factor + ((((X @ self.centred.T) @ U) * self.excess) @ U.T) @ self.centred


def _weighted(U: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply ``U diag(weights) U^T`` out, for weights above zero; numpy computes such a product at half the price."""
    half = U * np.sqrt(weights).astype(U.dtype)
    return half @ half.T


def _ledoit_wolf(spectrum: Spectrum) -> tuple[float, float]:
    """Return a and m such that ``a C^T C + m I`` is the shrunk covariance (that divides by n)."""
    n, d = spectrum.rows.shape
    mean_variance = float(spectrum.values.sum()) / n / d
    squares = float(np.sum(spectrum.values**2)) / n**2  # of the covariance's entries
    lengths = np.sum(np.square(spectrum.centred, dtype=np.float64), axis=1)
    spread = squares / d - mean_variance**2  # of the eigenvalues
    noise = min((np.mean(lengths**2) - squares) / (n * d), spread)
    share = noise / spread if spread > 0 else 1.0
    # never nothing: the ridge keeps the inverse root finite
    share = min(max(share, 1e-6), 1.0)
    return (1 - share) / n, share * mean_variance or 1.0
