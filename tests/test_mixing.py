"""Training on mixed images, with the look of the target, and without labels."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file

from ftransfer import Backbone, FtransferError, Training, extract_features, find_images, fine_tune
from ftransfer.finetune.augment import mix, vary
from ftransfer.finetune.contrast import contrast
from ftransfer.finetune.data import choose_rows
from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Objective, Seen
from ftransfer.images.views import fourier_style

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"backbone": "small_cnn", "batch_size": 8, "epochs": 2, "validation": 0.25, "taken_rate": 1.0}


@pytest.fixture
def table(pictures):
    return find_images(pictures)


def drawn(seed):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------ mixing


def test_mixup_blends_each_image_with_another_and_says_by_how_much():
    images = torch.arange(5.0)[:, None, None, None].expand(5, 3, 4, 4).clone()
    mixed, shares = mix(images, ["flip", "mixup"], drawn(0))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(mixed[:, 0, 0, 0], shares @ torch.arange(5.0))
    assert (shares > 0).sum() > 5
    torch.testing.assert_close(mix(images, ["mixup"], drawn(0))[0], mixed)
    assert mix(images, ["flip"], drawn(0)) == (images, None)


def test_cutmix_pastes_a_part_of_another_image_as_large_as_its_share():
    images = torch.arange(6.0)[:, None, None, None].expand(6, 3, 8, 8).clone()
    mixed, shares = mix(images, ["cutmix"], drawn(1))
    for row in range(6):
        values, counts = mixed[row, 0].unique(return_counts=True)
        torch.testing.assert_close(shares[row, values.long()], counts / 64)


def test_the_loss_of_mixed_images_weighs_their_labels_by_their_shares():
    network = Network("small_cnn", "DEFAULT", {"label": ["ash", "elm", "oak"]}, device="cpu")
    answers = torch.tensor([[0], [2], [-1]])
    objective = Objective(network, Training(**SMALL), answers, np.arange(2), {})
    scores, shares = (
        torch.randn(3, 3, generator=drawn(0)),
        torch.tensor([[0.7, 0.3, 0], [0, 0.4, 0.6], [0, 0, 1]]),
    )
    seen = Seen(np.arange(3), torch.zeros(3, 192), [scores], torch.zeros(3, dtype=bool), 1.0, shares)
    log = -scores.log_softmax(dim=1)
    expected = (0.7 * log[0, 0] + 0.3 * log[0, 2] + 0.4 * log[1, 2]) / 1.4
    torch.testing.assert_close(objective(seen).loss, expected)
    alone = objective(seen._replace(shares=torch.eye(3))).loss
    torch.testing.assert_close(alone, objective(seen._replace(shares=None)).loss)


# ------------------------------------------------------------ the look of the target


def test_fourier_gives_training_images_the_light_of_the_target():
    images, light = torch.full((4, 3, 32, 32), 0.25), Image.new("RGB", (50, 40), (200, 180, 160))
    varied = vary(images, ["fourier"], drawn(0), np.stack([fourier_style(light)]))
    np.testing.assert_allclose(255 * varied.mean(dim=(0, 2, 3)), [200, 180, 160], atol=1)


@pytest.mark.parametrize("rules", [("mixup",), ("flip", "cutmix"), ("fourier", "flip")])
def test_a_training_on_mixed_images_that_is_killed_ends_with_the_same_bytes(table, tmp_path, rules):
    settings = {**SMALL, "rules": rules, "domains": ("day",), "epochs": 3}
    settings |= {"target": "night"} if "fourier" in rules else {}
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    results = fine_tune(table, whole, Training(**settings))
    fine_tune(table, tmp_path / "plain.safetensors", Training(**settings | {"rules": (), "target": None}))

    def stop(what, done, total):
        if what == "epoch 3 of 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(table, parts, Training(**settings), progress=stop)
    fine_tune(table, parts, Training(**settings))
    assert parts.read_bytes() == whole.read_bytes()
    plain = load_file(tmp_path / "plain.safetensors")
    assert any(not torch.equal(plain[k], v) for k, v in load_file(whole).items())
    assert results["accuracy"]["night"]["label"]["of"] == 12


def test_images_of_the_target_lend_their_look_and_not_their_labels(table, tmp_path):
    settings = Training(**SMALL, rules=("fourier",), domains=("day",), target="night")
    fine_tune(table, tmp_path / "a.safetensors", settings)
    hidden = table.assign(label=table["label"].where(table["domain"] == "day", "ash"))
    fine_tune(hidden, tmp_path / "b.safetensors", settings)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


# ------------------------------------------------------------ without labels


def test_the_contrast_is_least_where_views_of_an_image_are_alike_and_others_are_not():
    apart = torch.eye(4).repeat(2, 1)
    same, wrong = torch.ones(8, 4), torch.cat([torch.eye(4), torch.eye(4).roll(1, dims=0)])
    of = contrast(apart, 0.5)
    torch.testing.assert_close(of, torch.tensor(math.log(math.exp(2) + 6) - 2))
    torch.testing.assert_close(contrast(same), torch.tensor(math.log(7)))
    assert of < contrast(same) < contrast(wrong)


def test_all_images_train_without_a_look_at_their_labels_and_extract_takes_what_came_of_it(table, tmp_path):
    out = tmp_path / "a.safetensors"
    results = fine_tune(table, out, Training(**SMALL | {"epochs": 4}, self_supervised="simclr"))
    assert results["images"]["train"] + results["images"]["validation"] == 24
    assert results["classes"] == results["accuracy"] == {}
    losses = [row["loss"] for row in results["history"]]
    assert losses[-1] < losses[0]
    assert all(row["validation_accuracy"] is None for row in results["history"])
    fine_tune(
        table.assign(label=None),
        tmp_path / "b.safetensors",
        Training(**SMALL | {"epochs": 4}, self_supervised="simclr"),
    )
    assert out.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    before, after = (Backbone("small_cnn", weights).network.state_dict() for weights in ("DEFAULT", out))
    assert {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])} == {
        "stem",
        "block1",
        "block2",
        "block3",
    }
    features = extract_features(table, tmp_path / "features", Backbone("small_cnn", out))
    features.write_training(out)
    page = out.with_suffix(".html").read_text()
    assert "from DEFAULT, " in page
    assert json.loads((tmp_path / "a.json").read_text())["training"]["rules"] == [
        "crop",
        "flip",
        "colour",
        "grey",
    ]


def test_a_training_without_labels_that_is_killed_ends_with_the_same_bytes(table, tmp_path):
    settings = Training(**SMALL | {"epochs": 3}, self_supervised="simclr", domains=("night",))
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    fine_tune(table, whole, settings)

    def stop(what, done, total):
        if what == "epoch 2 of 3" and done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(table, parts, settings, progress=stop)
    fine_tune(table, parts, settings)
    assert parts.read_bytes() == whole.read_bytes()
    assert set(choose_rows(table, settings).use[table["domain"] == "day"]) == {""}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"rules": ("fourier",)}, "--augment fourier needs --target DOMAIN"),
        ({"target": "night"}, "add --align adversarial, coral or mmd, or --augment fourier"),
        (
            {"rules": ("mixup",), "teacher": "small_cnn"},
            "mixup mixes images that --align and a teacher need apart",
        ),
        ({"rules": ("cutmix",), "self_supervised": "simclr"}, "compares single images without labels"),
        ({"self_supervised": "simclr", "test": 0.2}, "reads no labels; leave out --test"),
        ({"self_supervised": "simclr", "align": "coral", "target": "a"}, "leave out --align"),
        ({"self_supervised": "byol"}, "no self-supervision 'byol'"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_rule(settings, rule):
    with pytest.raises(FtransferError, match=rule):
        Training(**SMALL | settings)


def test_transforms_of_a_file_that_are_not_known_cannot_be_varied(table, tmp_path):
    file = tmp_path / "own.py"
    text = (ROOT / "docs" / "three_convolutions.py").read_text()
    file.write_text(text.replace("ToTensor(), Normalize", "ToTensor(), lambda x: x.flip(2), Normalize"))
    settings = Training(**SMALL | {"backbone": str(file)}, rules=("flip",))
    with pytest.raises(
        FtransferError, match="prepares images by transforms of its own, so that they cannot be varied"
    ):
        fine_tune(table, tmp_path / "a.safetensors", settings)
