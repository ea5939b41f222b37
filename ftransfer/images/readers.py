"""Reading, hashing and decoding images: in threads of this process, or beside a GPU in processes of their own.

Python lets one thread run at a time, and some 0.2 ms of reading an image are Python: however many threads there are,
they feed a GPU no more than about 4,700 images/s. So each thread that reads may have a process that does it for it. The
thread sends paths, and copies what came of them out of memory that both share.
"""

import hashlib
import math
import mmap
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from ftransfer.errors import FtransferError
from ftransfer.images import limits
from ftransfer.images.jpeg import Encoded, count_jpeg_pixels
from ftransfer.images.pixels import UNREADABLE, decoded
from ftransfer.images.read import read_bytes, stat_image
from ftransfer.images.views import make_views
from ftransfer.storage.places import Unreachable, is_remote

PROCESSES_FROM = 10_000  # images from which processes repay the second or two that they take to start
AT_ONCE = 16  # images that a process is asked for: sending and answering take as long as reading one
ROOM = 2**24  # bytes that a process shares with its thread; what does not fit goes through the pipe
Found = tuple  # sha256, size, mtime, views, error; of these None what is not known or not needed


@dataclass(frozen=True)
class Preparation:
    """How the bytes of an image become pixels.

    Attributes
    ----------
    pixels : callable
        Takes an upright RGB image, gives uint8 (side, side, 3), or float32 (channels, height, width).
    reduce_to : int, optional
        As for `ftransfer.images.pixels.decode`.
    views : dict, optional
        As for `make_views`.
    on_gpu : bool
        Whether the JPEG files that a GPU decodes are left to it.
    """

    pixels: Callable
    reduce_to: int | None = None
    views: dict | None = None
    on_gpu: bool = False

    def __call__(self, content: bytes, sha256: str) -> list[np.ndarray | Encoded]:
        """Decode the views of an image, or leave it to the GPU."""
        if self.on_gpu and (count := count_jpeg_pixels(content)):
            return [Encoded(np.frombuffer(content, np.uint8).copy(), count)]
        with decoded(content, self.reduce_to) as image:
            return [self.pixels(view) for view in make_views(image, sha256, self.views)]


def read_image(
    root: str,
    path: str,
    prepare: Preparation,
    is_known: Callable[[str], bool],
    listed: Sequence[int | None] = (),
) -> Found:
    """Read, hash and decode one image.

    Parameters
    ----------
    root, path : str
    prepare : Preparation
    is_known : callable
        Whether the views of an image with this hash are not needed.
    listed : (int, int)
        Size and time of change of an image in a store, as it was listed.
    """
    sha256 = size = mtime = None
    try:
        # asked for before it is read: a change from then on shows
        size, mtime = listed if is_remote(root) else stat_image(root, path)
        limits.refuse_large_file(size or 0)
        # a large file has the room of all large pictures, from when it is read
        with limits.ROOM.take(limits.TOTAL if (size or 0) > limits.SMALL else 0):
            content = read_bytes(root, path)
            sha256 = hashlib.sha256(content).hexdigest()
            return sha256, size, mtime, None if is_known(sha256) else prepare(content, sha256), None
    except Unreachable:
        raise
    except UNREADABLE as error:
        return sha256, size, mtime, None, reason_of(error)


def reason_of(error: Exception) -> str:
    """Say in a few words why an image cannot be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return reason or type(error).__name__


# ---------------------------------------------------------------- processes


def processes_pay(device: Any, images: int, roots: Iterable[str]) -> bool:
    """Whether processes read faster than threads: many files of this machine, beside a GPU, on Linux."""
    local = not any(is_remote(root) or root.startswith("torchvision:") for root in roots)
    return device.type == "cuda" and images >= PROCESSES_FROM and local and hasattr(os, "memfd_create")


@contextmanager
def open_processes(
    workers: int, prepare: Preparation, known: Iterable[str]
) -> Iterator[Callable[[list[tuple[str, str]]], list[Found]]]:
    """Start processes that read; give what asks one of them: a list of (root, path) becomes one of `Found`.

    Parameters
    ----------
    workers : int
    prepare : Preparation
        It can be pickled.
    known : iterable of str
        Hashes of images whose views are not needed.
    """
    digests = np.sort(np.frombuffer(bytes.fromhex("".join(known)), "S32"))
    shared = _share(max(1, digests.nbytes))
    mmap.mmap(shared, 0)[: digests.nbytes] = digests.tobytes()
    # a process imports what makes pixels, which takes seconds, when it has something for it
    job = pickle.dumps(
        (
            pickle.dumps(prepare.pixels),
            prepare.reduce_to,
            prepare.views,
            prepare.on_gpu,
            len(digests),
        )
    )
    started: list[_Process] = []
    idle: SimpleQueue[_Process] = SimpleQueue()

    def read(places: list[tuple[str, str]]) -> list[Found]:
        process = idle.get()
        try:
            return process.read(places)
        finally:
            idle.put(process)

    try:
        for _ in range(workers):
            started.append(_Process(job, shared))
            idle.put(started[-1])
        yield read
    finally:
        for process in started:
            process.end()
        os.close(shared)


def _share(size: int) -> int:
    """Make room in memory that a process can be given; return its file descriptor."""
    room = os.memfd_create("ftransfer")
    os.ftruncate(room, size)
    return room


class _Process:
    """A process that reads images.

    It is not a child of `multiprocessing`, which would run the user's own script once more in it. Ctrl-C does not reach
    it, and when its pipe closes, whatever became of this process, it ends.
    """

    def __init__(self, job: bytes, shared: int):
        room = _share(ROOM)
        self.room = np.frombuffer(mmap.mmap(room, ROOM), np.uint8)
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from ftransfer.images.readers import serve; serve()",
                str(room),
                str(shared),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(room, shared),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            process_group=0,
        )
        os.close(room)
        assert self.process.stdin  # both are pipes
        assert self.process.stdout
        self.asked, self.answers = self.process.stdin, self.process.stdout
        self._send(job)

    def _send(self, message: bytes) -> None:
        try:
            self.asked.write(message)
            self.asked.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> FtransferError:
        return FtransferError(
            "a process that reads images was killed, perhaps for lack of memory; run the same command again to resume"
        )

    def read(self, places: list[tuple[str, str]]) -> list[Found]:
        """Let it read images, and wait."""
        self._send(pickle.dumps(places))
        try:
            answer = pickle.load(self.answers)
        except (EOFError, pickle.UnpicklingError):
            raise self._ended() from None
        if isinstance(answer, str):
            raise RuntimeError(f"in a process that reads images:\n{answer}")
        found, used = answer
        room = self.room[:used].copy()  # at once: Python waits its turn after each copy
        return [
            (sha256, size, mtime, views and [_unpack(view, room) for view in views], error)
            for sha256, size, mtime, views, error in found
        ]

    def end(self) -> None:
        """Close its pipe, upon which it ends, and wait."""
        for pipe in (self.asked, self.answers):
            with suppress(BrokenPipeError):
                pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# ---------------------------------------------------------------- in such a process


def serve() -> None:
    """Read images as asked on standard input, and answer on standard output, until the former ends."""
    lock = int(sys.argv[2])
    room, shared = (mmap.mmap(int(name), 0) for name in sys.argv[1:])
    room = np.frombuffer(room, np.uint8)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    packed, reduce_to, views, on_gpu, count = pickle.load(asked)
    limits.ROOM = limits.Room(limits.OF_A_PROCESS, lock)
    prepare = Preparation(_Late(packed), reduce_to, views, on_gpu)
    digests = np.frombuffer(shared, "S32", count)

    def is_known(sha256: str) -> bool:
        digest = np.array(bytes.fromhex(sha256), "S32")
        at = np.searchsorted(digests, digest)
        return at < count and digests[at] == digest

    while True:
        try:
            places = pickle.load(asked)
        except EOFError:
            return
        try:
            answer = _pack([read_image(root, path, prepare, is_known) for root, path in places], room)
        except Exception:
            answer = traceback.format_exc()
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:
            return


class _Late:
    """A function that is unpickled when it is first called."""

    def __init__(self, packed: bytes):
        self._packed = packed
        self._made: Callable | None = None

    def __call__(self, *args: Any) -> Any:
        self._made = self._made or pickle.loads(self._packed)
        return self._made(*args)


def _unpack(view: tuple, room: np.ndarray) -> np.ndarray | Encoded:
    values, shape, kind, count = view
    if isinstance(values, int):  # where they are in the room
        size = math.prod(shape) * np.dtype(kind).itemsize
        values = room[values : values + size].view(kind).reshape(shape)
    return values if count is None else Encoded(values, count)


def _pack(found: list[Found], room: np.ndarray) -> tuple[list[Found], int]:
    """Move views into the room as long as there is some, and say how much of it is used.

    A view becomes a place in the room, or else its values; its shape and type; of a file, its pixels.
    """
    packed: list[Found] = []
    at = 0
    for sha256, size, mtime, views, error in found:
        moved: list[tuple] = []
        for view in views or ():
            values, count = (view.content, view.pixels) if isinstance(view, Encoded) else (view, None)
            about = (values.shape, values.dtype.str, count)
            if at + values.nbytes <= len(room):
                room[at : at + values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
                moved.append((at, *about))
                at += -(-values.nbytes // 8) * 8  # aligned for whatever comes next
            else:
                moved.append((values, *about))
        packed.append((sha256, size, mtime, views and moved, error))
    return packed, at
