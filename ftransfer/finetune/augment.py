"""Rules that vary a training image: what may change without the class changing."""

import torch
from torch.nn import functional as F

from ftransfer.errors import FtransferError, unknown


def flip(images, draw):
    """Mirror left and right, every second image."""
    return torch.where(_chance(images, draw, 0.5), images.flip(-1), images)


def shift(images, draw):
    """Move by up to an eighth of the side, the border mirrored."""
    pad = max(1, images.shape[-1] // 8)
    padded = F.pad(images, (pad,) * 4, mode="reflect")
    height, width = images.shape[-2:]
    corners = torch.randint(0, 2 * pad + 1, (len(images), 2), generator=draw).tolist()
    return torch.stack(
        [p[:, y : y + height, x : x + width] for p, (y, x) in zip(padded, corners, strict=True)]
    )


def zoom(images, draw):
    """Stretch a square window of between half and all of the area over the image."""
    side = images.shape[-1]
    out = torch.empty_like(images)
    for i, (area, y, x) in enumerate(torch.rand(len(images), 3, generator=draw).tolist()):
        window = max(1, round(side * (0.5 + 0.5 * area) ** 0.5))
        top, left = round(y * (side - window)), round(x * (side - window))
        part = images[i : i + 1, :, top : top + window, left : left + window]
        out[i] = F.interpolate(part, size=(side, side), mode="bilinear", antialias=True)[0]
    return out


def colour(images, draw):
    """Change brightness, contrast and saturation, each by up to 40 %."""
    bright, contrast, saturation = 0.6 + 0.8 * torch.rand(3, len(images), 1, 1, 1, generator=draw)
    images = images * bright
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = middle + contrast * (images - middle)
    return (_luminance(images) + saturation * (images - _luminance(images))).clamp(0, 1)


def channels(images, draw):
    """Put the three colour channels into a random order."""
    order = torch.rand(len(images), 3, generator=draw).argsort(dim=1)
    return images[torch.arange(len(images))[:, None], order]


def grey(images, draw):
    """Take the colour from every third image."""
    return torch.where(_chance(images, draw, 1 / 3), _luminance(images).expand_as(images), images)


def invert(images, draw):
    """Turn light into dark, in every third image."""
    return torch.where(_chance(images, draw, 1 / 3), 1 - images, images)


def erase(images, draw):
    """Cover a square of a quarter of the area with mid-grey, in every second image."""
    side, half = images.shape[-1], images.shape[-1] // 2
    start = torch.randint(0, side - half + 1, (2, len(images), 1), generator=draw)
    at = torch.arange(side)
    inside = (at >= start) & (at < start + half)
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(covered & _chance(images, draw, 0.5), 0.5, images)


AUTO = ("auto",)  # in place of names: learn which on the source
RULES = {f.__name__: f for f in (flip, shift, zoom, colour, channels, grey, invert, erase)}


def vary(images: torch.Tensor, rules, draw: torch.Generator) -> torch.Tensor:
    """Apply rules to a batch, each image by its own draw.

    Parameters
    ----------
    images : tensor of shape (n, 3, side, side), float32
        RGB in [0, 1].
    rules : sequence of str
        Names in `RULES`, applied in this order.
    draw : torch.Generator
        On the CPU.

    Returns
    -------
    tensor of the same shape, RGB in [0, 1]
    """
    for rule in rules:
        images = RULES[rule](images, draw)
    return images


def check_rules(rules) -> None:
    """Raise `FtransferError` for a rule that is not there."""
    for rule in rules:
        if rule in AUTO:
            raise FtransferError("auto learns which rules to take, so it stands alone: --rules auto")
        if rule not in RULES:
            raise unknown("rule", rule, [*RULES, *AUTO])


def _chance(images, draw, p):
    return torch.rand(len(images), 1, 1, 1, generator=draw) < p


def _luminance(images):
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R BT.601
    return (images * weights).sum(dim=1, keepdim=True)
