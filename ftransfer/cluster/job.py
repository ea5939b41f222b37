"""An extraction as a worker process knows it."""

import hashlib
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import joblib
import pandas as pd

from ftransfer.cluster.broadcast import faults_as_text, received, received_before
from ftransfer.cluster.connect import distributed
from ftransfer.errors import FtransferError
from ftransfer.extract.plan import count_readers
from ftransfer.extract.running import Running
from ftransfer.features.feature_set import FeatureSet
from ftransfer.images.read import read_bytes
from ftransfer.storage.places import place
from ftransfer.storage.writing import write_whole

if TYPE_CHECKING:
    from ftransfer.backbone.backbone import Backbone

MARK = ".cluster"  # file in a feature set by which a worker knows it


class UnfitWorker(FtransferError):
    """A worker cannot take part; others may finish without it.

    Attributes
    ----------
    worker : str
        Its address.
    """

    worker = ""

    @classmethod
    def named(cls, worker: str, fault: str) -> "UnfitWorker":
        """Make the error of one worker."""
        error = cls(f"worker {worker} {fault}")
        error.worker = worker  # travels with the error, as what an exception is made of does not
        return error


@dataclass
class SharedPaths:
    """What a worker has to see, under the names that it has here.

    Attributes
    ----------
    folder : str
        Of the feature set, or its URL.
    mark : bytes
        What the file MARK in it holds.
    samples : list of (root, path, sha256)
        An image of each root.
    """

    folder: str
    mark: bytes
    samples: list[tuple[str, str, str]]

    def fault(self) -> str:
        """Say what this worker lacks; nothing if it lacks nothing."""
        for root, path, sha256 in self.samples:
            if hash_image(root, path) != sha256:
                return f"does not see {root} as this machine does"
        folder = place(self.folder)
        try:
            if (folder / MARK).read_bytes() != self.mark:
                raise FileNotFoundError
        except OSError:
            return f"does not see {self.folder} as this machine does"
        try:
            write_whole(folder / MARK, self.mark)  # as it is: nothing is left behind, in a store neither
        except (OSError, FtransferError) as error:
            return f"cannot write to {self.folder} ({getattr(error, 'strerror', None) or error})"
        return ""


@dataclass
class Job:
    """An extraction; sent to each worker process, whose shards share one model."""

    backbone: "Backbone"
    paths: SharedPaths
    images: int  # asked for in all: by them, not by those of a shard, the runtime is chosen
    device: str
    running: Running

    def begin(self) -> None:
        """Check this worker, which may have joined late, and load the model.

        Raises
        ------
        UnfitWorker
            If it does not see the folders, cannot write, or would decode otherwise.
        """
        from ftransfer.backbone.preprocess import describe_decoder
        from ftransfer.backbone.runtime import fast_arithmetic

        address = distributed.get_worker().address
        if fault := self.paths.fault():
            raise unfit(address, fault)
        self.backbone = self.backbone.on(self.device)
        here, fingerprint = {"decoder": describe_decoder()}, self.backbone.fingerprint
        if self.backbone.tier == "fast":
            here["runtime"], here["dtype"] = fast_arithmetic(self.backbone.device)
        for name, value in here.items():
            if value != fingerprint[name]:
                raise UnfitWorker.named(
                    address,
                    f"would produce a different fingerprint: {name} is {value} there, and here "
                    f"{fingerprint[name]}; install the same versions everywhere, and for the fast tier use "
                    f"identical workers",
                )
        self.features = FeatureSet(self.paths.folder)
        self.runtime: Any = None
        self.lock = threading.Lock()
        self.done: set[str] = set()  # hashes of the parts
        self.read: set[Any] = set()  # the parts that they are of
        self.stopped = threading.Event()
        self.begun: set[int] = set()

    def make_runtime(self, lanes: int) -> Any:
        """Make the runtime once, for all shards of the process."""
        from ftransfer.backbone.runtime import make_runtime

        with self.lock:
            if self.runtime is None:
                images = self.images * self.features.n_views
                self.runtime = make_runtime(self.backbone, images, self.running.batch_size)
                if self.backbone.device.type == "cpu":
                    self.runtime.lanes = lanes
            return self.runtime

    def embed(self, shard: int, rows: pd.DataFrame, slots: dict[str, int]) -> tuple[pd.DataFrame, str]:
        """Embed a shard; return what became of its rows, and what computed."""
        from ftransfer.extract.engine import embed_rows
        from ftransfer.extract.summary import Summary

        def look_up(_: Any) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt

        threads = max(1, joblib.cpu_count() // slots.get(socket.gethostname(), 1))
        summary, make = Summary(len(rows)), partial(self.make_runtime, threads)
        workers = self.running.workers or count_readers(rows, threads)
        running = replace(self.running, workers=workers, progress=look_up)
        self.begun.add(shard)
        with self.lock:  # a part is read once, not for every shard
            parts = {file: keys for file, keys, _ in self.features.parts() if file not in self.read}
            self.done.update(key.hex() for keys in parts.values() for key in keys.to_pylist())
            self.read |= parts.keys()
        with suppress(KeyboardInterrupt):  # what was embedded is committed
            look_up(0)
            embed_rows(self.features, self.backbone, rows, summary, make, running, done=self.done)
        return rows, summary.runtime


# ---------------------------------------------------------------- what runs on a worker


def embed_shard(name: str, shard: int, rows: pd.DataFrame, slots: dict[str, int]) -> tuple[pd.DataFrame, str]:
    """Embed the rows of a shard, for the job of that name."""
    with faults_as_text():
        return received(name).embed(shard, rows, slots)


def stop_shards(name: str) -> set[int]:
    """Let the shards of this worker commit what they have, and begin no other; return which were begun."""
    job = received_before(name)
    if job is None:
        return set()
    begun = set(job.begun)
    job.stopped.set()
    return begun


def describe_worker(tier: str, device: str, dask_worker: Any = None) -> dict:
    """Say what a worker has, and what its fast tier computes with."""
    arithmetic = None
    if tier == "fast":
        from ftransfer.backbone.device import find_device
        from ftransfer.backbone.runtime import fast_arithmetic

        arithmetic = fast_arithmetic(find_device(device))
    return {
        "host": socket.gethostname(),
        "threads": dask_worker.state.nthreads,
        "gpus": int(dask_worker.state.total_resources.get("GPU", 0)),
        "arithmetic": arithmetic,
    }


def hash_image(root: str, path: str) -> str:
    """Hash an image; empty if it cannot be read."""
    with suppress(OSError, ValueError):
        return hashlib.sha256(read_bytes(root, path)).hexdigest()
    return ""


def unfit(worker: str, fault: str) -> UnfitWorker:
    """Make the error for a worker that cannot use the folders."""
    return UnfitWorker.named(
        worker,
        f"{fault}; images and features must be on a file system that all workers mount under the same path "
        f"and can write to",
    )
