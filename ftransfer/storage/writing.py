"""Write files whole or not at all, one writer of a folder at a time."""

import io
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ftransfer.errors import FtransferError
from ftransfer.storage.places import Place, Remote

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
TRIES = 20  # to write a manifest in a store, where others write it at the same time


# ---------------------------------------------------------------- whole or not at all, one at a time


@contextmanager
def writing(folder: Place) -> Iterator[None]:
    """Turn what the file system refuses into an error that a user can mend."""
    try:
        yield
    except OSError as error:
        raise FtransferError(f"cannot write to {folder}: {error.strerror or error}") from error


@contextmanager
def locked(folder: Place) -> Iterator[bool]:
    """Let one process at a time write to a folder; the others wait. Yields whether the lock holds.

    The kernel gives the lock back when a process ends, however it ends. It holds between processes of one
    machine, and over NFS as far as client and server support locks; where there are none (Windows, some network
    file systems), rows of two writers are still never torn, but the last one to write the manifest wins.
    In a store there is none; see `exchange`.
    """
    if isinstance(folder, Remote):
        yield False
        return
    with _open_lock(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = True
        except (AttributeError, OSError):
            held = False
        yield held


_held: dict[Path, BinaryIO] = {}  # folders that this process alone may write to, with their locks


def hold(folder: Path, who: str) -> None:
    """Keep other processes out of a folder on disk until `release`, or until this process ends.

    Parameters
    ----------
    folder : Path
    who : str
        What writes to it, for the one that comes second.

    Raises
    ------
    FtransferError
        If another process holds it.
    """
    folder = folder.resolve()
    if fcntl is None or folder in _held:
        return
    file = _open_lock(folder / ".lock")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise FtransferError(
            f"{folder} is being written by another {who}; wait until it ends, or choose another folder with --out"
        ) from None
    except OSError:  # a file system without locks
        file.close()
        return
    _held[folder] = file


def release(folder: Path) -> None:
    """Let others write to a folder again."""
    if file := _held.pop(folder.resolve(), None):
        file.close()


def _open_lock(file: Path) -> BinaryIO:
    try:  # O_NONBLOCK: a pipe of that name would wait for who reads it
        descriptor = os.open(
            file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0), 0o666
        )
    except OSError as error:
        if not os.path.lexists(file) or file.is_file():
            raise
        raise FtransferError(
            f"{file} is {'a folder' if file.is_dir() else 'no file'}, where the lock of its folder belongs "
            f"({error.strerror}); remove it"
        ) from error
    return os.fdopen(descriptor, "ab")


@contextmanager
def whole(file: Place) -> Iterator[BinaryIO]:
    """Open a file for writing aside; flush it to disk and rename: it appears whole or not at all."""
    if isinstance(file, Remote):
        kept = io.BytesIO()
        yield kept
        file.write_bytes(kept.getvalue())
        return
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(aside, "w+b") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be flushed
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_whole(file: Place, content: bytes | memoryview | Iterator[bytes]) -> None:
    """Write bytes, or an iterator of them, to a file that appears whole or not at all."""
    with whole(file) as out:
        for piece in content if isinstance(content, Iterator) else [content]:
            out.write(piece)


def exchange(file: Place, write: Callable[[BinaryIO], None]) -> None:
    """Replace a file by what `write` reads from it and writes to the one it is given, under the folder's lock.

    In a store, which has none, it is put only if it has not changed since it was read, and else made again.

    Raises
    ------
    FtransferError
        If others were always faster.
    """
    if not isinstance(file, Remote):
        with whole(file) as out:
            return write(out)
    for attempt in range(TRIES):
        seen: dict | None
        try:
            seen = file.info()
        except FileNotFoundError:
            seen = None
        out = io.BytesIO()
        write(out)
        if file.write_if(out.getvalue(), seen):
            return None
        time.sleep(random.uniform(0, min(2, 0.05 * 2**attempt)))
    raise FtransferError(
        f"{file} was changed by other processes {TRIES} times while it was being written; run the command again"
    )


def sweep(folder: Place) -> None:
    """Remove what writers that were killed had written aside; only for who holds the folder's lock."""
    if isinstance(folder, Remote):  # nothing is written aside there
        return
    for aside in folder.glob(".*." + "[0-9a-f]" * 8):
        aside.unlink(missing_ok=True)
