"""The embedded backbone: a small residual network for glyph-like images of 32 x 32 pixels.

Its weights lie in ``data/small_cnn.safetensors``; ``data/README.md`` says what they were trained on.
"""

from typing import Any

import torch
from torch import nn

IMAGE_SIZE = 32
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)


class ResidualBlock(nn.Module):
    """Halve the sides of the maps and change their number, with a shortcut around two convolutions.

    Parameters
    ----------
    in_channels, out_channels : int
        Number of maps that come in and go out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in_channels, side, side) to (n, out_channels, side / 2, side / 2)."""
        inner = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class SmallCNN(nn.Module):
    """Classify small images; its average-pooled last maps are a 192-number embedding.

    Parameters
    ----------
    num_classes : int, default=226
        Classes of the linear head. The shipped weights have 126 letters and signs, then 100 procedural
        classes.

    Attributes
    ----------
    stem : Sequential
        Gives maps of shape (n, 24, 32, 32).
    block1, block2, block3 : ResidualBlock
        Give maps of shape (n, 48, 16, 16), (n, 96, 8, 8) and (n, 192, 4, 4).
    avgpool : AdaptiveAvgPool2d
        Gives (n, 192, 1, 1).
    fc : Linear
        Gives scores of shape (n, num_classes).
    """

    def __init__(self, num_classes: int = 226) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.block1 = ResidualBlock(24, 48)
        self.block2 = ResidualBlock(48, 96)
        self.block3 = ResidualBlock(96, 192)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(192, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images.

        Parameters
        ----------
        x : tensor of shape (n, 3, 32, 32), float32
            RGB in [0, 1], then normalised by `MEAN` and `STD`.

        Returns
        -------
        tensor of shape (n, num_classes)
        """
        x = self.block3(self.block2(self.block1(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def small_cnn(weights: dict[str, torch.Tensor] | None = None, **kwargs: Any) -> SmallCNN:
    """Build a `SmallCNN`, as torchvision's builders do.

    Parameters
    ----------
    weights : dict of str to tensor, optional
        A state dict, of any floating type. Default: PyTorch's random initialisation.
    **kwargs
        Handed to `SmallCNN`.

    Returns
    -------
    SmallCNN
        In training mode, as every new module is.

    Examples
    --------
    >>> model = small_cnn()
    >>> sum(p.numel() for p in model.parameters())
    723706
    """
    model = SmallCNN(**kwargs)
    if weights is not None:
        model.load_state_dict(weights, strict=True)
    return model
