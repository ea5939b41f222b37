"""From the bytes of a file to the pixels that a network sees, with Pillow alone: what only reads imports no torch."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec

import numpy as np
from PIL import Image, ImageOps

from ftransfer.images import limits

FORMATS = ["JPEG", "MPO", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "HEIF"]
BLOCK = 2**20  # pixels
# What Pillow raises of a bad image.
UNREADABLE = (OSError, ValueError, SyntaxError, OverflowError, MemoryError)


def decode(content: bytes, reduce_to: int | None = None) -> Image.Image:
    """Decode an image to upright RGB pixels.

    With `reduce_to` a JPEG is decoded at a half, a quarter or an eighth of its size, as far as its shorter side
    keeps so many pixels.

    The EXIF orientation is applied; 16-bit grey is scaled to 8 bits, not clipped; of an animation the
    first frame is taken; everything else is converted as torchvision's own loader does.

    Raises
    ------
    ValueError
        If the content is not a readable image, its pixels have no known range, or it would cost more than
        `ftransfer.images.limits` allows; the message says why.
    """
    with decoded(content, reduce_to) as image:
        return image


@contextmanager
def decoded(content: bytes, reduce_to: int | None = None) -> Iterator[Image.Image]:
    """Decode an image as `decode` does, once there is memory for it, and keep that memory for the block."""
    if not content:
        raise ValueError("the file is empty")
    file = limits.Clocked(content)
    with _said():
        image = Image.open(file, formats=_formats())
        weight = limits.weigh(image, content)
    with limits.ROOM.take(weight):
        file.start()
        with _said():
            image = _to_upright_rgb(image, reduce_to)
        yield image


@contextmanager
def _said() -> Iterator[None]:
    """Turn what Pillow raises into a ValueError that says what is wrong with the image."""
    with warnings.catch_warnings():
        # of many pixels, of transparency, of torn metadata
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        except Image.UnidentifiedImageError:
            raise ValueError("not an image that Pillow can read") from None
        except Image.DecompressionBombError as error:
            raise ValueError(f"too many pixels: {error}") from None
        except ValueError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever they meet
            raise ValueError(str(error) or type(error).__name__) from error


def _to_upright_rgb(image: Image.Image, reduce_to: int | None) -> Image.Image:
    if reduce_to:
        image.draft(None, (reduce_to, reduce_to))
    kind = image.format
    ImageOps.exif_transpose(image, in_place=True)  # without a copy where it stands upright
    image = eight_bits(image, kind)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache
def _formats() -> list[str]:
    """Name the formats to decode: none that starts another program, as Pillow does for EPS."""
    Image.init()
    if find_spec("pillow_heif"):  # the extra [heif]
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Scale 16-bit grey, 0 to 65535, to 8 bits; `convert` would clip it.

    Raises
    ------
    ValueError
        If its pixels have no known range: `convert` would take them for black or white.
    """
    # of mode I, PNG and PGM are 16-bit, too
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        scaled = Image.new("L", image.size)
        rows = max(1, BLOCK // image.width)  # not all at once: eight bytes a pixel are many of a large one
        for top in range(0, image.height, rows):
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            values = np.asarray(part, dtype=np.int64).clip(0, 65535) // 257
            scaled.paste(Image.fromarray(values.astype(np.uint8)), (0, top))
        return scaled
    if image.mode in ("I", "F"):
        numbers = "32-bit whole numbers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its pixels are {numbers} without a known range; save it with 8 or 16 bits")
    return image


def plan_crop(sides: Sequence[int], size: int | tuple[int, int], crop: int) -> tuple[list[int], list[int]]:
    """Say how long the sides of an image become, the shorter one `size`, and where along them the crop begins.

    Two sizes are those of both sides, whatever the proportion.

    >>> plan_crop((480, 640), 232, 224), plan_crop((480, 640), (256, 256), 224)
    (([232, 309], [4, 42]), ([256, 256], [16, 16]))
    """
    resized = list(size) if isinstance(size, tuple) else [int(size * side / min(sides)) for side in sides]
    return resized, [round((side - crop) / 2) for side in resized]


def resize_and_crop_image(
    size: int | tuple[int, int], crop: int, resample: Image.Resampling, image: Image.Image
) -> np.ndarray:
    """Resize an RGB image to a shorter side of `size`, and crop the middle: just what torchvision's presets do.

    Parameters
    ----------
    size : int, or two of them
        The shorter side in pixels, or both.
    crop : int
        Side in pixels, no larger.
    resample : Resampling
    image : Image, RGB

    Returns
    -------
    ndarray of shape (crop, crop, 3), uint8
    """
    resized, (left, top) = plan_crop(image.size, size, crop)
    image = image.resize(resized, resample)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))
