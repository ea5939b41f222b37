"""How far the fast tier drifts from the exact one."""

from collections.abc import Sequence

import joblib
import numpy as np
import pandas as pd

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.runtime import one_torch_thread_each
from ftransfer.features.feature_set import FeatureSet
from ftransfer.images.pixels import decode
from ftransfer.images.read import read_bytes

SAMPLE = 100  # images at most, and one in a hundred: the exact tier takes up to ten times as long for each
NEIGHBOURS = 5


def compare_tiers(features: FeatureSet, backbone: Backbone, manifest: pd.DataFrame) -> dict | None:
    """Embed a sample once more in the exact tier, and compare.

    Parameters
    ----------
    features : FeatureSet
        Of the fast tier.
    backbone : Backbone
        The one that computed it.
    manifest : DataFrame
        Rows of the feature set; those with the status "ok" are sampled evenly.

    Returns
    -------
    dict of ``images`` (in the sample), ``centred_cosine`` and ``neighbour_overlap``; None for fewer images than
    tell anything.
    """
    rows = manifest[manifest["status"] == "ok"].drop_duplicates("sha256")
    size = min(SAMPLE, max(len(rows) // 100, 4 * NEIGHBOURS), len(rows))
    if size < 4 * NEIGHBOURS:
        return None
    rows = rows.iloc[np.linspace(0, len(rows) - 1, size).astype(int)]

    def embed(row: Sequence[str]) -> np.ndarray:
        return backbone.embed(backbone.preprocess(decode(read_bytes(*row)))[None])

    threads = joblib.cpu_count() if backbone.device.type == "cpu" else 1
    with one_torch_thread_each(threads, "exact") as pool:
        exact = np.concatenate(list(pool.map(embed, rows[["root", "path"]].to_numpy())))
    fast = features.load(rows)
    return {
        "images": size,
        "centred_cosine": centred_cosine(exact, fast),
        "neighbour_overlap": neighbour_overlap(exact, fast),
    }


def centred_cosine(exact: np.ndarray, fast: np.ndarray) -> float:
    """Mean cosine between rows after the mean of the exact rows is taken away, (n, d) each.

    The plain cosine hides the drift: features after a ReLU all point into much the same direction.

    >>> exact = np.array([[9.0, 1.0], [9.0, -1.0]])
    >>> float(centred_cosine(exact, exact)), float(centred_cosine(exact, exact[::-1]))
    (1.0, -1.0)
    """
    centre = exact.mean(axis=0, dtype=np.float64)
    a, b = exact - centre, fast - centre
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / np.maximum(norms, np.finfo(float).tiny)))


def neighbour_overlap(exact: np.ndarray, fast: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Share of each row's `k` nearest rows that stay the same, (n, d) each; by Euclidean distance."""
    shares = []
    for one, other in zip(_nearest(exact, k), _nearest(fast, k), strict=True):
        shares.append(len(set(one) & set(other)) / k)
    return float(np.mean(shares))


def _nearest(X: np.ndarray, k: int) -> np.ndarray:
    X = X - X.mean(axis=0, dtype=np.float64)
    squares = (X**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * X @ X.T
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]
