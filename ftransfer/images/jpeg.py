"""Which JPEG files a GPU decodes to what Pillow would give: told from their headers, without decoding them."""

from dataclasses import dataclass

import numpy as np

from ftransfer.images.limits import MAX_ASPECT

GPU_PIXELS = 2**25  # decoded at once: 100 MB, and three times as much while they are resized
GPU_SIDE = 64  # pixels of the shorter side; smaller files Pillow decodes in no time, and upsamples their colours better
# Of Y alone, or of Y, Cb and Cr. Y alone with others, which changes nothing for Pillow, nvJPEG 13.0 decodes wrongly.
SAMPLINGS = (b"\x11", b"\x11\x11\x11", b"\x21\x11\x11", b"\x12\x11\x11", b"\x22\x11\x11")


@dataclass(frozen=True)
class Encoded:
    """A JPEG file that a GPU is to decode: its bytes, uint8, and how many pixels it has."""

    content: np.ndarray
    pixels: int


def count_jpeg_pixels(content: bytes) -> int | None:
    """Read the header of a file; None unless it is a JPEG that a GPU decodes to what Pillow would.

    These are the common ones: baseline, 8 bits, grey or YCbCr with the usual sampling, whole, of a size that fits.
    Everything else is Pillow's: it knows more kinds, and says what is wrong with a file.
    """
    if content[:2] != b"\xff\xd8":
        return None
    at, frame = 2, None
    while content[at : at + 1] == b"\xff":
        kind, length = content[at + 1 : at + 2], int.from_bytes(content[at + 2 : at + 4])
        segment = content[at + 4 : at + 2 + length]
        if kind == b"\xff":  # a filling before the next marker
            at += 1
            continue
        if kind == b"\xda":  # a scan begins, and it ends only in a file that is whole
            return frame if content.rfind(b"\xff\xd9", at) > 0 else None
        if kind == b"\xc0":
            frame = _count_pixels(segment)
        elif (
            b"\xc1" <= kind <= b"\xcf" and kind not in b"\xc4\xc8\xcc"
        ):  # progressive, arithmetic, lossless ...
            return None
        elif kind == b"\xee" and segment[:5] == b"Adobe" and segment[11:12] != b"\x01":  # no YCbCr
            return None
        if length < 2:
            return None
        at += 2 + length
    return None


def _count_pixels(frame: bytes) -> int | None:
    """Count the pixels of a baseline frame; None of one that is not for the GPU."""
    if len(frame) < 6 or frame[0] != 8 or len(frame) != 6 + 3 * frame[5]:
        return None
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if frame[7::3] not in SAMPLINGS or frame[6::3] == b"RGB":
        return None
    fits = min(height, width) >= GPU_SIDE and max(height, width) <= MAX_ASPECT * min(height, width)
    return height * width if fits and height * width <= GPU_PIXELS else None
