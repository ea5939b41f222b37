"""How far apart two sets of rows are: one function a distance, for wide features and few rows.

No matrix of the size n_features x n_features is formed where there are fewer rows than features.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import qr, subspace_angles, svdvals
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

NORMAL_95 = 1.959964
TREES = 50


class Estimate(NamedTuple):
    """A number with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


def mean_shift(A: np.ndarray, B: np.ndarray) -> float:
    """Measure how far the means lie apart, in standard deviations of a feature.

    The root mean square, over the features, of the difference of the means divided by the standard
    deviation in both domains together (each domain counting half). It is at most 2: then each domain is constant.

    Parameters
    ----------
    A : array of shape (n_a, n_features)
    B : array of shape (n_b, n_features)
    """
    difference = A.mean(axis=0) - B.mean(axis=0)
    variance = (A.var(axis=0) + B.var(axis=0)) / 2 + difference**2 / 4
    varies = variance > 0
    return float(np.sqrt(np.mean(difference[varies] ** 2 / variance[varies]))) if varies.any() else 0.0


def spread_ratio(A: np.ndarray, B: np.ndarray) -> float:
    """Measure by which factor the standard deviation of a feature differs: at least 1, the median feature's."""
    a, b = A.std(axis=0), B.std(axis=0)
    varies = (a > 0) & (b > 0)
    return float(np.exp(np.median(np.abs(np.log(a[varies] / b[varies]))))) if varies.any() else 1.0


def shape_distance(A: np.ndarray, B: np.ndarray) -> float:
    """Measure how far the shapes of the features' distributions differ beyond means and variances.

    Each domain is standardised by itself; the 1-Wasserstein distance of the two distributions of a feature
    (in standard deviations, by 200 quantiles) is averaged over the features.
    """
    varies = (A.std(axis=0) > 0) & (B.std(axis=0) > 0)
    if not varies.any():
        return 0.0
    return float(np.mean(np.abs(_quantiles(A[:, varies]) - _quantiles(B[:, varies]))))


def _quantiles(X: np.ndarray) -> np.ndarray:
    """Return 200 quantiles of each feature, standardised: (n_features, 200)."""
    Z = np.sort(
        ((X - X.mean(axis=0)) / X.std(axis=0)).T, axis=1
    )  # far faster than np.quantile of so many levels
    return Z[:, ((np.arange(200) + 0.5) / 200 * len(X)).astype(int)]


def coral_distance(A: np.ndarray, B: np.ndarray) -> float:
    """Measure how far the covariances lie apart: ``||C_A - C_B||_F^2 / (4 n_features^2)``.

    Sun, Saenko, "Deep CORAL", ECCV 2016 workshops, equation 1; of the features as they are.
    """
    a, b = _root(A), _root(B)
    squares = [np.sum((x @ y.T) ** 2) for x, y in ((a, a), (b, b), (a, b))]
    return float(max(squares[0] + squares[1] - 2 * squares[2], 0.0) / (4 * A.shape[1] ** 2))


def frechet_parts(A: np.ndarray, B: np.ndarray) -> tuple[float, float]:
    """Split the Frechet distance between two normal distributions into the means' part and the covariances'.

    ``||m_A - m_B||^2`` and ``tr(C_A + C_B - 2 (C_A C_B)^(1/2))``; their sum is the squared distance, known
    from the Frechet inception distance (Heusel et al., NeurIPS 2017, equation 6). With ``C = R^T R``, the
    trace of the root is the sum of the singular values of ``R_A R_B^T``: no root is taken, and the matrix
    is no larger than the number of rows.
    """
    a, b = _root(A), _root(B)
    means = float(np.sum((A.mean(axis=0) - B.mean(axis=0)) ** 2))
    covariances = np.sum(a**2) + np.sum(b**2) - 2 * svdvals(a @ b.T, check_finite=False).sum()
    return means, float(max(covariances, 0.0))


def frechet_distance(A: np.ndarray, B: np.ndarray) -> float:
    """Measure the squared Frechet distance between normal distributions with the domains' means and covariances."""
    return sum(frechet_parts(A, B))


def principal_angles(
    A: np.ndarray, B: np.ndarray, n_components: int = 10, random_state: int = 0
) -> np.ndarray:
    """Return the angles between the leading principal subspaces, in radian, the largest first.

    Parameters
    ----------
    A : array of shape (n_a, n_features)
    B : array of shape (n_b, n_features)
    n_components : int, default=10
        Dimensions of either subspace; fewer, where rows (less one) or features are fewer.
    random_state : int, default=0
        Of the randomised decomposition of wide features.

    Returns
    -------
    ndarray of shape (n_components,)
    """
    k = min(n_components, len(A) - 1, len(B) - 1, A.shape[1])
    return subspace_angles(
        *(PCA(k, random_state=random_state).fit(X).components_.T.astype(np.float64) for X in (A, B))
    )


def _root(X: np.ndarray) -> np.ndarray:
    """Return R of shape (min(n, n_features), n_features) such that ``R^T R`` is the covariance of the rows."""
    centred = (X - X.mean(axis=0)) / np.sqrt(len(X) - 1)
    return centred if len(X) <= X.shape[1] else qr(centred, mode="economic", check_finite=False)[1]


# ---------------------------------------------------------------- maximum mean discrepancy


def median_bandwidth(X: np.ndarray, random_state: int = 0, most_rows: int = 1000) -> float:
    """Return the median distance between rows (of at most `most_rows` of them): the kernel's bandwidth."""
    rows = np.random.default_rng(random_state).permutation(len(X))[:most_rows]
    middle = float(np.median(pdist(X[rows])))
    return middle if middle > 0 else 1.0


def rbf_kernel(X: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return ``exp(-||x - x'||^2 / (2 bandwidth^2))`` of all pairs of rows."""
    kernel = euclidean_distances(X, squared=True)
    kernel *= -0.5 / bandwidth**2
    return np.exp(kernel, out=kernel)


def quadratic_mmd(kernel: np.ndarray, is_a: np.ndarray) -> np.ndarray:
    """Estimate the squared maximum mean discrepancy from all pairs of rows, without bias; it may be below 0.

    Gretton, Borgwardt, Rasch, Schoelkopf, Smola, "A kernel two-sample test", JMLR 2012, equation 3.

    Parameters
    ----------
    kernel : array of shape (n, n)
        Of all rows, ones on the diagonal.
    is_a : bool array of shape (n, ...)
        The rows of A; the others are B's. Several columns are several divisions, each of the same sizes.

    Returns
    -------
    ndarray of shape (...)
    """
    z = is_a.astype(kernel.dtype)
    a, b = z.sum(axis=0), (1 - z).sum(axis=0)
    product = kernel @ z
    within_a = (z * product).sum(axis=0)
    across = product.sum(axis=0) - within_a
    within_b = kernel.sum() - within_a - 2 * across
    return (within_a - a) / (a * (a - 1)) + (within_b - b) / (b * (b - 1)) - 2 * across / (a * b)


def mmd_p_value(
    kernel: np.ndarray, is_a: np.ndarray, n_permutations: int = 499, random_state: int = 0
) -> float:
    """Say how often rows divided at random are as far apart: the p-value of the quadratic estimate."""
    rng = np.random.default_rng(random_state)
    observed = quadratic_mmd(kernel, is_a)
    shuffled = rng.permuted(np.repeat(is_a[:, None], n_permutations, axis=1), axis=0)
    as_far = quadratic_mmd(kernel, shuffled) >= observed - 1e-12  # the same division may be drawn again
    return float((1 + np.sum(as_far)) / (1 + n_permutations))


def linear_mmd(A: np.ndarray, B: np.ndarray, bandwidth: float, random_state: int = 0) -> Estimate:
    """Estimate the squared maximum mean discrepancy in linear time, from disjoint pairs of rows.

    Gretton et al., JMLR 2012, lemma 14; the interval is that of a mean. Pairs are drawn at random.
    """
    rng = np.random.default_rng(random_state)
    m = min(len(A), len(B)) // 2
    (a, a2), (b, b2) = (X[rng.permutation(len(X))[: 2 * m]].reshape(2, m, -1) for X in (A, B))

    def k(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-np.sum((x - y) ** 2, axis=1) / (2 * bandwidth**2))

    h = k(a, a2) + k(b, b2) - k(a, b2) - k(a2, b)
    margin = NORMAL_95 * h.std(ddof=1) / np.sqrt(m)
    return Estimate(float(h.mean()), float(h.mean() - margin), float(h.mean() + margin))


# ---------------------------------------------------------------- proxy A-distance


def domain_accuracy(
    A: np.ndarray, B: np.ndarray, classifier: str = "linear", standardise: bool = False, random_state: int = 0
) -> Estimate:
    """Measure how well a classifier tells the domains apart on rows that it was not fitted on.

    Parameters
    ----------
    A : array of shape (n_a, n_features)
    B : array of shape (n_b, n_features)
    classifier : "linear" or "forest"
        Logistic regression (C = 0.1, standardised features), or a random forest of 50 trees on the 50
        leading principal components.
    standardise : bool, default=False
        Whether each domain is standardised by itself first, by its rows in the folds that are fitted on: what is
        left is what per-domain scaling does not remove. A linear classifier is then at chance by construction.
    random_state : int, default=0

    Returns
    -------
    Estimate
        Accuracy in five-fold cross-validation, each domain counting half (0.5 is chance), with its 95 %
        interval (Agresti and Coull's, the rows taken for independent). A row that occurs twice in a domain
        is taken once, or the folds would share it.

    Notes
    -----
    Many CNN features are exactly zero for many images. Standardised by domain, these zeros become one number
    for A and another for B, by which a forest on the features themselves tells even random halves of one domain
    apart, always. On principal components it cannot.
    """
    A, B = np.unique(A, axis=0), np.unique(B, axis=0)
    X, is_b = np.concatenate([A, B]), np.repeat([False, True], [len(A), len(B)])
    right = np.zeros(len(X), dtype=bool)
    folds = StratifiedKFold(min(5, len(A), len(B)), shuffle=True, random_state=random_state)
    for train, test in folds.split(X, is_b):
        Z = X
        if standardise:
            Z = np.empty_like(X)
            for domain in (False, True):
                rows = is_b == domain
                Z[rows] = StandardScaler().fit(X[train][rows[train]]).transform(X[rows])
        model = _domain_classifier(classifier, min(50, len(train) - 1, X.shape[1]), random_state)
        model.fit(Z[train], is_b[train])
        # the threshold is the share of B, so that the larger domain is not favoured
        right[test] = (model.predict_proba(Z[test])[:, 1] > is_b[train].mean()) == is_b[test]
    shares = [right[~is_b].mean(), right[is_b].mean()]
    centres, variances = [], []
    for share, n in zip(shares, (len(A), len(B)), strict=True):
        n_tilde = n + NORMAL_95**2
        centres.append((share * n + NORMAL_95**2 / 2) / n_tilde)
        variances.append(centres[-1] * (1 - centres[-1]) / n_tilde)
    margin = NORMAL_95 * np.sqrt(sum(variances)) / 2
    value, centre = float(np.mean(shares)), np.mean(centres)
    return Estimate(value, float(min(centre - margin, value)), float(max(min(centre + margin, 1.0), value)))


def a_distance(accuracy: float) -> float:
    """Turn a domain classifier's accuracy into the proxy A-distance: 0 (chance or worse) to 2 (never wrong).

    ``2 (1 - 2 error)``: Ben-David, Blitzer, Crammer, Pereira, "Analysis of representations for domain
    adaptation", NIPS 2006.
    """
    return max(0.0, 2 * (2 * accuracy - 1))


def _domain_classifier(name: str, n_components: int, random_state: int) -> Pipeline:
    if name == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    forest = RandomForestClassifier(TREES, random_state=random_state)
    return make_pipeline(PCA(n_components, random_state=random_state), forest)
