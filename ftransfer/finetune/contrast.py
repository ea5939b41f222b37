"""Learning without labels: two varied views of an image should be alike, and unlike those of other images."""

import torch
from torch import nn
from torch.nn import functional as F

from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Seen

TEMPERATURE = 0.5
WIDTH = 128  # of what is compared


class Contrast(nn.Module):
    """Normalised, temperature-scaled cross entropy of a small network's map of the embeddings: SimCLR.

    A batch holds each image twice, its first views in the first half. The map is left out of the checkpoint.

    References
    ----------
    Chen, Kornblith, Norouzi, Hinton: A simple framework for contrastive learning of visual representations. ICML 2020,
    equation 1 and algorithm 1; temperature 0.5.
    """

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__()
        width = network.backbone.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.map = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, WIDTH))

    def forward(self, seen: Seen) -> torch.Tensor:
        """Average over all views of the batch."""
        return contrast(self.map(seen.embedded))


def contrast(views: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """Cross entropy of finding, among all other views, the one of the same image.

    Parameters
    ----------
    views : tensor of shape (2 n, width)
        The first view of each of n images, then the second ones in the same order.
    temperature : float, default=0.5

    Returns
    -------
    tensor, a number; log(2 n - 1) where all views are alike
    """
    views = F.normalize(views, dim=1)
    alike = views @ views.T / temperature
    alike.fill_diagonal_(-torch.inf)
    n = len(views) // 2
    twin = torch.arange(2 * n, device=views.device).roll(n)
    return F.cross_entropy(alike, twin)
