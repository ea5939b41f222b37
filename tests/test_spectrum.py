"""One decomposition for all who ask about the same rows."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ftransfer import CORAL, SubspaceAlignment
from ftransfer.adapt import spectrum
from ftransfer.adapt.spectrum import FEW, STEP, decompose, forget


@pytest.fixture(autouse=True)
def _nothing_kept():
    forget()
    yield
    forget()


@pytest.fixture
def counted(monkeypatch):
    """Numbers of axes that were computed, in order."""
    done, compute = [], spectrum._decompose
    monkeypatch.setattr(spectrum, "_decompose", lambda *given: done.append(given[-1]) or compute(*given))
    return done


def rows_of(n, d, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.linspace(2, 0.1, d) + 3).astype(dtype)


@pytest.mark.parametrize("k", [None, 5, FEW + 1, STEP + 1])
@pytest.mark.parametrize(("n", "d"), [(30, 80), (80, 30), (300, 400), (400, 300)])
def test_the_spectrum_is_that_of_a_singular_value_decomposition(n, d, k):
    rows = rows_of(n, d)
    found = decompose(rows, k)
    _, singular, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    leading = min(k or min(n, d), min(n, d) - 1)
    assert len(found.values) >= leading
    np.testing.assert_allclose(found.values[:leading], singular[:leading] ** 2, rtol=1e-8)
    agreement = np.abs(np.sum(found.axes[:, :leading] * axes[:leading].T, axis=0))
    np.testing.assert_allclose(agreement, 1.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_eigenvalues_are_all_found(dtype):
    corners = np.vstack([np.eye(400), -np.eye(400)]) * np.r_[np.full(60, 5.0), np.ones(340)]
    found = decompose(corners.astype(dtype), FEW)
    np.testing.assert_allclose(found.values, 50.0, rtol=1e-5)


def test_rows_without_variance_have_no_axes():
    found = decompose(np.full((300, 400), 2.0), 3)
    assert not found.values.any()
    assert not found.axes.any()


def test_a_grid_decomposes_each_domain_once(counted):
    X = np.vstack([rows_of(60, 20), rows_of(50, 20, seed=1)])
    y = np.r_[np.zeros(60, int), np.full(50, -1)]
    for ridge in (0.1, 1.0, 10.0):
        CORAL(ridge=ridge).fit_transform(X, y)
    assert len(counted) == 2
    for k in (2, 5, 9):
        SubspaceAlignment(n_components=k).fit_transform(X, y)
    assert len(counted) == 2  # of few rows or features all axes are computed at once


def test_what_was_asked_before_changes_no_bit():
    rows = rows_of(500, 300, np.float32)
    alone = decompose(rows, 7).axes[:, :7].copy()
    forget()
    decompose(rows)
    decompose(rows, 200)
    np.testing.assert_array_equal(decompose(rows, 7).axes[:, :7], alone)


def test_other_rows_with_the_same_first_row_are_others(counted):
    rows = rows_of(30, 10)
    other = rows.copy()
    other[-1, -1] += 1
    assert decompose(rows).values[0] != decompose(other).values[0]
    assert len(counted) == 2


def test_threads_that_ask_at_once_share_one_computation(counted):
    rows = rows_of(400, 300)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: decompose(rows.copy()), range(16)))
    assert counted == [300]
    assert all(each is found[0] for each in found)


def test_memory_stays_bounded(monkeypatch, counted):
    decompose(rows_of(40, 30))
    [[entry]] = spectrum._kept.values()
    monkeypatch.setattr(spectrum, "MOST_BYTES", 3 * entry.nbytes)
    for seed in range(10):
        decompose(rows_of(40, 30, seed=seed))
    kept = [entry for entries in spectrum._kept.values() for entry in entries]
    assert len(kept) == 3
    decompose(rows_of(40, 30, seed=9))
    assert len(counted) == 10  # the last is kept still


def test_a_failure_is_not_kept(monkeypatch):
    rows, compute = rows_of(40, 30), spectrum._decompose

    def fail(*given):
        raise MemoryError("no room")

    monkeypatch.setattr(spectrum, "_decompose", fail)
    with pytest.raises(MemoryError, match="no room"):
        decompose(rows)
    monkeypatch.setattr(spectrum, "_decompose", compute)
    assert decompose(rows).values[0] > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process")
def test_a_forked_process_does_not_wait_for_a_lock_of_its_parent():
    with spectrum._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if decompose(rows_of(30, 10)).values[0] > 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
