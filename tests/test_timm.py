"""The models of timm as backbones: what timm itself gives, in both tiers, from any weights."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_cli import run
from test_predict import write_run
from torchvision.transforms._presets import ImageClassification

from ftransfer import Backbone, FtransferError, Model, Training, extract_features, find_images, fine_tune
from ftransfer.backbone.embedder import relative_difference
from ftransfer.backbone.openvino_runtime import OpenVINORuntime
from ftransfer.backbone.preprocess import made_picture
from ftransfer.backbone.runtime import TorchRuntime, make_runtime
from ftransfer.finetune.network import Network

timm = pytest.importorskip("timm", reason="timm is not installed: the extra [timm]")
FAMILIES = {
    "resnet18": 512,
    "convnext_atto": 320,
    "vit_tiny_patch16_224": 192,
    "swin_tiny_patch4_window7_224": 768,
    "tf_efficientnetv2_b0": 1280,
    "mobilenetv4_conv_small": 1280,
    "regnety_002": 368,
    "deit_tiny_distilled_patch16_224": 192,
    "eva02_tiny_patch14_224": 192,
    "hiera_tiny_224": 768,
    "edgenext_xx_small": 168,
    "vit_base_patch32_clip_224": 768,
}
QUICK = ["convnext_atto", "vit_tiny_patch16_224"]


def of_timm(name, pictures, **options):
    """Embed pictures as timm's documentation says."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, **options).eval()
    size = {"input_size": (3, options["img_size"], options["img_size"])} if options else {}
    config = timm.data.resolve_model_data_config(model, args=size)
    prepare = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        batch = torch.stack([prepare(picture) for picture in pictures])
        return model.forward_head(model.forward_features(batch), pre_logits=True).numpy()


def by_runtime(runtime, backbone, pictures):
    batch = runtime.buffer()
    for i, picture in enumerate(pictures):
        batch[i] = backbone.pixels(picture)
    return runtime(batch)[: len(pictures)]


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES]
)
def test_both_tiers_give_what_timm_gives(name):
    pictures = [made_picture(size) for size in ((320, 240), (200, 331))]
    expected = of_timm(name, pictures)
    exact = Backbone(f"timm:{name}", "random", device="cpu")
    assert exact.width == FAMILIES[name] == expected.shape[1]
    assert exact.name.startswith(f"timm:{name}")
    assert isinstance(exact.preset, ImageClassification)
    for runtime in (TorchRuntime(exact, 2), make_runtime(exact, 10**6, 2)):
        assert relative_difference(by_runtime(runtime, exact, pictures), expected) < 1e-5
    assert isinstance(runtime, OpenVINORuntime)
    fast = Backbone(f"timm:{name}", "random", device="cpu", tier="fast")
    assert relative_difference(by_runtime(make_runtime(fast, 10**6, 2), fast, pictures), expected) < 0.1


def test_images_of_another_size_are_what_timm_makes_of_them():
    picture = made_picture()
    for name in ("vit_tiny_patch16_224", "convnext_atto"):
        backbone = Backbone(f"timm:{name}", "random", device="cpu", image_size=96)
        options = {"img_size": 96} if name.startswith("vit") else {}
        assert backbone.image_size == backbone.fingerprint["preprocessing"]["crop"] == 96
        if options:
            found = backbone.embed(backbone.preprocess(picture)[None])
            assert relative_difference(found, of_timm(name, [picture], **options)) < 1e-5
    assert Backbone("resnet18", "random", device="cpu", image_size=64).preset.resize_size == [73]
    with pytest.raises(FtransferError, match="vit_b_32 cannot process images of 96 x 96 pixels"):
        Backbone("vit_b_32", "random", device="cpu", image_size=96)


def test_a_model_that_squashes_images_is_squashed_in_both_tiers():
    name, picture = "timm:convnext_tiny.in12k_ft_in1k_384", made_picture((200, 90))
    exact, fast = (
        Backbone(name, "random", device="cpu", tier=tier, image_size=64) for tier in ("exact", "fast")
    )
    assert exact.fingerprint["preprocessing"]["resize"] == [64, 64]
    whole = np.asarray(picture.resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    np.testing.assert_array_equal(exact.pixels(picture), whole)
    assert np.abs(fast.pixels(picture) - whole).max() <= 2


def test_any_module_is_a_layer_and_swin_maps_are_pooled_over_places():
    backbone = Backbone("timm:swin_tiny_patch4_window7_224", "random", ["layers.0", "pooled"], device="cpu")
    assert backbone.widths == [96, 768]
    head = Backbone("timm:vit_tiny_patch16_224", "random", ["head", "blocks.1"], device="cpu")
    assert head.widths == [1000, 192]
    with pytest.raises(FtransferError, match="no layer 'blocks.99'; did you mean 'blocks.9'"):
        Backbone("timm:vit_tiny_patch16_224", "random", ["blocks.99"], device="cpu")


def test_a_checkpoint_is_loaded_with_any_head_and_positions_of_another_size(tmp_path):
    torch.manual_seed(5)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    state = {f"net.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "mine.pth")
    backbone = Backbone("timm:vit_tiny_patch16_224", tmp_path / "mine.pth", device="cpu")
    assert backbone.origin == "mine.pth"
    assert backbone.notes == ["using the weights under net.*"]
    pixels = backbone.preprocess(made_picture())[None]
    with torch.inference_mode():
        expected = model.eval().forward_head(model.forward_features(pixels), pre_logits=True).numpy()
    assert relative_difference(backbone.embed(pixels), expected) < 1e-5
    small = Backbone("timm:vit_tiny_patch16_224", tmp_path / "mine.pth", device="cpu", image_size=96)
    assert small.network.module.pos_embed.shape == (1, 37, 192)
    assert small.fingerprint["weights"] != backbone.fingerprint["weights"]


def test_a_model_makes_timms_network_again_by_name_and_hash(pictures, tmp_path):
    backbone = Backbone("timm:convnext_atto", "random", device="cpu", image_size=64)
    features = extract_features(find_images(pictures), tmp_path / "f", backbone)
    write_run(features, tmp_path / "run")
    result = run(
        "predict", tmp_path / "run", pictures / "night", "--out", tmp_path / "p.csv", "--device", "cpu"
    )
    assert result.exit_code == 0, result.output
    told = pd.read_csv(tmp_path / "p.csv")["label"].tolist()
    model = Model.load(tmp_path / "run")
    rows = features.complete.query("domain == 'night'")
    assert model.predict(features.load(rows)).tolist() == told


def test_models_are_listed_by_pattern_and_misspelt_ones_suggested():
    listed = run("backbones", "timm:*dinov2*").output.splitlines()
    assert "timm:vit_small_patch14_dinov2.lvd142m" in listed
    with pytest.raises(FtransferError, match="no model 'convnext_ato'; did you mean 'convnext_atto'"):
        Backbone("timm:convnext_ato")
    with pytest.raises(FtransferError, match="did you mean 'timm:resnet18'"):
        Backbone("timm/resnet18")
    with pytest.raises(FtransferError, match="no weights 'IMAGENET1K_V1'"):
        Backbone("timm:resnet18", "IMAGENET1K_V1")


def test_weights_that_cannot_be_downloaded_are_named_with_their_place(monkeypatch):
    def refuse(name, pretrained, **options):
        raise RuntimeError("no network")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(
        FtransferError,
        match=r"cannot download the weights of timm:convnext_atto \(no network\); download https",
    ):
        Backbone("timm:convnext_atto", device="cpu")


def test_a_model_of_timm_is_fine_tuned_and_its_checkpoint_embeds_and_labels(pictures, tmp_path):
    out, name = tmp_path / "t.safetensors", "timm:mobilenetv3_small_050"
    start = Backbone(name, "random", device="cpu")
    settings = {"backbone": name, "weights": "random", "epochs": 1, "batch_size": 4, "domains": ("day",)}
    training = Training(**settings, freeze_until="blocks.4", taken_rate=1.0)
    trained = fine_tune(find_images(pictures), out, training, device="cpu")
    assert trained["fresh"][0] == "conv_stem"
    assert "blocks.4.0.conv_dw" in trained["frozen"]
    assert "blocks.5.0.conv" not in trained["frozen"]
    before, after = start.weights(), Backbone(name, out, device="cpu").weights()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {"conv_head.weight", "blocks.5.0.bn1.running_mean"} <= moved
    assert not [
        key for key in moved if key.startswith(("conv_stem", "blocks.0", "blocks.4"))
    ]  # its statistics, too
    labelled = run("predict", out, pictures, "--out", tmp_path / "p.csv", "--accuracy", "--json")
    assert labelled.exit_code == 0, labelled.output
    assert set(pd.read_csv(tmp_path / "p.csv")["label"]) <= {"ash", "elm", "oak"}


def test_what_a_transformer_of_timm_holds_itself_goes_by_its_own_name_and_dropout_trains_with_what_trains():
    network = Network("timm:vit_tiny_patch16_224", "random", {"label": ["a", "b"]}, device="cpu", take=())
    assert network.modules[:4] == ["cls_token", "pos_embed", "patch_embed.proj", "blocks.0.norm1"]
    network.freeze(network.modules[: network.modules.index("blocks.6.norm1")])
    network.train(True)
    model = network.parts.module
    assert model.blocks[6].attn.qkv.training
    assert model.blocks[7].mlp.drop1.training
    assert not model.blocks[5].mlp.drop1.training
    trained = {owner for owner, parameter in network.parameters() if parameter.requires_grad}
    assert "blocks.6.norm1" in trained
    assert not trained & {"cls_token", "blocks.5.mlp.fc2", "head"}
