"""What a training minimises: the loss of the labels, and a weight times each further term."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ftransfer.finetune.network import Network
from ftransfer.finetune.settings import Training


class Seen(NamedTuple):
    """What the network makes of a batch.

    Attributes
    ----------
    rows : ndarray of int
    embedded : tensor of shape (n, width)
    scores : list of tensor of shape (n, classes), float32, one a task
    is_target : tensor of shape (n,), bool
        Which images are the target's, without labels.
    strength : float
        Of what aligns the domains, from 0 at the start of the training to 1.
    shares : tensor of shape (n, n), optional
        How much of each image (column) is in each one (row), where images are mixed.
    """

    rows: np.ndarray
    embedded: torch.Tensor
    scores: list[torch.Tensor]
    is_target: torch.Tensor
    strength: float
    shares: torch.Tensor | None = None


class Counts(NamedTuple):
    """Of a batch: its loss, the value of each term before its weight, right and labelled rows of each task."""

    loss: torch.Tensor
    terms: dict[str, float]
    right: np.ndarray
    known: np.ndarray


class Tally:
    """Means over batches, and counts."""

    def __init__(self) -> None:
        self.n, self.total, self.right, self.known = 0, 0.0, np.zeros(1), np.zeros(1)
        self.terms: dict[str, float] = {}

    def add(self, counts: Counts, n: int) -> None:
        """Add a batch of n images."""
        self.n, self.total = self.n + n, self.total + float(counts.loss.detach()) * n
        self.right, self.known = self.right + counts.right, self.known + counts.known
        for name, value in counts.terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value * n

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.total / self.n

    @property
    def accuracy(self) -> float | None:
        """Mean of the tasks' accuracies; nothing where no row has a label."""
        seen = self.known > 0
        return float((self.right[seen] / self.known[seen]).mean()) if seen.any() else None


class Objective(nn.Module):
    """Sum of the labels' cross entropy and the terms, each times its weight.

    Parameters
    ----------
    network : Network
    training : Training
    answers : tensor of shape (n, tasks), int
        Classes as numbers; -1: not known, and the target's are not known.
    train : ndarray of int
        Rows that train, whose classes are counted for balanced weights.
    terms : mapping of str to (Module, float)
        Each takes a `Seen`; its own weights are trained with the network.
    """

    def __init__(
        self,
        network: Network,
        training: Training,
        answers: torch.Tensor,
        train: np.ndarray,
        terms: Mapping[str, tuple[nn.Module, float]],
    ) -> None:
        super().__init__()
        self.answers, self.device = answers, network.device
        self.terms = nn.ModuleDict({name: module for name, (module, _) in terms.items()})
        self.weights = {name: weight for name, (_, weight) in terms.items()}
        self.class_weights = [
            _class_weights(answers[train, task], cast(nn.Linear, head).out_features, training.class_weights)
            for task, head in enumerate(network.heads)
        ]

    def forward(self, seen: Seen) -> Counts:
        """Measure a batch; in evaluation mode without the terms that say nothing of single images."""
        labels, right, known = torch.zeros((), device=self.device), [], []
        for task, scores in enumerate(seen.scores):
            y = self.answers[seen.rows, task].to(self.device)
            labelled, weights = y >= 0, self.class_weights[task].to(self.device)
            if seen.shares is None:
                entropy = F.cross_entropy(scores, y, weights, ignore_index=-1, reduction="sum")
                of = labelled.sum().clamp(min=1)
            else:
                shares = seen.shares.to(self.device)
                soft = shares @ (F.one_hot(y.clamp(min=0), scores.shape[1]) * labelled[:, None]).float()
                entropy = F.cross_entropy(scores, soft, weights, reduction="sum")
                of, y = soft.sum().clamp(min=1e-6), y[shares.argmax(dim=1)]  # counted by the larger part
                labelled = y >= 0
            labels = labels + entropy / of / len(seen.scores)
            right.append(int((scores.argmax(dim=1) == y)[labelled].sum()))
            known.append(int(labelled.sum()))
        loss, terms = labels, {"labels": float(labels.detach())} if seen.scores else {}
        for name, term in self.terms.items():
            if not self.training and getattr(term, "only_trains", False):
                continue
            value = term(seen)
            terms[name], loss = float(value.detach()), loss + self.weights[name] * value
        return Counts(loss, terms, np.array(right), np.array(known))


def _class_weights(answers: torch.Tensor, classes: int, kind: str) -> torch.Tensor:
    counts = torch.bincount(answers[answers >= 0], minlength=classes)
    if kind == "none":
        return torch.ones(len(counts))
    return (counts.sum() / (counts > 0).sum() / counts.clamp(min=1)).float()


def counted(progress: Callable[[str, int, int], None], what: str, total: int) -> Callable[[int], None]:
    """Make a callable that is told how many more are done, of one that is told how many are done."""
    done = [0]

    def step(n: int) -> None:
        done[0] += n
        progress(what, done[0], total)

    return step
