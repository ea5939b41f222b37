"""Several processes of one machine, on one GPU or several, all into one feature set.

A process reads and decodes little more than one core can, however many threads it has: Python lets one of them run at
a time. So a GPU gets several processes where there are images enough.
"""

import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process

import joblib
import pandas as pd
import torch

from ftransfer.errors import FtransferError
from ftransfer.features import FeatureSet, fill_in
from ftransfer.plan import count_readers
from ftransfer.runtime import make_runtime

IMAGES_EACH = 5000  # another GPU takes seconds to begin: "auto" takes one for so many images
SEVERAL_FROM = (
    50_000  # images of a GPU from which several processes repay the dozen seconds that they take to begin
)
MOST_EACH, CORES_EACH, MEMORY_EACH = (
    8,
    2,
    8 * 10**9,
)  # processes of a GPU; cores, and bytes of the GPU, for each


def name_devices(wanted: str, images: int) -> list[str]:
    """Take ``"cuda:0,cuda:1"`` apart, a process each; ``"auto"`` and ``"cuda"`` name what the images are worth.

    ``"auto"`` names all GPUs, ``"cuda"`` one; a GPU is named once for each of its processes.

    >>> name_devices("cuda:0, cuda:0, cuda:1", 10)
    ['cuda:0', 'cuda:0', 'cuda:1']
    """
    if wanted not in ("auto", "cuda"):
        return [name.strip() for name in wanted.split(",") if name.strip()] or [wanted]
    there = torch.cuda.device_count()
    if not there:
        return [wanted]
    gpus = min(there, max(1, images // IMAGES_EACH)) if wanted == "auto" else 1
    names = [f"cuda:{i}" for i in range(gpus)] if gpus > 1 else [wanted]
    if images < gpus * SEVERAL_FROM:
        return names
    room = min(torch.cuda.get_device_properties(i).total_memory for i in range(gpus)) // MEMORY_EACH
    return names * max(1, min(MOST_EACH, joblib.cpu_count() // (CORES_EACH * gpus), room))


def describe_devices(devices: Sequence[str]) -> str:
    """Name devices for people.

    >>> describe_devices(["cuda:0", "cuda:1", "cuda:0", "cuda:1"])
    'cuda:0, cuda:1 (4 processes)'
    """
    names = list(dict.fromkeys(devices))
    return ", ".join(names) + (f" ({len(devices)} processes)" if len(devices) > len(names) else "")


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
    """Embed images with a process for each device, each every n-th image; a device may be named several times.

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
        (embed, features.folder, backbone.on("cpu"), images, batch_size, options, type(summary), devices)
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
    embed, folder, backbone, images, batch_size, options, summary_of, devices = pickle.loads(job)
    rows, summary = rows.copy(), summary_of(len(rows))
    try:
        backbone = backbone.on(device)
        make = partial(make_runtime, backbone, images, batch_size, len(devices), devices.count(device))
        embed(FeatureSet(folder), backbone, rows, summary, make, progress=_progress, **options)
    except KeyboardInterrupt:
        pass
    except FtransferError as error:
        return rows, summary, error
    return rows, summary, None
