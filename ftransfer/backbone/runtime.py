"""Run the frozen network fast: with OpenVINO where it is installed and pays, else with PyTorch.

A runtime turns a batch of uint8 pixels into embeddings. It is called from several threads at once, its lanes. On
the CPU each lane computes a batch of its own on one core: no thread ever waits for another, as the threads of one
operation do, on a busy machine for over ten times as long as a single thread takes alone. Batches have a fixed
shape, and a row does not depend on what else is in its batch, on the lane or on how many there are.
"""

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from queue import SimpleQueue

import joblib
import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from ftransfer.backbone.fast_pixels import GpuDecoder
from ftransfer.backbone.gpu import (
    Gpu,
    Pieces,
    compiled,
    compiling_pays,
    gpu_arithmetic,
    unless_full,
)
from ftransfer.errors import FtransferError
from ftransfer.images.jpeg import Encoded

TOLERANCE = 1e-5  # relative difference between runtimes of the exact tier
# A network is converted for so many images, and so many more divided by the billions of its operations. Repaid on two
# cores of an AMD EPYC 9005: after 86 (resnet50), 278 (resnet18), 114 (efficientnet_b0), 213 (mobilenet_v3_small) and
# 1,510 images (small_cnn, in all 0.3 s): benchmarks/extract_costs.py convert.
CONVERT_AT_LEAST, CONVERT_SMALL = 150, 20
CPU_BATCH_PIXELS = 8 * 224 * 224  # larger batches gain nothing on a core, and wait longer for their images
# Without OpenVINO the fast tier computes as PyTorch does. Its inductor gained 6 % (resnet18) and 20 % (resnet50) on the
# same machine, wants a C++ compiler and takes 5 to 15 s.
OTHER_BATCH = 32  # on what is neither a CPU nor a GPU of CUDA


def fast_arithmetic(device: torch.device) -> tuple[str, str]:
    """Name the library and the number format that the fast tier computes with on this machine.

    They are part of the fingerprint: bfloat16 by another library rounds differently, by as much as it differs from
    float32. Where the processor has no bfloat16, float32 is faster.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "torch", "bfloat16" if native else "float32"
    openvino = _import_openvino() if device.type == "cpu" else None
    if openvino is not None:
        native = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return "openvino", "bfloat16" if native else "float32"
    native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "torch", "bfloat16" if native else "float32"


def make_runtime(backbone, images: int, batch_size: int | str = "auto") -> "Runtime":
    """Choose what computes, on the CPU by the request alone.

    Device and tier of the backbone, what is installed and the number of images asked for decide there, never a
    measurement and never how many images are left: a run that was killed, started again, computes the rest with
    the same runtime, and so the same bytes. In the exact tier OpenVINO has to give what PyTorch gives on a probe,
    or PyTorch computes; both are one fingerprint. In the fast tier the fingerprint names the library.

    Parameters
    ----------
    backbone : Backbone
    images : int
        Number of images asked for. For a few a conversion or a compiler is not worth its time, see
        `conversion_pays`.
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
        runtime = backbone.fingerprint.get("runtime")
        if runtime == "openvino":
            return OpenVINORuntime(backbone, batch_size)
        if runtime is None and _import_openvino() is not None and conversion_pays(backbone, images):
            try:
                runtime = OpenVINORuntime(backbone, batch_size)
                if runtime.difference() <= TOLERANCE:
                    return runtime
            except FtransferError:
                pass  # a network that OpenVINO does not know, PyTorch computes
    return TorchRuntime(backbone, batch_size, images)


def conversion_pays(backbone, images: int) -> bool:
    """Whether OpenVINO gains in processor time what converting the network for the exact tier takes.

    Converting takes a while for any network and a while for each operation of it; each image then gains the more,
    the more operations it takes.
    """
    return images >= CONVERT_AT_LEAST and images >= CONVERT_AT_LEAST + CONVERT_SMALL / giga_operations(
        backbone
    )


def giga_operations(backbone) -> float:
    """Count what an image costs: billions of operations, a multiplication with its addition being two."""
    side = backbone.image_size
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        Embedder(backbone)(torch.zeros((1, side, side, 3), dtype=torch.uint8, device=backbone.device))
    return counter.get_total_flops() / 1e9


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
        self.layout = torch.channels_last  # that of images in memory; `arrange` gives it to the weights, too

    def arrange(self, layout: torch.memory_format) -> None:
        """Keep images and weights in memory with the channels last, or first."""
        self.layout = layout
        self.network.to(memory_format=layout)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, side, side, 3) to float32 (n, width)."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32) / 255  # in memory the channels stay last
        outputs = self.network(((x - self.mean) / self.std).to(self.dtype, memory_format=self.layout))
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
    """Compute with PyTorch: channels last, batch norm folded, in the fingerprint's number format.

    On a GPU see `Gpu`. There the network is recorded, or in the fast tier compiled where that is repaid, see
    `compiling_pays`; in float32 the channels come first.

    Parameters
    ----------
    backbone : Backbone
    batch_size : int or "auto"
        On a GPU, "auto" measures.
    images : int, default=1
        How many there are.
    gpu : Gpu, optional
        Default: that of the backbone's device, if it is one.

    Attributes
    ----------
    lanes : int
        Threads that may call at once.
    batch_size : int
        Images in a batch.
    record : dict
        What computes, for people.
    """

    def __init__(self, backbone, batch_size: int | str, images: int = 1, gpu: Gpu | None = None):
        self.device, self.image_size = backbone.device, backbone.image_size
        self.exact = backbone.tier == "exact"
        dtype = getattr(torch, backbone.fingerprint["dtype"])
        self.embedder = self._network = Embedder(backbone, fold_batch_norm(backbone.network).to(dtype))
        self.gpu = Gpu(self.device) if gpu is None and self.device.type == "cuda" else gpu
        # float32 without TF32 takes 16 % longer (resnet50) and 9 % (resnet18) with the channels last on an H200
        first = self.gpu and dtype == torch.float32
        self.embedder.arrange(torch.contiguous_format if first else torch.channels_last)
        self.decoder = GpuDecoder(self.device, backbone.preset) if backbone.decodes_on_gpu else None
        self.lanes = joblib.cpu_count() if self.device.type == "cpu" else 1
        if self.gpu:
            self.lanes = self.gpu.lanes_decoding if self.decoder else self.gpu.lanes
        self.record = {"runtime": f"torch {torch.__version__}", "device": str(self.device)}
        with self.precisely():
            if batch_size == "auto":
                batch_size = OTHER_BATCH
                if self.gpu:
                    batch_size = self.gpu.grow_batch(self.embedder, self.image_size, images)
            self.batch_size = batch_size
            self.pieces = Pieces(batch_size, self._drop_recorded)
            self._shape = (batch_size, self.image_size, self.image_size, 3)
            if self.gpu and not self.exact and self._compiling_pays(images):
                self._network = compiled(self.embedder, self.gpu.run, self.buffer())
                self.record["compiled"] = self._network is not self.embedder
            if self.gpu and self._network is self.embedder:
                self._network = self.gpu.record(self.embedder, self._shape)

    def _compiling_pays(self, images: int) -> bool:
        measure = partial(self.gpu.measure, self.embedder, self.image_size)
        seconds, _ = unless_full(measure, self.batch_size)
        return seconds is not None and compiling_pays(images, seconds)

    def buffer(self) -> np.ndarray:
        """Make room for the pixels of a batch, from where the GPU can fetch them by itself."""
        return self.gpu.pinned(self._shape).numpy() if self.gpu else np.zeros(self._shape, np.uint8)

    def __call__(self, pixels: np.ndarray, files: dict[int, Encoded] | None = None) -> np.ndarray:
        """Embed a batch.

        Parameters
        ----------
        pixels : ndarray of shape (n, side, side, 3), uint8
        files : dict, optional
            Where the GPU decodes: files by their rows, in which there are no pixels.

        Returns
        -------
        ndarray of shape (n, width), float32

        Raises
        ------
        FtransferError
            If not even a single image fits into the GPU's memory.
        Undecodable
            If some of the files cannot be decoded.
        """
        return self.pieces.run(self._forward, pixels, files or {})

    def _drop_recorded(self) -> None:
        self._network = self.embedder  # what was made for whole batches keeps memory

    def _forward(self, pixels: np.ndarray, files: dict[int, Encoded]) -> np.ndarray:
        network = self._network if len(pixels) == self.batch_size else self.embedder  # compiled for one shape
        if self.gpu:
            return self.gpu.run(network, pixels, files and partial(self.decoder, files))
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def precisely(self):
        """Set what is set for the whole process."""
        return gpu_arithmetic(self.device, self.exact)


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
        precision = {"bfloat16": "bf16", "float32": "f32"}[backbone.fingerprint["dtype"]]
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
        """Return the largest relative difference from PyTorch, of two rows of a made-up batch."""
        pixels = np.random.default_rng(0).integers(0, 256, self.buffer().shape, np.uint8)
        with one_torch_thread(), torch.inference_mode():
            expected = self.embedder(torch.from_numpy(pixels[:2])).numpy()
        return relative_difference(self(pixels)[:2], expected)

    def precisely(self):
        """Set nothing: all is set in the compiled network."""
        return nullcontext()


Runtime = TorchRuntime | OpenVINORuntime


def relative_difference(rows: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest |row - expected| / |expected| of the rows, in Euclidean norms; infinite if not finite."""
    norms = np.linalg.norm(expected, axis=1)
    worst = (np.linalg.norm(rows - expected, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)).max()
    return float(worst) if np.isfinite(worst) else float("inf")


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
    """Open the threads that call `runtime`."""
    with runtime.precisely(), one_torch_thread_each(runtime.lanes, "lane") as pool:
        yield pool


@contextmanager
def one_torch_thread_each(workers: int, name: str):
    """Open threads in which torch computes on one thread; what they have not begun in the end is not done."""
    with one_torch_thread():
        pool = ThreadPoolExecutor(workers, name, torch.set_num_threads, (1,))
        wait = True
        try:
            yield pool
        except KeyboardInterrupt:
            wait = False  # what they have begun may take a minute, and is not wanted any more
            raise
        finally:
            pool.shutdown(wait, cancel_futures=True)
