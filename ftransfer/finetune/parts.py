"""What of a network is computed once, and what is trained: cut by its graph, or whole where it has none."""

from collections.abc import Collection, Iterable
from typing import Any, Protocol

import torch
from torch import fx, nn

from ftransfer.backbone.cut import Whole


class Parts(Protocol):
    """A network, divided where all that comes before is frozen.

    Attributes
    ----------
    module : Module
        Holds the weights, by their names in a checkpoint.
    modules : list of str
        What holds weights or statistics, in the order of computation.
    trunk : Module or None
        What is frozen, and passed by one tensor alone.
    """

    module: Any
    modules: list[str]
    trunk: Any

    def freeze(self, still: Collection[str]) -> None:
        """Divide it after these modules."""

    def train(self, training: bool) -> None:
        """Put what is not frozen into training mode, or everything into that of use."""

    def outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the layers from what the trunk gives, or from images where there is none."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights and statistics."""


class Traced:
    """A network that `torch.fx` has traced, in training and in use.

    Parameters
    ----------
    extractor : Module
        Of `torchvision.models.feature_extraction`.
    """

    def __init__(self, extractor: Any) -> None:
        self.module = extractor
        used = [n.target for n in extractor.eval_graph.nodes if n.op in ("call_module", "get_attr")]
        keys = extractor.state_dict()
        self.modules = [name for name in dict.fromkeys(used) if any(owned(key, [name]) for key in keys)]

    def freeze(self, still: Collection[str]) -> None:
        """Cut the graph where all that comes before is frozen."""
        self.still = set(still)
        graphs = self.module.train_graph, self.module.eval_graph
        cuts = {_last_cut(graph, set(self.modules) - self.still) for graph in graphs}
        cut = cuts.pop() if len(cuts) == 1 else 0
        self.trunk = _part(self.module, graphs[1], 0, cut) if cut else None
        self.tails = {
            training: _part(self.module, graph, cut, None)
            for training, graph in zip((True, False), graphs, strict=True)
        }

    def train(self, training: bool) -> None:
        """Put what is not frozen into training mode, or everything into that of use."""
        self.tail = self.tails[training]
        self.module.eval()
        for node in self.tail.graph.nodes:
            if node.op == "call_module" and node.target not in self.still:
                self.module.get_submodule(node.target).train(training)

    def outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute what lies after the cut."""
        return self.tail(inputs)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights and statistics."""
        return dict(self.module.state_dict())


class Untraced:
    """A model of timm or of a user's file, whole: what is frozen is computed anew each time.

    Parameters
    ----------
    extractor : Whole
    """

    trunk = None

    def __init__(self, extractor: Whole) -> None:
        self.extractor, self.module = extractor, extractor.module
        owners = {key: key.rpartition(".")[0] for key in extractor.weights()}
        self.parents = {outer for owner in set(owners.values()) for outer in _outer(owner)}
        # what a module with others of weights in it holds itself, a class token, goes by its own name
        self.modules = list(
            dict.fromkeys(key if owner in self.parents else owner for key, owner in owners.items())
        )

    def freeze(self, still: Collection[str]) -> None:
        """Note what is frozen."""
        self.still = set(still)

    def train(self, training: bool) -> None:
        """Put what is not frozen into training mode, dropout beside it included, or everything into that of use."""
        self.module.eval()
        moving = [name for name in self.modules if name not in self.still]
        for name, each in self.module.named_modules():
            beside = name if name in self.modules else name.rpartition(".")[0]
            if name not in self.parents and any(owned(m, [beside]) or not beside for m in moving):
                each.train(training)

    def outputs(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute everything."""
        return self.extractor(inputs)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights and statistics, without those of a classifier."""
        return dict(self.extractor.weights())


def make_parts(extractor: nn.Module) -> Parts:
    """Divide a network by its graph if it has one."""
    return Untraced(extractor) if isinstance(extractor, Whole) else Traced(extractor)


def _outer(module: str) -> list[str]:
    """Name the modules around one, the whole network among them."""
    parts = module.split(".")
    return [".".join(parts[:i]) for i in range(len(parts))] if module else []


def owned(key: str, modules: Iterable[str]) -> bool:
    """Whether a weight or module is one of these, or lies in one."""
    return any(key == module or key.startswith(module + ".") for module in modules)


def _last_cut(graph: Any, trained: set[str]) -> int:
    """Count the nodes before the last place that one tensor alone passes, nothing before it being trained."""
    nodes = list(graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    cut = reach = 0
    for i, node in enumerate(nodes):
        if node.op == "output" or (node.op in ("call_module", "get_attr") and node.target in trained):
            break
        if node.op != "placeholder" and reach <= i:
            cut = i + 1
        reach = max([reach, *(place[user] for user in node.users)])
    return cut


def _part(extractor: Any, graph: Any, start: int, stop: int | None) -> fx.GraphModule:
    """Make a module of the nodes from `start` to `stop`; it shares the weights."""
    nodes, part = list(graph.nodes), fx.Graph()
    copies = {nodes[start - 1]: part.placeholder("cut")} if start else {}
    for node in nodes[start:stop]:
        copies[node] = part.node_copy(node, copies.__getitem__)
    if stop is not None:
        part.output(copies[nodes[stop - 1]])
    return fx.GraphModule(extractor, part)
