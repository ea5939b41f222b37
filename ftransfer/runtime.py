"""Run the frozen network fast: with OpenVINO where it is installed and pays, else with PyTorch.

A runtime turns a batch of uint8 pixels into embeddings. It is called from several threads at once, its lanes. On
the CPU each lane computes a batch of its own on one core: no thread ever waits for another, as the threads of one
operation do, on a busy machine for over ten times as long as a single thread takes alone. Batches have a fixed
shape, and a row does not depend on what else is in its batch, on the lane or on how many there are.
"""

import copy
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from queue import SimpleQueue

import joblib
import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ftransfer.errors import FtransferError

# Converting a network takes 0.3 s (small_cnn) to 6 s (efficientnet_v2_s) and saves 0.7 to 70 ms an image; it is
# repaid after 60 (resnet50) to 500 images (small_cnn).
CONVERT_FROM = 500
TOLERANCE = 1e-5  # relative difference between runtimes of the exact tier
CPU_BATCH_PIXELS = 8 * 224 * 224  # larger batches gain nothing on a core, and wait longer for their images
CUDA_BATCH, CUDA_BATCH_MAX = 32, 2048
GAIN, MEMORY_SHARE = 0.05, 0.6


def fast_arithmetic(device: torch.device) -> tuple[str, str]:
    """Name the library and the number format that the fast tier computes with on this machine.

    They are part of the recipe: bfloat16 by another library rounds differently, by as much as it differs from
    float32. Where the processor has no bfloat16, float32 is faster.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "torch", "bfloat16" if native else "float32"
    openvino = _import_openvino() if device.type == "cpu" else None
    if openvino is not None:
        native = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return "openvino", "bfloat16" if native else "float32"
    native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "torch", "bfloat16" if native else "float32"


def make_runtime(backbone, images: int, batch_size: int | str = "auto") -> "TorchRuntime | OpenVINORuntime":
    """Choose what computes, by the request alone.

    Device and tier of the backbone, what is installed and the number of images asked for decide, never a
    measurement and never how many images are left: a run that was killed, started again, computes the rest with
    the same runtime, and so the same bytes. In the exact tier OpenVINO has to give what PyTorch gives on a probe,
    or PyTorch computes; both are one recipe. In the fast tier the recipe names the library.

    Parameters
    ----------
    backbone : Backbone
    images : int
        Number of images asked for. Below `CONVERT_FROM` a conversion for the exact tier is not worth its time.
    batch_size : int or "auto"
        "auto" on the CPU: as many images as make 8 of 224 x 224 pixels, at most 64. On a GPU it is measured.

    Raises
    ------
    FtransferError
        If OpenVINO, with which the fast tier would compute, cannot convert the network.
    """
    if backbone.device.type == "cpu":
        if batch_size == "auto":
            batch_size = max(1, min(64, CPU_BATCH_PIXELS // backbone.image_size**2))
        runtime = backbone.recipe.get("runtime")
        if runtime == "openvino":
            return OpenVINORuntime(backbone, batch_size)
        if runtime is None and images >= CONVERT_FROM and _import_openvino() is not None:
            try:
                runtime = OpenVINORuntime(backbone, batch_size)
                if runtime.difference() <= TOLERANCE:
                    return runtime
            except FtransferError:
                pass  # a network that OpenVINO does not know, PyTorch computes
    return TorchRuntime(backbone, batch_size)


def _import_openvino():
    try:
        import openvino
    except ImportError:
        return None
    return openvino


class Embedder(nn.Module):
    """The whole way from pixels to embeddings: normalise, run the network, pool.

    Parameters
    ----------
    backbone : Backbone
    network : Module, optional
        What stands for the backbone's network, in any floating type.
    """

    def __init__(self, backbone, network: nn.Module | None = None):
        super().__init__()
        self.network = backbone.network if network is None else network
        self.pool = backbone.pool
        self.dtype = next((p.dtype for p in self.network.parameters()), torch.float32)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(backbone.preset, name), device=backbone.device).view(1, 3, 1, 1)
            self.register_buffer(name, values)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, side, side, 3) to float32 (n, width)."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255  # in memory the channels stay last
        outputs = self.network(((x - self.mean) / self.std).to(self.dtype))
        return torch.cat([self.pool(layer, output.float()) for layer, output in outputs.items()], dim=1)


def fold_batch_norm(network: fx.GraphModule) -> fx.GraphModule:
    """Copy a network in evaluation mode, with each batch norm taken into the convolution before it."""
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


class TorchRuntime:
    """Compute with PyTorch: channels last, batch norm folded, in the recipe's number format.

    On a GPU two lanes with a CUDA stream each let one batch's pixels and features travel while the other is
    computed.

    Attributes
    ----------
    lanes : int
        Threads that may call at once.
    batch_size : int
        Images in a batch.
    record : dict
        What computes, for people.
    """

    def __init__(self, backbone, batch_size: int | str):
        self.device, self.image_size = backbone.device, backbone.image_size
        self.exact = backbone.tier == "exact"
        dtype = getattr(torch, backbone.recipe["dtype"])
        network = fold_batch_norm(backbone.network).to(dtype, memory_format=torch.channels_last)
        self.embedder = Embedder(backbone, network)
        self.lanes = {"cpu": joblib.cpu_count(), "cuda": 2}.get(self.device.type, 1)
        self._local = threading.local()
        if self.device.type == "cuda":  # the lanes' streams do not wait for the one that copied the weights
            torch.cuda.synchronize(self.device)
        if batch_size == "auto":
            batch_size = self._grow_batch() if self.device.type == "cuda" else CUDA_BATCH
        self.batch_size = self._at_once = batch_size
        self.record = {"runtime": f"torch {torch.__version__}", "device": str(self.device)}

    def buffer(self) -> np.ndarray:
        """Make room for the pixels of a batch, from where the GPU can fetch them by itself."""
        shape = (self.batch_size, self.image_size, self.image_size, 3)
        return torch.zeros(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda").numpy()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embed a batch.

        Parameters
        ----------
        pixels : ndarray of shape (n, side, side, 3), uint8

        Returns
        -------
        ndarray of shape (n, width), float32

        Raises
        ------
        FtransferError
            If not even a single image fits into the GPU's memory.
        """
        return in_smaller_pieces(self._forward, pixels, self)

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), self._stream():
            batch = torch.from_numpy(pixels).to(self.device, non_blocking=True)
            return self.embedder(batch).cpu().numpy()  # waits for this lane's stream alone

    def _stream(self):
        if self.device.type != "cuda":
            return nullcontext()
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self.device)
        return torch.cuda.stream(self._local.stream)

    def _grow_batch(self) -> int:
        side = self.image_size

        def measure(n):
            pixels = np.zeros((n, side, side, 3), np.uint8)
            free, _ = torch.cuda.mem_get_info(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            seconds = []
            for _ in range(3):  # the first warms up
                begun = time.perf_counter()
                self._forward(pixels)
                seconds.append(time.perf_counter() - begun)
            used = torch.cuda.max_memory_allocated(self.device) - before
            return min(seconds) / n, self.lanes * used / free

        with self.precisely():
            return grow_batch(measure)

    def precisely(self):
        """Set what is set for the whole process."""
        return cudnn_arithmetic(self.exact)


class OpenVINORuntime:
    """Compute with OpenVINO on the CPU, one stream of one thread for each lane; attributes as `TorchRuntime`.

    The network is handed over by OpenVINO's own front end for PyTorch, since ``openvino.convert_model`` reports
    its use over the network.

    Raises
    ------
    FtransferError
        If the network cannot be converted.
    """

    def __init__(self, backbone, batch_size: int):
        self.batch_size, self.image_size = batch_size, backbone.image_size
        self.lanes = joblib.cpu_count()
        self.embedder = Embedder(backbone).eval()
        self.record = {"runtime": f"openvino {_import_openvino().__version__.split('-')[0]}", "device": "cpu"}
        precision = {"bfloat16": "bf16", "float32": "f32"}[backbone.recipe["dtype"]]
        with one_torch_thread():
            compiled = self._compile(backbone, precision)
        self._requests = SimpleQueue()
        for _ in range(self.lanes):
            self._requests.put(compiled.create_infer_request())

    def _compile(self, backbone, precision: str):
        import openvino
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        try:
            with warnings.catch_warnings():
                # tracing warns of itself, and of shapes that it takes for fixed
                warnings.simplefilter("ignore")
                example = torch.from_numpy(self.buffer()[:1])
                traced = torch.jit.trace(self.embedder, example, check_trace=False)
                decoder = TorchScriptPythonDecoder(traced)
                front_end = FrontEndManager().load_by_framework("pytorch")
                loaded = front_end.load(decoder)
                model = front_end.convert(loaded)
            model.reshape([self.batch_size, self.image_size, self.image_size, 3])
            options = {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": self.lanes,
                "INFERENCE_NUM_THREADS": self.lanes,
                "ENABLE_CPU_PINNING": False,  # the threads that decode want the cores, too
            }
            return openvino.Core().compile_model(model, "CPU", options)
        except Exception as error:  # whatever an unknown operation raises in torch or OpenVINO
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise FtransferError(
                f"OpenVINO cannot convert {backbone.name}: {reason[:200]}; use --tier exact"
            ) from error

    def buffer(self) -> np.ndarray:
        """Make room for the pixels of a batch."""
        return np.zeros((self.batch_size, self.image_size, self.image_size, 3), np.uint8)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Embed a batch, as `TorchRuntime` does."""
        request = self._requests.get()
        try:
            return request.infer({0: pixels}, share_inputs=True)[0].copy()
        finally:
            self._requests.put(request)

    def difference(self) -> float:
        """Return the largest relative difference from PyTorch, of the rows of a made-up batch."""
        pixels = np.random.default_rng(0).integers(0, 256, self.buffer().shape, np.uint8)
        with one_torch_thread(), torch.inference_mode():
            expected = self.embedder(torch.from_numpy(pixels)).numpy()
        return relative_difference(self(pixels), expected)

    def precisely(self):
        """Set nothing: all is set in the compiled network."""
        return nullcontext()


def relative_difference(rows: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest |row - expected| / |expected| of the rows, in Euclidean norms; infinite if not finite."""
    norms = np.linalg.norm(expected, axis=1)
    worst = (np.linalg.norm(rows - expected, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)).max()
    return float(worst) if np.isfinite(worst) else float("inf")


def grow_batch(measure: Callable[[int], tuple[float, float]]) -> int:
    """Double the batch until an image gains less than 5 %, or 60 % of the free memory would be taken.

    Parameters
    ----------
    measure : callable
        Takes a number of images; returns seconds an image, and the share of the free memory that was needed.
    """
    size = CUDA_BATCH
    try:
        seconds, share = measure(size)
        while 2 * size <= CUDA_BATCH_MAX and 2 * share <= MEMORY_SHARE:
            faster, share = measure(2 * size)
            if faster > (1 - GAIN) * seconds:
                break
            size, seconds = 2 * size, faster
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
    return size


def in_smaller_pieces(forward: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, runtime) -> np.ndarray:
    """Run a batch; where memory runs out, halve the pieces, from then on, and run the same batch again.

    Parameters
    ----------
    forward : callable
    pixels : ndarray of shape (n, side, side, 3)
    runtime : object
        Its attribute ``_at_once`` is the number of images in a piece.
    """
    while True:
        step = runtime._at_once
        try:
            return np.concatenate([forward(pixels[i : i + step]) for i in range(0, len(pixels), step)])
        except torch.OutOfMemoryError as error:
            if step == 1:
                raise FtransferError(
                    "the GPU's memory does not hold a single image; use --device cpu"
                ) from error
            runtime._at_once = min(runtime._at_once, max(1, step // 2))
        torch.cuda.empty_cache()


@contextmanager
def cudnn_arithmetic(exact: bool):
    """Keep float32 as it is on a GPU: by default cuDNN rounds its convolutions to TF32's 10 bits."""
    flags = {"benchmark": not exact, "deterministic": exact, "allow_tf32": not exact}
    with torch.backends.cudnn.flags(enabled=True, **flags):
        yield


@contextmanager
def one_torch_thread():
    """Let torch compute on one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def lanes(runtime):
    """Open the threads that call `runtime`, each with one torch thread of its own."""
    with one_torch_thread(), runtime.precisely():
        pool = ThreadPoolExecutor(runtime.lanes, "lane", torch.set_num_threads, (1,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
