import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw

from ftransfer import Backbone, extract_features, find_images
from ftransfer.cli import main
from ftransfer.extract.drift import centred_cosine, compare_tiers, neighbour_overlap
from ftransfer.model.new_images import find_backbone


@pytest.fixture(scope="module")
def fast():
    return Backbone("small_cnn", "random", device="cpu", tier="fast")


def test_a_common_offset_does_not_hide_the_drift():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(200, 50)) + 100
    other = rng.normal(size=(200, 50)) + 100
    cosine = np.mean((exact * other).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(other, axis=1))
    assert cosine > 0.99
    assert abs(centred_cosine(exact, other)) < 0.1
    assert centred_cosine(exact, exact) == pytest.approx(1)


def test_neighbours_that_change_are_counted():
    exact = np.arange(20.0)[:, None] ** 2
    assert neighbour_overlap(exact, 3 * exact + 1) == 1
    swapped = exact.copy()
    swapped[[0, 19]] = swapped[[19, 0]]
    assert 0.5 < neighbour_overlap(exact, swapped) < 1
    assert neighbour_overlap(exact, np.random.default_rng(0).permutation(exact)) < 0.6


def test_the_summary_of_the_fast_tier_says_how_far_it_drifts(pictures, tmp_path, fast):
    features = extract_features(find_images(pictures), tmp_path / "f", fast)
    drift = features.summary.drift
    assert drift["images"] == 20
    assert 0.99 < drift["centred_cosine"] <= 1
    assert 0.8 < drift["neighbour_overlap"] <= 1
    again = extract_features(find_images(pictures), tmp_path / "f", fast)
    assert again.summary.drift is None  # nothing was computed


def test_the_exact_tier_is_not_compared_with_itself(pictures, tmp_path):
    features = extract_features(find_images(pictures), tmp_path / "f", Backbone("small_cnn", "random"))
    assert features.summary.drift is None


def test_a_few_images_tell_nothing(tmp_path, fast):
    for i in range(19):
        draw(tmp_path / "images" / "day" / "ash" / f"{i}.png", 0, i)
    features = extract_features(find_images(tmp_path / "images"), tmp_path / "f", fast)
    assert compare_tiers(features, fast, features.manifest) is None


def test_the_command_prints_the_drift_of_the_fast_tier(pictures, tmp_path):
    command = ["extract", str(pictures), "--out", str(tmp_path / "f"), "--backbone", "small_cnn", "--tier"]
    result = CliRunner().invoke(main, [*command, "fast"])
    assert result.exit_code == 0, result.output
    assert "fast against exact on 20 images: centred cosine" in result.output
    refused = CliRunner().invoke(main, [*command, "exact"])
    assert refused.exit_code == 1
    assert "was computed with other settings" in refused.output
    assert "tier is fast there, exact now" in refused.output


def test_a_model_of_fast_features_finds_its_backbone_again(fast):
    assert find_backbone(fast.fingerprint, fast.origin).fingerprint == fast.fingerprint
