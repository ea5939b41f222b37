"""Find a cluster, or start one on this machine; refuse what cannot work."""

import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import Any

from ftransfer.errors import FtransferError
from ftransfer.storage.places import clean

distributed: Any
try:
    import distributed
except ImportError:  # the extra [cluster]
    distributed = None

KEPT = "finished work is kept; run the same command again to resume"
CONNECT_SECONDS = 10  # for the scheduler to answer
WORKER_SECONDS = 60  # for a first worker to join it, and for another once all were lost
SCHEMES = ("tcp", "tls", "ws", "wss", "ucx", "ucxx")
LIBRARIES = ("python", "torch", "torchvision", "openvino", "pillow", "numpy", "scipy", "scikit-learn")


@contextmanager
def connect(cluster: Any) -> Iterator[Any]:
    """Open a Dask client.

    Parameters
    ----------
    cluster : str or distributed.Client
        ``"tcp://host:port"`` of a scheduler (or tls, ws, wss, ucx); ``"local:4"`` for four worker processes on this
        machine, which end with the block; or a client, which stays open.

    Raises
    ------
    FtransferError
        If Dask is not installed, the address is none, no scheduler answers there within 10 seconds, or no worker
        joins within 60.
    """
    if not isinstance(cluster, str):
        with cluster.as_current():
            yield _with_workers(cluster, "the cluster")
        return
    check_address(cluster)
    scheme, _, rest = cluster.partition(":")
    with _quiet(), ExitStack() as stack:
        if scheme == "local":
            client = stack.enter_context(stack.enter_context(_started(int(rest))).get_client())
        else:
            client = stack.enter_context(_reached(cluster))
        stack.enter_context(client.as_current())
        yield _with_workers(client, cluster)


def check_address(cluster: str) -> None:
    """Raise an FtransferError if this is no address of a cluster, or Dask is not installed."""
    if distributed is None:
        raise FtransferError(
            'running on a cluster needs Dask, which is not installed: pip install "ftransfer[cluster]"'
        )
    if "@" in cluster:
        raise FtransferError(
            f"{clean(cluster)}: a scheduler address must not contain a user or password; write tcp://HOST:PORT"
        )
    if not re.fullmatch(rf"local:0*[1-9]\d*|({'|'.join(SCHEMES)})://\S+:\d+/?", cluster):
        raise FtransferError(
            f"'{cluster}' is not the address of a cluster; write tcp://HOST:PORT of a Dask scheduler, or local:4 for "
            f"four processes on this machine"
        )


def _reached(address: str) -> Any:
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = re.sub(r"in <.*?>: ", "", (str(cause).splitlines() or [type(cause).__name__])[0])
        raise FtransferError(
            f"no Dask scheduler answered at {address} within {CONNECT_SECONDS} s ({reason[:150]}); "
            f"start one: dask scheduler"
        ) from error


@contextmanager
def _started(n_workers: int) -> Iterator[Any]:
    """Start worker processes of one thread on this machine."""
    ours = threading.current_thread() is threading.main_thread()
    # Ctrl-C reaches all processes of a terminal; what the workers are to do then, this one tells them
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if ours else None
    options = {"dashboard_address": "127.0.0.1:0", "memory_limit": None, "silence_logs": logging.CRITICAL}
    try:
        local = distributed.LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=True, **options)
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)
    with local:
        yield local


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log out of the terminal: what goes wrong is said in one line."""
    logs = [
        logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("distributed")
    ]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def _with_workers(client: Any, name: str) -> Any:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError as error:
        raise FtransferError(
            f"no worker joined {name} within {WORKER_SECONDS} s; start some: dask worker ADDRESS"
        ) from error
    return client


class WorkerWatch:
    """Notice when a cluster has lost all its workers, those that cannot take part not counted."""

    def __init__(self, client: Any, unfit: Collection[str] = ()) -> None:
        self.client, self.unfit = client, unfit
        self.alone_since: float | None = None

    def check(self) -> None:
        """Raise an FtransferError if for too long there has been no worker."""
        if set(self.client.nthreads()) - set(self.unfit):
            self.alone_since = None
        elif self.alone_since is None:
            self.alone_since = time.monotonic()
        elif time.monotonic() > self.alone_since + WORKER_SECONDS:
            raise FtransferError(
                f"the cluster lost its last worker, and none joined within {WORKER_SECONDS} s; {KEPT}"
            )


@contextmanager
def dask_errors_in_one_line(task: str) -> Iterator[None]:
    """Turn what Dask raises where a cluster fails into errors that a user can mend."""
    try:
        yield
    except distributed.KilledWorker as error:
        raise FtransferError(
            f"{error.allowed_failures + 1} workers died one after another on the same {task}: it may need "
            f"more memory than a worker has, or workers are removed too often "
            f"(distributed.scheduler.allowed-failures); {KEPT}"
        ) from error
    except (CancelledError, distributed.comm.CommClosedError, TimeoutError) as error:
        raise FtransferError(f"the connection to the scheduler was lost; {KEPT}") from error


def check_versions(client: Any, warn: Callable[[str], None]) -> None:
    """Refuse a cluster without this release of ftransfer; warn where a library could change the numbers.

    Raises
    ------
    FtransferError
        Names the first that has none, or another.
    """
    found = client.get_versions(packages=["ftransfer", *LIBRARIES[1:]])
    own = found["client"]["packages"]
    places = {"the scheduler": found["scheduler"]["packages"]}
    places |= {f"worker {address}": each["packages"] for address, each in found["workers"].items()}
    for place, there in places.items():
        if there["ftransfer"] != own["ftransfer"]:
            what = f"has ftransfer {there['ftransfer']}" if there["ftransfer"] else "has no ftransfer"
            others = sum(each["ftransfer"] != own["ftransfer"] for each in places.values()) - 1
            raise FtransferError(
                f"{place} {what}{f', as {others} more' if others else ''}; here it is {own['ftransfer']}: "
                f"install this "
                f"release everywhere, with the extra [cluster]"
            )
    del places["the scheduler"]  # it computes nothing
    other = {
        place: [name for name in LIBRARIES if there[name] != own[name]] for place, there in places.items()
    }
    other = {place: names for place, names in other.items() if names}
    for place, names in list(other.items())[:1]:
        differences = ", ".join(
            f"{n} {places[place][n] or 'missing'} (here {own[n] or 'missing'})" for n in names
        )
        more = f", and {len(other) - 1} more differ" if len(other) > 1 else ""
        warn(f"{place} has {differences}{more}: results may differ slightly from those on this machine")
