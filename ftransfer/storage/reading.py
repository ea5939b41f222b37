"""Read files and nothing else, up to a size: a pipe may never give anything, and a device may never stop giving."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ftransfer.storage.places import Place, Remote

MAX_TEXT = 2**26  # bytes of JSON and other text that are read
NOT_A_FILE = "a pipe, a socket or a device, not a file"
KINDS = {stat.S_IFDIR: "a folder, not a file"}


class NotAFile(OSError):
    """What lies under the name is a folder, a pipe, a socket or a device."""

    def __init__(self, file: str | os.PathLike[str], mode: int) -> None:
        super().__init__(errno.EINVAL, KINDS.get(stat.S_IFMT(mode), NOT_A_FILE), os.fspath(file))


def refuse_irregular(file: Place) -> None:
    """Raise `NotAFile` where something else than a file lies under a name; what is in a store is a file.

    Raises
    ------
    NotAFile, or another OSError where nothing is there.
    """
    if not isinstance(file, Remote) and not stat.S_ISREG(mode := os.stat(file).st_mode):
        raise NotAFile(file, mode)


def is_there(file: Place) -> bool:
    """Whether a file is there; `NotAFile` if something else is."""
    try:
        refuse_irregular(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not isinstance(file, Remote) or file.is_file()


def open_regular(file: Path | str, buffering: int = -1) -> BinaryIO:
    """Open a file of this machine for reading; `NotAFile` if it is something else, however it became so."""
    # O_NONBLOCK: a pipe is opened at once, too, and seen to be one
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotAFile(file, mode)
    return open(descriptor, "rb", buffering=buffering)


def read_bytes(file: Place, most: int = MAX_TEXT) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    file : Path or Remote
    most : int
        Bytes; a larger file is an OSError.
    """
    if isinstance(file, Remote):
        if file.stat().st_size > most:
            raise _too_large(file, most)
        return file.read_bytes()
    with open_regular(file) as content:
        found = content.read(most + 1)
    if len(found) > most:
        raise _too_large(file, most)
    return found


def read_text(file: Place, most: int = MAX_TEXT, errors: str = "strict") -> str:
    """Read a whole file of UTF-8, as `read_bytes` does."""
    return read_bytes(file, most).decode("utf-8", errors)


def _too_large(file: Place, most: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most / 2**20:.0f} MiB, the limit for such a file", str(file))
