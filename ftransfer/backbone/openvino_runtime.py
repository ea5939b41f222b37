"""Compute with OpenVINO on the CPU, where it is installed."""

import math
import warnings
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any

import joblib
import numpy as np
import torch

from ftransfer.backbone.embedder import Embedder, one_torch_thread, relative_difference
from ftransfer.backbone.kept import KeptNetwork
from ftransfer.errors import FtransferError

CPU_BATCH_PIXELS = 8 * 224 * 224  # larger batches gain nothing on a core, and wait longer for their images


def import_openvino() -> Any:
    try:
        import openvino
    except ImportError:
        return None
    return openvino


class OpenVINORuntime:
    """Compute with OpenVINO on the CPU, one stream of one thread for each lane; attributes as `TorchRuntime`.

    The network is handed over by OpenVINO's own front end for PyTorch, since ``openvino.convert_model`` reports
    its use over the network. `keep` spares the next run that: see `KeptNetwork`.

    Raises
    ------
    FtransferError
        If the network cannot be converted.
    """

    def __init__(self, backbone: Any, batch_size: int) -> None:
        self.batch_size, self.image_shape, self.image_type = (
            batch_size,
            backbone.input_shape,
            backbone.input_type,
        )
        self.lanes = joblib.cpu_count()
        self.embedder = Embedder(backbone).eval()
        self.record = {"runtime": f"openvino {import_openvino().__version__.split('-')[0]}", "device": "cpu"}
        self._kept = kept_network(backbone, batch_size)
        opened = self._kept.open()
        self._is_kept = opened is not None
        with one_torch_thread():
            self._compiled = opened or self._convert(backbone.name, options_of(backbone))
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.lanes):
            self._requests.put(self._compiled.create_infer_request())

    def _convert(self, name: str, options: dict) -> Any:
        import openvino

        model = convert(self.embedder, self.buffer()[:1], name)
        try:
            model.reshape([self.batch_size, *self.image_shape])
            return openvino.Core().compile_model(model, "CPU", options)
        except Exception as error:  # whatever an unknown operation raises in OpenVINO
            raise _no_conversion(name, error) from error

    def keep(self) -> "OpenVINORuntime":
        """Put the compiled network into the user's cache, unless it came from there; return the runtime."""
        if not self._is_kept:
            self._kept.keep(self._compiled)
        return self

    def buffer(self) -> np.ndarray:
        """Make room for the pixels of a batch."""
        return np.zeros((self.batch_size, *self.image_shape), self.image_type)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embed a batch, as `TorchRuntime` does."""
        request = self._requests.get()
        try:
            return request.infer({0: pixels}, share_inputs=True)[0].copy()
        finally:
            self._requests.put(request)

    def difference(self) -> float:
        """Return the largest relative difference from PyTorch, of two rows of a made-up batch."""
        if self._kept.difference is not None:
            return self._kept.difference
        rng, shape = np.random.default_rng(0), self.buffer().shape
        if self.image_type is np.uint8:
            pixels = rng.integers(0, 256, shape, np.uint8)
        else:
            pixels = rng.standard_normal(shape, np.float32)
        with one_torch_thread(), torch.inference_mode():
            expected = self.embedder(torch.from_numpy(pixels[:2])).numpy()
        self._kept.difference = relative_difference(self(pixels)[:2], expected)
        return self._kept.difference

    def precisely(self) -> Any:
        """Set nothing: all is set in the compiled network."""
        return nullcontext()


def options_of(backbone: Any) -> dict[str, Any]:
    """Say how a network is compiled."""
    return {
        "INFERENCE_PRECISION_HINT": {"bfloat16": "bf16", "float32": "f32"}[backbone.fingerprint["dtype"]],
        "NUM_STREAMS": joblib.cpu_count(),
        "INFERENCE_NUM_THREADS": joblib.cpu_count(),
        "ENABLE_CPU_PINNING": False,  # the threads that decode want the cores, too
    }


def kept_network(backbone: Any, batch_size: int) -> KeptNetwork:
    """Find the place of a network in the user's cache."""
    return KeptNetwork(backbone, [batch_size, *backbone.input_shape], options_of(backbone))


def convert(embedder: Embedder, example: np.ndarray, name: str) -> Any:
    """Hand a network over to OpenVINO; FtransferError where it cannot take it."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    try:
        with warnings.catch_warnings():
            # tracing warns of itself, and of shapes that it takes for fixed
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(embedder, torch.from_numpy(example), check_trace=False)
            decoder = TorchScriptPythonDecoder(traced)
            front_end = FrontEndManager().load_by_framework("pytorch")
            loaded = front_end.load(decoder)
            return front_end.convert(loaded)
    except Exception as error:  # whatever an unknown operation raises in torch or OpenVINO
        raise _no_conversion(name, error) from error


def _no_conversion(name: str, error: Exception) -> FtransferError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return FtransferError(f"OpenVINO cannot convert {name}: {reason[:200]}; use --tier exact")


def conversion_fault(backbone: Any) -> str:
    """Say why OpenVINO cannot take a network; empty if it can, as it did if it is kept from another run."""
    if kept_network(backbone, choose_batch_size(backbone)).is_there:
        return ""
    try:
        with one_torch_thread():
            convert(
                Embedder(backbone).eval(),
                np.zeros((1, *backbone.input_shape), backbone.input_type),
                backbone.name,
            )
    except FtransferError as error:
        return str(error).removesuffix("; use --tier exact")
    return ""


def choose_batch_size(backbone: Any) -> int:
    """Take as many images into a batch on the CPU as make 8 of 224 x 224 pixels, at most 64."""
    return max(1, min(64, 3 * CPU_BATCH_PIXELS // math.prod(backbone.input_shape)))
