"""An extraction on a cluster, as the machine that asks for it knows it."""

import time
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ftransfer.backbone.backbone import Backbone
from ftransfer.cluster.broadcast import broadcasting
from ftransfer.cluster.connect import (
    WorkerWatch,
    check_versions,
    connect,
    dask_errors_in_one_line,
    distributed,
)
from ftransfer.cluster.job import (
    MARK,
    Job,
    SharedPaths,
    UnfitWorker,
    describe_worker,
    embed_shard,
    hash_image,
    stop_shards,
    unfit,
)
from ftransfer.errors import FtransferError
from ftransfer.extract.running import Options, Running
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.manifest import fill_in
from ftransfer.images.read import full_path
from ftransfer.storage.places import place
from ftransfer.storage.writing import write_whole

AHEAD = 3  # shards handed in for each that can run at once
SMALLEST_SHARD, LARGEST_SHARD = 64, 8192  # images; the largest makes one part
STOP_SECONDS = 60  # after Ctrl-C, for the shards that run to commit what they have


class ClusterOptions(Options, total=False):
    """What `extract_on_cluster` takes of `ClusterRunning`, by name."""

    shard_size: int | None


@dataclass(frozen=True)
class ClusterRunning(Running):
    """How an extraction runs on a cluster.

    Attributes
    ----------
    shard_size : int, optional
        Images in a shard. Default: so many that each worker gets eight shards, but at least 64 and at most 8192.
    """

    shard_size: int | None = None


def extract_on_cluster(
    images: pd.DataFrame,
    out: str | Path,
    backbone: Backbone,
    cluster: Any,
    *,
    device: str = "auto",
    views: dict | None = None,
    warn: Callable[[str], None] = warnings.warn,
    **running: Unpack[ClusterOptions],
) -> FeatureSet:
    """Embed images on a Dask cluster; as `extract_features`, and with the same rows.

    `out` and the images have to be on a file system that all workers see under the same names, or in a store. The
    backbone is sent to them. A shard whose worker dies runs again on another, and what it had committed is not
    computed twice. Where workers advertise the resource ``GPU``, only they are used, for one shard a GPU at a time.

    Parameters
    ----------
    images, out, views
        As for `extract_features`.
    backbone : Backbone
        On any device.
    cluster : str or distributed.Client
        As for `connect`.
    device : str, default="auto"
        Of the workers: ``"auto"`` takes the GPU where there is one.
    warn : callable
        Called with a sentence where the same bytes cannot be promised.
    **running
        As for `extract_features`, and ``shard_size``, see `ClusterRunning`. ``workers`` are those of a shard, by
        default the cores of the machine, divided by the shards that may run on it at once; ``progress`` is called
        a shard at a time.

    Returns
    -------
    FeatureSet, with the attribute ``summary``.

    Raises
    ------
    FtransferError
        As `extract_features` and `connect`; if the scheduler or a worker lacks this release of ftransfer, or does not
        see the folder or the images, or cannot write; if the workers cannot compute one fingerprint, or died of one
        shard. A worker that joins later and lacks any of this is warned of, and the others go on without it.
    Interrupted
        On Ctrl-C: no further shard is begun, and those that run commit what they have.
    """
    from ftransfer.extract.summary import conclude, extraction

    started, how = time.monotonic(), ClusterRunning(**running)
    how.check(views["count"] if views else 1)
    there = Running(how.batch_size, how.workers, how.strict)  # progress is told here
    with connect(cluster) as client, broadcasting(client) as send:
        check_versions(client, warn)
        backbone = backbone.on("cpu")
        slots, resources = _describe_workers(client, backbone, device)
        folder = place(out).resolve()  # a worker has a working folder of its own
        with extraction(images, folder, backbone, views, how.replace) as (features, manifest, summary):
            before = features.done()
            known = manifest["sha256"].isin(before)
            manifest.loc[known, "status"] = "ok"
            how.progress(int(known.sum()))
            if not known.all():
                rows = manifest[~known]
                paths = SharedPaths(str(folder), _mark(features), _samples(rows))
                _refuse_workers_without(client, paths)
                job = Job(backbone, paths, len(manifest), device, there)
                shards = _Shards(client, send(job), slots, resources, warn)
                with dask_errors_in_one_line("shard"):
                    summary.runtime = shards.embed(rows, how.shard_size, manifest, how.progress)
    good, bad = (manifest[manifest["status"] == status] for status in ("ok", "error"))
    summary.computed = len(set(good["sha256"]) - before)
    summary.reused = len(good) - summary.computed
    summary.failed = [(full_path(row.root, row.path), row.error) for row in bad.itertuples()]
    return conclude(features, backbone, manifest, summary, started)


@dataclass
class _Sent:
    """A shard on its way: its number, its rows, and the workers that it may run on; None for any."""

    start: int
    rows: pd.DataFrame
    workers: set[str] | None


class _Shards:
    """Shards on their way; few are handed in at a time, so that the scheduler does not hold the whole manifest."""

    def __init__(
        self, client: Any, name: str, slots: dict[str, int], resources: dict, warn: Callable[[str], None]
    ) -> None:
        self.client, self.name, self.slots, self.resources, self.warn = client, name, slots, resources, warn
        self.waiting: dict[Any, _Sent] = {}  # by future
        self.unfit: set[str] = set()  # workers that joined and cannot take part

    def embed(
        self, rows: pd.DataFrame, size: int | None, manifest: pd.DataFrame, progress: Callable[[int], None]
    ) -> str:
        """Embed rows of the manifest, and put in what became of them; return what computed."""
        at_once = sum(self.slots.values())
        size = size or min(max(-(-len(rows) // (8 * at_once)), SMALLEST_SHARD), LARGEST_SHARD)
        starts = iter(range(0, len(rows), size))
        runtimes = set()

        def put_in(done: pd.DataFrame, runtime: str) -> None:
            fill_in(manifest, done)
            runtimes.add(runtime)
            progress(int((done["status"] != "pending").sum()))

        try:
            while True:
                for start in islice(starts, AHEAD * at_once - len(self.waiting)):
                    self._hand_in(start, rows.iloc[start : start + size])
                if not self.waiting:
                    return " and ".join(sorted(runtimes - {""}))
                for future, found in self._some_done():
                    del self.waiting[future]
                    put_in(*found)
        except KeyboardInterrupt:
            for found in self._stop():
                put_in(*found)
            raise
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(self.waiting), force=True)

    def _hand_in(self, start: int, rows: pd.DataFrame) -> None:
        """Send a shard to any worker; once some are known to be unfit, to one of the others that are there."""
        there = self._fit_workers() if self.unfit else None
        options = {"resources": self.resources, "pure": False, "workers": there and sorted(there)}
        key = f"{self.name}-{start}-{uuid.uuid4().hex[:8]}"
        future = self.client.submit(embed_shard, self.name, start, rows, self.slots, key=key, **options)
        self.waiting[future] = _Sent(start, rows, there)

    def _fit_workers(self) -> set[str]:
        return set(self.client.nthreads()) - self.unfit

    def _some_done(self) -> list:
        """Wait for some shards; give up where there is no worker for too long."""
        watch = WorkerWatch(self.client, self.unfit)
        while True:
            done = []
            with suppress(TimeoutError):
                done = distributed.wait(list(self.waiting), 5, return_when="FIRST_COMPLETED").done
            done = [future for future in done if not self._given_to_others(future)]
            with suppress(
                TimeoutError
            ):  # a result can still be lost with its worker; the shard then runs again
                if done:
                    return [(future, future.result(5)) for future in done]
            watch.check()
            self._free_the_stranded()

    def _given_to_others(self, future: Any) -> bool:
        """Hand a shard in again if the worker that it came to is unfit; raise what else it failed of."""
        if future.status == "finished":
            return False
        try:
            future.result()
        except UnfitWorker as error:
            first = error.worker not in self.unfit
            self.unfit.add(error.worker)
            if not self._fit_workers():
                raise
            if first:
                self.warn(f"{error}; the other workers go on without it")
            sent = self.waiting.pop(future)
            self._hand_in(sent.start, sent.rows)
        return True

    def _free_the_stranded(self) -> None:
        """Hand in again what may run on workers alone that are gone."""
        there = self._fit_workers() if self.unfit else set()
        stranded = [f for f, sent in self.waiting.items() if sent.workers and not sent.workers & there]
        if there and stranded:
            self.client.cancel(stranded, force=True)
            for sent in [self.waiting.pop(future) for future in stranded]:
                self._hand_in(sent.start, sent.rows)

    def _stop(self) -> list:
        """Begin no further shard; wait for those that run, which commit what they have."""
        begun = set().union(*_on_all(self.client, stop_shards, self.name).values())
        ending = [future for future, sent in self.waiting.items() if sent.start in begun]
        self.client.cancel([future for future in self.waiting if future not in ending], force=True)
        with suppress(TimeoutError):
            distributed.wait(ending, STOP_SECONDS)
        return self.client.gather([future for future in ending if future.status == "finished"], errors="skip")


# ---------------------------------------------------------------- what there is


def _on_all(client: Any, function: Callable[..., Any], *arguments: Any) -> dict:
    """Run a function on all workers; one that goes meanwhile is left out."""
    found = client.run(function, *arguments, on_error="return")
    for result in found.values():
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result
    return {worker: result for worker, result in found.items() if not isinstance(result, OSError)}


def _describe_workers(client: Any, backbone: Backbone, device: str) -> tuple[dict[str, int], dict]:
    """Return how many shards run at once on each host, and the resources that a shard takes.

    The fingerprint of the fast tier names what computes it; that is up to the workers.
    """
    found = _on_all(client, describe_worker, backbone.tier, device)
    gpus = any(each["gpus"] for each in found.values())
    used = {worker: each for worker, each in found.items() if each["gpus"] or not gpus}
    slots: dict[str, int] = {}
    for each in used.values():
        slots[each["host"]] = slots.get(each["host"], 0) + each["gpus" if gpus else "threads"]
    if backbone.tier == "fast":
        ways = {each["arithmetic"]: worker for worker, each in used.items()}
        if len(ways) > 1:
            (one, here), (other, there), *_ = ways.items()
            raise FtransferError(
                f"the workers would compute the fast tier in different ways: with {' '.join(one)} on {here}, "
                f"with {' '.join(other)} on {there}; use --tier exact, or identical workers"
            )
        backbone.fingerprint["runtime"], backbone.fingerprint["dtype"] = next(iter(ways))
    return slots, {"GPU": 1} if gpus else {}


def _refuse_workers_without(client: Any, paths: SharedPaths) -> None:
    for worker, fault in _on_all(client, SharedPaths.fault, paths).items():
        if fault:
            raise unfit(worker, fault)


def _mark(features: FeatureSet) -> bytes:
    """Give the feature set a mark of its own, if it has none yet."""
    file = features.folder / MARK
    with features.lock():
        if not file.is_file():
            write_whole(file, uuid.uuid4().hex.encode())
        return file.read_bytes()


def _samples(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Choose an image of each root that can be read here."""
    found: list[tuple[str, str, str]] = []
    for root, images in rows.groupby("root"):
        hashes = ((root, path, hash_image(root, path)) for path in images["path"].head(100))
        found += islice((each for each in hashes if each[2]), 1)
    return found
