"""Per-domain scaling."""

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.utils._param_validation import StrOptions

from ftransfer.adapt.base import DomainAdapter

BLOCK = 8192  # rows held in float64 at once


class DomainScaler(OneToOneFeatureMixin, DomainAdapter):
    """Standardise each domain by its own centre and spread.

    The mildest adaptation, and the baseline that every other one has to beat: what differs between the
    domains in the mean and the spread of single features is gone afterwards.

    Parameters
    ----------
    scale : {"std", "iqr"} or None, default="std"
        What features are divided by: the standard deviation, the interquartile range (robust against
        outliers; the centre is the median then), or nothing (the mean is taken off only).

    Attributes
    ----------
    source_center_, source_scale_ : dict of {int: ndarray of shape (n_features,)}
        One entry a source domain, keyed by its code in `sample_domain` (1 without it).
    target_center_, target_scale_ : ndarray of shape (n_features,)
    sources_ : ndarray of int
        Codes of the source domains.

    See Also
    --------
    CORAL : Match the correlations between features as well.

    References
    ----------
    Z-scoring each domain by itself is the usual first step of shallow adaptation, e.g. Gong, Shi, Sha,
    Grauman, "Geodesic flow kernel for unsupervised domain adaptation", CVPR 2012, section 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import DomainScaler
    >>> X = np.array([[1.0], [3.0], [100.0], [300.0]])
    >>> DomainScaler().fit_transform(X, [0, 1, -1, -1]).ravel()
    array([-1.,  1., -1.,  1.])
    """

    _parameter_constraints = {"scale": [StrOptions({"std", "iqr"}), None]}

    def __init__(self, scale: str | None = "std") -> None:
        self.scale = scale

    def _fit_domains(self, sources: dict[int, np.ndarray], target: np.ndarray) -> None:
        fitted = {code: self._centre_and_scale(rows) for code, rows in sources.items()}
        self.source_center_ = {code: center for code, (center, _) in fitted.items()}
        self.source_scale_ = {code: scale for code, (_, scale) in fitted.items()}
        self.target_center_, self.target_scale_ = self._centre_and_scale(target)

    def _centre_and_scale(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.scale == "iqr":
            low, center, high = np.percentile(rows, [25, 50, 75], axis=0)
            scale = high - low
        else:
            center = rows.mean(axis=0, dtype=np.float64)
            scale = _spread(rows, center) if self.scale == "std" else np.ones_like(center)
        return self._leave_constant(rows, center, scale)

    @staticmethod
    def _leave_constant(
        rows: np.ndarray, center: np.ndarray, scale: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        # a constant feature has a spread of rounding errors: leave it, as StandardScaler does
        constant = scale <= 10 * np.finfo(rows.dtype).eps * np.maximum(
            np.abs(center), np.finfo(rows.dtype).tiny
        )
        scale = np.where(constant, 1.0, scale)
        return center.astype(rows.dtype), scale.astype(rows.dtype)

    def _map_source(self, X: np.ndarray, domain: int) -> np.ndarray:
        return (X - self.source_center_[domain]) / self.source_scale_[domain]

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return (X - self.target_center_) / self.target_scale_


def _spread(rows: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature about a centre in float64, some rows at a time."""
    blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
    return np.sqrt(sum(np.square(block - center).sum(axis=0) for block in blocks) / len(rows))
