"""How batches go to a GPU and back: on the CPU, with something in place of `torch.cuda` that keeps a log."""

import os
import threading
from contextlib import contextmanager
from itertools import count
from shutil import which

import numpy as np
import pytest
import torch

from ftransfer import Backbone, FtransferError
from ftransfer.backbone import runtime as module
from ftransfer.backbone.device import find_device
from ftransfer.backbone.embedder import relative_difference
from ftransfer.backbone.gpu import HOST, Gpu, compiled, gpu_arithmetic, grow_batch
from ftransfer.backbone.runtime import TorchRuntime, lanes
from ftransfer.extract.devices import name_devices

CPU = torch.device("cpu")


class FakeCuda:
    """Stands for `torch.cuda`: streams and events that log what is asked of them, memory that is made up."""

    def __init__(self):
        self.log, self.late, self.local = [], [], threading.local()
        self.reserved, self.bytes_free = 0, 10**12

    def Stream(self, device, priority=0):
        return FakeStream(self, priority)

    def Event(self, blocking=False):
        return FakeEvent(self, blocking)

    @contextmanager
    def device(self, device):
        yield

    @contextmanager
    def stream(self, stream):
        self.local.stream = stream
        yield
        self.local.stream = None

    def synchronize(self, device):
        self.log.append("all")

    def CUDAGraph(self):
        raise RuntimeError("nothing is recorded here")

    def mem_get_info(self, device):
        return self.bytes_free, self.bytes_free

    def memory_reserved(self, device):
        return 0

    def max_memory_reserved(self, device):
        return self.reserved

    def reset_peak_memory_stats(self, device):
        self.reserved = 0

    def empty_cache(self):
        pass


class FakeStream:
    def __init__(self, cuda, priority):
        self.cuda, self.priority = cuda, priority

    def wait_event(self, event):
        assert event.recorded is not self, "a stream that waits for itself"
        self.cuda.log.append(("waits for", event.recorded))


class FakeEvent:
    def __init__(self, cuda, blocking):
        self.cuda, self.blocking, self.recorded = cuda, blocking, None

    def record(self):
        self.recorded = self.cuda.local.stream
        self.pending, self.cuda.late = self.cuda.late, []

    def synchronize(self):
        assert self.blocking, "a core that spins cannot decode"
        with torch.inference_mode():
            for copy in self.pending:
                copy()


class Late:
    """Pinned memory into which a copy comes only when the event behind it is waited for."""

    def __init__(self, cuda, shape, dtype):
        self.cuda, self.tensor = cuda, torch.full(shape, float("nan"), dtype=dtype)

    def copy_(self, features, non_blocking):
        assert non_blocking
        self.cuda.late.append(lambda: self.tensor.copy_(features))

    def numpy(self):
        return self.tensor.numpy()


class LateGpu(Gpu):
    def pinned(self, shape, dtype=torch.uint8):
        if dtype == torch.uint8:
            return super().pinned(shape, dtype)
        return Late(self.cuda, shape, dtype)


@pytest.fixture
def gpu():
    return LateGpu(CPU, FakeCuda())


@pytest.fixture(scope="module")
def small():
    return Backbone("small_cnn", "random", device="cpu")


def some_pixels(backbone, n, seed=0):
    side = backbone.image_size
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), np.uint8)


def mean_colour(batch):
    return batch.float().mean(dim=(1, 2))


def test_features_are_read_when_their_event_has_come_and_not_before(gpu):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(gpu.run(mean_colour, pixels), pixels.mean(axis=(1, 2)), rtol=1e-6)


def test_a_batch_is_computed_when_it_has_arrived_and_travels_on_another_stream(gpu):
    gpu.run(mean_colour, np.zeros((1, 8, 8, 3), np.uint8))
    everything, (what, stream) = gpu.cuda.log
    assert everything == "all"  # the weights are there before a stream begins
    assert what == "waits for"
    assert stream is gpu._uploading() is not gpu._computing
    assert stream.priority < gpu._computing.priority  # the lower goes first


def test_pixels_may_be_changed_once_the_call_has_returned(gpu):
    pixels = np.full((2, 4, 4, 3), 7, np.uint8)
    rows = gpu.run(mean_colour, pixels)
    pixels[:] = 99
    gpu.run(mean_colour, pixels)
    assert (rows == 7).all()


def test_lanes_of_a_gpu_give_what_the_processor_gives(gpu, small):
    runtime = TorchRuntime(small, 4, gpu=gpu)
    batches = [some_pixels(small, 4, seed) for seed in range(6)]
    with lanes(runtime) as pool:
        found = list(pool.map(runtime, batches))
    assert runtime.lanes == 2
    plain = TorchRuntime(small, 4)
    for rows, pixels in zip(found, batches, strict=True):
        assert relative_difference(rows, plain(pixels)) < 1e-6
    assert len({stream for what, *stream in gpu.cuda.log if what == "waits for" for stream in stream}) <= 2


def test_the_channels_come_first_in_float32_on_a_gpu(gpu, small):
    runtime, plain = TorchRuntime(small, 4, gpu=gpu), TorchRuntime(small, 4)
    for made, layout in ((runtime, torch.contiguous_format), (plain, torch.channels_last)):
        weights = [p for p in made.embedder.network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
        assert weights
        assert all(w.is_contiguous(memory_format=layout) for w in weights)
    pixels = some_pixels(small, 4)
    assert relative_difference(runtime(pixels), plain(pixels)) < 1e-6


def test_a_fault_of_the_network_reaches_the_caller(gpu):
    def fault(batch):
        raise ValueError("no such operation")

    with pytest.raises(ValueError, match="no such operation"):
        gpu.run(fault, np.zeros((1, 4, 4, 3), np.uint8))


# ------------------------------------------------------------ the size of a batch


def test_the_batch_grows_until_it_gains_less_than_five_percent():
    seconds = {256: 1.0, 512: 0.9, 1024: 0.84, 2048: 0.81}
    asked = []

    def measure(n):
        asked.append(n)
        return seconds[n], n / 10_000

    assert grow_batch(measure) == 1024
    assert asked == [256, 512, 1024, 2048]


def test_the_batch_stops_short_of_sixty_percent_of_the_free_memory():
    assert grow_batch(lambda n: (1 / n, n / 1600)) == 512  # 1024 would take 64 %


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("ALLOC_FAILED")]
)
@pytest.mark.parametrize("fits", [1024, 512, 256, 64, 1])
def test_the_largest_batch_that_fits_is_taken(error, fits):
    def measure(n):
        if n > fits:
            raise error
        return 1 / n, 0.01

    assert grow_batch(measure) == fits


def test_another_fault_while_the_batch_grows_is_raised():
    def measure(n):
        raise RuntimeError("illegal memory access")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        grow_batch(measure)


def test_no_batch_is_measured_that_the_images_would_not_fill():
    asked = []

    def measure(n):
        asked.append(n)
        return 1 / n, 0.0

    assert grow_batch(measure, images=20) == 32
    assert asked == []
    assert grow_batch(measure, images=100) == 128
    assert asked == []
    assert grow_batch(measure, images=600) == 1024
    assert asked == [256, 512, 1024]


def test_the_share_of_memory_is_what_a_batch_takes_of_what_is_free(gpu, monkeypatch):
    monkeypatch.setattr(
        "ftransfer.backbone.gpu.time.perf_counter", count().__next__
    )  # each batch takes a second
    gpu.cuda.bytes_free = 4000

    def greedy(batch):
        gpu.cuda.reserved = 5 * len(batch)
        return mean_colour(batch)

    assert (
        gpu.grow_batch(greedy, torch.zeros(4, 4, 3, dtype=torch.uint8), images=10_000) == 256
    )  # 512 would take 64 %


def test_out_of_memory_halves_the_pieces_repeats_the_batch_and_goes_on(gpu, small, monkeypatch):
    runtime, sizes = TorchRuntime(small, 16, gpu=gpu), []
    embed = runtime.embedder.forward

    def cramped(batch):
        sizes.append(len(batch))
        if len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(batch)

    monkeypatch.setattr(runtime.embedder, "forward", cramped)
    pixels = some_pixels(small, 16)
    np.testing.assert_allclose(runtime(pixels), TorchRuntime(small, 16)(pixels), rtol=1e-4, atol=1e-6)
    assert sizes == [16, 8, 4, 4, 4, 4]
    runtime(pixels)
    assert sizes[6:] == [4, 4, 4, 4]


def test_a_single_image_that_does_not_fit_is_one_line(gpu, small, monkeypatch):
    runtime = TorchRuntime(small, 4, gpu=gpu)

    def full(batch):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")

    monkeypatch.setattr(runtime.embedder, "forward", full)
    with pytest.raises(FtransferError, match="runs out of memory with a single image; use --device cpu"):
        runtime(some_pixels(small, 4))


# ------------------------------------------------------------ the compiler


@pytest.fixture
def compilations(monkeypatch):
    """Count calls of `torch.compile`, which gives back what doubles the features."""
    calls = []

    def compile(network, **options):
        calls.append(options)
        return lambda batch: 2 * network(batch)

    monkeypatch.setattr(torch, "compile", compile)
    return calls


def test_the_fast_tier_is_compiled_for_many_images_and_the_exact_one_never(
    gpu, small, compilations, monkeypatch
):
    monkeypatch.setattr(gpu, "measure", lambda network, side, n: (0.001, 0.0))
    fast = Backbone("small_cnn", "random", device="cpu", tier="fast")
    TorchRuntime(fast, 4, images=10**4, gpu=gpu)
    TorchRuntime(small, 4, images=10**9, gpu=gpu)
    assert compilations == []
    runtime = TorchRuntime(fast, 4, images=10**9, gpu=gpu)
    assert compilations == [{"mode": "reduce-overhead", "dynamic": False}]
    assert runtime.record["compiled"]
    pixels, plain = some_pixels(fast, 4), TorchRuntime(fast, 4)
    np.testing.assert_allclose(runtime(pixels), 2 * plain(pixels), rtol=1e-3)
    runtime.pieces.at_once = 2  # memory ran short: pieces of another shape are not what was compiled
    np.testing.assert_allclose(runtime(pixels), plain(pixels), rtol=1e-3, atol=1e-3)


def test_a_network_faster_than_its_images_come_is_not_compiled(gpu, compilations, monkeypatch):
    monkeypatch.setattr(gpu, "measure", lambda network, side, n: (HOST, 0.0))
    TorchRuntime(Backbone("small_cnn", "random", device="cpu", tier="fast"), 4, images=10**9, gpu=gpu)
    assert compilations == []


def test_a_batch_that_does_not_fit_is_no_fault_while_it_is_measured(gpu, monkeypatch):
    def full(network, side, n):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "measure", full)
    backbone = Backbone("small_cnn", "random", device="cpu", tier="fast")
    runtime = TorchRuntime(backbone, 1024, images=10**9, gpu=gpu)
    assert not runtime.record.get("compiled")


def test_a_compiler_that_fails_is_one_line_and_the_network_computes_as_it_is(gpu, monkeypatch, capsys):
    def fail(network, **options):
        def first_call(batch):
            raise RuntimeError("Failed to find a compiler\nand a page of advice")

        return first_call

    monkeypatch.setattr(torch, "compile", fail)
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    assert compiled(mean_colour, gpu.run, pixels) is mean_colour
    assert capsys.readouterr().err == (
        "torch.compile failed; continuing without it: Failed to find a compiler\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(
    which("g++") is None, reason="torch.compile wants a C++ compiler on the CPU, and g++ is none here"
)
def test_a_compiled_network_gives_what_the_network_gives(gpu, small, monkeypatch, capsys):
    monkeypatch.setattr(module, "compiling_pays", lambda images, seconds: True)
    fast = Backbone("small_cnn", "random", device="cpu", tier="fast")
    runtime = TorchRuntime(fast, 4, gpu=gpu)
    assert runtime.record["compiled"], capsys.readouterr().err
    pixels = some_pixels(fast, 4)
    with lanes(runtime) as pool:
        found = list(pool.map(runtime, [pixels] * 4))
    expected = TorchRuntime(small, 4)(pixels)
    for rows in found:
        assert relative_difference(rows, expected) < 0.05


# ------------------------------------------------------------ what is set for the whole process


@pytest.mark.parametrize("exact", [True, False])
def test_the_exact_tier_computes_without_tf32_and_all_settings_are_put_back(exact):
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul

    def settings():
        half = matmul.allow_fp16_reduced_precision_reduction
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32, half

    before = settings()
    with gpu_arithmetic(torch.device("cuda"), exact):
        assert not matmul.allow_fp16_reduced_precision_reduction
        assert (cudnn.benchmark, cudnn.deterministic) == (False, exact)
        if exact:
            assert not matmul.allow_tf32
        if hasattr(matmul, "fp32_precision"):
            assert cudnn.conv.fp32_precision == ("ieee" if exact else "tf32")
        else:
            assert cudnn.allow_tf32 is not exact
    assert settings() == before


def test_nothing_is_set_for_the_processor():
    before = torch.backends.cudnn.deterministic
    with gpu_arithmetic(CPU, exact=True):
        assert torch.backends.cudnn.deterministic == before


@pytest.mark.parametrize("begin", [lambda: find_device("auto"), lambda: name_devices("auto", 1)])
def test_cuda_gets_its_queues_before_it_is_used(begin, monkeypatch):
    seen = []
    for name in ("is_available", "device_count"):
        ask = lambda: seen.append(os.environ["CUDA_DEVICE_MAX_CONNECTIONS"]) or 0  # noqa: E731
        monkeypatch.setattr(torch.cuda, name, ask)
    monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", "1")
    begin()
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS")
    find_device("cpu")
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in os.environ
    begin()
    assert seen == ["1", "32"]
