"""One BLAS thread where more of them mostly wait for each other.

Decomposing a matrix of some hundred rows is little work in many small steps. On a machine that does other things
as well, threads wait for one another at each: on two busy cores, 500 rows took two threads 8 times as long as one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import scipy.linalg  # noqa: F401 - what it computes with has to be loaded to be found
from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Compute with one BLAS thread.

    The number is the whole process's. Whoever sets it sets it back, whatever happens inside: the last of several
    threads to leave could not, for since release 3.8 threadpoolctl heeds only the thread that set it. Who is inside
    beyond that goes on with more threads, slower but not wrong. A number that somebody else set meanwhile is kept.
    """
    before = [(library, n) for library in _libraries() if (n := library.num_threads or 1) > 1]
    for library, _ in before:
        library.set_num_threads(1)
    try:
        yield
    finally:
        for library, n in before:
            if library.num_threads == 1:
                library.set_num_threads(n)
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread()  # others may set it again


def blas_threads() -> int:
    """Tell how many threads a BLAS call would take now."""
    return max((library.num_threads or 1 for library in _libraries()), default=1)


@cache
def _libraries() -> list[Any]:
    return ThreadpoolController().select(user_api="blas").lib_controllers
