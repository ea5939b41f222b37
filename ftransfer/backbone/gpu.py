"""How batches go to a GPU and features come back, while it computes all the time.

What is called here of `torch.cuda` is an argument, for which the tests put something that counts on the CPU.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from ftransfer.errors import FtransferError

# Of fewer than 256 images, giving work to the GPU takes too much of the host's time.
BATCH_MIN, BATCH, BATCH_MAX = 32, 256, 2048
GAIN, MEMORY_SHARE = 0.05, 0.6
MEASURED = 0.1  # seconds at least: the best of many is the same beside processes that start
# Measured on an H200 with 16 cores and resnet50: seconds that compiling takes (15, and some reserve), what share of
# the time is left then, seconds in which an image is read and decoded: a network that is faster gains nothing.
COMPILING, COMPILED, HOST = 20.0, 0.5, 85e-6


def part_queues() -> None:
    """Let what streams hold reach a GPU in 32 queues, CUDA's most; by default in 8.

    Streams that share a queue wait for each other: while an H200 computed without a pause, it decoded 1,000 images a
    second in 8 queues, and 15,000 in 32. It has to be called before CUDA is used. What is set already, stays.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")


class Gpu:
    """One GPU.

    A thread that calls uploads its batch on a stream of its own. One thread hands all batches to one stream that
    computes, since the CUDA graphs of `torch.compile` belong to the thread that recorded them; behind each batch its
    features are copied into pinned memory, and an event is recorded. The caller sleeps until that event: the core is
    free to decode meanwhile.

    Parameters
    ----------
    device : torch.device
    cuda : module
        What stands for `torch.cuda`.
    """

    lanes = 2  # one batch travels while another is computed
    lanes_decoding = 4  # and others are decoded; 8 gave an H200 8 % more, a second later

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self.device, self.cuda = device, cuda
        self._local = threading.local()
        self._computing = cuda.Stream(device)
        cuda.synchronize(device)  # the streams do not wait for the one that copied the weights

    def pinned(self, shape: Sequence[int], dtype: torch.dtype = torch.uint8) -> torch.Tensor:
        """Make room in memory that the GPU reaches by itself, filled with zeros."""
        with self.cuda.device(self.device):  # else the first GPU, too, gives of its memory
            return torch.zeros(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    def run(self, network: Callable, pixels: np.ndarray, decode: Callable | None = None) -> np.ndarray:
        """Embed a batch.

        Parameters
        ----------
        network : callable
            Takes a uint8 tensor on this GPU, gives a tensor of shape (n, width).
        pixels : ndarray of shape (n, side, side, 3), uint8
            In pinned memory, to travel without the processor's help; it may be changed after the call.
        decode : callable, optional
            Takes the batch on the GPU and puts further pixels into it.

        Returns
        -------
        ndarray of shape (n, width)
        """
        with torch.inference_mode(), self.cuda.stream(self._uploading()):
            batch = torch.from_numpy(pixels).to(self.device, non_blocking=True)
            if decode:
                decode(batch)
            arrived = self.cuda.Event()
            arrived.record()
        # the batch is held until it was used: it belongs to another stream's memory than the one that reads it
        rows, ready = _launcher().submit(self._launch, network, batch, arrived).result()
        ready.synchronize()
        return rows.numpy().copy()

    def _uploading(self) -> Any:
        if not hasattr(self._local, "stream"):
            # decoding is many small pieces of work: each goes first, else it waits for a layer of the network
            self._local.stream = self.cuda.Stream(self.device, priority=-1)
        return self._local.stream

    def _launch(self, network: Any, batch: torch.Tensor, arrived: Any) -> Any:
        """Queue a batch, and return at once: pinned memory for its features, and the event when they are there."""
        with torch.inference_mode(), self.cuda.stream(self._computing):
            self._computing.wait_event(arrived)
            features = network(batch)
            rows = self.pinned(features.shape, features.dtype)
            rows.copy_(features, non_blocking=True)
            ready = self.cuda.Event(blocking=True)
            ready.record()
        return rows, ready

    def record(self, network: Callable, shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Callable:
        """Record what a network does to batches of one shape, as a CUDA graph; where that fails, give it back as it is.

        It is then started by one call. Eager mode makes a hundred and more for a batch, each of which may wait until
        other threads let Python go.

        Parameters
        ----------
        network : callable
            From a tensor of pixels to features.
        shape : tuple of int
            That of all batches.
        dtype : torch.dtype
            Of the pixels.
        """
        try:
            return _launcher().submit(self._record, network, shape, dtype).result()
        except RuntimeError:  # the memory does not hold it twice, or an operation asks the GPU and waits
            self.cuda.empty_cache()
            return network

    def _record(self, network: Callable, shape: tuple[int, ...], dtype: torch.dtype) -> Callable:
        graph = self.cuda.CUDAGraph()
        with torch.inference_mode(), self.cuda.stream(self._computing):
            held = torch.zeros(shape, dtype=dtype, device=self.device)
            for _ in range(3):  # warms up
                network(held)
            with self.cuda.graph(graph, stream=self._computing, capture_error_mode="thread_local"):
                features = network(held)

        def replay(batch: torch.Tensor) -> torch.Tensor:
            held.copy_(batch)
            graph.replay()
            return features

        return replay

    def grow_batch(self, network: Callable, image: torch.Tensor, images: int) -> int:
        """Measure how many images like this one to compute at once; at most twice as many as there are."""
        return grow_batch(partial(self.measure, network, image), images)

    def measure(self, network: Callable, image: torch.Tensor, n: int) -> tuple[float, float]:
        """Run batches of n images; return seconds an image, and the share of the free memory that it took."""
        pixels = self.pinned((n, *image.shape), image.dtype).numpy()
        self.cuda.empty_cache()  # what is cached counts as taken
        free, _ = self.cuda.mem_get_info(self.device)
        self.cuda.reset_peak_memory_stats(self.device)
        before = self.cuda.memory_reserved(self.device)
        seconds: list[float] = []
        while len(seconds) < 3 or sum(seconds) < MEASURED:  # the first warms up
            begun = time.perf_counter()
            self.run(network, pixels)
            seconds.append(time.perf_counter() - begun)
        used = self.cuda.max_memory_reserved(self.device) - before
        return min(seconds) / n, used / free


@lru_cache(maxsize=1)
def _launcher() -> ThreadPoolExecutor:
    """The one thread of this process that gives work to GPUs: CUDA graphs are recorded and replayed in it."""
    return ThreadPoolExecutor(1, "launcher")


def compiling_pays(images: int, seconds: float) -> bool:
    """Whether compiling a network that takes so many seconds an image saves more than it takes.

    >>> compiling_pays(100_000, 0.001), compiling_pays(10**9, HOST), compiling_pays(10_000, 0.001)
    (True, False, False)
    """
    return images * (seconds - max(COMPILED * seconds, min(seconds, HOST))) >= COMPILING


def compiled(network: Callable, run: Callable, pixels: np.ndarray) -> Callable:
    """Compile a network for batches of one shape; where that fails, say so in a line, and give it back as it is.

    Parameters
    ----------
    network : callable
        From a uint8 tensor to features.
    run : callable
        Takes a network and pixels, and computes where and how it will be done later.
    pixels : ndarray
        A batch of the shape that all will have.
    """
    try:
        quick = torch.compile(network, mode="reduce-overhead", dynamic=False)
        for _ in range(3):  # compiles; warms up; records the CUDA graph
            run(quick, pixels)
        return quick
    except (
        Exception
    ) as error:  # a compiler is missing, an operation unknown, a library too old: whatever it is
        _launcher().submit(torch.compiler.reset).result()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        print(f"torch.compile failed; continuing without it: {reason[:200]}", file=sys.stderr)
        return network


def grow_batch(measure: Callable[[int], tuple[float, float]], images: int = BATCH_MAX) -> int:
    """Double the batch until an image gains less than 5 %, or 60 % of the free memory would be taken.

    Where the first does not fit, it is halved until it does.

    Parameters
    ----------
    measure : callable
        Takes a number of images; returns seconds an image, and the share of the free memory that was needed.
    images : int
        How many there are: no batch is larger than needed for them.
    """
    size = BATCH_MIN
    while size < min(images, BATCH):
        size *= 2
    if images <= size:
        return size
    seconds, share = unless_full(measure, size)
    while seconds is None and size > 1:
        size //= 2
        seconds, share = unless_full(measure, size)
        images = size  # no larger one fits
    while size < images and 2 * size <= BATCH_MAX and 2 * share <= MEMORY_SHARE:
        faster, share = unless_full(measure, 2 * size)
        if faster is None or seconds is None or faster > (1 - GAIN) * seconds:
            break
        size, seconds = 2 * size, faster
    return size


def unless_full(measure: Callable, size: int) -> tuple[float | None, float]:
    """Measure; None seconds, and all of the memory, where it runs out."""
    try:
        return measure(size)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        torch.cuda.empty_cache()
        return None, 1.0


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the GPU's memory ran out, be it PyTorch that says so or a library that it calls."""
    return isinstance(error, torch.OutOfMemoryError) or "ALLOC_FAILED" in str(error)


class Pieces:
    """How many images are run at once: a batch, and from when memory runs out half as many.

    Parameters
    ----------
    at_once : int
    when_full : callable
        Lets go of what else keeps memory.
    """

    def __init__(self, at_once: int, when_full: Callable[[], None]) -> None:
        self.at_once, self.when_full = at_once, when_full

    def run(
        self, forward: Callable[[np.ndarray, dict], np.ndarray], pixels: np.ndarray, files: dict
    ) -> np.ndarray:
        """Run a batch; where memory runs out, run all of it again in smaller pieces.

        Parameters
        ----------
        forward : callable
            Takes pixels and files of a piece.
        pixels : ndarray of shape (n, side, side, 3)
        files : dict
            By their rows.
        """
        while True:
            step = self.at_once
            try:
                starts = range(0, len(pixels), step)
                return np.concatenate(
                    [forward(pixels[i : i + step], _between(files, i, i + step)) for i in starts]
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if step == 1:
                    raise FtransferError(
                        "the GPU runs out of memory with a single image; use --device cpu"
                    ) from error
                self.at_once = min(self.at_once, max(1, step // 2))  # other threads may have halved it, too
                self.when_full()
            torch.cuda.empty_cache()


def _between(files: dict, start: int, end: int) -> dict:
    return {row - start: file for row, file in files.items() if start <= row < end}


@contextmanager
def gpu_arithmetic(device: torch.device, exact: bool) -> Iterator[None]:
    """In the exact tier keep float32 as it is on a GPU: by default cuDNN rounds to TF32's 10 bits.

    In both, cuDNN chooses its algorithms by rule. By trial, it took some 3 s for ResNet-50 on an H200 and gained at
    most 2 %, and the next run might choose others. The settings are the whole process's; on the CPU none is touched.
    """
    if device.type != "cuda":
        yield
        return
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    wanted: list[tuple[Any, str, Any]] = [
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", exact),
        (matmul, "allow_fp16_reduced_precision_reduction", False),  # pixels are resized by products
    ]
    if exact and hasattr(
        matmul, "fp32_precision"
    ):  # since torch 2.9; mixing it with the older names raises errors
        kinds = (getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None), matmul)
        operations = [op for op in kinds if hasattr(op, "fp32_precision")]
        wanted += [(op, "fp32_precision", "ieee") for op in operations]
    elif exact:
        wanted += [(cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in wanted]
    try:
        for owner, name, value in wanted:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
