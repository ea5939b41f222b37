import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from ftransfer import Backbone, FtransferError, list_backbones
from ftransfer.backbone.cut import _classifier_input
from ftransfer.backbone.weights import _torchvision_maker, weights_of


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory):
    """A checkpoint of an untrained squeezenet1_1 with torchvision's own head."""
    torch.manual_seed(3)
    file = tmp_path_factory.mktemp("weights") / "squeezenet.pth"
    torch.save(models.squeezenet1_1().state_dict(), file)
    return file


def image(size=(300, 260), seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_an_embedding_is_the_global_average_of_the_last_map(squeezenet):
    backbone = Backbone("squeezenet1_1", squeezenet)
    network = models.squeezenet1_1().eval()
    network.load_state_dict(torch.load(squeezenet, weights_only=True))
    pixels = models.SqueezeNet1_1_Weights.DEFAULT.transforms()(image())[None]
    with torch.inference_mode():
        expected = network.features(pixels).mean((2, 3)).numpy()
    embedded = backbone.embed(backbone.preprocess(image())[None])
    assert embedded.dtype == np.float32
    assert embedded.shape == (1, backbone.width) == (1, 512)
    np.testing.assert_allclose(embedded, expected, rtol=1e-5, atol=1e-6)


def test_any_node_is_a_layer_and_several_are_concatenated(squeezenet):
    backbone = Backbone("squeezenet1_1", squeezenet, ["features.3", "features.12"])
    assert backbone.widths == [128, 512]
    alone = Backbone("squeezenet1_1", squeezenet, ["features.12"])
    pixels = backbone.preprocess(image())[None]
    np.testing.assert_allclose(backbone.embed(pixels)[:, 128:], alone.embed(pixels), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer", "width"),
    [
        ("alexnet", "classifier.5", 4096),
        ("vgg11", "classifier.5", 4096),
        ("resnet18", "flatten", 512),
        ("densenet121", "flatten", 1024),
        ("mobilenet_v3_small", "classifier.2", 1024),
        ("vit_b_32", "class token", 768),
        ("googlenet", "dropout", 1024),
    ],
)
def test_the_default_layer_is_the_input_of_the_classifier(name, layer, width):
    backbone = Backbone(name, "random")
    assert backbone.layers == [layer]
    assert backbone.width == width


def test_swin_maps_are_pooled_over_their_places_not_their_channels():
    assert Backbone("swin_t", "random", ["features.1"]).width == 96


def test_tokens_are_averaged():
    assert Backbone("vit_b_32", "random", ["encoder.ln"]).width == 768


@pytest.mark.slow
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_classification_model_of_torchvision_has_a_default_layer(name):
    from torchvision.models.feature_extraction import get_graph_node_names

    if name in ("vit_h_14", "regnet_y_128gf", "vit_l_16", "vit_l_32"):
        pytest.skip("over a gigabyte of weights; a smaller one of the same family is tested")
    model = _torchvision_maker(name)().eval()
    nodes = [n for n in get_graph_node_names(model)[1] if n != "x"]
    assert _classifier_input(model, nodes) in nodes


# ------------------------------------------------------------ tiers

SIZES = [(640, 480), (480, 640), (300, 300), (256, 256), (1000, 257), (231, 90)]


@pytest.mark.parametrize("size", SIZES)
def test_exact_pixels_are_those_of_torchvision(size, squeezenet):
    backbone = Backbone("squeezenet1_1", squeezenet)
    picture = image(size[::-1])
    expected = models.SqueezeNet1_1_Weights.DEFAULT.transforms()(picture)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.preset.mean, backbone.preset.std))
    found = (torch.from_numpy(backbone.pixels(picture).copy()).permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name in list_backbones() if name != "small_cnn"])
def test_every_preset_crops_from_what_it_resized(name):
    for weights in models.get_model_weights(name):
        preset = weights.transforms()
        assert preset.crop_size[0] <= preset.resize_size[0]
        assert Image.Resampling[preset.interpolation.name]


@pytest.mark.parametrize("size", SIZES)
def test_fast_pixels_are_one_grey_level_off_at_some_places(size, squeezenet):
    picture = image(size[::-1])
    exact, fast = (
        Backbone("squeezenet1_1", squeezenet, tier=tier).pixels(picture).astype(int)
        for tier in ("exact", "fast")
    )
    assert np.abs(exact - fast).max() <= 1
    assert (exact != fast).mean() < 0.02


def test_bicubic_weights_are_resized_bicubically_in_both_tiers():
    picture = image((300, 400))
    exact, fast = (
        Backbone("efficientnet_b0", "random", tier=tier).pixels(picture).astype(int)
        for tier in ("exact", "fast")
    )
    assert np.abs(exact - fast).max() <= 2
    assert (exact != fast).mean() < 0.02


def test_an_unknown_tier_suggests_the_near_one():
    with pytest.raises(FtransferError, match="no tier 'fats'; did you mean 'fast'"):
        Backbone("small_cnn", tier="fats")


def test_backbones_are_listed():
    assert {"small_cnn", "alexnet", "vgg16", "resnet50", "vit_b_16"} <= set(list_backbones())
    assert not {"fcn_resnet50", "r3d_18", "raft_large", "quantized_resnet50"} & set(list_backbones())


# ------------------------------------------------------------ weights


def test_equal_weights_are_one_fingerprint_whatever_file_they_come_from(tmp_path, squeezenet):
    state = torch.load(squeezenet, weights_only=True)
    save_file(state, tmp_path / "same.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "wrapped.pt")
    fingerprints = [
        Backbone("squeezenet1_1", f).fingerprint
        for f in (squeezenet, tmp_path / "same.safetensors", tmp_path / "wrapped.pt")
    ]
    assert fingerprints[0] == fingerprints[1] == fingerprints[2]
    assert "DEFAULT" not in str(fingerprints[0])


def test_one_changed_value_is_another_fingerprint_unless_it_lies_above_the_layer(tmp_path, squeezenet):
    def fingerprint(key):
        state = torch.load(squeezenet, weights_only=True)
        state[key].view(-1)[0] += 1e-3
        torch.save(state, tmp_path / "changed.pth")
        return Backbone("squeezenet1_1", tmp_path / "changed.pth").fingerprint

    original = Backbone("squeezenet1_1", squeezenet).fingerprint
    assert fingerprint("features.0.weight") != original
    assert fingerprint("classifier.1.weight") == original


def test_a_published_file_brings_its_own_preprocessing(tmp_path):
    state = models.mobilenet_v2().state_dict()
    sides = {}
    for weights in models.MobileNet_V2_Weights:
        torch.save(state, tmp_path / weights.url.rsplit("/", 1)[1])
        backbone = Backbone("mobilenet_v2", tmp_path / weights.url.rsplit("/", 1)[1])
        sides[weights.name] = backbone.fingerprint["preprocessing"]["resize"]
    torch.save(state, tmp_path / "mine.pth")
    assert sides == {"IMAGENET1K_V1": 256, "IMAGENET1K_V2": 232}
    assert Backbone("mobilenet_v2", tmp_path / "mine.pth").fingerprint["preprocessing"]["resize"] == 232


def test_half_precision_is_widened(tmp_path, squeezenet):
    state = {k: v.half() for k, v in torch.load(squeezenet, weights_only=True).items()}
    torch.save(state, tmp_path / "half.pth")
    backbone = Backbone("squeezenet1_1", tmp_path / "half.pth")
    assert {p.dtype for p in backbone.network.parameters()} == {torch.float32}


def test_a_head_of_other_classes_does_not_matter(tmp_path):
    torch.manual_seed(0)
    other = models.resnet18(num_classes=7)
    torch.save(other.state_dict(), tmp_path / "seven.pth")
    other.fc = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, 7))
    torch.save(other.state_dict(), tmp_path / "sequential.pth")
    fingerprints = [Backbone("resnet18", tmp_path / f).fingerprint for f in ("seven.pth", "sequential.pth")]
    assert fingerprints[0] == fingerprints[1]


def test_names_of_an_older_release_of_densenet_are_read(tmp_path):
    state = models.densenet121().state_dict()
    old = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for k, v in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "old.pth")
    assert Backbone("densenet121", tmp_path / "old.pth").width == 1024


def test_weights_that_do_not_fit_name_the_layers(tmp_path, squeezenet):
    with pytest.raises(FtransferError, match=r"do not fit resnet18: .*bn1.bias is missing.* and \d+ more"):
        Backbone("resnet18", squeezenet)
    state = torch.load(squeezenet, weights_only=True)
    state["features.0.weight"] = torch.zeros(64, 4, 3, 3)
    torch.save(state, tmp_path / "four.pth")
    with pytest.raises(FtransferError, match="features.0.weight is 64 x 4 x 3 x 3, not 64 x 3 x 3 x 3"):
        Backbone("squeezenet1_1", tmp_path / "four.pth")


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3}, "under model.*"),
        (lambda s: {"net": {f"_orig_mod.{k}": v for k, v in s.items()}}, "under _orig_mod.*"),
        (
            lambda s: {
                "state_dict": {f"module.encoder_k.{k}": v + 1 for k, v in s.items()}
                | {f"module.encoder_q.{k}": v for k, v in s.items()}
                | {"module.queue": torch.zeros(4, 8)}
            },
            "under module.encoder_q.*; ",
        ),
        (
            lambda s: {"student": {}, "teacher": {f"module.backbone.{k}": v for k, v in s.items()}},
            "module.backbone.*",
        ),
        (lambda s: {"ema": s, "model": {k: v + 1 for k, v in s.items()}}, ""),
    ],
)
def test_weights_are_found_as_other_programs_wrap_them(tmp_path, squeezenet, wrap, said):
    torch.save(wrap(torch.load(squeezenet, weights_only=True)), tmp_path / "wrapped.pth")
    backbone = Backbone("squeezenet1_1", tmp_path / "wrapped.pth")
    assert backbone.fingerprint == Backbone("squeezenet1_1", squeezenet).fingerprint
    assert said in " ".join(backbone.notes)


def test_weights_of_one_channel_give_for_a_grey_image_what_they_gave_before(tmp_path, squeezenet):
    state = torch.load(squeezenet, weights_only=True)
    grey = state["features.0.weight"][:, :1].clone()
    torch.save(state | {"features.0.weight": grey}, tmp_path / "grey.pth")
    backbone = Backbone("squeezenet1_1", tmp_path / "grey.pth")
    assert backbone.notes == ["weights of one channel are copied to three in features.0.weight"]
    pixels = torch.rand(1, 1, 64, 64)
    network = models.squeezenet1_1().eval()
    network.load_state_dict(state)
    network.features[0].weight = torch.nn.Parameter(grey)
    with torch.inference_mode():
        expected = network.features(pixels).mean((2, 3)).numpy()
    np.testing.assert_allclose(backbone.embed(pixels.expand(-1, 3, -1, -1)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_maxvit_takes_a_checkpoint_though_tracing_finds_constants_in_it(tmp_path):
    torch.manual_seed(0)
    torch.save(models.maxvit_t().state_dict(), tmp_path / "maxvit.pth")
    backbone = Backbone("maxvit_t", tmp_path / "maxvit.pth")
    assert backbone.layers == ["classifier.4"]
    assert not [key for key in weights_of(backbone.network) if "constant" in key]


def test_a_deeper_network_is_not_taken_for_a_shallow_one(tmp_path):
    """resnet101 has all that resnet50 has, in the same shapes, and more of it."""
    torch.save(
        {k: v for k, v in models.resnet101().state_dict().items() if "layer4" not in k}, tmp_path / "deep.pth"
    )
    with pytest.raises(FtransferError, match=r"layer3\.\d+\S+ is not part of resnet50"):
        Backbone("resnet50", tmp_path / "deep.pth", ["layer3"])


class Trap:
    def __reduce__(self):
        return (print, ("code was run",))


def test_a_pickle_is_not_run_as_a_checkpoint(tmp_path, capsys):
    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(FtransferError, match="cannot be read as a checkpoint of plain tensors"):
        Backbone("squeezenet1_1", tmp_path / "trap.pth")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04half a zip"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_broken_checkpoint_is_one_line(tmp_path, content, suffix):
    (tmp_path / f"broken.{suffix}").write_bytes(content)
    with pytest.raises(FtransferError, match="cannot be read as a checkpoint"):
        Backbone("squeezenet1_1", tmp_path / f"broken.{suffix}")


def test_wrong_names_suggest_the_near_one(squeezenet):
    with pytest.raises(FtransferError, match="no backbone 'resnet5'; did you mean 'resnet50'"):
        Backbone("resnet5")
    with pytest.raises(FtransferError, match="no weights 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V"):
        Backbone("resnet50", "IMAGENET1K_V3")
    with pytest.raises(FtransferError, match="no layer 'layer5'; did you mean 'layer"):
        Backbone("resnet18", "random", ["layer5"])
    with pytest.raises(FtransferError, match="device 'gpu' cannot be used"):
        Backbone("squeezenet1_1", squeezenet, device="gpu")


def test_a_download_without_a_network_says_what_to_do(tmp_path, monkeypatch):
    weights = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    # nobody answers at port 9 of this machine, so no request leaves it
    monkeypatch.setattr(type(weights), "url", "http://127.0.0.1:9/squeezenet1_1-b8a52dc0.pth", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FtransferError, match=r"cannot download .*Connection refused.*--weights FILE"):
        Backbone("squeezenet1_1", "IMAGENET1K_V1")
