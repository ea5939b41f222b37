"""What is kept in the user's cache to save time: files that can be made again, and that may go at any time."""

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from ftransfer.errors import FtransferError
from ftransfer.storage.reading import open_regular
from ftransfer.storage.writing import locked, sweep, whole

DIGEST = 32  # bytes of the SHA-256 that a kept file begins with


def cache_folder(kind: str) -> Path:
    """Where things of a kind are kept: in ``$FTRANSFER_CACHE``, else in ``ftransfer`` in the user's cache."""
    default = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FTRANSFER_CACHE") or Path(default) / "ftransfer") / kind


def read_kept(file: Path) -> memoryview | None:
    """Return what `keep` was given; None where there is nothing, or nothing that this user alone could have written.

    A file that is torn, or that others own or may write to, is removed.
    """
    try:
        with open_regular(file) as opened:
            if _is_ours(os.fstat(opened.fileno())):
                found = memoryview(opened.read())
                if hashlib.sha256(found[DIGEST:]).digest() == found[:DIGEST]:
                    with suppress(OSError):  # what was not used for longest is dropped first
                        os.utime(file)
                    return found[DIGEST:]
    except FileNotFoundError:
        return None
    except OSError:
        pass
    forget(file)
    return None


def forget(file: Path) -> None:
    """Remove a kept file, if that is allowed."""
    with suppress(OSError):
        file.unlink()


def keep(file: Path, content: bytes, room: int) -> None:
    """Write a file that `read_kept` reads, whole or not at all, and readable by this user alone.

    Others of its kind that were not used for longest are dropped, so that all of them take at most `room` bytes. Where
    nothing can be written, nothing is kept.

    Parameters
    ----------
    file : Path
        In a folder of its kind alone.
    content : bytes
    room : int
        Bytes of all files of the folder.
    """
    if len(content) + DIGEST > room:
        return
    with suppress(OSError, FtransferError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(file.parent) as alone:
            if file.exists():  # another process was faster
                return
            if alone:
                sweep(file.parent)
            with whole(file) as out:
                if hasattr(os, "fchmod"):
                    os.fchmod(out.fileno(), 0o600)
                out.write(hashlib.sha256(content).digest())
                out.write(content)
            _drop_oldest(file, room)


def _drop_oldest(new: Path, room: int) -> None:
    found = [(f.stat(), f) for f in new.parent.glob(f"*{new.suffix}") if f != new]
    taken = new.stat().st_size
    for status, file in sorted(found, key=lambda each: each[0].st_mtime_ns, reverse=True):
        taken += status.st_size
        if taken > room:
            forget(file)


def _is_ours(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # Windows, where a user's cache is closed to others
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
