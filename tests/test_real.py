"""On real photographs with real ImageNet weights, where they are at hand."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ftransfer import Backbone, FeatureSet
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
