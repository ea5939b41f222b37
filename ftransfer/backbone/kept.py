"""Networks that were converted for OpenVINO, kept in the user's cache from one run to the next."""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import fx

from ftransfer.backbone.cut import Pooled
from ftransfer.backbone.preprocess import describe_code
from ftransfer.backbone.weights import hash_weights
from ftransfer.errors import FtransferError
from ftransfer.storage.cache import cache_folder, forget, keep, read_kept

LIMIT, GIGABYTES = "FTRANSFER_NETWORKS_GB", 2.0  # of all kept networks; 0 keeps none


class KeptNetwork:
    """The place of one compiled network in the cache.

    It is named by all that shapes what is compiled: the graph and its layers, the values of the weights, how pixels are
    normalised, sizes and options, this package's own code, versions of the libraries, and the processor. A
    user's own module, whose code nothing names, is not kept.

    Parameters
    ----------
    backbone : Backbone
    shape : sequence of int
        Of a batch.
    options : dict
        For `openvino.Core.compile_model`.

    Attributes
    ----------
    difference : float, optional
        How far it is from PyTorch, if that was measured before it was kept.
    """

    def __init__(self, backbone: Any, shape: list[int], options: dict) -> None:
        self._room, self._options = room(), options
        self.difference: float | None = None
        self._file: Path | None = None
        size = sum(value.nbytes for value in backbone.network.state_dict().values())
        if size < self._room and isinstance(backbone.network, fx.GraphModule | Pooled):
            self._key = _name(backbone, shape, options)
            self._file = cache_folder("networks") / f"{self._key}.network"

    def open(self) -> Any:
        """Return the compiled network; None where it is not kept, or not in a form that can be used."""
        if self._file is None or (content := read_kept(self._file)) is None:
            return None
        import openvino

        try:
            end = bytes(content[:4096]).index(b"\n")
            about = json.loads(bytes(content[:end]))
            if about["key"] != self._key:
                raise ValueError("of another network")
            blob = openvino.Tensor(np.frombuffer(content[end + 1 :], np.uint8))
            compiled = openvino.Core().import_model(blob, "CPU", self._options)
            self.difference = about["difference"] and float(about["difference"])
        except Exception:  # whatever OpenVINO raises of what it did not write
            forget(self._file)
            return None
        return compiled

    def keep(self, compiled: Any) -> None:
        """Put a compiled network into the cache, if it is to be kept."""
        if self._file is not None:
            about = json.dumps({"key": self._key, "difference": self.difference}).encode()
            keep(self._file, about + b"\n" + compiled.export_model().getvalue(), self._room)

    @property
    def is_there(self) -> bool:
        """Whether a file of this network is there, however it is."""
        return self._file is not None and self._file.is_file()


def room() -> int:
    """Say how many bytes all kept networks may take: ``$FTRANSFER_NETWORKS_GB``, else 2 GB.

    Raises
    ------
    FtransferError
        If it is not a number.
    """
    text = os.environ.get(LIMIT, "").strip()
    try:
        gigabytes = float(text) if text else GIGABYTES
        return int(max(0.0, gigabytes) * 1e9)
    except (ValueError, OverflowError):
        raise FtransferError(
            f"{LIMIT} must be a number of gigabytes for converted networks, given {text!r}; 0 keeps none"
        ) from None


def _name(backbone: Any, shape: list[int], options: dict) -> str:
    import openvino

    network, preset = backbone.network, backbone.preset
    core = openvino.Core()
    whole = not isinstance(network, fx.GraphModule)
    about = {
        "backbone": backbone.name,
        "layers": backbone.layers,
        "graph": describe_code(network) + ("" if whole else network.code),
        "weights": hash_weights(network),
        "probe": backbone.probe.tobytes().hex() if whole else "",
        "normalised": [getattr(preset, name, None) for name in ("mean", "std")],
        "shape": shape,
        "type": np.dtype(backbone.input_type).name,
        "options": options,
        "code": _own_code(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": _timm_version() if whole else "",
        "openvino": openvino.__version__,
        "processor": [
            core.get_property("CPU", "FULL_DEVICE_NAME"),
            sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
            torch.backends.cpu.get_cpu_capability(),
        ],
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@lru_cache
def _own_code() -> str:
    """Name the code that decides what is converted: whoever works on it must not meet what it made before."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _timm_version() -> str:
    import timm

    return timm.__version__
