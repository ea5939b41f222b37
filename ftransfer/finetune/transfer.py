"""Knowledge transfer as a term of the loss: stay near the source's weights, its features or its answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from ftransfer.backbone.backbone import Backbone, open_backbone
from ftransfer.backbone.checkpoint import read_about
from ftransfer.backbone.decoded import Pixels, batches
from ftransfer.errors import FtransferError
from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Seen, counted
from ftransfer.finetune.settings import TEMPERATURE, Training


class NearWeights(nn.Module):
    """Half the squared distance of the loaded weights from where they began: L2-SP.

    The optimizer decays these weights no further; fresh ones keep its weight decay, the paper's second term.

    References
    ----------
    Li, Grandvalet, Davoine: Explicit inductive bias for transfer learning with convolutional networks. ICML 2018,
    equation 2.
    """

    only_trains = True

    def __init__(self, network: Network) -> None:
        super().__init__()
        taken = set(network.taken)
        self.now = [p for owner, p in network.parameters() if owner in taken]
        self.begun = [p.detach().clone() for p in self.now]

    def forward(self, seen: Seen) -> torch.Tensor:
        """Measure it; the batch does not matter."""
        return (
            torch.stack([(a - b).square().sum() for a, b in zip(self.now, self.begun, strict=True)]).sum() / 2
        )


class NearFeatures(nn.Module):
    """Squared distance of a linear map of the embedding from the teacher's embedding, standardised: hints.

    References
    ----------
    Romero et al.: FitNets, hints for thin deep nets. ICLR 2015, equation 3, at the last layer.
    """

    def __init__(self, network: Network, told: torch.Tensor, seed: int) -> None:
        super().__init__()
        self.told = told
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.map = nn.Linear(network.backbone.width, told.shape[1])

    def forward(self, seen: Seen) -> torch.Tensor:
        """Average over the batch and the numbers of the teacher's embedding."""
        return F.mse_loss(self.map(seen.embedded).float(), self.told[seen.rows].to(seen.embedded.device))


class NearScores(nn.Module):
    """Divergence of the softened probabilities from the teacher's, times the squared temperature: distillation.

    References
    ----------
    Hinton, Vinyals, Dean: Distilling the knowledge in a neural network. 2015, section 2.
    """

    def __init__(self, told: Sequence[torch.Tensor], temperature: float) -> None:
        super().__init__()
        self.told, self.temperature = told, temperature

    def forward(self, seen: Seen) -> torch.Tensor:
        """Average over the batch and the tasks."""
        terms = []
        for told, scores in zip(self.told, seen.scores, strict=True):
            soft = F.log_softmax(told[seen.rows].to(scores.device) / self.temperature, dim=1)
            ours = F.log_softmax(scores / self.temperature, dim=1)
            terms.append(F.kl_div(ours, soft, reduction="batchmean", log_target=True))
        return self.temperature**2 * torch.stack(terms).mean()


def teacher_of(training: Training) -> tuple[str, str]:
    """Name the teacher and its weights: by default the network as it starts."""
    if training.teacher is None:
        return training.backbone, str(training.weights)
    return training.teacher, str(training.teacher_weights)


def classes_of_teacher(training: Training) -> dict[str, list[str]]:
    """Name the classes that a teacher of scores knows, by task; nothing where no scores are asked for."""
    if training.transfer_loss != "logits":
        return {}
    name, weights = teacher_of(training)
    classes = read_about(weights).get("classes") or {}
    if not classes:
        raise FtransferError(
            f"the teacher {name} with the weights {weights} has no class names; --transfer-loss logits needs "
            f"--teacher-weights of ftransfer finetune; features takes any teacher"
        )
    return {str(task): [str(c) for c in names] for task, names in classes.items()}


def make_transfer(
    training: Training,
    network: Network,
    images: pd.DataFrame,
    train: np.ndarray,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> nn.Module | None:
    """Make the term, after asking the teacher about all images, which it sees in its own way.

    Parameters
    ----------
    training : Training
    network : Network
        The student, as it starts.
    images : DataFrame with the columns ``root`` and ``path``
    train : ndarray of int
        Rows whose embeddings by the teacher have mean 0 and variance 1 after standardising.
    folder : Path
        Where decoded images may lie.
    progress : callable
    """
    if training.transfer_loss is None:
        return None
    if training.transfer_loss == "l2sp":
        return NearWeights(network)
    name, weights = teacher_of(training)
    size = training.image_size if training.teacher is None else _image_size(weights)
    how: dict[str, Any] = {"device": str(network.device), "image_size": size}
    if training.transfer_loss == "features":
        teacher = open_backbone(name, weights, **how)
        pixels = _pixels(images, teacher, folder, progress)
        told = _ask(lambda batch: [torch.from_numpy(teacher.embed(batch))], pixels, training, progress)[0]
        mean = told[train].mean(dim=0)
        told = (told - mean) / (told[train] - mean).square().mean().sqrt().clamp(min=1e-6)
        return NearFeatures(network, told, training.seed).to(network.device)
    scorer = Network(name, weights, network.classes, **how)
    if not scorer.head_taken:
        raise FtransferError(
            f"the teacher {name} with the weights {weights} scores other classes than the {_classes(network)} of the "
            f"training images; use a teacher of the same classes, or --transfer-loss features"
        )
    pixels = _pixels(images, scorer.backbone, folder, progress)
    scorer.train(False)

    @torch.no_grad()
    def score(batch: torch.Tensor) -> list[torch.Tensor]:
        return scorer.scores(scorer.embed(batch.to(scorer.device)))

    return NearScores(_ask(score, pixels, training, progress), training.temperature or TEMPERATURE)


def _pixels(
    images: pd.DataFrame, teacher: Backbone, folder: Path, progress: Callable[[str, int, int], None]
) -> Pixels:
    return Pixels(images, teacher, folder, counted(progress, "decoding for the teacher", len(images)))


def _ask(
    answer: Callable[[torch.Tensor], list[torch.Tensor]],
    pixels: Pixels,
    training: Training,
    progress: Callable[[str, int, int], None],
) -> list[torch.Tensor]:
    found = []
    for part in batches(np.arange(len(pixels.values)), training.batch_size):
        found.append([each.float().cpu() for each in answer(pixels.batch(part))])
        progress("asking the teacher", int(part[-1]) + 1, len(pixels.values))
    return [torch.cat(each) for each in zip(*found, strict=True)]


def _image_size(weights: str) -> int | None:
    size = read_about(weights).get("image_size")
    return size if isinstance(size, int) else None


def _classes(network: Network) -> str:
    return ", ".join(f"{len(names)} of {task}" for task, names in network.classes.items())
