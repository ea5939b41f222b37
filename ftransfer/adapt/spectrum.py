"""The principal axes of rows: one decomposition for all who ask about the same rows.

A grid over ridges or numbers of components, and different methods on the same features, need the same
decomposition again and again, each from an estimator of its own. It is therefore kept for a while and found by the rows
themselves. What comes back depends on the rows and on what was asked only, never on what was asked before.
"""

import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh

from ftransfer.adapt.threads import blas_threads, one_blas_thread

MOST_BYTES = 256 * 2**20  # that decompositions kept for the next question may take, with their rows
FEW = 40  # leading axes, so many at least, that Lanczos' method finds sooner than a reduction of the matrix
ONE_THREAD = 2048  # rows of a matrix up to which one thread decomposes it
STEP = 128  # more leading axes than these are computed by so many


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Mean and leading principal axes of rows.

    Attributes
    ----------
    rows : ndarray of shape (n_samples, n_features)
    mean : ndarray of shape (n_features,)
        Summed in float64.
    values : ndarray of shape (k,), float64
        Eigenvalues of the scatter of the centred rows (their squared lengths along the axes), falling.
    vectors : ndarray of shape (min(n_samples, n_features), k)
        Eigenvectors of the smaller scatter matrix: of ``C C^T`` for fewer centred rows C than features,
        else of ``C^T C``.
    """

    rows: np.ndarray
    mean: np.ndarray
    values: np.ndarray
    vectors: np.ndarray

    @property
    def centred(self) -> np.ndarray:
        """The rows about their mean."""
        return self.rows - self.mean

    @cached_property
    def axes(self) -> np.ndarray:
        """Principal axes, (n_features, k); zero where the rows have no variance along them."""
        axes = self.vectors
        n, d = self.rows.shape
        if n < d:
            axes = self.centred.T @ axes
            length = np.linalg.norm(axes, axis=0)
            some = length > np.finfo(axes.dtype).eps * n * max(length.max(initial=0.0), 1e-30)
            axes = axes / np.where(some, length, np.inf)
        return np.ascontiguousarray(axes * column_signs(axes).astype(axes.dtype))

    @cached_property
    def scores(self) -> np.ndarray:
        """The centred rows along the axes, (n_samples, k)."""
        return self.centred @ self.axes

    @property
    def nbytes(self) -> int:
        """Memory that this takes, in bytes, the axes and the scores included."""
        k = self.vectors.shape[1]
        return self.vectors.nbytes + k * self.mean.nbytes + k * len(self.rows) * self.rows.itemsize


def decompose(rows: np.ndarray, k: int | None = None) -> Spectrum:
    """Decompose the scatter of rows about their mean.

    Parameters
    ----------
    rows : ndarray of shape (n_samples, n_features), float32 or float64
        Kept, so not to be written to afterwards.
    k : int, optional
        At least so many leading axes are wanted. Default: all.

    Returns
    -------
    Spectrum, in the precision of `rows`; shared with others, so not to be written to.
    """
    k = _computed(min(rows.shape), k)
    # the first row tells most questions apart, the rest is compared
    key = (rows.shape, rows.dtype.str, rows[0].tobytes())
    with _lock:
        entries = _kept.setdefault(key, [])
        entry = next((e for e in entries if np.array_equal(e.rows, rows)), None)
        if entry is None:
            entries.append(entry := _Entry(rows))
        _kept.move_to_end(key)
    with entry.lock:  # whoever asks for the same rows meanwhile waits instead of computing them too
        if entry.mean is None or entry.scatter is None:
            entry.mean, entry.scatter = _scatter(rows)
        if k not in entry.spectra:
            entry.spectra[k] = _decompose(entry.rows, entry.mean, entry.scatter, k)
        spectrum = entry.spectra[k]
    with _lock:
        while sum(entry.nbytes for entries in _kept.values() for entry in entries) > MOST_BYTES:
            _kept.popitem(last=False)
    return spectrum


def decompose_each(domains: list[np.ndarray], k: int | None = None) -> list[Spectrum]:
    """Decompose the rows of several domains, as `decompose` does; small ones at the same time, with a thread each."""
    threads = min(len(domains), blas_threads())
    if threads == 1 or max(min(rows.shape) for rows in domains) > ONE_THREAD:
        return [decompose(rows, k) for rows in domains]
    with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda rows: decompose(rows, k), domains))


def column_signs(weights: np.ndarray) -> np.ndarray:
    """Return -1 for each column whose largest entry is negative, else 1."""
    largest = np.take_along_axis(weights, np.abs(weights).argmax(axis=0)[None], axis=0)[0]
    return np.where(largest < 0, -1.0, 1.0)


def _computed(size: int, k: int | None) -> int:
    """Tell how many axes are computed where k are wanted: the same number for many k."""
    if k is None:
        return size
    if k <= FEW:
        return min(size, FEW)
    return min(size, -(-k // STEP) * STEP)


def _scatter(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean, and the smaller scatter matrix of the rows about it."""
    n, d = rows.shape
    mean = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
    centred = rows - mean
    return mean, centred @ centred.T if n < d else centred.T @ centred


def _decompose(rows: np.ndarray, mean: np.ndarray, scatter: np.ndarray, k: int) -> Spectrum:
    with one_blas_thread() if len(scatter) <= ONE_THREAD else nullcontext():
        values, vectors = _leading(scatter, k)
    falling = np.argsort(-values, kind="stable")
    values = np.maximum(values[falling].astype(np.float64), 0.0)
    return Spectrum(rows, mean, values, np.ascontiguousarray(vectors[:, falling]))


def _leading(scatter: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    size = len(scatter)
    if 3 * k >= size > 1:  # older releases of SciPy cannot divide a single number
        values, vectors = eigh(
            scatter, driver="evd"
        )  # divide and conquer: the fastest for all, or many of them
        return values[-k:], vectors[:, -k:]
    if k <= FEW and size >= 6 * FEW:
        start = np.random.default_rng(0).standard_normal(size).astype(scatter.dtype)
        with suppress(ArpackError):  # rows without variance, or no convergence
            return eigsh(scatter, k, v0=start)
    return eigh(scatter, subset_by_index=[size - k, size - 1])


# ---------------------------------------------------------------- what is kept


@dataclass(eq=False)
class _Entry:
    rows: np.ndarray
    lock: Lock = field(default_factory=Lock)
    mean: np.ndarray | None = None
    scatter: np.ndarray | None = None
    spectra: dict[int, Spectrum] = field(default_factory=dict)  # by the number of axes computed

    @property
    def nbytes(self) -> int:
        scatter = 0 if self.scatter is None else self.scatter.nbytes
        return self.rows.nbytes + scatter + sum(each.nbytes for each in list(self.spectra.values()))


_lock = Lock()
_kept: OrderedDict[tuple, list[_Entry]] = OrderedDict()


def forget() -> None:
    """Drop all decompositions that are kept."""
    global _lock, _kept
    _lock, _kept = Lock(), OrderedDict()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)  # a lock that another thread held would stay locked there
