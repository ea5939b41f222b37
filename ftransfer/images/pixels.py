"""From the bytes of a file to the pixels that a network sees, with Pillow alone: what only reads imports no torch."""

import io
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageOps

FORMATS = ["JPEG", "MPO", "PNG", "PPM", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000"]
MAX_PIXELS = 178_956_970  # Pillow's own limit for a decompression bomb, kept as an error instead of a warning
MAX_ASPECT = 500  # resized by its short side, a longer one would be a bomb, too
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
        If the content is no readable image, or its pixels have no known range; the message says why.
    """
    if not content:
        raise ValueError("the file is empty")
    with warnings.catch_warnings():
        # of many pixels, of transparency, of torn metadata
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            image = Image.open(io.BytesIO(content), formats=_formats())
            if image.width * image.height > MAX_PIXELS:  # Pillow's own limit may have been lifted
                raise ValueError(
                    f"too many pixels: {image.width} x {image.height}; at most {MAX_PIXELS} are read"
                )
            if max(image.size) > MAX_ASPECT * min(image.size):
                raise ValueError(
                    f"{image.width} x {image.height} pixels: over {MAX_ASPECT} times as long as wide"
                )
            if reduce_to:
                image.draft(None, (reduce_to, reduce_to))
            kind = image.format
            return _eight_bits(ImageOps.exif_transpose(image), kind).convert("RGB")
        except Image.UnidentifiedImageError:
            raise ValueError("not an image that Pillow can read") from None
        except Image.DecompressionBombError as error:
            raise ValueError(f"too many pixels: {error}") from None
        except ValueError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever they meet
            raise ValueError(str(error) or type(error).__name__) from error


@lru_cache
def _formats() -> list[str]:
    """Name the formats to decode: none that starts another program, as Pillow does for EPS."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _eight_bits(image: Image.Image, kind: str) -> Image.Image:
    """Scale 16-bit grey; `convert` would clip it, and take pixels of any other range for black or white."""
    # of mode I, PNG and PGM are 16-bit, too
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        values = np.asarray(image, dtype=np.int64).clip(0, 65535) // 257
        return Image.fromarray(values.astype(np.uint8))
    if image.mode in ("I", "F"):
        numbers = "32-bit whole numbers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its pixels are {numbers} of no known range; save it with 8 or 16 bits")
    return image


def plan_crop(sides: Sequence[int], size: int, crop: int) -> tuple[list[int], list[int]]:
    """Say how long the sides of an image become, the shorter one `size`, and where along them the crop begins.

    >>> plan_crop((480, 640), 232, 224)
    ([232, 309], [4, 42])
    """
    resized = [int(size * side / min(sides)) for side in sides]
    return resized, [round((side - crop) / 2) for side in resized]


def resize_and_crop_image(size: int, crop: int, resample: Image.Resampling, image: Image.Image) -> np.ndarray:
    """Resize an RGB image to a shorter side of `size`, and crop the middle: just what torchvision's presets do.

    Parameters
    ----------
    size, crop : int
        Sides in pixels; the crop is no larger.
    resample : Resampling
    image : Image, RGB

    Returns
    -------
    ndarray of shape (crop, crop, 3), uint8
    """
    resized, (left, top) = plan_crop(image.size, size, crop)
    image = image.resize(resized, resample)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))
