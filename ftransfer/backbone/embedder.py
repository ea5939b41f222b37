"""The whole way from pixels to embeddings as one network, and how two of them are compared."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Embedder(nn.Module):
    """The whole way from pixels to embeddings: normalise, unless a user's transforms did; run the network, pool.

    Parameters
    ----------
    backbone : Backbone
    network : Module, optional
        What stands for the backbone's network, in any floating type.
    """

    def __init__(self, backbone: Any, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = backbone.network if network is None else network
        self.pool = backbone.pool
        self.dtype = next((p.dtype for p in self.network.parameters()), torch.float32)
        self.normalises = backbone.input_type is np.uint8
        for name in ("mean", "std") if self.normalises else ():
            values = torch.tensor(getattr(backbone.preset, name), device=backbone.device).view(1, 3, 1, 1)
            self.register_buffer(name, values)
        self.layout = torch.channels_last  # that of images in memory; `arrange` gives it to the weights, too

    def arrange(self, layout: torch.memory_format) -> None:
        """Keep images and weights in memory with the channels last, or first."""
        self.layout = layout
        self.network.to(memory_format=layout)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, side, side, 3), or float32 (n, channels, height, width), to float32 (n, width)."""
        x = pixels
        if self.normalises:
            x = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255  # in memory the channels stay last
            x = (x - cast(torch.Tensor, self.mean)) / cast(torch.Tensor, self.std)
        outputs = self.network(x.to(self.dtype, memory_format=self.layout))
        return torch.cat([self.pool(layer, output.float()) for layer, output in outputs.items()], dim=1)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Copy a network in evaluation mode, with each batch norm taken into the convolution before it.

    One that is run whole has no graph, and is copied as it is.
    """
    if not isinstance(network, fx.GraphModule):
        return copy.deepcopy(network).eval()
    folded = fx.GraphModule(copy.deepcopy(network), copy.deepcopy(network.graph)).eval()
    modules = dict(folded.named_modules())
    for node in list(folded.graph.nodes):
        if node.op != "call_module" or type(modules[node.target]) is not nn.BatchNorm2d:
            continue
        before = node.args[0]
        if (
            before.op != "call_module"
            or type(modules[before.target]) is not nn.Conv2d
            or len(before.users) > 1
        ):
            continue
        fused = fuse_conv_bn_eval(modules[before.target].eval(), modules[node.target].eval())
        folded.set_submodule(before.target, fused)
        node.replace_all_uses_with(before)
        folded.graph.erase_node(node)
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded.eval()


def relative_difference(rows: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest |row - expected| / |expected| of the rows, in Euclidean norms; infinite if not finite."""
    norms = np.linalg.norm(expected, axis=1)
    worst = (np.linalg.norm(rows - expected, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)).max()
    return float(worst) if np.isfinite(worst) else float("inf")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute on one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
