"""Augmentations, and the views of an image that they make: the plain one first, the same in every run.

Views carry a rule over as added source rows: that a class does not depend on where in the image, in which direction
or in which colours it is seen. `ftransfer.finetune` varies what it trains on by the same augmentations.
"""

import base64
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


FOURIER = "fourier"  # between domains: it needs images of another one
MIXING = ("mixup", "cutmix")  # mix labels as well, so that they are for training alone
NAMES = (*AUGMENTATIONS, FOURIER, *MIXING)


def augment(
    image: Image.Image, names: Iterable[str], rng: np.random.Generator, styles: np.ndarray | None = None
) -> Image.Image:
    """Vary an RGB image by augmentations, in this order; `crop` gives a smaller one.

    `styles`, of shape (n, 5, 5, 3), are what `fourier` takes: from `fourier_style`.
    """
    for name in names:
        if name != FOURIER:
            image = AUGMENTATIONS[name](image, rng)
        elif styles is not None and len(styles):
            image = restyle(image, styles[int(rng.integers(len(styles)))])
    return image


# ---------------------------------------------------------------- the look of another domain

CYCLES = 2  # a side: frequencies up to these are exchanged; 0.01 of a side of 224 pixels, as in the paper


def fourier_style(image: Image.Image) -> np.ndarray:
    """Take the amplitudes of the lowest frequencies of an RGB image: (5, 5, 3), per pixel, whatever its size."""
    return np.abs(_spectrum(image)[_LOW]) / (image.width * image.height)


def restyle(image: Image.Image, style: np.ndarray) -> Image.Image:
    """Give an image the low frequencies' amplitudes of another and leave their phases: colours, light, contrast.

    Images of less than 5 pixels a side stay as they are.

    References
    ----------
    Yang, Soatto, "FDA: Fourier domain adaptation for semantic segmentation", CVPR 2020, equation 3.
    """
    if min(image.size) <= 2 * CYCLES:
        return image
    spectrum = _spectrum(image)
    amplitude = style * (image.width * image.height)
    spectrum[_LOW] = amplitude * np.exp(1j * np.angle(spectrum[_LOW]))
    pixels = np.fft.ifft2(spectrum, axes=(0, 1)).real
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


_LOW = np.ix_(np.arange(-CYCLES, CYCLES + 1), np.arange(-CYCLES, CYCLES + 1))


def _spectrum(image: Image.Image) -> np.ndarray:
    return np.fft.fft2(np.asarray(image, dtype=np.float64), axes=(0, 1))


def pack_styles(styles: Iterable[np.ndarray]) -> str:
    """Write styles as text, for a fingerprint."""
    return base64.b64encode(np.stack(list(styles)).astype("<f2").tobytes()).decode()


def unpack_styles(text: str) -> np.ndarray:
    """Read styles: array of shape (n, 5, 5, 3)."""
    side = 2 * CYCLES + 1
    return np.frombuffer(base64.b64decode(text), "<f2").astype(np.float64).reshape(-1, side, side, 3)


# ---------------------------------------------------------------- views


def check_names(names: Iterable[str]) -> None:
    """Raise `FtransferError` for an augmentation that is not there."""
    for name in names:
        if name not in NAMES:
            raise unknown("augmentation", name, NAMES)


def describe_views(
    count: int, augment: str = "flip,crop,colour", styles: Iterable[np.ndarray] = ()
) -> dict | None:
    """Make the entry of the fingerprint; None for the plain image alone.

    Parameters
    ----------
    count : int
        Views of each image, the plain one among them.
    augment : str
        Names out of ``flip``, ``crop``, ``shift``, ``colour``, ``channels``, ``grey``, ``invert``, ``erase`` and
        ``fourier``, with commas: what is done to each of the others, in this order.
    styles : iterable of ndarray of shape (5, 5, 3)
        For ``fourier``: `fourier_style` of some images of the target.
    """
    names, styles = [name.strip() for name in augment.split(",") if name.strip()], list(styles)
    check_names(names)
    if count > 1 and not names:
        raise FtransferError(f"{count} views need an augmentation: {', '.join(NAMES)}")
    if mixing := [name for name in names if name in MIXING]:
        raise FtransferError(
            f"{mixing[0]} mixes the labels of two images, and a view has one label: it is for ftransfer finetune"
        )
    if FOURIER in names and not styles and count > 1:
        raise FtransferError(
            f"{FOURIER} needs images of the target, whose colours it takes: --style-domain DOMAIN"
        )
    views: dict = {"count": count, "augment": names, "release": 1}
    if FOURIER in names:
        views["styles"] = pack_styles(styles)
    return views if count > 1 else None


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
    styles = unpack_styles(views["styles"]) if "styles" in views else None
    for number in range(1, views["count"]):
        rng = np.random.default_rng([number, int(sha256, 16)])
        made.append(augment(image, views["augment"], rng, styles))
    return made
