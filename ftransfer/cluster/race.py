"""A race on a cluster."""

import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from joblib import parallel_config
from joblib._dask import DaskDistributedBackend
from joblib.parallel import SequentialBackend
from threadpoolctl import threadpool_limits

from ftransfer.cluster.broadcast import broadcasting, faults_as_text, received
from ftransfer.cluster.connect import (
    WorkerWatch,
    check_versions,
    connect,
    dask_errors_in_one_line,
    distributed,
)
from ftransfer.errors import FtransferError
from ftransfer.search.candidate import TrialResult
from ftransfer.search.contest import Recipes
from ftransfer.search.outcome import Race
from ftransfer.search.race import race
from ftransfer.search.strategy import Trial
from ftransfer.search.trials import Work
from ftransfer.task import Task


def race_on_cluster(
    task: Task,
    recipes: Recipes | None = None,
    *,
    cluster: Any,
    warn: Callable[[str], None] = warnings.warn,
    **options: Any,
) -> Race:
    """Race on a Dask cluster, through joblib's backend for it; as `race`, and with the same result.

    The rows of the task are sent to each worker process once; those of a task of many rows are read by the workers from
    the feature set. A candidate whose worker dies runs again on another.
    The few candidates that the guard weighs are fitted once more here.

    Parameters
    ----------
    task, recipes, **options
        As for `race`, but for ``jobs``: as many candidates are fitted at once as the workers have threads.
    cluster : str or distributed.Client
        As for `connect`.
    warn : callable
        Called with a sentence where the same numbers cannot be promised.

    Returns
    -------
    Race

    Raises
    ------
    FtransferError
        As `race` and `connect`; if the scheduler or a worker lacks this release of ftransfer.
    """
    with connect(cluster) as client, broadcasting(client) as send:
        check_versions(client, warn)

        def bind(work: Callable[..., TrialResult], *shared: Any) -> Work:
            return _Remote(send(_Shared(work, shared)))

        with parallel_config(backend=_Backend(client=client)), dask_errors_in_one_line("candidate"):
            return race(task, recipes, bind=bind, **options)


@dataclass
class _Shared:
    """The work of a race, and what all its candidates share; sent to each worker process."""

    work: Callable[..., TrialResult]
    shared: tuple[Any, ...]

    def begin(self) -> None:
        """Compute on one thread, as a race on one machine does: several add up in another order."""
        threadpool_limits(limits=1)


@dataclass(frozen=True)
class _Remote:
    """The work of a race for one trial, on whichever worker calls it."""

    name: str

    def __call__(self, trial: Trial) -> TrialResult:
        with faults_as_text(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sent = _received_here(self.name)
            result: TrialResult = sent.work(*sent.shared, trial)
        return replace(result, fitted=None)  # it may be larger than the data


def _received_here(name: str) -> _Shared:
    """Return what was sent; rows that lie in a feature set are read from it."""
    try:
        return received(name)
    except FtransferError as error:
        raise FtransferError(
            f"worker {distributed.get_worker().address}: {error}; a feature set of many images is read by the workers, "
            f"so it must be on a file system that all of them mount under the same path"
        ) from None


class _Backend(DaskDistributedBackend):
    """joblib's backend for Dask, where whatever goes wrong ends the race, and one thread is a cluster, too.

    joblib's own waits forever for a task that cannot be pickled or whose workers died, computes here where the
    cluster has one thread, and keeps large arguments on a single worker, with which they are lost.
    """

    def start_call(self) -> None:
        """Begin to hand in tasks."""
        self.open: dict[Any, Any] = {}  # futures, and where their results go
        self.over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop_call(self) -> None:
        """All is done."""
        self.over.set()

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Hand in a task."""
        try:
            future = self.client.submit(func, pure=False)
        except Exception as error:  # what cannot be pickled
            callback(error)
            return None
        self.open[future] = callback
        self.client.loop.add_callback(self._follow, future)
        return future

    async def _follow(self, future: Any) -> None:
        try:
            result = await self.client.gather(future, asynchronous=True)
        except BaseException as error:
            result = error
        self._hand_on(future, result)

    def _hand_on(self, future: Any, result: Any) -> None:
        if callback := self.open.pop(future, None):
            callback(result)

    def _watch(self) -> None:
        """Give up where there is no worker for too long."""
        watch = WorkerWatch(self.client)
        while not self.over.wait(5):
            try:
                watch.check()
            except Exception as error:
                for future in list(self.open):
                    self._hand_on(future, error)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Take back what was handed in."""
        futures, self.open = list(self.open), {}
        with suppress(Exception):  # the scheduler may be gone
            self.client.cancel(futures, force=True)

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Count threads; joblib does not ask a backend with a single one."""
        return max(2, super().effective_n_jobs(n_jobs))

    def get_nested_backend(self) -> tuple[Any, int]:
        """A candidate is computed on one thread."""
        return SequentialBackend(), 1
