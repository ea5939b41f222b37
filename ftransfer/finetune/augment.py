"""Vary training images by the augmentations of `ftransfer.images.views`: what may change without the class changing."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from ftransfer.errors import FtransferError
from ftransfer.images.views import MIXING, augment, check_names

AUTO = ("auto",)  # in place of names: learn which on the source


def vary(
    images: torch.Tensor, rules: Sequence[str], draw: torch.Generator, styles: np.ndarray | None = None
) -> torch.Tensor:
    """Apply augmentations to a batch, each image by its own draw.

    Parameters
    ----------
    images : tensor of shape (n, 3, height, width), float32
        RGB in [0, 1], of 8 bits.
    rules : sequence of str
        Names of augmentations, applied in this order; what is cropped is stretched to the size that it had. Those that
        mix images are left to `mix`.
    draw : torch.Generator
        On the CPU.
    styles : ndarray of shape (n, 5, 5, 3), optional
        Of `fourier_style`, what ``fourier`` takes.

    Returns
    -------
    tensor of the same shape, RGB in [0, 1], of 8 bits
    """
    rules = [rule for rule in rules if rule not in MIXING]
    if not rules:
        return images
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=draw)))
    varied, (height, width) = np.empty((len(images), *images.shape[2:], 3), np.uint8), images.shape[2:]
    for i, pixels in enumerate((255 * images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
        image = augment(Image.fromarray(pixels), rules, rng, styles)
        varied[i] = image.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(varied).permute(0, 3, 1, 2).to(torch.float32) / 255


def check_rules(rules: Sequence[str]) -> None:
    """Raise `FtransferError` for a rule that is not there."""
    for rule in rules:
        if rule in AUTO:
            raise FtransferError(
                "auto chooses the augmentations itself and cannot be combined with others: --rules auto"
            )
    check_names(rules)


def mix(
    images: torch.Tensor, rules: Sequence[str], draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Mix the images of a batch with one another, by mixup or CutMix as torchvision makes them.

    Parameters
    ----------
    images : tensor of shape (n, channels, height, width), float32
    rules : sequence of str
        Of ``mixup`` and ``cutmix``, one is drawn for each batch; others are passed over.
    draw : torch.Generator
        On the CPU.

    Returns
    -------
    images : tensor of the same shape
    shares : tensor of shape (n, n), float32, or None
        How much of each image (column) is in each mixed one (row): so is its label. None where nothing is mixed.

    References
    ----------
    Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018. Yun, Han, Oh, Chun, Choe,
    Yoo, "CutMix: regularization strategy to train strong classifiers with localizable features", ICCV 2019.
    """
    kinds = [{"mixup": v2.MixUp, "cutmix": v2.CutMix}[rule] for rule in rules if rule in MIXING]
    if not kinds or len(images) < 2:
        return images, None
    with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=draw)))
        kind = kinds[int(torch.randint(len(kinds), (1,)))]
        # each image is a class of its own, so that what comes back are shares, for labels of any tasks
        return kind(num_classes=len(images))(images, torch.arange(len(images)))
