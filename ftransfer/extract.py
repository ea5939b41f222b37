"""The extraction engine: read and hash -> decode -> preprocess -> forward -> commit."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch

from ftransfer.backbone import Backbone
from ftransfer.errors import FtransferError
from ftransfer.features import FIELDS, FeatureSet
from ftransfer.images import decode, read_bytes

PART_ROWS = 8192  # a part is closed after so many rows ...
PART_SECONDS = 30.0  # ... or so many seconds, so that a kill costs half a minute
BATCH = {"cpu": 32, "cuda": 256}


@dataclass
class Summary:
    """What an extraction did.

    Attributes
    ----------
    images, computed, reused : int
        Images listed; embeddings computed now; images whose embedding was there (or came twice).
    failed : list of (path, reason)
    replaced : int
        Rows from other folders that this run's rows took the place of, being of the same domain.
    seconds : float
    """

    images: int
    computed: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    replaced: int = 0
    seconds: float = 0.0


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction; what was finished is committed, and the message says how much."""


def extract_features(
    images: pd.DataFrame,
    out,
    backbone: Backbone,
    *,
    batch_size: int | str = "auto",
    workers: int | None = None,
    strict: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> FeatureSet:
    """Embed images with a frozen backbone into the feature set `out`; go on where it was stopped.

    Parameters
    ----------
    images : DataFrame
        From `find_images`: ``root, path, label, domain``.
    out : str or path
        Folder of the feature set. Rows of the same root or domain are replaced in its manifest, others
        are kept; an embedding that is there already is not computed again.
    backbone : Backbone
    batch_size : int or "auto"
        Images in a forward pass. The last batch is filled up with zeros, so that all have one shape.
    workers : int, optional
        Threads that read and decode. Default: the usable cores.
    strict : bool, default=False
        Whether the first image that cannot be read stops the run.
    progress : callable
        Called with the number of images dealt with since the last call.

    Returns
    -------
    FeatureSet, with the attribute ``summary``.

    Raises
    ------
    FtransferError
        If `out` holds another recipe or cannot be written; with `strict`, for an unreadable image.
    Interrupted
        On Ctrl-C, after what was finished was committed.
    """
    started = time.monotonic()
    if batch_size == "auto":
        batch_size = BATCH.get(backbone.device.type, 32)
    features = FeatureSet.create(out, backbone.recipe)
    manifest, kept, replaced = _start_manifest(features, images)
    features.write_manifest(pd.concat([kept, manifest], ignore_index=True))
    summary = Summary(len(manifest), replaced=replaced)
    run = _Run(features, backbone, int(batch_size), manifest, summary, progress)
    cores = joblib.cpu_count()
    threads = torch.get_num_threads()
    # half the cores compute and the rest decode: torch threads that have to share a core wait for each
    # other, on a busy machine for over ten times as long as one thread takes alone
    torch.set_num_threads(max(1, cores // 2))
    try:
        run.go(workers or cores, strict)
    except KeyboardInterrupt:
        run.commit()
        done = int((manifest["status"] != "pending").sum())
        raise Interrupted(
            f"interrupted: {done} of {len(manifest)} images are kept in {out}; the same command goes on from there"
        ) from None
    finally:
        torch.set_num_threads(threads)
        run.commit()
        features.write_manifest(pd.concat([kept, manifest], ignore_index=True))
    summary.seconds = time.monotonic() - started
    features.summary = summary
    return features


class _Run:
    """One pass over the images; rows of `manifest` turn from pending into ok or error."""

    def __init__(self, features, backbone, batch_size, manifest, summary, progress):
        self.features, self.backbone, self.batch_size = features, backbone, batch_size
        self.manifest, self.summary, self.progress = manifest, summary, progress
        self.done = features.done()
        self.columns = {name: manifest[name].to_numpy(dtype=object, copy=True) for name in FIELDS}
        self.batch: list[tuple[str, torch.Tensor]] = []  # decoded, still to be embedded
        self.rows: list[tuple[str, np.ndarray]] = []  # embedded, still to be committed
        self.waiting: dict[str, list[int]] = {}  # rows of the manifest that wait for a hash to be committed
        self.opened = time.monotonic()

    def go(self, workers: int, strict: bool) -> None:
        known = self.columns["sha256"]
        todo = []
        for row in range(len(self.manifest)):
            if isinstance(known[row], str) and known[row] in self.done:
                self._finish(row, known[row])
            else:
                todo.append(row)
        with ThreadPoolExecutor(workers) as pool:
            for row, (sha256, size, mtime, pixels, error) in _ahead(
                pool, self._read, todo, 2 * self.batch_size
            ):
                for name, value in (("sha256", sha256), ("size", size), ("mtime", mtime)):
                    self.columns[name][row] = value
                if error is not None:
                    self._fail(row, error, strict)
                elif sha256 in self.done:
                    self._finish(row, sha256)
                elif sha256 in self.waiting:
                    self.waiting[sha256].append(row)
                else:
                    self.waiting[sha256] = [row]
                    self.batch.append((sha256, pixels))
                    if len(self.batch) == self.batch_size:
                        self._forward()
        self._forward()

    def _read(self, row: int):
        """Read, hash and decode one image, in a worker thread; pixels are None where they are not needed."""
        root, path = self.columns["root"][row], self.columns["path"][row]
        sha256 = size = mtime = None
        try:
            content = read_bytes(root, path)
            sha256 = hashlib.sha256(content).hexdigest()
            size, mtime = _stat(root, path)
            if sha256 in self.done or sha256 in self.waiting:
                return sha256, size, mtime, None, None
            return sha256, size, mtime, self.backbone.preprocess(decode(content)), None
        except (OSError, ValueError, SyntaxError, OverflowError, MemoryError) as error:  # what Pillow raises
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return sha256, size, mtime, None, reason or type(error).__name__

    def _forward(self) -> None:
        if not self.batch:
            return
        side = self.backbone.image_size
        pixels = torch.zeros(self.batch_size, 3, side, side)
        for i, (_, image) in enumerate(self.batch):
            pixels[i] = image
        embedded = self.backbone.embed(pixels)[: len(self.batch)]
        self.rows += [(sha256, row) for (sha256, _), row in zip(self.batch, embedded, strict=True)]
        self.progress(len(self.batch))
        self.batch = []
        if len(self.rows) >= PART_ROWS or time.monotonic() - self.opened > PART_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write the embedded rows as a part; their images are done from then on."""
        if self.rows:
            hashes = [sha256 for sha256, _ in self.rows]
            self.features.write_part(hashes, np.stack([row for _, row in self.rows]))
            self.summary.computed += len(hashes)
            self.done.update(hashes)
            for sha256 in hashes:
                first, *twice = self.waiting.pop(sha256)
                self._set(first, "ok")
                for row in twice:
                    self._finish(row, sha256)
            self.rows = []
        self.opened = time.monotonic()
        for name, values in self.columns.items():
            self.manifest[name] = pd.array(values, dtype=FIELDS[name])

    def _finish(self, row: int, sha256: str) -> None:
        self._set(row, "ok")
        self.summary.reused += 1
        self.progress(1)

    def _fail(self, row: int, error: str, strict: bool) -> None:
        path = Path(self.columns["root"][row]) / self.columns["path"][row]
        if strict:
            raise FtransferError(f"{path} cannot be read: {error} (--strict stops here)")
        self._set(row, "error", error)
        self.summary.failed.append((str(path), error))
        self.progress(1)

    def _set(self, row: int, status: str, error=None) -> None:
        self.columns["status"][row] = status
        self.columns["error"][row] = error


def _start_manifest(features: FeatureSet, images: pd.DataFrame):
    """Return this run's rows, the old ones that stay (of other roots and other domains), and how many go."""
    old = features.manifest
    same_root = old["root"].isin(images["root"].unique())
    same = same_root | old["domain"].isin(images["domain"].unique())
    new = images.reindex(columns=list(FIELDS))
    stats = [_stat(root, path) for root, path in zip(new["root"], new["path"], strict=True)]
    new["size"] = [size for size, _ in stats]
    new["mtime"] = [mtime for _, mtime in stats]
    new["status"] = "pending"
    new = new.astype(FIELDS)
    key = ["root", "path", "size", "mtime"]
    hashes = old.dropna(subset=[*key, "sha256"]).drop_duplicates(key).set_index(key)["sha256"]
    new["sha256"] = new.drop(columns="sha256").join(hashes, on=key)["sha256"].astype("string")
    return new, old[~same], int((same & ~same_root).sum())


def _stat(root: str, path: str) -> tuple[int | None, int | None]:
    try:
        stat = os.stat(os.path.join(root, path))
    except (OSError, ValueError):
        return None, None  # an image of a torchvision data set, or one that is not there
    return stat.st_size, stat.st_mtime_ns


def _ahead(pool: ThreadPoolExecutor, work, items, window: int):
    """Yield (item, work(item)) in order, with at most `window` items worked on ahead."""
    queue = deque()
    try:
        for item in items:
            queue.append((item, pool.submit(work, item)))
            if len(queue) >= window:
                item, future = queue.popleft()
                yield item, future.result()
        while queue:
            item, future = queue.popleft()
            yield item, future.result()
    finally:
        for _, future in queue:
            future.cancel()
