"""Compute with OpenVINO on the CPU, where it is installed."""

import warnings
from contextlib import nullcontext
from queue import SimpleQueue
from typing import Any

import joblib
import numpy as np
import torch

from ftransfer.backbone.embedder import Embedder, one_torch_thread, relative_difference
from ftransfer.errors import FtransferError


def import_openvino() -> Any:
    try:
        import openvino
    except ImportError:
        return None
    return openvino


class OpenVINORuntime:
    """Compute with OpenVINO on the CPU, one stream of one thread for each lane; attributes as `TorchRuntime`.

    The network is handed over by OpenVINO's own front end for PyTorch, since ``openvino.convert_model`` reports
    its use over the network.

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
        precision = {"bfloat16": "bf16", "float32": "f32"}[backbone.fingerprint["dtype"]]
        with one_torch_thread():
            model = convert(self.embedder, self.buffer()[:1], backbone.name)
            compiled = self._compile(model, precision, backbone.name)
        self._requests: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.lanes):
            self._requests.put(compiled.create_infer_request())

    def _compile(self, model: Any, precision: str, name: str) -> Any:
        import openvino

        try:
            model.reshape([self.batch_size, *self.image_shape])
            options = {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": self.lanes,
                "INFERENCE_NUM_THREADS": self.lanes,
                "ENABLE_CPU_PINNING": False,  # the threads that decode want the cores, too
            }
            return openvino.Core().compile_model(model, "CPU", options)
        except Exception as error:  # whatever an unknown operation raises in OpenVINO
            raise _no_conversion(name, error) from error

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
        rng, shape = np.random.default_rng(0), self.buffer().shape
        if self.image_type is np.uint8:
            pixels = rng.integers(0, 256, shape, np.uint8)
        else:
            pixels = rng.standard_normal(shape, np.float32)
        with one_torch_thread(), torch.inference_mode():
            expected = self.embedder(torch.from_numpy(pixels[:2])).numpy()
        return relative_difference(self(pixels)[:2], expected)

    def precisely(self) -> Any:
        """Set nothing: all is set in the compiled network."""
        return nullcontext()


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
    """Say why OpenVINO cannot take a network; empty if it can."""
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
