"""Lend something to every worker process of a cluster, once."""

import pickle
import threading
import traceback
import uuid
from contextlib import contextmanager, suppress

from ftransfer.cluster.connect import distributed
from ftransfer.errors import FtransferError

_lent: dict = {}  # on a worker: what was lent, by name; bytes until the first task asks for it
_lock = threading.Lock()


class Loan(distributed.WorkerPlugin if distributed else object):
    """Something that all tasks need, on every worker.

    The scheduler keeps it and hands it to workers that join later, too. Scattered data would be lost with the worker
    that happens to hold them.
    """

    def __init__(self, thing):
        from cloudpickle import dumps

        self.name = f"ftransfer-{uuid.uuid4().hex}"
        self.content = dumps(thing)

    def setup(self, worker):
        """Keep the bytes, on the worker."""
        _lent[self.name] = self.content

    def teardown(self, worker):
        """Let go of it."""
        _lent.pop(self.name, None)


@contextmanager
def lending(client):
    """Yield a function that lends a thing to all workers and returns its name; in the end it is taken back."""
    names = []

    def lend(thing) -> str:
        loan = Loan(thing)
        client.register_plugin(loan)
        names.append(loan.name)
        return loan.name

    try:
        yield lend
    finally:
        for name in names:
            with suppress(Exception):  # the scheduler may be gone
                client.unregister_worker_plugin(name)


def borrow(name: str):
    """Return what was lent, on a worker. The first time in a process it is made of its bytes and its `begin` called."""
    with _lock:
        if isinstance(_lent[name], bytes):
            thing = pickle.loads(_lent[name])
            thing.begin()
            _lent[name] = thing
        return _lent[name]


def borrowed(name: str):
    """Return what was lent if a task of this process has asked for it, else None."""
    thing = _lent.get(name)
    return None if isinstance(thing, bytes) else thing


@contextmanager
def faults_as_text():
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
