"""Two explanations of a target that lies within the source: other class shares, or classes that moved.

Both can turn one cloud of rows into the other, and they ask for opposite methods. What tells them apart, if anything
does, is how likely each makes the rows of the target.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

MOST_ROWS = 1000  # of each domain
COMPONENTS = 5  # of the rows, in which densities are estimated
BANDWIDTHS = (0.1, 0.14, 0.2, 0.28, 0.4, 0.56)  # in standard deviations of a component
ROUNDS = 200
CLEAR = 2.0  # standard errors of the mean difference
NEARLY = 0.8  # share of the gain of one explanation, above which the other counts as good


@dataclass(frozen=True)
class Explanations:
    """How far each explanation raises the log-likelihood of the target's rows over that without a change.

    Attributes
    ----------
    shares, moved : float
        Nats a row: the classes have other shares; each feature is shifted and stretched by domain.
    shares_clear, moved_clear : bool
        Whether the gain is beyond chance.
    shares_ahead : float
        ``shares - moved`` over its standard error.
    """

    shares: float
    moved: float
    shares_clear: bool
    moved_clear: bool
    shares_ahead: float

    @property
    def shares_win(self) -> bool:
        """Whether other class shares explain the target, and nothing else does as well."""
        return self.shares_clear and self.shares_ahead > CLEAR

    @property
    def open(self) -> bool:
        """Whether both explain it, and which is right cannot be told."""
        near = self.shares > NEARLY * self.moved
        return self.shares_clear and self.moved_clear and near and not self.shares_win


def explain(
    X_source: ArrayLike, labels: ArrayLike, X_target: ArrayLike, random_state: int = 0
) -> Explanations:
    """Weigh the two explanations by kernel density estimates of the source's classes.

    Parameters
    ----------
    X_source : array of shape (n_source, n_features)
    labels : array of shape (n_source,), int
        From 0 to the number of classes less one.
    X_target : array of shape (n_target, n_features)
    random_state : int, default=0
        Draws the rows, where there are more than 1,000 of a domain.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(400) % 2
    >>> source, target = rng.normal(size=(2, 400, 2))
    >>> source += 3.0 * labels[:, None]
    >>> explain(source, labels, target + 3.0 * (np.arange(400) % 10 == 0)[:, None]).shares_win
    True
    """
    rng = np.random.default_rng(random_state)
    drawn = np.sort(rng.permutation(len(np.asarray(labels)))[:MOST_ROWS])
    source, codes = np.asarray(X_source, dtype=np.float64)[drawn], np.asarray(labels)[drawn]
    target = np.asarray(X_target, dtype=np.float64)
    target = target[np.sort(rng.permutation(len(target))[:MOST_ROWS])]
    scaler = StandardScaler().fit(source)
    source, target = scaler.transform(source), scaler.transform(target)
    if source.shape[1] > COMPONENTS:
        axes = PCA(COMPONENTS, whiten=True, random_state=0).fit(source)
        source, target = axes.transform(source), axes.transform(target)
    classes, codes = np.unique(codes, return_inverse=True)
    own = np.log(np.bincount(codes) / len(codes))
    width = max(BANDWIDTHS, key=lambda h: log_density(source, source, h, leave_out=True).mean())

    def of_classes(rows: np.ndarray) -> np.ndarray:
        return np.stack([log_density(source[codes == k], rows, width) for k in range(len(classes))], axis=1)

    found = of_classes(target)
    plain = logsumexp(found + own, axis=1)
    shares = logsumexp(found + _likely_shares(found, own), axis=1) - plain
    spread = target.std(axis=0)
    stretch = source.std(axis=0) / np.where(spread > 0, spread, 1.0)
    back = (target - target.mean(axis=0)) * stretch + source.mean(axis=0)
    volume = float(np.log(np.where(stretch > 0, stretch, 1.0)).sum())
    moved = logsumexp(of_classes(back) + own, axis=1) + volume - plain
    return Explanations(
        float(shares.mean()),
        float(moved.mean()),
        in_errors(shares) > CLEAR,
        in_errors(moved) > CLEAR,
        in_errors(shares - moved),
    )


def _likely_shares(found: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Find the log shares of the classes that make rows most likely, one row of each added."""
    shares = start
    for _ in range(ROUNDS):
        weighted = found + shares
        each = np.exp(weighted - logsumexp(weighted, axis=1, keepdims=True))
        shares = np.log((each.sum(axis=0) + 1) / (len(each) + len(shares)))
    return shares


def log_density(sample: np.ndarray, rows: np.ndarray, width: float, *, leave_out: bool = False) -> np.ndarray:
    """Log density of rows, up to a constant, by Gaussian kernels on a sample; without the row itself if asked."""
    exponent = -cdist(rows, sample, "sqeuclidean") / (2 * width**2)
    if leave_out:
        np.fill_diagonal(exponent, -np.inf)
    n, d = sample.shape
    return np.asarray(logsumexp(exponent, axis=1) - np.log(max(1, n - leave_out)) - d * np.log(width))


def in_errors(differences: np.ndarray) -> float:
    """Mean over its standard error."""
    error = float(np.std(differences)) / np.sqrt(len(differences))
    return float(differences.mean() / error) if error > 0 else 0.0
