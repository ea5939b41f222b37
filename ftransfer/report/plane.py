"""The features in two dimensions, before and after adaptation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from ftransfer.search.outcome import Race

MOST_POINTS = 1000
FEWEST_POINTS = 10
COMPONENTS = 50  # kept before t-SNE, as its authors do
NEIGHBOURS = 10


@dataclass(frozen=True)
class Plane:
    """Sampled rows of both domains in the plane.

    Attributes
    ----------
    rows : ndarray of shape (n,), int
        Which rows of the task; source rows first.
    points : list of ndarray of shape (n, 2)
        Before and after adaptation; only one where the pipeline does not map the features by their domain.
    mixing : list of float
        Of a row's ten nearest rows in the space itself, the share that is of the other domain; for each of `points`.
    mixing_expected : float
        That share if the domains could not be told apart.
    """

    rows: np.ndarray
    points: list[np.ndarray]
    mixing: list[float]
    mixing_expected: float


def draw_plane(race: Race, random_state: int = 0) -> Plane | None:
    """Sample rows of both domains and lay them out by t-SNE, before and after the recommended adaptation.

    References
    ----------
    van der Maaten, Hinton, "Visualizing data using t-SNE", JMLR 2008.
    """
    task = race.task
    rows = sample(task.is_source, random_state)
    before = task.X[rows]
    if len(rows) < FEWEST_POINTS:
        return None
    is_source = task.is_source[rows]
    n, n_source = len(rows), int(is_source.sum())
    expected = 2 * n_source * (n - n_source) / (n * (n - 1))
    spaces = [before]
    if race.pipeline[:-1].readers:
        spaces.append(race.pipeline.transform_source(before, sample_domain=task.sample_domain[rows]))
    # of t-SNE's threads each waits for the slowest: on a busy machine one thread is faster than many
    with threadpool_limits(limits=1):
        points = [lay_out(space, random_state) for space in spaces]
        mixed = [mixing(space, is_source) for space in spaces]
    return Plane(rows, points, mixed, expected)


def sample(is_source: np.ndarray, random_state: int) -> np.ndarray:
    """Draw at most `MOST_POINTS` rows, half of each domain where both have as many."""
    rng = np.random.default_rng(random_state)
    domains = [np.flatnonzero(is_source), np.flatnonzero(~is_source)]
    fewer = min(MOST_POINTS // 2, *map(len, domains))
    return np.concatenate(
        [
            np.sort(rng.permutation(d)[: max(fewer, MOST_POINTS - fewer)]) if len(d) > fewer else d
            for d in domains
        ]
    )


def lay_out(X: ArrayLike, random_state: int) -> np.ndarray:
    """Place rows in the plane: principal components, then t-SNE; array of shape (n, 2)."""
    X = np.asarray(X, dtype=np.float64)
    if not (X.std(axis=0) > 0).any():
        return np.zeros((len(X), 2))  # nothing tells the rows apart
    n_components = min(COMPONENTS, *X.shape)
    Z = PCA(n_components, svd_solver="randomized", random_state=random_state).fit_transform(X)
    tsne = TSNE(
        perplexity=min(30.0, (len(X) - 1) / 3),
        init="pca" if n_components > 1 else "random",
        max_iter=500,
        random_state=random_state,
    )
    return tsne.fit_transform(Z)


def mixing(X: np.ndarray, is_source: np.ndarray) -> float:
    """Share of the other domain among the nearest rows, averaged over the rows."""
    finder = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(X) - 1)).fit(X)
    nearest = finder.kneighbors(return_distance=False)
    return float(np.mean(is_source[nearest] != is_source[:, None]))
