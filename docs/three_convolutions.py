"""A network of three convolutions and three linear layers, as a file for --backbone.

    ftransfer finetune IMAGES --backbone three_convolutions.py --taken-rate 1 --out trained.safetensors
    ftransfer extract IMAGES --backbone three_convolutions.py --weights trained.safetensors --out features

It starts from random weights, the same in every run. SIDE is the side of its input in pixels: a multiple of 8.
"""

import torch
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

SIDE = 32


def convolution(maps_in: int, maps_out: int) -> nn.Sequential:
    """Halve the sides of the maps and change their number."""
    return nn.Sequential(nn.Conv2d(maps_in, maps_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))


class ThreeConvolutions(nn.Module):
    """Classify images of `side` x `side` pixels."""

    def __init__(self, side: int = SIDE, classes: int = 10) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(convolution(3, 32), convolution(32, 64), convolution(64, 128))
        self.linear1 = nn.Sequential(nn.Flatten(), nn.Linear(128 * (side // 8) ** 2, 256), nn.ReLU())
        self.linear2 = nn.Sequential(nn.Linear(256, 128), nn.ReLU())
        self.linear3 = nn.Linear(128, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Score images (n, 3, side, side)."""
        return self.linear3(self.linear2(self.linear1(self.convolutions(x))))


with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    model = ThreeConvolutions()
transforms = Compose([Resize(SIDE), CenterCrop(SIDE), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)])
layer = "linear2"  # the embedding: what the last layer classifies, 128 numbers
