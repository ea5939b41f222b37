"""Several GPUs of one machine: a process each, all into one feature set."""

import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process

import pandas as pd
import torch

from ftransfer.backbone.gpu import part_queues
from ftransfer.backbone.runtime import make_runtime
from ftransfer.errors import FtransferError
from ftransfer.extract.plan import count_readers
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
    embed: Callable,
    features: FeatureSet,
    backbone,
    rows: pd.DataFrame,
    summary,
    devices: Sequence[str],
    *,
    batch_size: int | str = "auto",
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> None:
    """Embed images with a process for each device, each every n-th image.

    Ctrl-C, an error in one of them, or the end of this process stops them all; what they had embedded is committed. A
    picture that comes twice may be computed twice; it is written once.

    Parameters
    ----------
    embed : callable
        `embed_rows`, which each process calls.
    devices : sequence of str
    workers : int, optional
        Threads that decode, of all processes together. Default: `count_readers`.
    features, backbone, rows, summary, batch_size, strict, progress
        As for `embed_rows` and `make_runtime`.

    Raises
    ------
    FtransferError
        If a device cannot be used, or one of the processes was killed.
    """
    context = get_context("spawn")  # CUDA does not outlive a fork
    told, stop = context.SimpleQueue(), context.Event()
    options = {"workers": max(1, (workers or count_readers(rows)) // len(devices)), "strict": strict}
    images = len(rows) * features.n_views
    job = pickle.dumps(
        (embed, features.folder, backbone.on("cpu"), images, batch_size, options, type(summary))
    )
    pool, shards = ProcessPoolExecutor(len(devices), context, _begin, (told, stop)), []
    try:
        with _ctrl_c_is_ours():
            for i, device in enumerate(devices):
                shards.append(pool.submit(_embed_shard, job, device, rows.iloc[i :: len(devices)]))
        while not (all(shard.done() for shard in shards) or any(map(_failed, shards))):
            wait(shards, 0.2, FIRST_COMPLETED)
            while not told.empty():
                progress(told.get())
    finally:
        stop.set()
        pool.shutdown()
        errors = [_keep(shard, rows, summary) for shard in shards]
    for error in filter(None, errors):
        raise error


@contextmanager
def _ctrl_c_is_ours():
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


def _keep(shard: Future, rows: pd.DataFrame, summary) -> Exception | None:
    """Put what became of a shard into the rows of all; return its error."""
    try:
        found, did, error = shard.result()
    except BrokenProcessPool:
        return FtransferError(
            "one of the devices' processes was killed, for lack of memory perhaps; the same command goes on from there"
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


def _begin(told, stop) -> None:
    _begin.told, _begin.stop = told, stop


def _progress(n: int) -> None:
    _begin.told.put(n)
    if _begin.stop and (_begin.stop.is_set() or not parent_process().is_alive()):
        _begin.stop = None  # once: what is finished is being committed, as after Ctrl-C
        raise KeyboardInterrupt


def _embed_shard(job: bytes, device: str, rows: pd.DataFrame) -> tuple:
    """Return the rows as they became, a summary, and the error that ended it."""
    embed, folder, backbone, images, batch_size, options, summary_of = pickle.loads(job)
    rows, summary = rows.copy(), summary_of(len(rows))
    try:
        backbone = backbone.on(device)
        make = partial(make_runtime, backbone, images, batch_size)
        embed(FeatureSet(folder), backbone, rows, summary, make, progress=_progress, **options)
    except KeyboardInterrupt:
        pass
    except FtransferError as error:
        return rows, summary, error
    return rows, summary, None
