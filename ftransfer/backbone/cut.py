"""Cut a network off at the layers asked for, or run it whole and catch what they give."""

import threading
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ftransfer.errors import FtransferError, unknown

OUTPUT, POOLED = "output", "pooled"  # layers that are no modules: what a module returns, and what timm pools
CLASS_TOKEN = "class token"  # torchvision's vision transformers take it by indexing, which has no name


def cut_graph(model: nn.Module, layers: Sequence[str], name: str) -> tuple[nn.Module, list[str], str]:
    """Cut a model of torchvision off at some nodes of its graph; it then computes nothing above them.

    Parameters
    ----------
    model : Module
        `torch.fx` can trace it.
    layers : sequence of str
        Default: the input of the classifier.
    name : str
        Of the model.

    Returns
    -------
    The network, which gives a dict of outputs by layer; the layers; the name of the classifier.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about nodes that differ between train and eval
        nodes = [n for n in get_graph_node_names(model)[1] if n != "x"]
        place = _classifier(model, nodes)
        token = nodes[place - 1] if nodes[place - 1].startswith("getitem") else None
        named = {CLASS_TOKEN: token} if token else {}
        layers = list(layers) or [CLASS_TOKEN if token else nodes[place - 1]]
        # layer1 stands for its last node
        known = dict.fromkeys(prefix for n in nodes for prefix in prefixes(n + "."))
        for layer in layers:
            if layer not in known and layer not in named:
                found = sorted([*named, *known], key=lambda n: n.count("."))
                raise unknown("layer", layer, found, plural=f"layers of {name}")
        network = create_feature_extractor(model, {named.get(layer, layer): layer for layer in layers})
    return network, layers, nodes[place]


def prefixes(key: str) -> list[str]:
    """Name the modules that a name lies in, the outermost first.

    >>> prefixes("layer1.0.conv1.weight")
    ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    parts = key.split(".")[:-1]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _classifier_input(model: nn.Module, nodes: list[str]) -> str:
    return nodes[_classifier(model, nodes) - 1]


def _classifier(model: nn.Module, nodes: list[str]) -> int:
    """Place the last layer with weights among the nodes: it is the classifier."""
    modules = dict(model.named_modules())
    return max(i for i, n in enumerate(nodes) if isinstance(modules.get(n), nn.Linear | nn.Conv2d))


# ---------------------------------------------------------------- whole


class Whole(nn.Module):
    """A module run as it is: what it returns, and what some modules in it give, which hooks catch.

    Several threads may call it at once.

    Parameters
    ----------
    module : Module
    layers : sequence of str
        Names of modules in it, and ``"output"`` for what it returns.
    name : str
        For people.
    """

    default = OUTPUT
    module: Any

    def __init__(self, module: nn.Module, layers: Sequence[str], name: str) -> None:
        super().__init__()
        self.module, self.layers, self.name = module, list(layers), name
        self._caught = _Caught()
        named = dict(module.named_modules())
        for layer in self.layers:
            if layer in named and layer != "":
                named[layer].register_forward_hook(_Hook(self._caught, layer))
            elif layer != self.default:
                known = sorted([self.default, *filter(None, named)], key=lambda n: n.count("."))
                raise unknown("layer", layer, known, plural=f"layers of {name}")

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the outputs of the layers by name."""
        caught = self._caught.outputs = {}
        self._run(x, caught)
        for layer in self.layers:
            if layer not in caught:
                raise FtransferError(f"layer {layer} of {self.name} is not used when an image is processed")
        return {layer: caught[layer] for layer in self.layers}

    def _run(self, x: torch.Tensor, caught: dict) -> None:
        found = self.module(x)
        caught.setdefault(OUTPUT, found)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return what shapes an embedding: names are those of the module."""
        return self.module.state_dict()

    def load_weights(self, state: dict[str, torch.Tensor]) -> None:
        """Take weights by these names."""
        self.module.load_state_dict(state, strict=False)


class Pooled(Whole):
    """A model of timm: its pooled embedding before the classifier, and what modules in it give."""

    default = POOLED

    def _run(self, x: torch.Tensor, caught: dict) -> None:
        found = self.module.forward_features(x)
        if POOLED in self.layers:
            caught[POOLED] = self.module.forward_head(found, pre_logits=True)
        if not caught.keys() >= set(self.layers):  # the classifier, or what lies before it
            self.module.forward_head(found)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return what shapes an embedding: without a classifier that nothing is taken from."""
        classifier = _names(self.module.pretrained_cfg.get("classifier"))
        above = [n for n in classifier if n not in self.layers]
        state = self.module.state_dict()
        return {key: value for key, value in state.items() if not any(n in prefixes(key) for n in above)}


def _names(classifier: str | None) -> list[str]:
    return [classifier] if isinstance(classifier, str) else list(classifier or ())


class _Caught(threading.local):
    """What the hooks of a thread have caught; of a copy of the network nothing."""

    def __init__(self) -> None:
        self.outputs: dict[str, torch.Tensor] = {}

    def __deepcopy__(self, memo: dict) -> Any:
        return type(self)()

    def __reduce__(self) -> tuple:
        return type(self), ()


class _Hook:
    def __init__(self, caught: _Caught, layer: str) -> None:
        self.caught, self.layer = caught, layer

    def __call__(self, module: Any, inputs: Any, output: Any) -> None:
        self.caught.outputs[self.layer] = output
