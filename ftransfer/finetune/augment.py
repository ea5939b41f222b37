"""Vary training images by the augmentations of `ftransfer.images.views`: what may change without the class changing."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ftransfer.errors import FtransferError, unknown
from ftransfer.images.views import AUGMENTATIONS, augment

AUTO = ("auto",)  # in place of names: learn which on the source


def vary(images: torch.Tensor, rules: Sequence[str], draw: torch.Generator) -> torch.Tensor:
    """Apply augmentations to a batch, each image by its own draw.

    Parameters
    ----------
    images : tensor of shape (n, 3, height, width), float32
        RGB in [0, 1], of 8 bits.
    rules : sequence of str
        Names in `AUGMENTATIONS`, applied in this order; what is cropped is stretched to the size that it had.
    draw : torch.Generator
        On the CPU.

    Returns
    -------
    tensor of the same shape, RGB in [0, 1], of 8 bits
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=draw)))
    varied, (height, width) = np.empty((len(images), *images.shape[2:], 3), np.uint8), images.shape[2:]
    for i, pixels in enumerate((255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
        image = augment(Image.fromarray(pixels), rules, rng)
        varied[i] = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(varied).permute(0, 3, 1, 2).to(torch.float32) / 255


def check_rules(rules: Sequence[str]) -> None:
    """Raise `FtransferError` for a rule that is not there."""
    for rule in rules:
        if rule in AUTO:
            raise FtransferError(
                "auto chooses the augmentations itself and cannot be combined with others: --rules auto"
            )
        if rule not in AUGMENTATIONS:
            raise unknown("rule", rule, [*AUGMENTATIONS, *AUTO])
