"""The extraction engine: read, hash, decode and resize -> forward -> commit, all at once, with bounded queues.

Threads read and decode ahead; others, the lanes of the runtime, put batches together and embed them; one writes
parts. The main thread alone hands things on and keeps the books. What waits anywhere is bounded, so that memory does
not depend on how many images there are, but for their rows in the manifest.
"""

import json
import pickle
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.device import versions
from ftransfer.backbone.fast_pixels import Undecodable
from ftransfer.backbone.runtime import Runtime, lanes, one_torch_thread_each
from ftransfer.errors import FtransferError
from ftransfer.extract.plan import count_readers
from ftransfer.extract.running import Running
from ftransfer.extract.summary import Summary
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.manifest import FIELDS
from ftransfer.images.jpeg import Encoded
from ftransfer.images.pixels import UNREADABLE
from ftransfer.images.read import full_path
from ftransfer.images.readers import (
    AT_ONCE,
    Found,
    Preparation,
    open_processes,
    processes_pay,
    read_image,
    reason_of,
)
from ftransfer.storage.places import is_remote
from ftransfer.storage.reading import read_text
from ftransfer.storage.writing import write_whole

PART_ROWS = 8192  # a part is closed after so many rows ...
PART_SECONDS = 30.0  # ... or so many seconds, so that a kill costs half a minute
FILES_AHEAD, FILES_A_BATCH = 2**30, 2**28  # bytes of files for a GPU that wait: read ahead, and in a batch
NUMBERS, MISSING = ("size", "mtime"), np.iinfo(np.int64).min


def embed_rows(
    features: FeatureSet,
    backbone: Backbone,
    rows: pd.DataFrame,
    summary: Summary,
    make: Callable[[], Runtime],
    running: Running,
    *,
    done: set[str] | None = None,
) -> None:
    """Embed the images of some rows of the manifest and commit them as parts; `rows` then say what became of each.

    Parameters
    ----------
    features : FeatureSet
    backbone : Backbone
    rows : DataFrame
        Rows of the manifest, changed in place, also where an error or Ctrl-C ends it.
    summary : Summary
        What was done is counted here.
    make : callable
        Gives the runtime, once an image turns up that has to be computed.
    running : Running
    done : set of str, optional
        Hashes that have an embedding; those that get one are added. Default: what the parts hold.
    """
    done = features.done() if done is None else done
    run = _Run(features, backbone, rows, summary, make, done, running.progress)
    try:
        run.go(running.workers or count_readers(rows), running.strict)
    finally:
        for name, values in run.columns.items():
            if name in NUMBERS:
                values = pd.arrays.IntegerArray(values, values == MISSING)
            rows[name] = pd.array(values, dtype=FIELDS[name])


class _Run:
    """One pass over the images; rows of `columns` turn from pending into ok or error."""

    def __init__(
        self,
        features: FeatureSet,
        backbone: Backbone,
        manifest: pd.DataFrame,
        summary: Summary,
        make: Callable[[], Any],
        done: set[str],
        progress: Callable[[int], None],
    ) -> None:
        self.features, self.backbone = features, backbone
        self.summary, self.make, self.progress = summary, make, progress
        self.runtime: Any = None  # made once an image turns up that is not embedded yet
        self.processes: Any = None  # that read, beside a GPU
        self.done, self.views = done, features.n_views
        self.prepare = backbone.preparation(features.views)
        self.columns = _columns(manifest)
        self.waiting: dict[str, list[int]] = {}  # rows of the manifest that wait for a hash to be committed
        self.filling: list[tuple[str, list]] = []  # hashes and views of the batch that is being filled
        self.flying: deque[tuple[list[str], Future]] = deque()  # batches that are being embedded
        self.rows: list[tuple[list[str], np.ndarray]] = []  # embedded, still to be written
        self.part: tuple[list[str], Future] | None = None  # hashes of the part that is being written
        self.opened = time.monotonic()
        self.weight, self.filled = 0.0, 0  # bytes of the files for a GPU: of each read lately; in the batch

    def go(self, workers: int, strict: bool) -> None:
        todo = [row for row, sha256 in enumerate(self.columns["sha256"]) if not self._is_done(row, sha256)]
        self.workers, self.ahead, self.strict = workers, 2 * workers, strict
        with ThreadPoolExecutor(1, "writer") as self.writer:
            try:
                with ExitStack() as self.stack:
                    pay = processes_pay(self.backbone.device, len(todo), set(self.columns["root"]))
                    if pay and _can_be_sent(self.prepare):
                        processes = open_processes(workers, self.prepare, self.done)
                        self.processes = self.stack.enter_context(processes)
                        self.ahead = 4 * AT_ONCE * workers
                    readers = self.stack.enter_context(one_torch_thread_each(workers, "reader"))
                    self._go(self._read_ahead(readers, todo))
            finally:
                self._write()
                self._written()

    def _open_lanes(self) -> None:
        """Make ready what computes, once an image turns up that is not embedded yet."""
        self.runtime = self.make()
        if self.runtime.batch_size < self.views:
            raise FtransferError(
                f"a batch of {self.runtime.batch_size} is too small for an image with {self.views} views; "
                f"increase --batch-size"
            )
        self.summary.runtime = self.runtime.record["runtime"]
        _record(self.features, self.runtime)
        self.buffers: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.runtime.lanes):
            self.buffers.put(self.runtime.buffer())
        self.ahead += self.runtime.lanes * self.runtime.batch_size // self.views
        self.lanes = self.stack.enter_context(lanes(self.runtime))

    def _go(self, images: Iterable[tuple[int, Found]]) -> None:
        try:
            for row, found in images:
                self._take(row, *found)
            self._launch()
            while self.flying:
                self._land()
        except BaseException as error:
            self._rescue(hurry=isinstance(error, KeyboardInterrupt))
            self._write()  # before what is waited for further out
            raise

    def _is_done(self, row: int, sha256: Any) -> bool:
        if not isinstance(sha256, str) or sha256 not in self.done:
            return False
        self._finish(row)
        return True

    def _read_ahead(self, pool: ThreadPoolExecutor, rows: list[int]) -> Iterator[tuple[int, Found]]:
        """Yield (row, what `_read` found) in order; some are read in one go, and at most `ahead` ahead."""
        queue: deque[tuple[list[int], Future]] = deque()
        reading, left = 0, iter(rows)
        while some := list(islice(left, max(1, self._room() // (4 * self.workers)))):
            queue.append((some, pool.submit(self._read_some, some)))
            reading += len(some)
            while reading >= self._room():
                reading -= len(queue[0][0])
                yield from self._found(*queue.popleft())
        while queue:
            yield from self._found(*queue.popleft())

    def _room(self) -> int:
        return min(self.ahead, max(1, int(FILES_AHEAD / self.weight))) if self.weight else self.ahead

    def _found(self, rows: list[int], future: Future) -> Iterator[tuple[int, Found]]:
        found = self._wait(future, self._launch)
        self.weight = max(sum(_weigh(views) for *_, views, _ in found) / len(rows), 7 / 8 * self.weight)
        return zip(rows, found, strict=True)

    def _wait(self, future: Future, when_late: Callable[[], Any] = lambda: None) -> Any:
        """Wait, but no longer than a part may stay open: then write what there is, and wait on."""
        while wait([future], max(0.0, self.opened + PART_SECONDS - time.monotonic())).not_done:
            when_late()
            self._write()
        return future.result()

    def _read_some(self, rows: list[int]) -> list[Found]:
        """Read, hash and decode images, in a thread."""
        if self.processes:
            root, path = self.columns["root"], self.columns["path"]
            return self.processes([(root[row], path[row]) for row in rows])
        return [self._read(row) for row in rows]

    def _read(self, row: int) -> Found:
        root, path = self.columns["root"][row], self.columns["path"][row]
        listed = [int(self.columns[name][row]) for name in NUMBERS] if is_remote(root) else ()
        listed = [None if number == MISSING else number for number in listed]
        return read_image(root, path, self.prepare, self._is_known, listed)

    def _is_known(self, sha256: str) -> bool:
        return sha256 in self.done or sha256 in self.waiting

    def _take(
        self,
        row: int,
        sha256: Any,
        size: int | None,
        mtime: int | None,
        views: list | None,
        error: str | None,
    ) -> None:
        self.columns["sha256"][row] = sha256
        for name, value in zip(NUMBERS, (size, mtime), strict=True):
            self.columns[name][row] = MISSING if value is None else value
        if error is not None:
            self._fail(row, error)
        elif self._is_done(row, sha256):
            pass
        elif sha256 in self.waiting:
            self.waiting[sha256].append(row)
        elif views is None:  # it was not decoded since it came twice, and now its twin has failed
            self._take(row, *self._read(row))
        else:
            if self.runtime is None:
                self._open_lanes()
            self.waiting[sha256] = [row]
            self.filling.append((sha256, views))
            self.filled += _weigh(views)
            if (len(self.filling) + 1) * self.views > self.runtime.batch_size or self.filled > FILES_A_BATCH:
                self._launch()

    def _launch(self) -> None:
        """Give the batch to a lane, as it is; take back those that are ready, or the oldest if too many fly."""
        if self.filling:
            hashes = [sha256 for sha256, _ in self.filling]
            images = [image for _, views in self.filling for image in views]
            self.filling, self.filled = [], 0
            self.flying.append((hashes, self.lanes.submit(self._embed, images)))
        while self.flying and (len(self.flying) > self.runtime.lanes + 1 or self.flying[0][1].done()):
            self._land()

    def _embed(self, images: list) -> tuple[np.ndarray, dict[int, str]]:
        """Put a batch together and embed it, in a lane; also say which images could not be decoded, and why."""
        pixels, files = self.buffers.get(), {}
        errors: dict[int, str] = {}
        try:
            for i, image in enumerate(images):
                if isinstance(image, Encoded):
                    files[i] = image
                else:
                    pixels[i] = image
            pixels[len(images) :] = 0
            images.clear()  # they are in the buffer, and take as much memory
            if not files:
                return self.runtime(pixels), errors
            try:
                return self.runtime(pixels, files), errors
            except Undecodable as error:
                by_pillow = replace(self.prepare, on_gpu=False)
                for i in error.rows:  # a GPU does not say what is wrong with them, Pillow does, or reads them
                    try:
                        (pixels[i],) = by_pillow(files.pop(i).content.tobytes(), "")
                    except UNREADABLE as reason:
                        errors[i] = reason_of(reason)
                return self.runtime(pixels, files), errors
        finally:
            self.buffers.put(pixels)

    def _land(self) -> None:
        """Take back the oldest batch, and write a part if it is time."""
        hashes, future = self.flying[0]
        embedded, errors = self._wait(future)
        self.flying.popleft()
        self._keep(hashes, embedded, errors)
        self.progress(len(hashes) - len(errors))
        for i, reason in errors.items():
            for row in self.waiting.pop(hashes[i]):
                self._fail(row, reason)
        if self.part and self.part[1].done():
            self._written()
        if sum(len(h) for h, _ in self.rows) >= PART_ROWS or time.monotonic() - self.opened > PART_SECONDS:
            self._write()

    def _keep(self, hashes: list[str], embedded: np.ndarray, errors: dict[int, str]) -> None:
        rows = embedded[: len(hashes) * self.views].reshape(len(hashes), -1)
        if errors:
            good = [i for i in range(len(hashes)) if i not in errors]
            hashes, rows = [hashes[i] for i in good], rows[good]
        if hashes:
            self.rows.append((hashes, rows))

    def _rescue(self, hurry: bool) -> None:
        """Keep what was given to the lanes; in a hurry, only what they have begun."""
        for _, future in self.flying if hurry else ():
            future.cancel()
        while self.flying:
            hashes, future = self.flying.popleft()
            with suppress(Exception, CancelledError):
                self._keep(hashes, *future.result())

    def _write(self) -> None:
        """Let the writer commit the embedded rows as a part, once it is done with the one before."""
        self._written()
        if self.rows:
            hashes = [sha256 for batch, _ in self.rows for sha256 in batch]
            embedded = np.concatenate([rows for _, rows in self.rows])
            self.rows = []
            self.part = hashes, self.writer.submit(self.features.write_part, hashes, embedded)
        self.opened = time.monotonic()

    def _written(self) -> None:
        """Wait for the part that is being written; its images are done from then on."""
        if self.part is None:
            return
        hashes, future = self.part
        # wherever Ctrl-C falls, here or below: all of this is done again before it is said what was kept
        future.result()
        self.done.update(hashes)
        for sha256 in hashes:
            for row in self.waiting.get(sha256, ()):
                self._set(row, "ok")
        twice = sum(len(self.waiting.pop(sha256, [None])) - 1 for sha256 in hashes)
        self.part = None
        self.summary.computed += len(hashes)
        self.summary.reused += twice
        self.progress(twice)

    def _finish(self, row: int) -> None:
        self._set(row, "ok")
        self.summary.reused += 1
        self.progress(1)

    def _fail(self, row: int, error: str) -> None:
        path = full_path(self.columns["root"][row], self.columns["path"][row])
        if self.strict:
            raise FtransferError(f"{path} cannot be read: {error} (--strict stops here)")
        self._set(row, "error", error)
        self.summary.failed.append((path, error))
        self.progress(1)

    def _set(self, row: int, status: str, error: str | None = None) -> None:
        self.columns["status"][row] = status
        self.columns["error"][row] = error


def _columns(manifest: pd.DataFrame) -> dict:
    """Take the columns of a manifest that a run reads and writes, in little memory: texts that repeat are shared."""
    root, folders = pd.factorize(manifest["root"])
    columns = {"root": folders.to_numpy(dtype=object)[root], "path": manifest["path"].array}
    columns["sha256"] = manifest["sha256"].to_numpy(dtype=object, copy=True)
    columns["status"] = np.array([sys.intern(status) for status in manifest["status"]], dtype=object)
    columns["error"] = manifest["error"].to_numpy(dtype=object, copy=True)
    return columns | {name: manifest[name].to_numpy(np.int64, na_value=MISSING) for name in NUMBERS}


def _can_be_sent(prepare: Preparation) -> bool:
    """Whether other processes can prepare images; else threads do, and a line says so."""
    try:
        pickle.dumps(prepare.pixels)
    except Exception as error:  # what a user's transforms hold may be anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(
            f"the transforms cannot be sent to other processes ({reason[:200]}); reading images in threads instead",
            file=sys.stderr,
        )
        return False
    return True


def _weigh(views: list | None) -> int:
    """Count the bytes of the files that a GPU is to decode: unlike pixels they may be large."""
    return sum(view.content.nbytes for view in views or () if isinstance(view, Encoded))


def _record(features: FeatureSet, runtime: Any) -> None:
    """Add what computes to ``runtimes.json``: for people; nothing is decided by it."""
    file = features.folder / "runtimes.json"
    record = {**runtime.record, "batch_size": runtime.batch_size, **versions()}
    with features.lock():
        known = []
        with suppress(OSError, ValueError):
            known = json.loads(read_text(file))
        if record not in known:
            write_whole(file, json.dumps([*known, record], indent=2).encode())
