"""What a picture may cost: bytes of its file, scans, seconds, and memory while it and others are decoded."""

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MAX_FILE = 2**29  # bytes
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb, kept as an error instead of a warning
MAX_ASPECT = 500  # resized by its short side, a longer one would be a bomb, too
MAX_SCANS = 500  # of a JPEG; a picture is sent in 10 as a rule
MAX_SCANNED = 20 * MAX_PIXELS  # pixels of all scans
MAX_SECONDS = 60.0
MAX_DECODED = 2**31  # bytes that decoding one takes, as `weigh` estimates them
TOTAL = max(MAX_DECODED, 2**28 * (os.cpu_count() or 1))  # bytes of all large ones at once
OF_A_PROCESS = 2**29  # bytes; where processes read, a larger one waits until it is the only such
SMALL = 2**26  # bytes; a picture that takes less need not wait for the others
# bytes a pixel, as measured: what a decoder takes beside the image, and RGB with what is made of it, as an array
CODEC = {"JPEG2000": 12, "AVIF": 8, "HEIF": 8, "WEBP": 10}
PROGRESSIVE = 6  # two a coefficient
AFTERWARDS = 10


def refuse_large_file(size: int) -> None:
    """Raise ValueError for a file of so many bytes, before it is read."""
    if size > MAX_FILE:
        raise ValueError(f"the file has {size / 2**20:.0f} MiB; at most {MAX_FILE >> 20} are read")


class Clocked(io.BytesIO):
    """The bytes of a file, which end where decoding has taken too long: a decoder asks for 64 KiB at a time."""

    def __init__(self, content: bytes):
        super().__init__(content)
        self.start()

    def start(self) -> None:
        """Count the seconds from now on."""
        self.end = time.monotonic() + MAX_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        """Read on, unless it is too late."""
        if time.monotonic() > self.end:
            raise ValueError(f"decoding takes over {MAX_SECONDS:.0f} seconds")
        return super().read(size)


def weigh(image: Image.Image, content: bytes) -> int:
    """Estimate the bytes that decoding an opened image takes, with what is made of it: turned, RGB, as an array.

    Raises
    ------
    ValueError
        If it has more pixels or scans, or takes more memory, than is allowed.
    """
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:  # Pillow's own limit may have been lifted
        raise ValueError(f"too many pixels: {image.width} x {image.height}; at most {MAX_PIXELS} are read")
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise ValueError(f"{image.width} x {image.height} pixels: over {MAX_ASPECT} times as long as wide")
    own = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    codec = CODEC.get(image.format or "", 0)
    if isinstance(image, JpegImagePlugin.JpegImageFile) and not _is_one_scan(image, content):
        codec = PROGRESSIVE
        scans = count_scans(content)
        if scans > MAX_SCANS or scans * pixels > MAX_SCANNED:
            raise ValueError(
                f"{scans} scans of {pixels} pixels; at most {MAX_SCANS}, of {MAX_SCANNED} in all"
            )
    weight = pixels * max(codec + own + max(own, 4), AFTERWARDS)
    if weight > MAX_DECODED:
        raise ValueError(
            f"decoding it would take {weight / 2**30:.1f} GiB of memory; at most {MAX_DECODED >> 30} are used"
        )
    return weight


def _is_one_scan(image: JpegImagePlugin.JpegImageFile, content: bytes) -> bool:
    """Whether all components are in the first scan, at whose end Pillow stands once it has opened a JPEG."""
    if "progressive" in image.info or image.fp is None:
        return False
    length = 6 + 2 * image.layers
    at = image.fp.tell() - length
    return content[at - 2 : at + 3] == b"\xff\xda" + length.to_bytes(2) + bytes([image.layers])


def count_scans(content: bytes) -> int:
    """Count the scans of the first image of a JPEG, as far as `MAX_SCANS` allows."""
    data = np.frombuffer(content, np.uint8)
    at = np.flatnonzero(data[:-1] == 0xFF)
    kinds = data[at + 1]
    # in what is scanned, a byte of 255 is followed by 0 or by a restart's number
    markers = (kinds > 0) & (kinds < 0xFF) & ((kinds < 0xD0) | (kinds > 0xD8))
    scans = after = 0
    for place, kind in zip(at[markers].tolist(), kinds[markers].tolist(), strict=True):
        if place < after:
            continue
        if kind == 0xD9 or scans > MAX_SCANS:
            break
        scans += kind == 0xDA
        after = place + 2 + int.from_bytes(content[place + 2 : place + 4])
    return scans


class Room:
    """Memory for large pictures: a thread that decodes one waits until there is room for it.

    Parameters
    ----------
    total : int
        Bytes of all large pictures at once in this process. One that takes more waits until it is alone.
    lock : int, optional
        File descriptor that several processes share; one that takes more than `total` waits for theirs, too.
    """

    def __init__(self, total: int = TOTAL, lock: int | None = None):
        self.total, self.lock, self.used = total, lock, 0
        self.changed, self.own = threading.Condition(), threading.local()

    @contextmanager
    def take(self, weight: int) -> Iterator[None]:
        """Wait for room for so many bytes, and keep it for the block; a thread that has some gets no more."""
        if weight <= SMALL or getattr(self.own, "taken", False):
            yield
            return
        share = min(weight, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.used + share <= self.total)
            self.used += share
        self.own.taken = True
        shared = self.lock is not None and weight > self.total and fcntl is not None
        try:
            if shared:
                fcntl.lockf(self.lock, fcntl.LOCK_EX)
            yield
        finally:
            if shared:
                fcntl.lockf(self.lock, fcntl.LOCK_UN)
            self.own.taken = False
            with self.changed:
                self.used -= share
                self.changed.notify_all()


ROOM = Room()
