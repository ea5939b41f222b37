"""Adapt a backbone to images without labels: batch-norm statistics re-estimated on them (AdaBN)."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.decoded import Pixels, batches
from ftransfer.errors import FtransferError

BATCH = 64
MAX_PASSES = 10
PATIENCE = 2  # passes that may move the statistics more than the steadiest pass did


class _Moments:
    """Mean and variance of each channel over all images and places, joined batch by batch in float64."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Any = 0.0
        self.squares: Any = 0.0

    def see(self, layer: Any, inputs: Any) -> None:
        """Join a batch that a layer is given (Chan, Golub, LeVeque, American Statistician 37, 1983, equation 2.1)."""
        (x,) = inputs
        over = [d for d in range(x.ndim) if d != 1]
        var, mean = torch.var_mean(x.double(), dim=over, correction=0)
        m = x.numel() // x.shape[1]
        delta, total = mean - self.mean, self.n + m
        self.squares = self.squares + var * m + delta**2 * (self.n * m / total)
        self.mean = self.mean + delta * (m / total)
        self.n = total

    @property
    def variance(self) -> torch.Tensor:
        """Return the variance by which one batch of all the images would be normalised."""
        return self.squares / self.n


def adapt_batch_norm(
    images: pd.DataFrame,
    backbone: Backbone,
    *,
    tolerance: float = 1e-3,
    folder: str | Path | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict:
    """Re-estimate the batch-norm statistics of a backbone on images of one domain; labels are not used.

    Each layer gets the exact mean and variance of its inputs over all images and places, as the adapted layers
    below give them, instead of a running average of batches. It is what one batch of all the images would be
    normalised by, and the same for any order of the images. The first pass normalises by the statistics of each
    batch; the next ones, as in use, by those of all images found so far, until no statistic moves any more.
    All layers move at once, and in a deep network each pass may move them more than the one before. Then it stops,
    and keeps the statistics that the next pass moved least. Weights stay as they are.

    Parameters
    ----------
    images : DataFrame with the columns ``root, path``
    backbone : Backbone
        Its statistics are replaced, and its fingerprint names the new weights. `save_backbone` writes it.
    tolerance : float, default=0.001
        Greatest change that ends it, of a mean in standard deviations, or of a standard deviation as a part of it.
    folder : path, optional
        Where the decoded images lie meanwhile. Default: that of the system for temporary files.
    progress : callable
        Called with what is done now, how much of it is done, and of how much.

    Returns
    -------
    dict
        ``layers`` and ``images`` counted, ``changes`` (the greatest change of each pass after the first),
        ``converged`` (whether the last pass changed no statistic by more than `tolerance`) and ``unreadable``.

    Raises
    ------
    FtransferError
        If the backbone has no batch norm, or no image can be read.

    References
    ----------
    Y. Li, N. Wang, J. Shi, X. Hou, J. Liu, *Adaptive batch normalization for practical domain adaptation*, Pattern
    Recognition 80, 2018.
    """
    network = backbone.network
    layers: list[Any] = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        raise FtransferError(
            f"{backbone.name} has no batch-norm layers, so there are no statistics to adapt; resnet50 and "
            f"small_cnn have them"
        )
    images = images.sort_values(["root", "path"])
    pixels = Pixels(images, backbone, folder)
    rows = np.flatnonzero(pixels.readable)
    if not len(rows):
        raise FtransferError(f"none of the images could be read; the first: {pixels.unreadable[0]}")
    rows = np.random.default_rng(0).permutation(
        rows
    )  # a batch of one class alone would be a poor first guess
    parts = batches(rows, BATCH)
    changes: list[float] = []
    steadiest: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}
    for number in range(1, MAX_PASSES + 1):
        moments = {layer: _Moments() for layer in layers}
        hooks = [layer.register_forward_pre_hook(moments[layer].see) for layer in layers]
        for layer in layers:
            layer.train(number == 1)
            layer.momentum = 0.0  # statistics are set below, not drifted to
        with torch.inference_mode():
            for i, part in enumerate(parts):
                network(pixels.batch(part).to(backbone.device))
                progress(f"pass {number}", i + 1, len(parts))
        for hook in hooks:
            hook.remove()
        before = {layer: (layer.running_mean.clone(), layer.running_var.clone()) for layer in layers}
        change = max(_set(layer, moments[layer]) for layer in layers)
        if number > 1:
            if change < min(changes, default=math.inf):
                steadiest = before
            changes.append(change)
            if change < tolerance or len(changes) - 1 - int(np.argmin(changes)) == PATIENCE:
                break
    if changes[-1] > min(changes):
        for layer, (mean, variance) in steadiest.items():
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
    network.eval()
    backbone.note_weights()
    return {
        "layers": len(layers),
        "images": len(rows),
        "changes": changes,
        "converged": changes[-1] < tolerance,
        "unreadable": pixels.unreadable,
    }


def _set(layer: Any, moments: _Moments) -> float:
    """Store the moments, and return by how much they differ from what was there."""
    old_mean, old_std = layer.running_mean.double(), (layer.running_var.double() + layer.eps).sqrt()
    mean, std = moments.mean, (moments.variance + layer.eps).sqrt()
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(moments.variance)
    return float(torch.maximum((mean - old_mean).abs() / std, (std / old_std - 1).abs()).max())
