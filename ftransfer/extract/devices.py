"""Several GPUs of one machine: a process each, all into one feature set."""

import pickle
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event

import cloudpickle
import pandas as pd
import torch

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.gpu import part_queues
from ftransfer.backbone.runtime import make_runtime
from ftransfer.errors import FtransferError
from ftransfer.extract.engine import embed_rows
from ftransfer.extract.plan import count_readers
from ftransfer.extract.running import Running
from ftransfer.extract.summary import Summary
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.manifest import fill_in

IMAGES_EACH = 5000  # another GPU takes seconds to begin: "auto" takes one for so many images


def name_devices(wanted: str, images: int) -> list[str]:
    """Take ``"cuda:0,cuda:1"`` apart; ``"auto"`` names all GPUs that the number of images is worth.

    >>> name_devices("cuda:0, cuda:1", 10)
    ['cuda:0', 'cuda:1']
    """
    if wanted != "auto":
        return [name.strip() for name in wanted.split(",") if name.strip()] or [wanted]
    part_queues()
    count = min(torch.cuda.device_count(), max(1, images // IMAGES_EACH))
    return [f"cuda:{i}" for i in range(count)] if count > 1 else ["auto"]


def embed_on_devices(
    features: FeatureSet,
    backbone: Backbone,
    rows: pd.DataFrame,
    summary: Summary,
    devices: Sequence[str],
    running: Running,
) -> None:
    """Embed images with a process for each device, each every n-th image.

    Ctrl-C, an error in one of them, or the end of this process stops them all; what they had embedded is committed. A
    picture that comes twice may be computed twice; it is written once.

    Parameters
    ----------
    features, backbone, rows, summary
        As for `embed_rows`.
    devices : sequence of str
    running : Running
        Its `workers` are those of all processes together.

    Raises
    ------
    FtransferError
        If a device cannot be used, or one of the processes was killed.
    """
    context = get_context("spawn")  # CUDA does not outlive a fork
    told, stop = context.SimpleQueue(), context.Event()
    workers = max(1, (running.workers or count_readers(rows)) // len(devices))
    images = len(rows) * features.n_views
    job = _packed(
        (features.folder, backbone.on("cpu"), images, running.batch_size, workers, running.strict),
        backbone.name,
    )
    pool, shards = ProcessPoolExecutor(len(devices), context, _begin, (told, stop)), []
    try:
        with _ctrl_c_is_ours():
            for i, device in enumerate(devices):
                shards.append(pool.submit(_embed_shard, job, device, rows.iloc[i :: len(devices)]))
        while not (all(shard.done() for shard in shards) or any(map(_failed, shards))):
            wait(shards, 0.2, FIRST_COMPLETED)
            while not told.empty():
                running.progress(told.get())
    finally:
        stop.set()
        pool.shutdown()
        errors = [_keep(shard, rows, summary) for shard in shards]
    for error in filter(None, errors):
        raise error


def _packed(job: tuple, name: str) -> bytes:
    """Pickle what a process needs, by value where a user's script defines it."""
    try:
        return cloudpickle.dumps(job)
    except Exception as error:  # what a user's module holds may be anything
        raise FtransferError(
            f"{name} cannot be sent to another process ({type(error).__name__}: {str(error)[:200]}); "
            f"use a single device: --device cuda:0"
        ) from error


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Let processes that begin meanwhile not hear Ctrl-C: they are told, and commit what they have."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _failed(shard: Future) -> bool:
    return shard.done() and bool(shard.exception() or shard.result()[2])


def _keep(shard: Future, rows: pd.DataFrame, summary: Summary) -> Exception | None:
    """Put what became of a shard into the rows of all; return its error."""
    try:
        found, did, error = shard.result()
    except BrokenProcessPool:
        return FtransferError(
            "a worker process of one device was killed, perhaps for lack of memory; run the same command "
            "again to resume"
        )
    except Exception as error:
        return error
    fill_in(rows, found)
    summary.computed += did.computed
    summary.reused += did.reused
    summary.failed += did.failed
    summary.runtime = summary.runtime or did.runtime
    return error


# ---------------------------------------------------------------- in the process of a device


class _Parent:
    """The process that began this one: it is told how many images are done, and says when to stop."""

    def __init__(self, told: SimpleQueue, stop: Event) -> None:
        self.told, self.stop = told, stop
        self.stopping = False

    def progress(self, n: int) -> None:
        self.told.put(n)
        parent = parent_process()
        if not self.stopping and (self.stop.is_set() or not (parent and parent.is_alive())):
            self.stopping = True  # once: what is finished is being committed, as after Ctrl-C
            raise KeyboardInterrupt


_parent: _Parent | None = None  # of a process that `embed_on_devices` began


def _begin(told: SimpleQueue, stop: Event) -> None:
    global _parent
    _parent = _Parent(told, stop)


def _embed_shard(
    job: bytes, device: str, rows: pd.DataFrame
) -> tuple[pd.DataFrame, Summary, FtransferError | None]:
    """Return the rows as they became, a summary, and the error that ended it."""
    assert _parent is not None  # `_begin` came first
    folder, backbone, images, batch_size, workers, strict = pickle.loads(job)
    rows, summary = rows.copy(), Summary(len(rows))
    running = Running(batch_size, workers, strict, _parent.progress)
    try:
        backbone = backbone.on(device)
        make = partial(make_runtime, backbone, images, batch_size)
        embed_rows(FeatureSet(folder), backbone, rows, summary, make, running)
    except KeyboardInterrupt:
        pass
    except FtransferError as error:
        return rows, summary, error
    return rows, summary, None
