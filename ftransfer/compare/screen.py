"""Which of many domains lie near one another: two quick measures of every pair, without yardsticks and intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from ftransfer.compare.distances import median_bandwidth
from ftransfer.compare.halves import FEWEST_ROWS
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.protocol import Features

MEASURES = ("MMD", "mean shift")


@dataclass(frozen=True)
class Screening:
    """Quick distances between all domains.

    Attributes
    ----------
    domains : tuple of str
    pairs : DataFrame
        source, target, MMD, mean shift; the nearest pair by MMD first.
    notes : list of str
        What was left out, for people.
    """

    domains: tuple[str, ...]
    pairs: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def screen_domains(
    features: Features,
    domains: Sequence[str] | None = None,
    random_state: int = 0,
    *,
    max_rows: int = 100,
    progress: Callable[[int], object] = lambda n: None,
) -> Screening:
    """Measure every pair of many domains by two quick distances.

    The kernel of MMD has one bandwidth for all pairs, the median distance between rows of all domains, so that pairs
    can be compared with one another; `compare_all` takes the median of each pair. The work grows with the square of the
    rows.

    Parameters
    ----------
    features : FeatureSet
    domains : list of str, optional
        Default: all, by name. Those with fewer than 8 rows are left out, and a note says so.
    random_state : int, default=0
    max_rows : int, default=100
        Rows of a domain that are loaded, at random, where it has more.
    progress : callable, optional
        Called with the number of pairs done since the last call.

    Raises
    ------
    FtransferError
        If a domain does not exist, fewer than two have 8 rows, or a feature is not finite.
    """
    rows = features.complete.query("status == 'ok'")
    found = dict(list(rows.groupby("domain", sort=True)))
    for name in domains or ():
        if name not in found:
            raise unknown("domain", name, found)
    chosen = {name: found[name] for name in domains or found}
    few = [name for name, part in chosen.items() if len(part) < FEWEST_ROWS]
    names = [name for name in chosen if name not in few]
    if len(names) < 2:
        raise FtransferError(
            f"two or more domains with at least {FEWEST_ROWS} images are needed; found {len(names)}"
        )
    notes = [f"at most {max_rows} images of a domain were compared, drawn at random"]
    if few:
        notes.append(
            f"left out, with fewer than {FEWEST_ROWS} images: {len(few)} domains, such as '{few[0]}'"
        )
    taken = [
        chosen[name].sample(min(max_rows, len(chosen[name])), random_state=random_state) for name in names
    ]
    X = features.load(pd.concat(taken))
    if not np.isfinite(X).all():
        raise FtransferError("the features hold NaN or infinity; remove those rows or features first")
    starts = np.r_[0, np.cumsum([len(part) for part in taken])]
    mmd = _mmd(X, starts, median_bandwidth(X, random_state), progress)
    shift = _mean_shift(X, starts)
    a, b = np.array(list(combinations(range(len(names)), 2))).T
    columns = {"source": np.array(names, dtype=object)[a], "target": np.array(names, dtype=object)[b]}
    pairs = pd.DataFrame({**columns, "MMD": mmd[a, b], "mean shift": shift[a, b]})
    return Screening(tuple(names), pairs.sort_values("MMD", kind="stable", ignore_index=True), notes)


def _mmd(
    X: np.ndarray, starts: np.ndarray, bandwidth: float, progress: Callable[[int], object]
) -> np.ndarray:
    """Estimate the squared MMD of all pairs without bias, as `distances.quadratic_mmd`; a domain's rows at a time."""
    squares, sizes = np.einsum("ij,ij->i", X, X), np.diff(starts)
    sums = np.empty((len(sizes), len(sizes)))
    for i, (start, end) in enumerate(zip(starts[:-1], starts[1:], strict=True)):
        kernel = squares[start:end, None] - 2 * X[start:end] @ X.T + squares
        kernel = np.exp(np.maximum(kernel, 0) / (-2 * bandwidth**2))
        sums[i] = np.add.reduceat(kernel.sum(axis=0, dtype=np.float64), starts[:-1])
        sums[i, i] -= kernel[np.arange(end - start), np.arange(start, end)].sum(dtype=np.float64)
        progress(i)  # its pairs with those before it
    within = np.diag(sums) / (sizes * (sizes - 1))
    return within[:, None] + within - 2 * sums / np.outer(sizes, sizes)


def _mean_shift(X: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Measure how far the means of all pairs lie apart, as `distances.mean_shift`."""
    parts = [X[start:end] for start, end in zip(starts[:-1], starts[1:], strict=True)]
    means = np.array([part.mean(axis=0, dtype=np.float64) for part in parts])
    variances = np.array([part.var(axis=0, dtype=np.float64) for part in parts])
    shift = np.zeros((len(parts), len(parts)))
    for i in range(len(parts)):
        square = (means[i] - means) ** 2
        variance = (variances[i] + variances) / 2 + square / 4
        varies = variance > 0
        ratio = np.divide(square, variance, where=varies, out=np.zeros_like(square))
        shift[i] = np.sqrt(ratio.sum(axis=1) / np.maximum(varies.sum(axis=1), 1))
    return shift
