"""Bring source and target together while the network learns the source's labels; no label of the target is read."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Seen

HIDDEN = 256


class Adversarial(nn.Module):
    """Cross entropy of a classifier of domains, whose gradient is reversed on its way into the network: DANN.

    References
    ----------
    Ganin et al.: Domain-adversarial training of neural networks. JMLR 17, 2016, section 4.2.
    """

    only_trains = True

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.domains = nn.Sequential(
                nn.Linear(network.backbone.width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1)
            )

    def forward(self, seen: Seen) -> torch.Tensor:
        """Average over the batch; 0.69, the logarithm of 2, is that of a classifier which cannot tell."""
        scores = self.domains(_with_gradient_times(seen.embedded, -seen.strength)).float().squeeze(1)
        return F.binary_cross_entropy_with_logits(scores, seen.is_target.float())


class DeepCoral(nn.Module):
    """Squared distance of the covariances of source and target scores, by the squared number of classes.

    References
    ----------
    Sun, Saenko: Deep CORAL, correlation alignment for deep domain adaptation. ECCV workshops 2016, equation 1.
    """

    only_trains = True

    def forward(self, seen: Seen) -> torch.Tensor:
        """Average over the tasks."""
        terms = []
        for scores in seen.scores:
            scores = _with_gradient_times(scores, seen.strength)
            source, target = scores[~seen.is_target], scores[seen.is_target]
            between = torch.cov(source.T) - torch.cov(target.T)
            terms.append(between.square().sum() / (4 * scores.shape[1] ** 2))
        return torch.stack(terms).mean()


class Discrepancy(nn.Module):
    """Maximum mean discrepancy of the embeddings, summed over five Gaussian kernels.

    Their squared widths are the mean squared distance in the batch times 1/4, 1/2, 1, 2 and 4.

    References
    ----------
    Long et al.: Learning transferable features with deep adaptation networks. ICML 2015, equations 1 and 2.
    """

    only_trains = True

    def forward(self, seen: Seen) -> torch.Tensor:
        """Measure the batch, by all pairs of its images."""
        X = _with_gradient_times(seen.embedded.float(), seen.strength)
        distances = (X[:, None] - X[None]).square().sum(dim=2)
        width = distances.detach().mean().clamp(min=1e-12)
        kernel = torch.stack([torch.exp(-distances / (width * 2.0**k)) for k in range(-2, 3)]).sum(dim=0)
        of_target = seen.is_target.float() / seen.is_target.sum()
        weight = of_target - (~seen.is_target).float() / (~seen.is_target).sum()
        return weight @ kernel @ weight


def make_alignment(name: str, network: Network, seed: int) -> nn.Module:
    """Make the term of this name: adversarial, coral or mmd."""
    if name == "adversarial":
        return Adversarial(network, seed).to(network.device)
    return DeepCoral() if name == "coral" else Discrepancy()


def strength(done: float) -> float:
    """Rise from 0 to 1 with the part of the training that is done (Ganin et al. 2016, section 5.2.2)."""
    return 2 / (1 + math.exp(-10 * done)) - 1


def information(scores: torch.Tensor) -> float:
    """Mutual information between images and their predicted classes, as a share of its maximum, log(classes).

    It is high where each image has one probable class and all classes occur. From scores of shape (n, classes).

    References
    ----------
    Bridle, Heading, MacKay: Unsupervised classifiers, mutual information and phantom targets. NIPS 1991.
    """
    p = scores.double().softmax(dim=1)
    mean = p.mean(dim=0)
    between = torch.special.entr(mean).sum() - torch.special.entr(p).sum(dim=1).mean()
    return float(between / math.log(max(2, scores.shape[1])))


def _with_gradient_times(values: torch.Tensor, factor: float) -> torch.Tensor:
    """Pass values on, and multiply what flows back."""
    values = values.view_as(values)
    if values.requires_grad:
        values.register_hook(lambda gradient: factor * gradient)
    return values
