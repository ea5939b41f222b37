"""What computes, by which rule it is chosen, and that it gives what PyTorch gives."""

from bisect import bisect
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from ftransfer import Backbone, FtransferError
from ftransfer.backbone import runtime as module
from ftransfer.backbone.embedder import fold_batch_norm, relative_difference
from ftransfer.backbone.openvino_runtime import OpenVINORuntime
from ftransfer.backbone.runtime import (
    TorchRuntime,
    conversion_pays,
    fast_arithmetic,
    giga_operations,
    lanes,
    make_runtime,
)

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason='openvino is not installed: pip install "ftransfer[cpu]"'
)
MANY = 10_000  # images: whatever the network, a conversion pays
KINDS = [pytest.param("openvino", marks=needs_openvino), "torch"]


@pytest.fixture(scope="module")
def resnet():
    return Backbone("resnet18", "random", device="cpu")


def without_openvino(monkeypatch):
    monkeypatch.setattr(module, "import_openvino", lambda: None)


def runtime_of(kind, backbone, monkeypatch, **options):
    if kind == "torch":
        without_openvino(monkeypatch)
    runtime = make_runtime(backbone, MANY, **options)
    assert runtime.record["runtime"].startswith(kind)
    return runtime


def pixels_for(backbone, n, seed=0):
    return np.random.default_rng(seed).integers(
        0, 256, (n, backbone.image_size, backbone.image_size, 3), np.uint8
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["small_cnn", "resnet18"])
def test_embeddings_agree_with_the_network_itself(kind, name, monkeypatch):
    backbone = Backbone(name, "random", device="cpu")
    side = backbone.image_size
    images = [Image.fromarray(p).resize((side + 40, side + 9)) for p in pixels_for(backbone, 3)]
    expected = backbone.embed(torch.stack([backbone.preprocess(image) for image in images]))
    runtime = runtime_of(kind, backbone, monkeypatch, batch_size=4)
    batch = runtime.buffer()
    for i, image in enumerate(images):
        batch[i] = backbone.pixels(image)
    found = runtime(batch)
    assert found.dtype == np.float32
    assert found.shape == (4, backbone.width)
    assert relative_difference(found[:3], expected) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tier", ["exact", "fast"])
def test_a_row_has_the_same_bytes_in_any_place_beside_any_other_rows_and_in_any_lane(kind, tier, monkeypatch):
    if kind == "torch":
        without_openvino(monkeypatch)
    backbone = Backbone("resnet18", "random", device="cpu", tier=tier)
    runtime = runtime_of(kind, backbone, monkeypatch, batch_size=3)
    first, second = pixels_for(backbone, runtime.batch_size), pixels_for(backbone, runtime.batch_size, 1)
    second[-1] = first[0]
    with lanes(runtime) as pool:
        found = list(pool.map(runtime, [first, second] * 3))
    for i in (2, 4):
        np.testing.assert_array_equal(found[i], found[0])
    np.testing.assert_array_equal(found[1][-1], found[0][0])
    assert not np.array_equal(found[1][0], found[0][0])


@needs_openvino
def test_the_number_of_images_asked_for_decides_and_nothing_else(resnet):
    least = bisect(range(MANY), False, key=lambda images: conversion_pays(resnet, images))
    assert isinstance(make_runtime(resnet, least - 1), TorchRuntime)
    assert isinstance(make_runtime(resnet, least), OpenVINORuntime)


def test_a_cheap_network_is_converted_for_more_images_than_a_costly_one(resnet):
    small = Backbone("small_cnn", "random", device="cpu")
    assert giga_operations(resnet) == pytest.approx(
        2 * 1.814, rel=0.01
    )  # He et al. count 1.8 multiplications
    assert giga_operations(small) == giga_operations(small) < giga_operations(resnet) / 50
    assert conversion_pays(resnet, 200)
    assert not conversion_pays(small, 200)
    assert conversion_pays(small, 1000)
    assert not conversion_pays(resnet, 50)


@needs_openvino
def test_without_openvino_torch_computes_the_same_fingerprint(resnet, monkeypatch):
    without_openvino(monkeypatch)
    assert isinstance(make_runtime(resnet, MANY), TorchRuntime)
    assert Backbone("resnet18", "random", device="cpu").fingerprint == resnet.fingerprint


@needs_openvino
def test_a_network_that_openvino_computes_differently_is_left_to_torch(resnet, monkeypatch):
    monkeypatch.setattr(OpenVINORuntime, "difference", lambda self: 2e-5)
    assert isinstance(make_runtime(resnet, MANY), TorchRuntime)


@needs_openvino
def test_a_network_that_cannot_be_converted_is_left_to_torch_or_named(resnet, monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("first line\nno rule for aten::strange")

    monkeypatch.setattr(torch.jit, "trace", refuse)
    assert isinstance(make_runtime(resnet, MANY), TorchRuntime)
    fast = Backbone("resnet18", "random", device="cpu", tier="fast")
    with pytest.raises(
        FtransferError, match="cannot convert resnet18: no rule for aten::strange; use --tier exact"
    ):
        make_runtime(fast, 1)


def test_the_library_and_the_format_of_the_fast_tier_are_in_its_fingerprint(monkeypatch):
    exact = Backbone("small_cnn", "random", device="cpu").fingerprint
    assert "runtime" not in exact
    assert (exact["tier"], exact["dtype"]) == ("exact", "float32")
    fast = Backbone("small_cnn", "random", device="cpu", tier="fast").fingerprint
    assert (fast["runtime"], fast["dtype"]) == fast_arithmetic(torch.device("cpu"))
    assert fast["tier"] == "fast"
    without_openvino(monkeypatch)
    assert Backbone("small_cnn", "random", device="cpu", tier="fast").fingerprint["runtime"] == "torch"


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_drifts_a_little_and_not_much(kind, resnet, monkeypatch):
    if kind == "torch":
        without_openvino(monkeypatch)
    fast = Backbone("resnet18", "random", device="cpu", tier="fast")
    pixels = pixels_for(fast, 8)
    found = runtime_of(kind, fast, monkeypatch, batch_size=8)(pixels)
    expected = TorchRuntime(resnet, 8)(pixels)
    assert found.dtype == np.float32
    if fast.fingerprint["dtype"] == "bfloat16":
        assert 1e-4 < relative_difference(found, expected) < 2e-2
    else:
        assert relative_difference(found, expected) < 1e-5


def test_small_images_come_in_larger_batches(resnet):
    assert make_runtime(resnet, 1).batch_size == 8
    assert make_runtime(Backbone("small_cnn", "random", device="cpu"), 1).batch_size == 64
    assert make_runtime(resnet, 1, batch_size=3).buffer().shape == (3, 224, 224, 3)


def test_lanes_leave_the_number_of_torch_threads_as_it_was(resnet):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with lanes(TorchRuntime(resnet, 1)) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------ batch norm


def test_folding_takes_every_batch_norm_of_a_resnet_and_leaves_the_network_as_it_was(resnet):
    def norms(network):
        return sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())

    before = norms(resnet.network)
    folded = fold_batch_norm(resnet.network)
    assert before == norms(resnet.network) == 20
    assert norms(folded) == 0
    x = torch.rand(2, 3, 64, 64)
    (found,), (expected,) = folded(x).values(), resnet.network(x).values()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_norm_that_another_layer_reads_past_is_not_folded():
    class Forked(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv(x)
            return self.norm(x) + x

    torch.manual_seed(0)
    network = torch.fx.symbolic_trace(Forked().eval())
    network.norm.running_mean += 1
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(fold_batch_norm(network)(x), network(x))


# ------------------------------------------------------------ every architecture

FAMILIES = [
    *("alexnet", "vgg11", "squeezenet1_1", "densenet121", "googlenet", "inception_v3", "mobilenet_v3_small"),
    *("efficientnet_b0", "mnasnet0_5", "shufflenet_v2_x0_5", "regnet_y_400mf", "resnext50_32x4d"),
    *("convnext_tiny", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_of_torchvision_is_computed_by_every_runtime(name, monkeypatch):
    exact, fast = (Backbone(name, "random", device="cpu", tier=tier) for tier in ("exact", "fast"))
    pixels = pixels_for(exact, 2)
    expected = TorchRuntime(exact, 2)(pixels)
    if find_spec("openvino"):
        assert relative_difference(OpenVINORuntime(exact, 2)(pixels), expected) < 1e-5
        assert relative_difference(OpenVINORuntime(fast, 2)(pixels), expected) < 0.1
    assert relative_difference(TorchRuntime(fast, 2)(pixels), expected) < 0.1
