"""Networks of a user: what they embed, how they are prepared, how they are recognised."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from test_cli import run
from test_predict import write_run
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from ftransfer import Backbone, FtransferError, Model, extract_features, find_images
from ftransfer.backbone.embedder import relative_difference
from ftransfer.backbone.preprocess import Transforms, find_preset, made_picture
from ftransfer.backbone.runtime import make_runtime
from ftransfer.features.probe import read_probe

TO_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
PLAIN = v2.Compose([v2.Resize(40), v2.CenterCrop(32), *TO_TENSOR, v2.Normalize(MEAN, STD)])

FILE = """
import torch
from torch import nn

class Lab(nn.Module):
    '''Branches on its input, so that torch.fx cannot trace it.'''

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 5, 2), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x):
        maps = self.norm(self.conv(x))
        if maps.mean() > 1e9:
            return x
        return self.fc(maps.relu().mean((2, 3)))

torch.manual_seed(0)
model = Lab()

def transforms(image):
    pixels = torch.frombuffer(bytearray(image.resize((30, 24)).tobytes()), dtype=torch.uint8)
    return SCALE * (pixels.view(24, 30, 3).permute(2, 0, 1) / 255 - 0.5)

SCALE = 2.0
"""


@pytest.fixture
def lab(tmp_path):
    """A file that makes a backbone."""
    file = tmp_path / "lab.py"
    file.write_text(FILE)
    return file


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(2), nn.Identity())


def test_an_embedding_is_what_the_module_returns_or_a_module_in_it_gives():
    module, picture = network(), made_picture((77, 50))
    maps = module.eval()[:3](PLAIN(picture)[None]).detach().mean((2, 3)).numpy()
    for layer, expected in ((None, None), ("2", maps), (["1", "2"], None)):
        backbone = Backbone.from_module(module, PLAIN, layer=layer, device="cpu")
        found = backbone.embed(backbone.preprocess(picture)[None])
        if layer == "2":
            np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert found.shape == (1, backbone.width)
    assert backbone.widths == [5, 5]
    with pytest.raises(FtransferError, match="no layer '7'; .*layers of Sequential found: output, 0, 1"):
        Backbone.from_module(module, PLAIN, layer="7", device="cpu")


def test_the_users_module_stays_as_it_is():
    module = network().train()
    before = copy.deepcopy(module.state_dict())
    backbone = Backbone.from_module(module, PLAIN, layer="2", device="cpu")
    backbone.embed(torch.randn(2, 3, 32, 32))
    assert module.training
    assert not module[2]._forward_hooks
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


@pytest.mark.parametrize(
    ("steps", "size", "is_known"),
    [
        (PLAIN, (77, 50), True),
        (v2.Compose([v2.Resize((32, 32), antialias=True), *TO_TENSOR]), (77, 50), True),
        (v2.Compose([v2.Resize(40), v2.CenterCrop(32), v2.Grayscale(3), *TO_TENSOR]), (77, 50), False),
        (v2.Compose([v2.CenterCrop(32), *TO_TENSOR]), (77, 50), False),
        (ImageClassification(crop_size=32, resize_size=40), (50, 77), True),
    ],
)
def test_transforms_that_are_a_preset_are_recognised_and_give_the_same_pixels(steps, size, is_known):
    found = find_preset(steps)
    assert isinstance(found, ImageClassification) == is_known
    backbone = Backbone.from_module(network(), steps, device="cpu")
    picture = made_picture(size)
    pixels = torch.from_numpy(backbone.pixels(picture).copy())
    if is_known:
        assert pixels.dtype == torch.uint8
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (found.mean, found.std))
        pixels = (pixels.permute(2, 0, 1) / 255 - mean) / std
    torch.testing.assert_close(pixels, torch.as_tensor(steps(picture)), rtol=0, atol=1e-6)


def test_a_file_is_a_backbone_in_both_tiers_with_any_shape_of_image(lab, pictures, tmp_path):
    backbone = Backbone.from_file(lab, device="cpu")
    assert (backbone.name, backbone.input_shape, backbone.width) == ("module:Lab", (3, 24, 30), 4)
    assert backbone.fingerprint["class"] == "Lab"
    assert backbone.fingerprint["preprocessing"]["transforms"] == "<function transforms>"
    table = find_images(pictures)
    exact = extract_features(table, tmp_path / "exact", backbone, batch_size=8)
    rows = exact.complete
    expected = torch.stack(
        [backbone.preprocess(Image.open(pictures / p).convert("RGB")) for p in rows["path"]]
    )
    np.testing.assert_allclose(exact.load(rows), backbone.embed(expected), rtol=1e-5, atol=1e-6)
    fast = extract_features(table, tmp_path / "fast", Backbone.from_file(lab, device="cpu", tier="fast"))
    assert relative_difference(fast.load(fast.complete), exact.load(rows)) < 0.05
    many = make_runtime(backbone, 10**6)  # by OpenVINO, where it is installed
    batch = many.buffer()
    batch[:5] = expected[:5]
    assert relative_difference(many(batch)[:5], exact.load(rows)[:5]) < 1e-5


def test_what_a_script_defines_travels_to_another_process_by_value(lab):
    backbone = Backbone.from_file(lab, device="cpu")
    sent = pickle.loads(pickle.dumps(backbone.preparation().pixels))
    picture = made_picture((50, 40))
    np.testing.assert_array_equal(sent(picture), backbone.pixels(picture))


@pytest.mark.slow
def test_several_devices_compute_what_a_script_defines(lab, pictures, tmp_path):
    backbone = Backbone.from_file(lab, device="cpu")
    table = find_images(pictures)
    one = extract_features(table, tmp_path / "one", backbone, batch_size=4)
    two = extract_features(table, tmp_path / "two", backbone, batch_size=4, devices=["cpu", "cpu"])
    np.testing.assert_allclose(two.load(two.complete), one.load(one.complete), rtol=1e-5)
    assert two.summary.computed == 24


def test_changed_code_is_found_out_by_its_probe_and_changed_weights_by_their_hash(lab, pictures, tmp_path):
    command = ("extract", pictures, "--out", tmp_path / "f", "--backbone", lab, "--device", "cpu")
    first = run(*command)
    assert first.exit_code == 0, first.output
    assert "24 images, 4 features each" in first.output
    assert run(*command, "--json").exit_code == 0
    lab.write_text(FILE.replace("SCALE = 2.0", "SCALE = 2.5"))
    changed = run(*command)
    assert changed.exit_code == 1
    assert "was made by other code" in changed.output
    assert "the embedding of a fixed test image differs by" in changed.output
    lab.write_text(FILE.replace("manual_seed(0)", "manual_seed(1)"))
    other = run(*command)
    assert other.exit_code == 1
    assert "weights is sha256:" in other.output


def test_what_is_wrong_with_a_file_is_one_line(lab, tmp_path):
    with pytest.raises(FtransferError, match="none.py does not exist"):
        Backbone.from_file(tmp_path / "none.py")
    with pytest.raises(FtransferError, match=r"lab.py is a file: Backbone.from_file\('lab.py'\) runs it"):
        Backbone("lab.py")
    for text, message in (
        ("model = 1", "makes no transforms; a backbone file makes model"),
        ("model = 1\ntransforms = len", "a backbone must be a torch.nn.Module; given int"),
        ("\n1 / 0", "fails: line 2: ZeroDivisionError"),
        (
            FILE + "model.conv = nn.Conv2d(1, 6, 5)",
            "module:Lab cannot process images of shape .3, 24, 30.: RuntimeError",
        ),
        (
            FILE + "transforms = lambda image: 1",
            r"return an image of shape \(channels, height, width\); they return \(\)",
        ),
        (FILE + "transforms = lambda image: image.nothing", "the transforms fail: AttributeError"),
        (FILE + "layer = 'conb'", "no layer 'conb'; did you mean 'conv'"),
    ):
        lab.write_text(text)
        with pytest.raises(FtransferError, match=message):
            Backbone.from_file(lab, device="cpu")


def test_images_of_another_shape_than_the_others_are_errors_of_their_own():
    own = Transforms(v2.Compose([v2.Resize(24), *TO_TENSOR]))
    assert own.shape == (3, 24, 32)
    with pytest.raises(
        ValueError,
        match=r"return \(3, 24, 24\) for it and \(3, 24, 32\) for other images; end them with a crop",
    ):
        own(made_picture((50, 50)))


def test_batch_norm_of_a_users_module_is_adapted(lab, pictures, tmp_path):
    from ftransfer import extract_adapted

    backbone = Backbone.from_file(lab, device="cpu")
    features = extract_adapted(find_images(pictures), tmp_path / "f", backbone, ["night"])
    plain = Backbone.from_file(lab, device="cpu")
    np.testing.assert_array_equal(read_probe(features), plain.probe)
    assert set(features.fingerprint["batch_norm"]) == {"night"}
    extract_adapted(find_images(pictures), tmp_path / "f", plain, ["night"])
    model = Model.load(write_run(features, tmp_path / "run"))
    night = features.complete.query("domain == 'night'")
    labels = model.predict(pictures / "night", backbone=lab, device="cpu")  # by the statistics of the night
    assert labels.tolist() == model.predict(features.load(night)).tolist()


# ------------------------------------------------------------ predictions


@pytest.fixture
def lab_run(lab, pictures, tmp_path):
    """A run on features by the file."""
    features = extract_features(find_images(pictures), tmp_path / "f", Backbone.from_file(lab, device="cpu"))
    return write_run(features, tmp_path / "run")


def test_a_model_labels_by_the_file_that_is_named_again_and_runs_none_by_itself(
    lab, lab_run, pictures, tmp_path
):
    command = ("predict", lab_run, pictures / "night", "--out", tmp_path / "p.csv", "--device", "cpu")
    lab.write_text(FILE + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    alone = run(*command)
    assert alone.exit_code == 1
    assert "give it as --backbone FILE.py" in alone.output
    assert not (tmp_path / "ran").exists()
    named = run(*command, "--backbone", lab)
    assert named.exit_code == 0, named.output
    assert (tmp_path / "ran").exists()
    labels = pd.read_csv(tmp_path / "p.csv")["label"].tolist()
    model = Model.load(lab_run)
    assert model.predict(pictures / "night", backbone=lab, device="cpu").tolist() == labels
    assert (
        model.predict(pictures / "night", backbone=Backbone.from_file(lab, device="cpu")).tolist() == labels
    )


def test_a_file_of_changed_code_or_other_weights_labels_nothing(lab, lab_run, pictures, tmp_path):
    command = ("predict", lab_run, pictures / "night", "--out", tmp_path / "p.csv", "--backbone", lab)
    for old, new, message in (
        (
            "SCALE = 2.0",
            "SCALE = 2.5",
            "the code of module:Lab has changed since the model's features were made",
        ),
        ("manual_seed(0)", "manual_seed(1)", "weights is sha256:"),
        (
            "class Lab",
            "class Lob",
            "backbone is module:Lob there, module:Lab in the model; class is Lob there",
        ),
    ):
        lab.write_text(FILE.replace(old, new).replace("Lab()", new[6:] + "()" if "class" in new else "Lab()"))
        result = run(*command)
        assert result.exit_code == 1
        assert message in result.output
    assert not (tmp_path / "p.csv").exists()
