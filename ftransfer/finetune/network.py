"""The network that is trained: a backbone, a linear head for each task, and what of it is frozen."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from ftransfer.backbone.backbone import open_backbone
from ftransfer.backbone.checkpoint import HEAD, read_about
from ftransfer.errors import unknown
from ftransfer.finetune.parts import make_parts, owned


class Network:
    """A backbone with one linear head for each task, started from a source and frozen in part.

    Parameters
    ----------
    name, weights : str
        As `open_backbone` takes them; ``weights="random"`` starts from nothing.
    classes : dict of str to list of str
        Classes of each task, by the name of its label column.
    take : sequence of str
        Layers whose weights are taken from `weights`, the others start fresh. Default: all of them.
    freeze_until : str, optional
        The last layer, in the order of computation, that is not trained.
    seed : int
        Of the heads; fresh layers of the backbone start as ``weights="random"`` does.
    device : str
    image_size : int, optional
        Side in pixels of the square that the network sees. Default: that of the backbone.

    Attributes
    ----------
    taken, fresh, frozen : list of str
        Modules of the backbone whose weights come from the source, come from nothing, are never trained.
    head_taken : bool
        Whether `weights` is a checkpoint of the same classes, whose heads go on as well.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        classes: dict[str, list[str]],
        *,
        take: Sequence[str] = (),
        freeze_until: str | None = None,
        seed: int = 0,
        device: str = "auto",
        image_size: int | None = None,
    ) -> None:
        source = open_backbone(name, weights, device=device, image_size=image_size)
        # what `extract --weights FILE` will hold the checkpoint for, whatever it started from
        plain = "DEFAULT" if name.endswith(".py") else "random"
        self.backbone = open_backbone(name, plain, device=device, image_size=image_size)
        self.device, self.classes = source.device, classes
        self.parts = make_parts(self.backbone.network)
        self.modules = self.parts.modules
        self.taken = [] if str(weights) == "random" else self._matching(take) if take else list(self.modules)
        self.fresh = [m for m in self.modules if m not in self.taken]
        self._load({k: v for k, v in make_parts(source.network).state().items() if owned(k, self.taken)})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            heads = [nn.Linear(self.backbone.width, max(1, len(c))) for c in classes.values()]
        self.heads = nn.ModuleList(heads).to(self.device)
        self.head_taken = not take and self._take_heads(weights)
        self.frozen = []
        if freeze_until is not None:
            last = self._matching([freeze_until])[-1]
            self.frozen = self.modules[: self.modules.index(last) + 1]
        self.freeze(self.frozen)

    def _matching(self, layers: Sequence[str]) -> list[str]:
        for layer in layers:
            if not any(owned(m, [layer]) for m in self.modules):
                known = dict.fromkeys(p for m in self.modules for p in _prefixes(m))
                known = sorted(known, key=lambda n: n.count("."))
                raise unknown("layer", layer, known, plural=f"layers with weights of {self.backbone.name}")
        return [m for m in self.modules if owned(m, layers)]

    def _take_heads(self, weights: str) -> bool:
        about = read_about(weights)
        if about.get("classes") != self.classes or about.get("backbone") != self.backbone.name:
            return False
        with safe_open(weights, "pt") as file:
            for key, head in zip(self._head_keys(), self.heads, strict=True):
                head.load_state_dict({p: file.get_tensor(f"{key}.{p}") for p in ("weight", "bias")})
        return True

    def _head_keys(self) -> list[str]:
        """Name the heads by the classifier of the published model, so that other programs find a single one."""
        name = self.backbone.classifier or HEAD
        return [name] if len(self.classes) == 1 else [f"{name}.{task}" for task in self.classes]

    def stages(self) -> list[list[str]]:
        """Group the modules that are trained at some time into blocks, in the order of computation."""
        blocks: dict[str, list[str]] = {}
        for module in self.modules:
            if module not in self.frozen:
                # the first part of a name that counts something: layer3, features.12, encoder.layers.encoder_layer_5
                counted = re.match(r"(.*?\d[^.]*)(\.|$)", module)
                blocks.setdefault(counted[1] if counted else module.split(".")[0], []).append(module)
        return list(blocks.values())

    def freeze(self, frozen: Sequence[str]) -> None:
        """Leave these modules as they are: no gradient, no dropout, batch norm by its stored statistics.

        The network is cut where all that comes before is frozen: `trunk` and `tail`.
        """
        self.parts.freeze(frozen)
        for key, parameter in self.parts.module.named_parameters():
            parameter.requires_grad_(owned(key, set(self.modules) - set(frozen)))

    @property
    def trunk(self) -> Any:
        """What is frozen and computed once; None where there is nothing."""
        return self.parts.trunk

    def parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield the parameters of the backbone, each with the module that owns it."""
        for key, parameter in self.parts.module.named_parameters():
            owner = next((m for m in self.modules if owned(key, [m])), None)
            if owner is not None:  # not a classifier's
                yield owner, parameter

    def train(self, training: bool) -> None:
        """Put what is not frozen into training mode, or everything into that of use."""
        self.parts.train(training)

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """Embed what the trunk gives (normalised images where there is no trunk): (n, width)."""
        outputs = self.parts.outputs(inputs)
        pool = self.backbone.pool
        return torch.cat([pool(layer, outputs[layer]) for layer in self.backbone.layers], dim=1)

    def scores(self, embedded: torch.Tensor) -> list[torch.Tensor]:
        """Score the classes of each task by its head: (n, classes), float32."""
        return [head(embedded).float() for head in self.heads]

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of all weights, the backbone's and the heads'."""
        state = self.parts.state()
        for key, head in zip(self._head_keys(), self.heads, strict=True):
            state |= {f"{key}.{p}": v for p, v in head.state_dict().items()}
        return {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}

    def _load(self, state: dict[str, torch.Tensor]) -> None:
        self.parts.module.load_state_dict(state, strict=False)

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take weights from `state`."""
        self._load({k: state[k] for k in self.parts.state()})
        for key, head in zip(self._head_keys(), self.heads, strict=True):
            head.load_state_dict({p: state[f"{key}.{p}"] for p in ("weight", "bias")})


def _prefixes(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
