"""How an image becomes what a network takes: by a preset that everything here knows, or by a user's own transforms."""

import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import cloudpickle
import numpy as np
import torch
from PIL import Image, features
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.functional import InterpolationMode

from ftransfer.errors import FtransferError

# steps that do what a preset does: resize, crop the middle, scale to [0, 1], normalise
STEPS = {"Resize", "CenterCrop", "Normalize", "ToTensor", "MaybeToTensor", "PILToTensor", "ToImage"}
STEPS |= {"MaybePILToTensor", "ConvertImageDtype", "ToDtype"}

ROUNDING = 1e-6  # torchvision's first and second release of its transforms normalise in another order


class Transforms:
    """A user's preprocessing: an RGB image becomes float32 (channels, height, width), of one shape for all images.

    It can be sent to other processes, also where its function is defined in a script.

    Parameters
    ----------
    function : callable
        Takes a PIL image; gives a tensor or an array, a batch of one image, or a mapping with ``pixel_values``.
    shape : tuple of int, optional
        What is expected of each image. Default: what it gives of the first.
    """

    def __init__(self, function: Callable, shape: tuple[int, ...] | None = None) -> None:
        self.function, self._expected = function, shape
        self.shape: tuple[int, ...] = shape or tuple(self(made_picture()).shape)
        self._expected = self.shape

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Prepare one RGB image; ValueError where that fails, or gives another shape than the others have."""
        try:
            found = self.function(image)
            found = found["pixel_values"] if isinstance(found, Mapping) else found
            found = torch.as_tensor(np.asarray(found) if isinstance(found, list) else found)
        except Exception as error:  # whatever a user's code raises
            raise ValueError(f"the transforms fail: {type(error).__name__}: {str(error)[:200]}") from error
        found = found[0] if found.ndim == 4 and len(found) == 1 else found
        if self._expected is not None and tuple(found.shape) != self._expected:
            raise ValueError(
                f"the transforms return {tuple(found.shape)} for it and {self._expected} for other images; "
                f"end them with a crop to a fixed size"
            )
        return found.detach().to("cpu", torch.float32)

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Prepare one RGB image: float32 (channels, height, width)."""
        return self(image).numpy()

    def __reduce__(self) -> tuple:
        # by value: what a script defines is found in no module of another process
        return _unpacked, (cloudpickle.dumps(self.function), self.shape)


def _unpacked(function: bytes, shape: tuple[int, ...]) -> Transforms:
    return Transforms(pickle.loads(function), shape)


Preset: TypeAlias = ImageClassification | Transforms


def made_picture(size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Draw the picture that is the same everywhere: gradients, edges and stripes, RGB, of (width, height) pixels."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    red, green = 255 * x // size[0], 255 * y // size[1]
    blue = np.where((x // 16 + y // 24) % 2, 200, (7 * x + 3 * y) % 56)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


# ---------------------------------------------------------------- presets


def find_preset(transforms: Callable) -> Preset:
    """Return the preset that does what `transforms` do, to rounding, with two pictures; else they themselves.

    Presets resize images with the less work of the fast tier, are decoded by a GPU and travel as bytes.

    Raises
    ------
    FtransferError
        If the transforms do not give an image as a tensor.
    """
    if isinstance(transforms, ImageClassification):
        return transforms
    try:
        own = Transforms(transforms)
    except ValueError as error:
        raise FtransferError(
            f"the transforms of a backbone must take a PIL image and return a tensor: {error}"
        ) from error
    if len(own.shape) != 3 or 0 in own.shape:
        raise FtransferError(
            f"the transforms of a backbone must return an image of shape (channels, height, width); they "
            f"return {own.shape}"
        )
    preset = _known_preset(transforms)
    if preset is None:
        return own
    for size in ((320, 240), (90, 231)):
        picture = made_picture(size)
        try:
            same = torch.allclose(preset(picture), own(picture), rtol=0, atol=ROUNDING)
        except ValueError:
            same = False
        if not same:
            return own
    return preset


def _known_preset(transforms: Any) -> ImageClassification | None:
    steps = getattr(transforms, "transforms", None)
    named = {type(step).__name__: step for step in steps or ()}
    if not steps or len(named) < len(steps) or "Resize" not in named or not named.keys() <= STEPS:
        return None
    sides = [_sides(named[name].size) for name in ("Resize", "CenterCrop") if name in named]
    resize, crop = sides[0], sides[-1]
    if len(set(crop)) > 1 or len(set(resize)) > 1 or resize[0] < crop[0]:
        return None
    normalize = named.get("Normalize")
    mean, std = (normalize.mean, normalize.std) if normalize else ((0.0,) * 3, (1.0,) * 3)
    if len(mean) != 3 or len(crop) < 2 and "CenterCrop" not in named:
        return None
    preset = ImageClassification(
        crop_size=crop[0],
        resize_size=resize[0],
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        interpolation=InterpolationMode(named["Resize"].interpolation),
    )
    preset.resize_size = list(resize)
    return preset


def _sides(size: Any) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


def resized_to(preset: ImageClassification) -> int | tuple[int, int]:
    """Return the shorter side in pixels that a preset resizes to; or both, where it does not keep the proportion."""
    size = preset.resize_size
    return size[0] if len(size) == 1 else (size[0], size[1])


def with_image_size(preset: ImageClassification, side: int) -> ImageClassification:
    """Crop to another side in pixels, and resize in the same proportion to it as before."""
    share = preset.resize_size[0] / preset.crop_size[0]
    changed = ImageClassification(
        crop_size=side,
        resize_size=round(side * share),
        mean=preset.mean,
        std=preset.std,
        interpolation=preset.interpolation,
        antialias=preset.antialias,
    )
    changed.resize_size *= len(preset.resize_size)
    return changed


# ---------------------------------------------------------------- for the fingerprint


def describe_preset(preset: Preset) -> dict:
    """Say what a preset does, for the fingerprint; of a user's transforms what they say of themselves."""
    described = {"orientation": "exif", "colour": "RGB"}
    if isinstance(preset, Transforms):
        return described | {"transforms": describe_code(preset.function), "shape": list(preset.shape)}
    size = resized_to(preset)
    return described | {
        "resize": size if isinstance(size, int) else list(size),
        "crop": preset.crop_size[0],
        "interpolation": preset.interpolation.value,
        "antialias": preset.antialias,
        "mean": list(preset.mean),
        "std": list(preset.std),
    }


def describe_code(code: Any) -> str:
    """Name an object by what it says of itself, without its module and place in memory, which differ by process."""
    text = re.sub(r"<(?:[\w.<>]+\.)?(\w+) object at 0x[0-9a-f]+>", r"<\1>", repr(code))
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", text).split())


def describe_decoder() -> str:
    """Name the decoder as far as it decides pixels: patch releases do not."""
    import PIL

    release = ".".join(PIL.__version__.split(".")[:2])
    return f"pillow {release}, libjpeg-turbo {features.version('libjpeg_turbo')}, torchvision preset"
