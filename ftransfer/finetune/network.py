"""The network that is trained: a backbone, a linear head for each task, and what of it is frozen."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import fx, nn

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.checkpoint import read_about
from ftransfer.backbone.cut import Whole
from ftransfer.errors import FtransferError, unknown


class Network:
    """A backbone with one linear head for each task, started from a source and frozen in part.

    Parameters
    ----------
    name, weights : str
        As `Backbone` takes them; ``weights="random"`` starts from nothing.
    classes : dict of str to list of str
        Classes of each task, by the name of its label column.
    take : sequence of str
        Layers whose weights are taken from `weights`, the others start fresh. Default: all of them.
    freeze_until : str, optional
        The last layer, in the order of computation, that is not trained.
    seed : int
        Of the heads; fresh layers of the backbone start as ``weights="random"`` does.
    device : str

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
    ) -> None:
        source = Backbone(name, weights, device=device)
        if isinstance(source.network, Whole):
            raise FtransferError(
                f"ftransfer finetune trains small_cnn and torchvision's models; train {name} elsewhere: "
                f"then ftransfer extract --backbone {name} --weights FILE"
            )
        # what `extract --weights FILE` will hold the checkpoint for, whatever it started from
        self.backbone = Backbone(name, "random", device=device)
        self.device, self.classes = source.device, classes
        self.extractor = self.backbone.network
        self.modules = _modules(self.extractor)
        self.taken = [] if str(weights) == "random" else self._matching(take) if take else list(self.modules)
        self.fresh = [m for m in self.modules if m not in self.taken]
        state = self.extractor.state_dict()
        state |= {k: v for k, v in source.network.state_dict().items() if _owned(k, self.taken)}
        self.extractor.load_state_dict(state)
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
            if not any(_owned(m, [layer]) for m in self.modules):
                known = dict.fromkeys(p for m in self.modules for p in _prefixes(m))
                known = sorted(known, key=lambda n: n.count("."))
                raise unknown("layer", layer, known, plural=f"layers with weights of {self.backbone.name}")
        return [m for m in self.modules if _owned(m, layers)]

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
        name = self.backbone.classifier
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
        self.still = set(frozen)
        for key, parameter in self.extractor.named_parameters():
            parameter.requires_grad_(not _owned(key, frozen))
        graphs = self.extractor.train_graph, self.extractor.eval_graph
        cuts = {_last_cut(graph, set(self.modules) - self.still) for graph in graphs}
        cut = cuts.pop() if len(cuts) == 1 else 0
        self.trunk = _part(self.extractor, graphs[1], 0, cut) if cut else None
        self.tails = {
            training: _part(self.extractor, graph, cut, None)
            for training, graph in zip((True, False), graphs, strict=True)
        }

    def train(self, training: bool) -> None:
        """Put what is not frozen into training mode, or everything into that of use."""
        self.training = training
        self.extractor.eval()
        for node in self.tails[training].graph.nodes:
            if node.op == "call_module" and node.target not in self.still:
                self.extractor.get_submodule(node.target).train(training)

    def embed(self, inputs: torch.Tensor) -> torch.Tensor:
        """Embed what the trunk gives (normalised images where there is no trunk): (n, width)."""
        outputs = self.tails[self.training](inputs)
        pool = self.backbone.pool
        return torch.cat([pool(layer, outputs[layer]) for layer in self.backbone.layers], dim=1)

    def state(self) -> dict[str, torch.Tensor]:
        """Return copies of all weights, the backbone's and the heads'."""
        state = dict(self.extractor.state_dict())
        for key, head in zip(self._head_keys(), self.heads, strict=True):
            state |= {f"{key}.{p}": v for p, v in head.state_dict().items()}
        return {k: v.detach().cpu().clone().contiguous() for k, v in state.items()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Take weights from `state`."""
        self.extractor.load_state_dict({k: state[k] for k in self.extractor.state_dict()})
        for key, head in zip(self._head_keys(), self.heads, strict=True):
            head.load_state_dict({p: state[f"{key}.{p}"] for p in ("weight", "bias")})


# ---------------------------------------------------------------- the graph


def _modules(extractor: Any) -> list[str]:
    """List what holds weights or statistics, in the order of computation."""
    used = [n.target for n in extractor.eval_graph.nodes if n.op in ("call_module", "get_attr")]
    keys = extractor.state_dict()
    return [name for name in dict.fromkeys(used) if any(_owned(key, [name]) for key in keys)]


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


def _owned(key: str, modules: Iterable[str]) -> bool:
    return any(key == module or key.startswith(module + ".") for module in modules)


def _prefixes(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
