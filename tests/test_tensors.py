"""Weights from strangers: files that are none, bombs, hollow tensors, and numbers that nothing can be computed with."""

import argparse
import pickle
import zipfile

import pytest
import torch
from torch import nn
from torchvision import models

from ftransfer import FtransferError
from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.weights import build

NAME = "squeezenet1_1"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return models.squeezenet1_1().state_dict()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return models.resnet18().state_dict()


class Trap:
    def __reduce__(self):
        return (print, ("code was run",))


PAGES = [
    (b"", "it is empty"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "it is a Git LFS pointer"),
    (b"\n<!DOCTYPE html><html>404</html>", "it is a web page"),
    (b"PK\x03\x04 and no more", "it is truncated"),
    (b"no weights at all", "it is truncated, or not a checkpoint"),
]


@pytest.mark.parametrize(("content", "message"), PAGES)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_file_of_tensors_is_said(tmp_path, content, message, name):
    if name.endswith("safetensors") and content.startswith(b"no weights"):
        message = "cannot be read as a checkpoint"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FtransferError, match=message):
        Backbone(NAME, tmp_path / name)


def test_a_file_that_is_cut_off_is_said_to_be(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:100_000])
    with pytest.raises(FtransferError, match="half.pth cannot be read .* it is truncated"):
        Backbone(NAME, tmp_path / "half.pth")


def test_settings_in_a_namespace_are_read_over(tmp_path, state):
    settings = argparse.Namespace(lr=0.1, inner=argparse.Namespace(depth=3))
    torch.save({"args": settings, "epoch": 3, "state_dict": state}, tmp_path / "w.pth")
    torch.save(state, tmp_path / "plain.pth")
    plain = Backbone(NAME, tmp_path / "plain.pth")
    assert Backbone(NAME, tmp_path / "w.pth").fingerprint == plain.fingerprint


def test_a_whole_model_and_other_objects_are_named(tmp_path):
    torch.save(models.squeezenet1_1(), tmp_path / "whole.pth")
    with pytest.raises(
        FtransferError, match=r"holds objects of type torchvision\S+SqueezeNet.*model.state_dict\(\)"
    ):
        Backbone(NAME, tmp_path / "whole.pth")
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "program.pt"))
    with pytest.raises(FtransferError, match="it is a program"):
        Backbone(NAME, tmp_path / "program.pt")


def test_a_compressed_bomb_is_refused_before_it_is_unpacked(tmp_path, state):
    torch.save(state, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(FtransferError, match="it is compressed, which torch.save never does"):
        Backbone(NAME, tmp_path / "bomb.pth")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: t.to("meta"), "has a shape and no values"),
        (lambda t: t.to_sparse(), "is stored as sparse_coo"),
        (lambda t: t.new_zeros(1).expand(10**9, 10**3), "declares more values than the file holds"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantized"),
    ],
)
@pytest.mark.parametrize("key", ["features.0.weight", "of.something.else"])
def test_a_tensor_without_values_of_its_own_is_refused(tmp_path, state, make, message, key):
    torch.save(state | {key: make(state["features.0.weight"])}, tmp_path / "w.pth")
    with pytest.raises(FtransferError, match=f"w.pth: {key} {message}"):
        Backbone(NAME, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("conv1.weight", lambda t: t.fill_(float("nan")), "holds NaN or infinity"),
        (
            "conv1.weight",
            lambda t: t.index_fill_(0, torch.tensor([3]), float("-inf")),
            "holds NaN or",
        ),
        ("layer1.0.conv1.weight", lambda t: t.fill_(3e38), "holds 3e.38, which is too large to compute with"),
        ("bn1.running_var", lambda t: t.neg_(), "holds a negative variance"),
        ("conv1.weight", lambda t: (100 * t).to(torch.int64), "holds int64, not floating-point numbers"),
        ("conv1.weight", lambda t: t.to(torch.complex64), "holds complex64, not floating-point numbers"),
        ("bn1.weight", lambda t: t > 0, "holds bool, not floating-point numbers"),
    ],
)
def test_numbers_that_nothing_can_be_computed_with_are_named(tmp_path, resnet, key, change, message):
    torch.save(resnet | {key: change(resnet[key].clone())}, tmp_path / "w.pth")
    with pytest.raises(FtransferError, match=f"the weights in w.pth are damaged: {key} {message}"):
        Backbone("resnet18", tmp_path / "w.pth")


def test_weights_above_the_embedding_may_hold_anything(tmp_path, resnet):
    torch.save(resnet | {"fc.weight": torch.full((1000, 512), float("nan"))}, tmp_path / "w.pth")
    assert Backbone("resnet18", tmp_path / "w.pth").width == 512


def test_a_first_layer_of_zeros_is_refused_and_one_of_nearly_zeros_is_warned_of(tmp_path, resnet):
    torch.save(resnet | {"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "w.pth")
    with pytest.raises(
        FtransferError, match="the weights in w.pth outputs the same features for a test image"
    ):
        Backbone("resnet18", tmp_path / "w.pth")
    faint = {"conv1.weight": 1e-6 * resnet["conv1.weight"], "bn1.bias": torch.ones(64)}
    torch.save(resnet | faint, tmp_path / "faint.pth")
    assert "they may carry little information" in " ".join(Backbone("resnet18", tmp_path / "faint.pth").notes)
    torch.save(resnet, tmp_path / "good.pth")
    assert Backbone("resnet18", tmp_path / "good.pth").notes == []


# ---------------------------------------------------------------- the cache of published weights


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Where torchvision keeps its weights of SqueezeNet; nothing is downloaded."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints" / weights.url.rsplit("/", 1)[1]


@pytest.mark.parametrize(("content", "message"), PAGES)
def test_a_damaged_file_in_the_cache_is_named_with_what_mends_it(cached, content, message):
    cached.write_bytes(content)
    with pytest.raises(FtransferError, match=f"{cached.name} .*{message}.*delete {cached.name} there"):
        Backbone(NAME, "DEFAULT")


def test_a_folder_in_place_of_a_cached_file_is_named(cached):
    cached.mkdir()
    with pytest.raises(FtransferError, match="a folder, not a file.*delete"):
        Backbone(NAME, "DEFAULT")


@pytest.mark.parametrize("save", [pickle.dumps, None])
def test_a_pickle_in_the_cache_is_not_run(cached, save, capsys):
    if save:
        cached.write_bytes(save({"features.0.weight": Trap()}))
    else:
        torch.save({"features.0.weight": Trap()}, cached)
    with pytest.raises(FtransferError, match="cannot be read as a checkpoint of plain tensors"):
        Backbone(NAME, "DEFAULT")
    assert "code was run" not in capsys.readouterr().out


def test_weights_out_of_the_cache_are_those_of_the_file(cached, state, tmp_path):
    torch.save(state, cached)
    torch.save(state, tmp_path / "w.pth")
    by_name, by_file = Backbone(NAME, "IMAGENET1K_V1"), Backbone(NAME, tmp_path / "w.pth")
    assert by_name.fingerprint == by_file.fingerprint
    assert by_name.origin == "SqueezeNet1_1_Weights.IMAGENET1K_V1"


def test_a_vision_transformer_is_built_for_the_images_of_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("ftransfer.backbone.weights.read_checkpoint", lambda file: {})
    (tmp_path / "checkpoints").mkdir()
    weights = models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    (tmp_path / "checkpoints" / weights.url.rsplit("/", 1)[1]).touch()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with torch.device("meta"):
        assert build("vit_b_16", "IMAGENET1K_SWAG_E2E_V1").model.image_size == 384
