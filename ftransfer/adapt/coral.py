"""Correlation alignment (CORAL)."""

from numbers import Real

import numpy as np
from scipy.linalg import eigh
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils._param_validation import Interval, StrOptions

from ftransfer.adapt.base import DomainAdapter


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

    def __init__(self, ridge=1.0, center=True):
        self.ridge = ridge
        self.center = center

    def _fit_domains(self, sources, target):
        self.target_mean_ = target.mean(axis=0, dtype=np.float64).astype(target.dtype)
        self._color = _covariance_power(target - self.target_mean_, self.ridge, 0.5)
        self.source_mean_, self._whiten, self._dense = {}, {}, {}
        for code, rows in sources.items():
            mean = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
            self.source_mean_[code] = mean
            self._whiten[code] = _covariance_power(rows - mean, self.ridge, -0.5)
            if min(len(rows), len(target)) >= rows.shape[1]:
                # more rows than features on both sides: one matrix is less work than two factorised ones
                identity = np.eye(rows.shape[1], dtype=rows.dtype)
                self._dense[code] = _apply(self._color, _apply(self._whiten[code], identity))

    def _map_source(self, X, domain):
        mean = self.source_mean_[domain]
        return self._align(X - mean, domain) + (
            self.target_mean_ if self.center else self._align(mean, domain)
        )

    def _align(self, rows, domain):
        if domain in self._dense:
            return rows @ self._dense[domain]
        return _apply(self._color, _apply(self._whiten[domain], rows))

    def _map_target(self, X):
        return X.copy()


def coral(source, target, *, ridge=1.0, center=True):
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
    X = np.concatenate([np.asarray(source), np.asarray(target)])
    y = np.r_[np.zeros(len(source), dtype=int), np.full(len(target), -1)]
    return CORAL(ridge=ridge, center=center).fit_transform(X, y)[: len(source)]


def _covariance_power(centred, ridge, power):
    """Write ``(cov + ridge I)^power`` as ``ridge^power I + F diag(h) F^T``; `power` is 1/2 or -1/2.

    Returns ``(ridge^power, F, h)``: F of shape (n_features, rank).
    """
    n, d = centred.shape
    inner = centred @ centred.T if n < d else centred.T @ centred  # the smaller of the two
    a, m = _ledoit_wolf(centred, inner) if ridge == "ledoit-wolf" else (1.0 / max(n - 1, 1), float(ridge))
    if n < d:
        # Gram form: centred centred^T = U w U^T, F = centred^T U, so F^T F = w and no w is divided by
        w, U = eigh(inner, driver="evd")  # all eigenvectors are wanted: divide and conquer is the fastest
        w = np.maximum(w.astype(np.float64), 0.0)
        F = centred.T @ U
        root = np.sqrt(a * w + m)
        h = a / (root + np.sqrt(m)) if power > 0 else -a / (root * np.sqrt(m) * (root + np.sqrt(m)))
    else:
        w, F = eigh(inner, driver="evd")
        w = np.maximum(w.astype(np.float64), 0.0)
        root = np.sqrt(a * w + m)
        h = a * w / (root + np.sqrt(m)) if power > 0 else -a * w / (root * np.sqrt(m) * (root + np.sqrt(m)))
    return m**power, F, h.astype(centred.dtype)


def _ledoit_wolf(centred, inner):
    """Return a and m such that ``a centred^T centred + m I`` is the shrunk covariance (that divides by n)."""
    n, d = centred.shape
    mean_variance = float(np.trace(inner, dtype=np.float64)) / n / d
    squares = float(np.sum(np.square(inner, dtype=np.float64))) / n**2  # of the covariance's entries
    lengths = np.sum(np.square(centred, dtype=np.float64), axis=1)
    spread = squares / d - mean_variance**2  # of the eigenvalues
    noise = min((np.mean(lengths**2) - squares) / (n * d), spread)
    share = noise / spread if spread > 0 else 1.0
    # never nothing: the ridge keeps the inverse root finite
    share = min(max(share, 1e-6), 1.0)
    return (1 - share) / n, share * mean_variance or 1.0


def _apply(operator, X):
    factor, F, h = operator
    return X * X.dtype.type(factor) + ((X @ F) * h) @ F.T
