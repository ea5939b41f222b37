from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ftransfer import CORAL
from ftransfer.adapt import spectrum
from ftransfer.adapt.threads import blas_threads, one_blas_thread


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_there_is_one_thread_inside_and_as_many_as_before_afterwards():
    before = blas_threads()
    assert before > 1
    with one_blas_thread():
        assert blas_threads() == 1
        with one_blas_thread():
            assert blas_threads() == 1
        assert blas_threads() == 1
    assert blas_threads() == before


@pytest.mark.usefixtures("two_threads")
def test_an_error_inside_leaves_the_threads_as_they_were():
    before = blas_threads()
    assert before > 1
    with pytest.raises(ArithmeticError, match="inside"), one_blas_thread():
        raise ArithmeticError("inside")
    assert blas_threads() == before


def test_a_limit_of_the_caller_is_left_as_it_is():
    with threadpool_limits(1):
        with one_blas_thread():
            assert blas_threads() == 1
        assert blas_threads() == 1


@pytest.mark.usefixtures("two_threads")
def test_many_fits_at_once_leave_the_threads_as_they_were():
    before = blas_threads()
    assert before > 1
    rng = np.random.default_rng(0)
    tasks = [rng.normal(size=(60, 20 + i)) for i in range(24)]
    y = np.repeat([0, 1, -1], 20)

    def fit(X):
        return CORAL().fit_transform(X, y)

    spectrum.forget()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fit, tasks))
    assert blas_threads() == before
    for X, each in zip(tasks, found, strict=True):
        spectrum.forget()
        np.testing.assert_allclose(each, fit(X), rtol=1e-9, atol=1e-9)


def test_domains_that_are_decomposed_together_are_as_if_each_were_alone():
    rng = np.random.default_rng(0)
    domains = [rng.normal(size=(n, 30)) for n in (20, 50, 40)]
    spectrum.forget()
    together = spectrum.decompose_each(domains)
    for rows, found in zip(domains, together, strict=True):
        spectrum.forget()
        np.testing.assert_allclose(found.values, spectrum.decompose(rows).values, rtol=1e-10, atol=1e-10)
        assert found.rows is rows
