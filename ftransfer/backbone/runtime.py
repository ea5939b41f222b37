"""Run the frozen network fast: with OpenVINO where it is installed and pays, else with PyTorch.

A runtime turns a batch of uint8 pixels into embeddings. It is called from several threads at once, its lanes. On
the CPU each lane computes a batch of its own on one core: no thread ever waits for another, as the threads of one
operation do, on a busy machine for over ten times as long as a single thread takes alone. Batches have a fixed
shape, and a row does not depend on what else is in its batch, on the lane or on how many there are.
"""

import copy
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import joblib
import numpy as np
import torch

from ftransfer.backbone.embedder import Embedder, fold_batch_norm, one_torch_thread
from ftransfer.backbone.fast_pixels import GpuDecoder
from ftransfer.backbone.gpu import (
    Gpu,
    Pieces,
    compiled,
    compiling_pays,
    gpu_arithmetic,
    unless_full,
)
from ftransfer.backbone.openvino_runtime import OpenVINORuntime, choose_batch_size, import_openvino
from ftransfer.errors import FtransferError
from ftransfer.images.jpeg import Encoded

TOLERANCE = 1e-5  # relative difference between runtimes of the exact tier
# A network is converted for so many images, and so many more divided by the billions of its operations. Repaid on two
# cores of an AMD EPYC 9005: after 86 (resnet50), 278 (resnet18), 114 (efficientnet_b0), 213 (mobilenet_v3_small) and
# 1,510 images (small_cnn, in all 0.3 s): benchmarks/extract_costs.py convert.
CONVERT_AT_LEAST, CONVERT_PER_GIGA = 150, 20
# Without OpenVINO the fast tier computes as PyTorch does. Its inductor gained 6 % (resnet18) and 20 % (resnet50) on the
# same machine, wants a C++ compiler and takes 5 to 15 s.
OTHER_BATCH = 32  # on what is neither a CPU nor a GPU of CUDA


def fast_arithmetic(device: torch.device, openvino: bool = True) -> tuple[str, str]:
    """Name the library and the number format that the fast tier computes with on this machine.

    They are part of the fingerprint: bfloat16 by another library rounds differently, by as much as it differs from
    float32. Where the processor has no bfloat16, float32 is faster. `openvino` says whether it may be that library.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "torch", "bfloat16" if native else "float32"
    library = import_openvino() if device.type == "cpu" and openvino else None
    if library is not None:
        native = "BF16" in library.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return "openvino", "bfloat16" if native else "float32"
    native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return "torch", "bfloat16" if native else "float32"


def make_runtime(backbone: Any, images: int, batch_size: int | str = "auto") -> "Runtime":
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
        if isinstance(batch_size, str):
            batch_size = choose_batch_size(backbone)
        runtime = backbone.fingerprint.get("runtime")
        if runtime == "openvino":
            return OpenVINORuntime(backbone, batch_size).keep()
        if runtime is None and import_openvino() is not None and conversion_pays(backbone, images):
            try:
                runtime = OpenVINORuntime(backbone, batch_size)
                difference = runtime.difference()
                if difference <= TOLERANCE:
                    return runtime.keep()
                fault = f"OpenVINO's {backbone.name} differs from PyTorch's by a relative {difference:.1e}"
            except FtransferError as error:
                fault = str(error)
            print(f"{fault}; using PyTorch instead", file=sys.stderr)
    return TorchRuntime(backbone, batch_size, images)


def conversion_pays(backbone: Any, images: int) -> bool:
    """Whether OpenVINO gains in processor time what converting the network for the exact tier takes.

    Converting takes a while for any network and a while for each operation of it; each image then gains the more,
    the more operations it takes.
    """
    return images >= CONVERT_AT_LEAST and images >= CONVERT_AT_LEAST + CONVERT_PER_GIGA / giga_operations(
        backbone
    )


def giga_operations(backbone: Any) -> float:
    """Count what an image costs: billions of operations, a multiplication with its addition being two."""
    from torch.utils.flop_counter import FlopCounterMode  # which imports triton

    pixels = torch.from_numpy(np.zeros((1, *backbone.input_shape), backbone.input_type))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        Embedder(backbone)(pixels.to(backbone.device))
    return counter.get_total_flops() / 1e9


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

    def __init__(self, backbone: Any, batch_size: int | str, images: int = 1, gpu: Gpu | None = None) -> None:
        self.device, self.image_shape, self.image_type = (
            backbone.device,
            backbone.input_shape,
            backbone.input_type,
        )
        self.exact = backbone.tier == "exact"
        dtype = getattr(torch, backbone.fingerprint["dtype"])
        self.embedder = Embedder(backbone, fold_batch_norm(backbone.network).to(dtype))
        self._network: Any = self.embedder  # or what was compiled or recorded of it
        self.gpu = Gpu(self.device) if gpu is None and self.device.type == "cuda" else gpu
        # float32 without TF32 takes 16 % longer (resnet50) and 9 % (resnet18) with the channels last on an H200
        first = self.gpu and dtype == torch.float32
        self.embedder.arrange(torch.contiguous_format if first else torch.channels_last)
        self.decoder = GpuDecoder(self.device, backbone.preset) if backbone.decodes_on_gpu else None
        self.lanes = joblib.cpu_count() if self.device.type == "cpu" else 1
        if self.gpu:
            self.lanes = self.gpu.lanes_decoding if self.decoder else self.gpu.lanes
        self.record: dict[str, Any] = {"runtime": f"torch {torch.__version__}", "device": str(self.device)}
        with self.precisely():
            if isinstance(batch_size, str):
                batch_size = OTHER_BATCH
                if self.gpu:
                    batch_size = self.gpu.grow_batch(self.embedder, self._image, images)
            self.batch_size = batch_size
            self.pieces = Pieces(batch_size, self._drop_recorded)
            self._shape = (batch_size, *self.image_shape)
            if self.gpu and not self.exact and self._compiling_pays(images):
                self._network = compiled(self.embedder, self.gpu.run, self.buffer())
                self.record["compiled"] = self._network is not self.embedder
            if self.gpu and self._network is self.embedder:
                self._network = self.gpu.record(self.embedder, self._shape, self._image.dtype)

    def _compiling_pays(self, images: int) -> bool:
        measure = partial(cast(Gpu, self.gpu).measure, self.embedder, self._image)
        seconds, _ = unless_full(measure, self.batch_size)
        return seconds is not None and compiling_pays(images, seconds)

    def buffer(self) -> np.ndarray:
        """Make room for the pixels of a batch, from where the GPU can fetch them by itself."""
        if self.gpu:
            return self.gpu.pinned(self._shape, self._image.dtype).numpy()
        return np.zeros(self._shape, self.image_type)

    @property
    def _image(self) -> torch.Tensor:
        return torch.from_numpy(np.zeros(self.image_shape, self.image_type))

    def __call__(self, pixels: np.ndarray, files: dict[int, Encoded] | None = None) -> np.ndarray:
        """Embed a batch.

        Parameters
        ----------
        pixels : ndarray of shape (n, side, side, 3), uint8, or (n, channels, height, width), float32
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
            decode = partial(self.decoder, files) if files and self.decoder else None
            return self.gpu.run(network, pixels, decode)
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).to(self.device)).cpu().numpy()

    def precisely(self) -> Any:
        """Set what is set for the whole process."""
        return gpu_arithmetic(self.device, self.exact)


Runtime = TorchRuntime | OpenVINORuntime


def computes_in_bfloat16(backbone: Any) -> bool:
    """Whether PyTorch can compute a network in bfloat16: one of a user may make float32 of its own."""
    network = copy.deepcopy(backbone.network).to(torch.bfloat16)
    pixels = torch.from_numpy(np.zeros((1, *backbone.input_shape), backbone.input_type)).to(backbone.device)
    try:
        with torch.inference_mode():
            return bool(torch.isfinite(Embedder(backbone, network)(pixels)).all())
    except Exception:  # whatever it raises
        return False


@contextmanager
def lanes(runtime: Any) -> Iterator[Any]:
    """Open the threads that call `runtime`."""
    with runtime.precisely(), one_torch_thread_each(runtime.lanes, "lane") as pool:
        yield pool


@contextmanager
def one_torch_thread_each(workers: int, name: str) -> Iterator[ThreadPoolExecutor]:
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
