"""Send an object to every worker process of a cluster, once."""

import pickle
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ftransfer.cluster.connect import distributed
from ftransfer.errors import FtransferError

_received: dict[str, Any] = {}  # on a worker, by name; bytes until the first task asks for it
_lock = threading.Lock()


_WorkerPlugin: Any = distributed.WorkerPlugin if distributed else object


class Broadcast(_WorkerPlugin):
    """An object that all tasks need, on every worker.

    The scheduler keeps it and hands it to workers that join later, too. Scattered data would be lost with the worker
    that happens to hold them.
    """

    def __init__(self, thing: object) -> None:
        from cloudpickle import dumps

        self.name = f"ftransfer-{uuid.uuid4().hex}"
        self.content = dumps(thing)

    def setup(self, worker: Any) -> None:
        """Keep the bytes, on the worker."""
        _received[self.name] = self.content

    def teardown(self, worker: Any) -> None:
        """Free it."""
        _received.pop(self.name, None)


@contextmanager
def broadcasting(client: Any) -> Iterator[Callable[[object], str]]:
    """Yield a function that sends an object to all workers and returns its name; in the end they free it."""
    names = []

    def send(thing: object) -> str:
        broadcast = Broadcast(thing)
        client.register_plugin(broadcast)
        names.append(broadcast.name)
        return broadcast.name

    try:
        yield send
    finally:
        for name in names:
            with suppress(Exception):  # the scheduler may be gone
                client.unregister_worker_plugin(name)


def received(name: str) -> Any:
    """Return what was sent, on a worker. The first time in a process it is unpickled and its `begin` called."""
    with _lock:
        if isinstance(_received[name], bytes):
            thing = pickle.loads(_received[name])
            thing.begin()
            _received[name] = thing
        return _received[name]


def received_before(name: str) -> Any:
    """Return what was sent if a task of this process has asked for it, else None."""
    thing = _received.get(name)
    return None if isinstance(thing, bytes) else thing


@contextmanager
def faults_as_text() -> Iterator[None]:
    """Send home a fault of the program as its text: one that Dask cannot pickle would be waited for forever."""
    text = ""
    try:
        yield
    except FtransferError:
        raise
    except Exception as fault:
        text = "".join(traceback.format_exception(fault, limit=-20))
    if text:
        raise RuntimeError(f"on worker {distributed.get_worker().address}:\n{text}")
