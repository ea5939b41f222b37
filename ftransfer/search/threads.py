"""Work in threads that Ctrl-C does not wait for."""

import queue
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import sklearn
from joblib import Parallel, cpu_count, delayed
from joblib.parallel import SequentialBackend, ThreadingBackend, get_active_backend
from threadpoolctl import threadpool_limits

SECONDS = 0.5  # between looks at whether the process was interrupted, where a signal does not wake it


def in_threads(
    work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], jobs: int | None, *, local: bool = False
) -> Iterator[Any]:
    """Yield `work` of each tuple of arguments, in their order; threads share X, and the fits leave the interpreter.

    Parameters
    ----------
    work : callable
    arguments : iterable of tuple
        Taken one by one, each when a thread is free for it.
    jobs : int or None
        Threads. None: the usable cores.
    local : bool, default=False
        Whether memory has to be shared. Else the work is joblib's where that was told of another backend, such as
        Dask's.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.showwarning = (
            _say_nothing  # a forest in one thread empties the filters that all threads share
        )
        if local or _computes_here():
            yield from _in_daemons(work, arguments, jobs or cpu_count())
        else:
            parallel = Parallel(n_jobs=jobs or -1, return_as="generator", batch_size=1)
            yield from parallel(delayed(work)(*each) for each in arguments)


def _say_nothing(*_: Any, **__: Any) -> None:
    """Show no warning."""


def _computes_here() -> bool:
    backend, _ = get_active_backend(prefer="threads")
    return isinstance(backend, SequentialBackend | ThreadingBackend)


def _in_daemons(
    work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], n_threads: int
) -> Iterator[Any]:
    """As `in_threads`; on an exception, Ctrl-C among them, what runs is left to end by itself, or with the process.

    A fit in compiled code cannot be stopped, and an ordinary thread pool would be waited for.
    """
    todo, taking = enumerate(arguments), threading.Lock()
    done: queue.SimpleQueue = queue.SimpleQueue()
    free, stopped = threading.Semaphore(n_threads), threading.Event()
    config = sklearn.get_config()  # each thread has its own

    def serve() -> None:
        with sklearn.config_context(**config):
            while True:
                free.acquire()
                i = None
                try:
                    with taking:
                        if stopped.is_set() or (taken := next(todo, None)) is None:
                            break
                    i, given = taken
                    done.put((i, work(*given), None))
                except BaseException as problem:
                    done.put((i, None, problem))
                    break
            done.put(None)
            free.release()  # for the others to end, too

    for _ in range(n_threads):
        threading.Thread(target=serve, daemon=True).start()
    try:
        yield from _in_order(done, n_threads, free)
    finally:
        stopped.set()
        free.release()


def _in_order(done: queue.SimpleQueue, n_threads: int, free: threading.Semaphore) -> Iterator[Any]:
    """Yield results in the order of their numbers; begin no further work before a result in turn was dealt with."""
    early: dict[int, Any] = {}
    awaited, running = 0, n_threads
    while running:
        try:
            came = done.get(timeout=SECONDS)
        except queue.Empty:
            continue
        if came is None:
            running -= 1
            continue
        i, result, problem = came
        if problem is not None:
            raise problem
        early[i] = result
        while awaited in early:
            yield early.pop(awaited)
            awaited += 1
        free.release()
