"""Augmentations, and the views of an image that they make: the plain one first, the same in every run.

Views carry a rule over as added source rows: that a class does not depend on where in the image, in which direction
or in which colours it is seen. `ftransfer.finetune` varies what it trains on by the same augmentations.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from ftransfer.errors import FtransferError, unknown


def _flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirror left and right, every other time."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut out a part of half to all of the area, its sides in the image's proportion times 3/4 to 4/3."""
    area, stretch = rng.uniform(0.5, 1.0), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
    sides = np.minimum(np.sqrt(area) * np.array([stretch, 1 / stretch]), 1.0)
    width, height = np.maximum(np.round(sides * image.size), 1).astype(int)
    left, top = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
    return image.crop((int(left), int(top), int(left + width), int(top + height)))


def _colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast and saturation by up to 40 %."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.6, 1.4))
    return image


def _channels(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Put the colour channels into a random order, every sixth time their own."""
    channels = image.split()
    return Image.merge("RGB", [channels[i] for i in rng.permutation(3)])


def _shift(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Move by up to an eighth of each side, the border mirrored."""
    pads = [max(1, side // 8) for side in (image.height, image.width)]
    pixels = np.pad(np.asarray(image), [(p, p) for p in pads] + [(0, 0)], mode="symmetric")
    top, left = (int(rng.integers(0, 2 * p + 1)) for p in pads)
    return Image.fromarray(pixels[top : top + image.height, left : left + image.width])


def _grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Take the colour away, every third time."""
    return image.convert("L").convert("RGB") if rng.random() < 1 / 3 else image


def _invert(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turn light into dark, every third time."""
    return ImageOps.invert(image) if rng.random() < 1 / 3 else image


def _erase(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cover a part of half of each side with mid-grey, every other time."""
    if rng.random() < 0.5:
        return image
    width, height = max(1, image.width // 2), max(1, image.height // 2)
    left, top = (int(rng.integers(0, n + 1)) for n in (image.width - width, image.height - height))
    covered = image.copy()
    covered.paste((128, 128, 128), (left, top, left + width, top + height))
    return covered


AUGMENTATIONS = {
    made.__name__.removeprefix("_"): made
    for made in (_flip, _crop, _shift, _colour, _channels, _grey, _invert, _erase)
}


def augment(image: Image.Image, names: Iterable[str], rng: np.random.Generator) -> Image.Image:
    """Vary an RGB image by augmentations, in this order; `crop` gives a smaller one."""
    for name in names:
        image = AUGMENTATIONS[name](image, rng)
    return image


def describe_views(count: int, augment: str = "flip,crop,colour") -> dict | None:
    """Make the entry of the fingerprint; None for the plain image alone.

    Parameters
    ----------
    count : int
        Views of each image, the plain one among them.
    augment : str
        Names out of ``flip``, ``crop``, ``shift``, ``colour``, ``channels``, ``grey``, ``invert`` and ``erase``, with
        commas: what is done to each of the others, in this order.
    """
    names = [name.strip() for name in augment.split(",") if name.strip()]
    for name in names:
        if name not in AUGMENTATIONS:
            raise unknown("augmentation", name, AUGMENTATIONS)
    if count > 1 and not names:
        raise FtransferError(f"{count} views need an augmentation: {', '.join(AUGMENTATIONS)}")
    return {"count": count, "augment": names, "release": 1} if count > 1 else None


def make_views(image: Image.Image, sha256: str, views: dict | None) -> list[Image.Image]:
    """Return the views of an RGB image.

    Parameters
    ----------
    image : Image, RGB
    sha256 : str
        Hash of the image's bytes, the seed: the same image has the same views wherever and whenever.
    views : dict, optional
        From `describe_views`.
    """
    made = [image]
    if views is None:
        return made
    for number in range(1, views["count"]):
        rng = np.random.default_rng([number, int(sha256, 16)])
        made.append(augment(image, views["augment"], rng))
    return made
