"""The fast tier's pixels: decoded and resized with less work than torchvision's preset takes.

On the CPU a JPEG is decoded at a fraction of its size and resized by whole numbers. Where torchcodec is installed, a
GPU decodes and resizes the JPEG files that it can. Which these are depends on the file alone, so that the same file
gives the same pixels in every run, but for a grey level now and then: a GPU may add up in another order.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import InterpolationMode

from ftransfer.backbone.preprocess import resized_to
from ftransfer.images.jpeg import GPU_PIXELS, Encoded
from ftransfer.images.pixels import plan_crop

MODES = {InterpolationMode.BILINEAR: "bilinear", InterpolationMode.BICUBIC: "bicubic"}  # that both have


def resize_and_crop(pixels: torch.Tensor, mode: str, size: int | tuple[int, int], crop: int) -> torch.Tensor:
    """Resize images of one shape to a shorter side of `size`, and crop the middle, as torchvision does.

    Of uint8 on the CPU, with the channels last in memory, it takes 0.4 of the time of Pillow, and gives the same pixels
    but for a grey level (two in bicubic mode) on 1 % of them, more where an image shrinks much.

    Parameters
    ----------
    pixels : tensor of shape (n, channels, height, width)
    mode : "bilinear" or "bicubic"
    size : int, or two of them
        The shorter side in pixels, or both.
    crop : int
        Side in pixels, no larger.

    Returns
    -------
    tensor of shape (n, channels, crop, crop), of the type of `pixels`
    """
    resized, (top, left) = plan_crop(pixels.shape[2:], size, crop)
    pixels = nn.functional.interpolate(pixels, resized, mode=mode, antialias=True)
    return pixels[:, :, top : top + crop, left : left + crop]


def resizing_weights(mode: str, length: int, resized: int, first: int, count: int) -> torch.Tensor:
    """Say what each pixel of a line gives to those that it is resized to.

    With antialiasing a line is resized by one matrix, and an image by two: one for its columns, one for its rows.

    Parameters
    ----------
    mode : "bilinear" or "bicubic"
    length, resized : int
        Pixels of the line before and after.
    first, count : int
        Which of those after are wanted.

    Returns
    -------
    tensor of shape (count, length), float64; each row sums to one

    >>> resizing_weights("bilinear", 4, 2, 0, 2)
    tensor([[0.4286, 0.4286, 0.1429, 0.0000],
            [0.0000, 0.1429, 0.4286, 0.4286]], dtype=torch.float64)
    """
    scale = length / resized
    centres = (torch.arange(first, first + count, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(length, dtype=torch.float64) + 0.5
    d = (places - centres[:, None]).abs() / max(scale, 1)  # a line that grows is not smoothed
    if mode == "bilinear":
        weights = (1 - d).clamp(min=0)
    else:  # Keys, Cubic convolution interpolation for digital image processing, 1981, equation 15
        near, far = (1.5 * d - 2.5) * d**2 + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
        weights = torch.where(d < 1, near, torch.where(d < 2, far, 0))
    return weights / weights.sum(dim=1, keepdim=True)


def resize_and_crop_quickly(
    size: int | tuple[int, int], crop: int, mode: str, image: Image.Image
) -> np.ndarray:
    """Do for an RGB image what `ftransfer.images.pixels.resize_and_crop_image` does, by `resize_and_crop`."""
    # a batch first, then turned: only so does torch see that the channels are last, and leave them there
    pixels = torch.from_numpy(np.array(image))[None].permute(0, 3, 1, 2)
    return resize_and_crop(pixels, mode, size, crop).permute(0, 2, 3, 1)[0].numpy()


class Undecodable(Exception):
    """Files that the GPU could not decode; `rows` are their places in the batch."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"{len(rows)} files could not be decoded")
        self.rows = list(rows)


class GpuDecoder:
    """Decode, resize and crop JPEG files on a GPU, by torchcodec, which applies the EXIF orientation.

    Two products of matrices resize, in half precision: a grey level off at 6 % of the places. With torch's own resizing
    decoding took an H200 12 ms for 256 images, beside the 19 ms of ResNet-50.

    Parameters
    ----------
    device : torch.device
    preset : ImageClassification
        Says the sizes and the interpolation.
    decode : callable, optional
        Takes a list of uint8 tensors, the files, and gives a list of uint8 (channels, height, width) on the device;
        raises a RuntimeError for what it cannot decode. Default: torchcodec's.
    """

    def __init__(self, device: torch.device, preset: Any, decode: Callable[..., Any] | None = None) -> None:
        self.device, self._decode = device, decode or self._by_torchcodec
        self.mode = MODES[preset.interpolation]
        self.size, self.crop = resized_to(preset), preset.crop_size[0]
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self._local = threading.local()

    def __call__(self, files: dict[int, Encoded], batch: torch.Tensor) -> None:
        """Put the pixels of some files into their rows of a batch: uint8 (n, side, side, 3) on the device.

        Raises
        ------
        Undecodable
            If some cannot be decoded; the others may be in the batch or not.
        """
        failed = []
        for rows in _within(GPU_PIXELS, files):
            shapes: dict[torch.Size, list[tuple[int, torch.Tensor]]] = {}
            images = self._decode_some([files[row].content for row in rows])
            for row, image in zip(rows, images, strict=True):
                if image is None:
                    failed.append(row)
                else:
                    shapes.setdefault(image.shape, []).append((row, image))
            for same in shapes.values():
                pixels = self._resize_and_crop(torch.stack([image for _, image in same]))
                where = torch.tensor([row for row, _ in same]).to(self.device, non_blocking=True)
                batch[where] = pixels.permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
        if failed:
            raise Undecodable(failed)

    def _decode_some(self, files: list[np.ndarray]) -> list[torch.Tensor | None]:
        """Decode files; if there is one among them that cannot be, each by itself."""
        try:
            return list(self._decode([torch.from_numpy(file) for file in files]))
        except RuntimeError:
            if len(files) == 1:
                return [None]
            return [image for file in files for image in self._decode_some([file])]

    def _resize_and_crop(self, pixels: torch.Tensor) -> torch.Tensor:
        n, channels, height, width = pixels.shape
        (new_height, new_width), (top, left) = plan_crop((height, width), self.size, self.crop)
        down, across = self._weights(height, new_height, top), self._weights(width, new_width, left)
        pixels = pixels.to(self.dtype).sub_(128)  # about 0 half precision is finest
        pixels = (pixels @ across.T).view(n * channels, height, self.crop)
        pixels = torch.bmm(down.expand(n * channels, -1, -1), pixels).view(n, channels, self.crop, self.crop)
        return pixels.round_().add_(128).clamp_(0, 255).to(torch.uint8)

    def _weights(self, length: int, resized: int, first: int) -> torch.Tensor:
        """Keep the weights for sizes that were met; each thread its own, in the memory of its stream."""
        if not hasattr(self._local, "weights"):
            self._local.weights = lru_cache(128)(self._make_weights)
        return self._local.weights(length, resized, first)

    def _make_weights(self, length: int, resized: int, first: int) -> torch.Tensor:
        return resizing_weights(self.mode, length, resized, first, self.crop).to(self.dtype).to(self.device)

    def _by_torchcodec(self, files: list[torch.Tensor]) -> list[torch.Tensor]:
        from torchcodec.decoders import decode_jpeg

        return decode_jpeg(files, mode="UNCHANGED", device=self.device)


def torchcodec_version() -> str | None:
    """Say which torchcodec decodes on a GPU; None where it is not installed or too old.

    Before 0.17, its decoder might write over what other streams of the GPU were still reading.
    """
    try:
        import torchcodec
        from torchcodec.decoders import decode_jpeg  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return None
    version = torchcodec.__version__.split("+")[0]
    return version if tuple(map(int, version.split(".")[:2])) >= (0, 17) else None


def _within(most: int, files: dict[int, Encoded]) -> Iterator[list[int]]:
    """Cut files into runs of so many pixels at most, one file at least."""
    rows: list[int] = []
    pixels = 0
    for row, file in files.items():
        if rows and pixels + file.pixels > most:
            yield rows
            rows, pixels = [], 0
        rows.append(row)
        pixels += file.pixels
    if rows:
        yield rows
