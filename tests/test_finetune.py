"""Training a backbone further: what moves, what does not, and that a kill changes nothing."""

import io
import json
import re
import time
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision import models

from ftransfer import (
    Backbone,
    FeatureSet,
    FtransferError,
    Training,
    adapt_batch_norm,
    extract_adapted,
    extract_features,
    find_images,
    fine_tune,
    save_backbone,
)
from ftransfer.backbone import batch_norm
from ftransfer.backbone.checkpoint import checkpoint, read_about
from ftransfer.cli import main
from ftransfer.finetune.augment import vary
from ftransfer.finetune.curves import accuracy_rows
from ftransfer.finetune.data import choose_rows, split_rows
from ftransfer.finetune.network import Network
from ftransfer.finetune.rules import describe_search, learn_rules, read_rules
from ftransfer.images.views import AUGMENTATIONS
from ftransfer.model.checkpoint import models_of_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"backbone": "small_cnn", "batch_size": 8, "epochs": 2, "validation": 0.25, "taken_rate": 0.1}
QUICK = {"patience": 0, "learning_rate": 0.01, "taken_rate": 1.0}


@pytest.fixture
def table(pictures):
    return find_images(pictures)


def train(table, out, **settings):
    return fine_tune(table, out, Training(**SMALL | settings))


def moved(before, after):
    """Name the modules whose weights differ between two states."""
    return {k.rpartition(".")[0] for k in before if not torch.equal(before[k].float(), after[k].float())}


def start(weights="DEFAULT"):
    return Backbone("small_cnn", weights).network.state_dict()


def test_extract_takes_the_checkpoint_and_embeds_as_the_trained_network_does(table, tmp_path):
    out = tmp_path / "tuned.safetensors"
    train(table, out)
    backbone = Backbone("small_cnn", out)
    network = Network("small_cnn", out, {"label": ["ash", "elm", "oak"]})
    network.train(False)
    pixels = backbone.preprocess(Image.open(tmp_path / "pictures/day/ash/0.png").convert("RGB"))[None]
    with torch.no_grad():
        expected = network.embed(pixels).numpy()
    np.testing.assert_array_equal(backbone.embed(pixels), expected)
    assert moved(start(), backbone.network.state_dict())
    assert backbone.fingerprint["weights"] != Backbone("small_cnn").fingerprint["weights"]


def test_the_checkpoint_loads_into_the_published_architecture_with_its_head(tmp_path):
    network = Network("resnet18", "random", {"label": ["ash", "elm", "oak"]})
    (tmp_path / "a.safetensors").write_bytes(checkpoint(network.backbone.name, network.state()))
    model = models.resnet18(num_classes=3)
    model.load_state_dict(load_file(tmp_path / "a.safetensors"))
    images = torch.rand(2, 3, 64, 64)
    network.train(False)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), network.heads[0](network.embed(images)))


def test_a_network_learns_classes_it_can_see_and_counts_them_on_rows_that_trained_nothing(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", domains=("day",), epochs=12, **QUICK)
    assert results["accuracy"]["night"]["label"] == {"right": 12, "of": 12, "accuracy": 1.0}
    assert set(results["accuracy"]) == {"night"}
    assert results["images"] == {"train": 9, "validation": 3, "test": 12}
    losses = [row["loss"] for row in results["history"]]
    assert losses[-1] < losses[0] / 2
    assert json.loads((tmp_path / "a.json").read_text())["history"] == results["history"]
    page = (tmp_path / "a.html").read_text()
    assert page.count("<polyline") == 4
    assert "<td>night</td><td>no</td><td>12</td>" in page
    assert "<td>100.0%</td></tr>" in page


def test_before_and_after_are_counted_on_the_same_test_images_of_source_and_target(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", domains=("day",), test=0.5, **QUICK)
    assert {d: c["label"]["of"] for d, c in results["before"].items()} == {"day": 6, "night": 6}
    assert {d: c["label"]["of"] for d, c in results["accuracy"].items()} == {"day": 6, "night": 6}
    use, answers, *_ = choose_rows(table, Training(**SMALL, domains=("day",), test=0.5))
    images = [Image.open(tmp_path / "pictures" / path).convert("RGB") for path in table["path"]]
    backbone = Backbone("small_cnn")
    X = backbone.embed(torch.stack([backbone.preprocess(image) for image in images]))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    fitted, night = np.isin(use, ["train", "validation"]), (use == "test") & (table["domain"] == "night")
    right = model.fit(X[fitted], answers[fitted, 0]).predict(X[night]) == answers[night, 0]
    assert results["before"]["night"]["label"]["right"] == right.sum()
    rows = accuracy_rows(results)
    assert [row[:3] for row in rows[1:]] == [["day", "yes", "6"], ["night", "no", "6"]]


def test_a_split_that_is_named_counts_and_does_not_train(pictures, tmp_path):
    for domain in ("day", "night"):
        for label in ("ash", "elm", "oak"):
            (pictures / domain / "test" / label).mkdir(parents=True)
            (pictures / domain / label).rename(pictures / domain / f"train {label}")
            (pictures / domain / "train").mkdir(exist_ok=True)
            (pictures / domain / f"train {label}").rename(pictures / domain / "train" / label)
            for i in range(2):
                (pictures / domain / "train" / label / f"{i}.png").rename(
                    pictures / domain / "test" / label / f"{i}.png"
                )
    table = find_images(pictures)
    settings = Training(**SMALL, domains=("day",), test_split="test")
    use = choose_rows(table, settings).use
    in_test = table["path"].str.contains("/test/")
    assert set(use[in_test]) == {"test"}
    assert set(use[~in_test & (table["domain"] == "day")]) <= {"train", "validation"}
    assert set(use[~in_test & (table["domain"] == "night")]) == {""}
    of_a_set = table.assign(
        root=np.where(in_test, "torchvision:SVHN:test:/x", "torchvision:SVHN:train:/test")
    )
    of_a_set["path"] = [str(i) for i in range(len(table))]
    np.testing.assert_array_equal(choose_rows(of_a_set, settings)[0] == "test", in_test)
    with pytest.raises(FtransferError, match="no image is in a folder 'holdout'"):
        choose_rows(table, replace(settings, test_split="holdout"))


def test_the_small_network_is_trained_on_images_of_any_size_and_its_checkpoint_remembers_which(
    table, tmp_path
):
    out = tmp_path / "large.safetensors"
    results = train(table, out, image_size=48, epochs=1)
    assert results["taken"]
    model = models_of_checkpoint(out)[""]
    at_48 = Backbone("small_cnn", out, image_size=48)
    assert at_48.image_size == 48
    assert model.fingerprint == at_48.fingerprint
    save_file(load_file(out), out, {"ftransfer": json.dumps(read_about(out) | {"image_size": "48"})})
    with pytest.raises(FtransferError, match="is damaged: an image size of 48 pixels"):
        models_of_checkpoint(out)


def test_three_convolutions_and_three_linear_layers_from_a_file_are_trained_and_extracted(table, tmp_path):
    file, out = str(ROOT / "docs" / "three_convolutions.py"), tmp_path / "own.safetensors"
    settings = {"backbone": file, "epochs": 12, "domains": ("day",), "validation": 0.25, "batch_size": 8}
    results = fine_tune(table, out, Training(**settings, **QUICK | {"learning_rate": 0.003}))
    assert results["taken"] == [
        *(f"convolutions.{i}.0" for i in range(3)),
        "linear1.1",
        "linear2.0",
        "linear3",
    ]
    assert results["accuracy"]["night"]["label"]["accuracy"] == 1.0
    before, after = (Backbone.from_file(file, weights=weights) for weights in ("DEFAULT", out))
    assert moved(before.network.state_dict(), after.network.state_dict()) == {
        f"module.{name}" for name in results["taken"] if name != "linear3"
    }
    pixels = after.preprocess(Image.open(tmp_path / "pictures/day/ash/0.png").convert("RGB"))[None]
    network = Network(file, out, {"label": ["ash", "elm", "oak"]})
    assert network.head_taken
    network.train(False)
    with torch.no_grad():
        np.testing.assert_array_equal(after.embed(pixels), network.embed(pixels).numpy())
    features = extract_features(table, tmp_path / "features", after)
    assert features.load()[0].shape == (24, 128)
    with pytest.raises(FtransferError, match="a checkpoint cannot name code to run"):
        models_of_checkpoint(out)


def test_frozen_layers_keep_weights_and_statistics_and_the_others_do_not(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", freeze_until="block2")
    changed = moved(start(), load_file(tmp_path / "a.safetensors"))
    assert changed == {m for m in results["taken"] if m.startswith("block3")}
    assert results["frozen"][-1].startswith("block2")
    assert len(results["frozen"]) == 14


@pytest.mark.parametrize("layer", ["features.9", "features.6.squeeze", "features.12.expand3x3"])
def test_what_is_frozen_is_computed_once_with_the_same_result(layer, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "squeezenet.safetensors"
    save_file(models.squeezenet1_1().state_dict(), file)
    network = Network("squeezenet1_1", file, {"label": ["a", "b"]}, freeze_until=layer)
    assert network.trunk is not None
    network.train(False)
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            network.embed(network.trunk(images)).numpy(), network.backbone.embed(images), rtol=1e-5, atol=1e-6
        )
    trained = [k for k, p in network.parts.module.named_parameters() if p.requires_grad]
    assert all(network.modules.index(k.rpartition(".")[0]) >= len(network.frozen) for k in trained)


def test_the_cut_comes_before_a_shortcut_that_goes_round_the_frozen_layer():
    network = Network("resnet18", "random", {"label": ["a", "b"]}, freeze_until="layer2.0.conv1")
    used = {n.target for n in network.trunk.graph.nodes if n.op == "call_module"}
    assert "layer1.1.conv2" in used
    assert not any(name.startswith("layer2") for name in used)
    network.train(True)
    assert not network.parts.module.get_submodule("layer1.0.bn1").training
    assert network.parts.module.get_submodule("layer2.0.bn1").training


def test_only_chosen_layers_are_taken_from_the_source_and_the_rest_is_fresh(table, tmp_path):
    results = train(
        table, tmp_path / "a.safetensors", take=("stem", "block1"), freeze_until="block1", epochs=1
    )
    assert {m.split(".")[0] for m in results["taken"]} == {"stem", "block1"}
    assert {m.split(".")[0] for m in results["fresh"]} == {"block2", "block3"}
    network = Network("small_cnn", "DEFAULT", {"label": ["a"]}, take=("stem", "block1"))
    state = network.parts.module.state_dict()
    assert {m.split(".")[0] for m in moved(start(), state)} == {"block2", "block3"}
    assert {m.split(".")[0] for m in moved(start("random"), state)} == {"stem", "block1"}


def test_a_source_of_ten_classes_gives_its_layers_to_a_target_of_others(table, tmp_path):
    ten = table.assign(label=[str(i % 10) for i in range(len(table))])
    train(ten, tmp_path / "ten.safetensors", validation=0)
    results = train(table, tmp_path / "three.safetensors", weights=str(tmp_path / "ten.safetensors"))
    assert not results["head_taken"]
    assert results["fresh"] == []
    assert load_file(tmp_path / "ten.safetensors")["fc.weight"].shape == (10, 192)
    assert load_file(tmp_path / "three.safetensors")["fc.weight"].shape == (3, 192)


def write_digits_and_numbers(root):
    """Write 32 x 32 pictures of ten digits, and of the hundred numbers that two of them make, squeezed."""
    glyphs, rng = {str(d): [] for d in range(10)}, np.random.default_rng(0)
    with zipfile.ZipFile(ROOT / "data" / "digits.zip") as digits:
        for name in sorted(n for n in digits.namelist() if n.startswith("printed/")):
            glyphs[name.split("/")[1]].append(Image.open(io.BytesIO(digits.read(name))).convert("L"))
    for label in [*glyphs, *(f"{number:02}" for number in range(100))]:
        folder = root / ("ten" if len(label) == 1 else "hundred") / label
        folder.mkdir(parents=True)
        for i in range(40 if len(label) == 1 else 6):
            picture, width = Image.new("L", (32, 32)), 32 // len(label)
            for place, digit in enumerate(label):
                glyph = glyphs[digit][rng.integers(len(glyphs[digit]))]
                picture.paste(glyph.resize((width, 32)), (width * place, 0))
            picture.save(folder / f"{i}.png")


@pytest.mark.slow
def test_layers_of_a_small_network_for_ten_classes_help_with_a_hundred_others(tmp_path):
    write_digits_and_numbers(tmp_path / "pictures")
    table = find_images(tmp_path / "pictures")
    ten = tmp_path / "ten.safetensors"
    common = {"backbone": "small_cnn", "patience": 0, "learning_rate": 0.005, "taken_rate": 1.0, "test": 0.34}
    source = Training(**common, weights="random", domains=("ten",), validation=0, epochs=8)
    results = fine_tune(table[table["domain"] == "ten"], ten, source)
    assert results["accuracy"]["ten"]["label"]["accuracy"] > 0.9
    right = {}
    for weights in (str(ten), "random"):
        target = Training(**common, weights=weights, domains=("hundred",), validation=0, epochs=6)
        results = fine_tune(table[table["domain"] == "hundred"], tmp_path / "hundred.safetensors", target)
        assert len(results["classes"]["label"]) == 100
        assert not results["head_taken"]
        right[weights] = results["accuracy"]["hundred"]["label"]["accuracy"]
    assert right[str(ten)] > 0.5  # of a hundred classes, with four images each
    assert right[str(ten)] > right["random"]


def test_the_head_goes_on_where_the_classes_are_the_same(table, tmp_path):
    source, target = (tmp_path / f"{n}.safetensors" for n in ("source", "target"))
    first = train(table, source, domains=("day",), test=0.25, epochs=12, **QUICK)
    assert set(first["accuracy"]) == {"day", "night"}
    second = train(table, target, domains=("night",), test=0.25, weights=str(source), epochs=1)
    assert second["head_taken"]
    assert {d: a["label"]["of"] for d, a in second["accuracy"].items()} == {"day": 3, "night": 3}
    assert second["history"][0]["accuracy"] > 0.9  # a new head would begin at a third


def test_blocks_open_one_after_another_from_the_head_down(table, tmp_path, monkeypatch):
    seen = []
    freeze = Network.freeze
    monkeypatch.setattr(Network, "freeze", lambda self, f: (seen.append(set(f)), freeze(self, f))[1])
    results = train(table, tmp_path / "a.safetensors", freeze_until="stem", unfreeze_every=1, epochs=4)
    closed = [{m.split(".")[0] for m in frozen} for frozen in seen[1:]]
    assert closed == [
        {"stem", "block1", "block2", "block3"},
        {"stem", "block1", "block2"},
        {"stem", "block1"},
        {"stem"},
    ]
    assert len(results["history"]) == 4


class Killed(BaseException):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(
    "settings", [{"rules": ("flip", "channels")}, {"freeze_until": "stem", "unfreeze_every": 1}]
)
def test_a_training_that_is_killed_and_goes_on_ends_with_the_same_bytes(table, tmp_path, settings):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    settings = {**SMALL, "epochs": 4, "optimizer": "sgd", **settings}
    expected = fine_tune(table, whole, Training(**settings))
    steps = []

    def stop(what, done, total):
        steps.append(what)
        if what == "epoch 3 of 4":
            raise Killed

    with pytest.raises(Killed):
        fine_tune(table, parts, Training(**settings), progress=stop)
    assert not parts.exists()
    with pytest.raises(FtransferError, match="interrupted training with other settings .*epochs 4, not 5"):
        fine_tune(table, parts, Training(**settings | {"epochs": 5}))
    with pytest.raises(FtransferError, match=r"other settings \(images\); use the same settings"):
        fine_tune(table.iloc[:-1], parts, Training(**settings))
    results = fine_tune(table, parts, Training(**settings), progress=lambda what, *_: steps.append(what))
    assert steps.count("epoch 1 of 4") < 2 * steps.count("epoch 4 of 4")
    assert [row["loss"] for row in results["history"]] == [row["loss"] for row in expected["history"]]
    assert whole.read_bytes() == parts.read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_kill_after_the_last_epoch_costs_nothing(table, tmp_path, monkeypatch):
    settings = {**SMALL, "freeze_until": "block2", "domains": ("day",)}
    expected = fine_tune(table, tmp_path / "whole.safetensors", Training(**settings))
    monkeypatch.setattr("ftransfer.finetune.run.Run.count", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        fine_tune(table, tmp_path / "parts.safetensors", Training(**settings))
    monkeypatch.undo()
    steps = []
    results = fine_tune(
        table,
        tmp_path / "parts.safetensors",
        Training(**settings),
        progress=lambda what, *_: steps.append(what),
    )
    assert not [what for what in steps if what.startswith("epoch")]
    assert results["accuracy"] == expected["accuracy"]
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_training_stops_early_and_keeps_the_best_epoch(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", epochs=30, patience=2, learning_rate=1e-9)
    merit = [(r["validation_accuracy"], -r["validation_loss"]) for r in results["history"]]
    assert results["best_epoch"] == 1 + merit.index(max(merit))
    full = train(table, tmp_path / "b.safetensors", epochs=8, patience=2, learning_rate=0.05)
    assert len(full["history"]) <= max(8, full["best_epoch"] + 2)


def test_labels_of_several_columns_give_several_heads_on_one_backbone(table, tmp_path):
    table["light"] = table["domain"].where(table.index % 5 > 0, None)  # some rows lack one label
    results = train(table, tmp_path / "a.safetensors", labels=("label", "light"), test=0.25, epochs=6)
    assert results["classes"] == {"label": ["ash", "elm", "oak"], "light": ["day", "night"]}
    state = load_file(tmp_path / "a.safetensors")
    assert state["fc.label.weight"].shape == (3, 192)
    assert state["fc.light.weight"].shape == (2, 192)
    assert Backbone("small_cnn", tmp_path / "a.safetensors").width == 192
    assert set(results["accuracy"]["day"]) == {"label", "light"}
    again = train(
        table, tmp_path / "b.safetensors", labels=("label", "light"), weights=str(tmp_path / "a.safetensors")
    )
    assert again["head_taken"]


def test_balanced_classes_weigh_the_same_whatever_their_rows(table, tmp_path):
    few = table[(table["label"] != "ash") | (table.index % 4 == 0)]
    a = train(few, tmp_path / "a.safetensors", validation=0, epochs=1, learning_rate=1e-12)
    b = train(
        few, tmp_path / "b.safetensors", validation=0, epochs=1, learning_rate=1e-12, class_weights="balanced"
    )
    assert a["history"][0]["loss"] != b["history"][0]["loss"]


def test_a_student_comes_nearer_to_what_its_teacher_says_without_any_label(table, tmp_path):
    unlabelled = table.assign(label=None)
    results = train(
        unlabelled, tmp_path / "a.safetensors", weights="random", teacher="small_cnn", epochs=8, validation=0
    )
    losses = [row["loss"] for row in results["history"]]
    assert losses[-1] < 0.8 * losses[0]
    assert results["classes"] == {"label": []}
    assert Backbone("small_cnn", tmp_path / "a.safetensors").width == 192


def test_bfloat16_trains_and_keeps_float32_weights(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", precision="bfloat16", epochs=1)
    assert np.isfinite(results["history"][0]["loss"])
    assert load_file(tmp_path / "a.safetensors")["stem.0.weight"].dtype == torch.float32


# ---------------------------------------------------------------- rules


def eight_bits(images):
    return (255 * images).round() / 255


@pytest.mark.parametrize("rule", AUGMENTATIONS)
def test_a_rule_varies_images_by_its_seed_and_stays_in_range(rule):
    images = eight_bits(torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(5)))
    varied, again, other = (vary(images, [rule], torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert varied.shape == images.shape
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert torch.equal(varied, again)
    assert not torch.equal(varied, other)
    assert not torch.equal(varied, images)


def test_channels_are_permuted_and_nothing_else():
    images = eight_bits(torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(5)))
    varied = vary(images, ["channels"], torch.Generator().manual_seed(0))
    torch.testing.assert_close(varied.sort(dim=1).values, images.sort(dim=1).values)
    assert len({tuple(v.mean(dim=(1, 2)).argsort().tolist()) for v in varied}) == 6


def test_rules_of_a_source_checkpoint_are_applied_to_the_target(pictures, tmp_path):
    source, target = tmp_path / "source.safetensors", tmp_path / "target.safetensors"
    train(find_images(pictures), source, domains=("day",), rules=("channels", "flip"), epochs=1)
    result = run(
        pictures,
        "--domain",
        "night",
        "--out",
        target,
        "--rules-from",
        source,
        "--epochs",
        1,
        "--backbone",
        "small_cnn",
    )
    assert result.exit_code == 0, result.output
    assert json.loads(target.with_suffix(".json").read_text())["training"]["rules"] == ["channels", "flip"]


class Halves:
    """Stands for a backbone and its pixels: what it sees is how bright each half is in each colour."""

    def __init__(self, images):
        self.images = images

    def batch(self, rows, change):
        return change(self.images[rows])

    def embed(self, batch):
        return torch.cat([half.mean(dim=(2, 3)) for half in batch.chunk(2, dim=3)], dim=1).numpy()


def bright_halves(colours, each=40):
    """Images of which the left or the right half (the class) is bright, in a colour for each domain."""
    draw = torch.Generator().manual_seed(0)
    images = 0.4 * torch.rand(len(colours) * each, 3, 8, 8, generator=draw)
    labels, domains = np.tile(np.arange(each) % 2, len(colours)), np.repeat(np.arange(len(colours)), each)
    for i, (label, domain) in enumerate(zip(labels, domains, strict=True)):
        images[i, colours[domain], :, 4 * label : 4 * label + 4] += 0.5
    return Halves(images), labels, domains.astype(str)


def test_a_rule_is_learned_where_it_helps_on_a_domain_held_out_and_others_are_not():
    seen, labels, domains = bright_halves([0, 1])
    rules, tried = learn_rules(seen, seen, np.arange(80), labels, domains)
    assert rules == ("channels",)
    assert tried[0]["accuracy"] < 0.7
    assert max(row["accuracy"] for row in tried) > 0.9
    assert "channels of flip, crop, colour, channels" in describe_search(rules, tried)


def test_no_rule_is_learned_where_the_images_as_they_are_do_as_well():
    seen, labels, domains = bright_halves([0])
    labels[0] = -1
    rules, tried = learn_rules(seen, seen, np.arange(40), labels, domains, seed=1)
    assert rules == ()
    assert [row["rules"] for row in tried] == [[], ["flip"], ["crop"], ["colour"], ["channels"]]
    assert tried[1]["gain"] < 0  # the classes are left and right
    assert describe_search(rules, tried).startswith("none of flip")
    with pytest.raises(FtransferError, match="needs at least two classes with two labelled images each"):
        learn_rules(seen, seen, np.arange(3), np.array([0, 0, 1]), domains[:3])


def test_learned_rules_are_in_the_checkpoint_and_pass_on_to_views(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ftransfer.finetune.train.learn_rules",
        lambda *_, **__: (("crop", "channels"), [{"rules": ["crop", "channels"], "accuracy": 0.9}]),
    )
    out = tmp_path / "a.safetensors"
    small = ("--backbone", "small_cnn", "--out", out, "--epochs", 1, "--domain", "day")
    result = run(pictures, *small, "--rules", "auto")
    assert result.exit_code == 0, result.output
    assert "  rules: crop, channels of flip" in result.output
    assert read_rules(out) == ("crop", "channels")
    found = json.loads(out.with_suffix(".json").read_text())
    assert found["training"]["rules"] == ["crop", "channels"]
    extract = ["extract", str(pictures), "--backbone", "small_cnn", "--rules-from", str(out), "--out"]
    done = CliRunner().invoke(main, [*extract, str(tmp_path / "f"), "--views", "2"])
    assert done.exit_code == 0, done.output
    assert FeatureSet(tmp_path / "f").views["augment"] == ["crop", "channels"]
    assert CliRunner().invoke(main, [*extract, str(tmp_path / "g")]).exit_code == 2


def test_a_search_for_rules_sees_no_row_but_those_that_train(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", domains=("day",), rules=("auto",), epochs=1)
    assert len(results["rules_tried"]) >= 5
    assert results["images"]["train"] == 9
    assert all(round(9 * row["accuracy"], 6) % 1 == 0 for row in results["rules_tried"])
    if not results["training"]["rules"]:
        with pytest.raises(
            FtransferError, match="trained without augmentations, so there is nothing to reuse"
        ):
            read_rules(tmp_path / "a.safetensors")


# ---------------------------------------------------------------- rows


def test_a_row_is_for_the_same_use_whatever_other_rows_there_are_in_other_domains():
    table = pd.DataFrame({"path": [f"{i}.png" for i in range(200)], "label": list("ab") * 100, "domain": "x"})
    settings = {"validation": 0.25, "test": 0.2, "seed": 3}
    use = split_rows(table, "label", **settings)
    assert [(use == name).sum() for name in ("test", "validation", "train")] == [40, 40, 120]
    assert (pd.crosstab(table["label"], use).nunique() == 1).all()
    both = pd.concat([table.assign(domain="y"), table], ignore_index=True)
    order = np.random.default_rng(0).permutation(len(both))
    mixed = np.empty(len(both), dtype=object)
    mixed[order] = split_rows(both.iloc[order], "label", **settings)
    assert (mixed[200:] == use).all()
    few = split_rows(table, "label", **settings | {"labels_per_class": 5})
    assert [(few == name).sum() for name in ("test", "validation", "train", "")] == [40, 2, 8, 150]


# ---------------------------------------------------------------- batch norm


@pytest.mark.parametrize("batch", [1000, 5])
def test_adapted_statistics_are_those_of_one_batch_of_all_images(table, tmp_path, monkeypatch, batch):
    monkeypatch.setattr("ftransfer.backbone.batch_norm.BATCH", batch)
    night = table[table["domain"] == "night"]
    backbone = Backbone("small_cnn")
    found = adapt_batch_norm(night, backbone, tolerance=1e-5)
    save_backbone(backbone, tmp_path / "adapted.safetensors")
    assert (found["layers"], found["images"], found["unreadable"]) == (10, 12, [])
    adapted = Backbone("small_cnn", tmp_path / "adapted.safetensors")
    assert adapted.fingerprint == backbone.fingerprint != Backbone("small_cnn").fingerprint
    network = Backbone("small_cnn").network
    files = [tmp_path / "pictures" / p for p in night["path"]]
    pixels = torch.stack([adapted.preprocess(Image.open(f).convert("RGB")) for f in files])
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.train()
    expected = adapted.pool(adapted.layers[0], network(pixels)[adapted.layers[0]])
    np.testing.assert_allclose(adapted.embed(pixels), expected.numpy(), rtol=1e-3, atol=1e-3)
    state = adapted.network.state_dict()
    changed = {k.rpartition(".")[2] for k, v in start().items() if not torch.equal(v, state[k])}
    assert changed - {"num_batches_tracked"} == {"running_mean", "running_var"}


def test_the_order_of_the_images_does_not_change_adapted_statistics(table):
    a, b = Backbone("small_cnn"), Backbone("small_cnn")
    adapt_batch_norm(table, a)
    adapt_batch_norm(table.assign(label=None).iloc[::-1], b)
    assert a.fingerprint == b.fingerprint


def test_where_passes_move_statistics_more_and_more_the_steadiest_are_kept(table, monkeypatch):
    seen, real = [], batch_norm._set

    def grows(layer, moments):
        seen.append(layer)
        real(layer, moments)
        return {2: 0.3, 3: 0.1, 4: 0.5}.get((len(seen) - 1) // 10 + 1, 9.0)

    with monkeypatch.context() as m:
        m.setattr(batch_norm, "_set", grows)
        stopped = Backbone("small_cnn")
        found = adapt_batch_norm(table, stopped)
    assert (found["changes"], found["converged"]) == ([0.3, 0.1, 0.5, 9.0], False)
    monkeypatch.setattr(batch_norm, "MAX_PASSES", 2)
    second = Backbone("small_cnn")
    adapt_batch_norm(table, second, tolerance=0)
    assert stopped.fingerprint == second.fingerprint, (
        "statistics of the second pass, which the third moved least"
    )


def test_each_domain_is_embedded_by_its_own_statistics_into_one_feature_set(table, tmp_path):
    features = extract_adapted(table, tmp_path / "f", Backbone("small_cnn"), ["night"])
    assert (features.summary.images, features.summary.computed) == (24, 24)
    night, plain = Backbone("small_cnn"), Backbone("small_cnn")
    adapt_batch_norm(table[table["domain"] == "night"], night)
    assert features.fingerprint == plain.fingerprint | {"batch_norm": {"night": night.fingerprint["weights"]}}
    for domain, backbone in (("day", plain), ("night", night)):
        rows = features.manifest[features.manifest["domain"] == domain]
        files = [tmp_path / "pictures" / p for p in rows["path"]]
        pixels = torch.stack([backbone.preprocess(Image.open(f).convert("RGB")) for f in files])
        np.testing.assert_allclose(features.load(rows), backbone.embed(pixels), rtol=1e-4, atol=1e-5)
    again = extract_adapted(table, tmp_path / "f", Backbone("small_cnn"), ["night"])
    assert (again.summary.computed, again.summary.reused) == (0, 24)


def test_statistics_of_images_that_have_not_changed_are_not_estimated_again(table, tmp_path, monkeypatch):
    later = time.time_ns() + 10**10  # a change in the last two seconds might not show
    monkeypatch.setattr("ftransfer.images.read.time", SimpleNamespace(time_ns=lambda: later))
    estimated = []

    def adapt(images, backbone):
        estimated.append(images["domain"].iloc[0])
        return adapt_batch_norm(images, backbone)

    def extract():
        estimated.clear()
        return extract_adapted(table, tmp_path / "f", Backbone("small_cnn"))

    monkeypatch.setattr("ftransfer.extract.adapted.adapt_batch_norm", adapt)
    first = extract()
    assert estimated == ["day", "night"]
    again = extract()
    assert estimated == []
    assert again.fingerprint == first.fingerprint
    assert (again.summary.computed, again.summary.reused) == (0, 24)
    files = sorted((tmp_path / "f" / "adapted").iterdir())
    files[0].write_bytes(files[1].read_bytes())  # of the other domain
    extract()
    assert len(estimated) == 1
    Image.new("RGB", (40, 32), "red").save(tmp_path / "pictures" / "night/oak/0.png")
    with pytest.raises(FtransferError, match=r"computed with other settings: batch_norm.night is .*--out"):
        extract()
    assert estimated == ["night"]


def test_a_picture_of_two_domains_cannot_have_two_statistics(pictures, table, tmp_path):
    (pictures / "night/oak/0.png").write_bytes((pictures / "day/oak/0.png").read_bytes())
    with pytest.raises(
        FtransferError, match=r"oak/0.png and night/oak/0.png are the same image in two domains"
    ):
        extract_adapted(table, tmp_path / "f", Backbone("small_cnn"), ["night"])


def test_the_command_line_adapts_batch_norm(pictures, tmp_path):
    result = run(
        pictures,
        "--out",
        tmp_path / "a.safetensors",
        "--backbone",
        "small_cnn",
        "--adapt-bn",
        "--domain",
        "day",
    )
    assert result.exit_code == 0, result.output
    assert "a.safetensors: statistics of 10 batch-norm layers from 12 images, in " in result.output
    command = ["extract", pictures, "--out", tmp_path / "f", "--backbone", "small_cnn", "--adapt-bn"]
    done = CliRunner().invoke(main, [str(c) for c in [*command, "day", "--adapt-bn", "night"]])
    assert done.exit_code == 0, done.output
    assert "24 images, 192 features each (24 computed" in done.output
    both = FeatureSet(tmp_path / "f")
    every = [*command[:3], tmp_path / "all", *command[4:]]
    assert CliRunner().invoke(main, [str(c) for c in every]).exit_code == 0
    np.testing.assert_array_equal(FeatureSet(tmp_path / "all").to_numpy(), both.to_numpy())
    assert "did you mean 'night'" in CliRunner().invoke(main, [str(c) for c in [*command, "nigth"]]).output


def test_a_backbone_without_batch_norm_says_so(table):
    with pytest.raises(FtransferError, match="squeezenet1_1 has no batch-norm layers"):
        adapt_batch_norm(table, Backbone("squeezenet1_1", "random"))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze_until": "blok2"}, "no layer 'blok2'; did you mean 'block2'"),
        ({"take": ("stem", "nothing")}, "no layer 'nothing'; layers with weights of small_cnn found: stem"),
        ({"domains": ("dya",)}, "no domain 'dya'; did you mean 'day'"),
        ({"labels": ("colour",)}, "no label column 'colour'"),
        ({"rules": ("flips",)}, "no augmentation 'flips'; did you mean 'flip'"),
        ({"rules": ("flip", "auto")}, "auto chooses the augmentations itself and cannot be combined"),
        ({"optimizer": "adam"}, "no optimizer 'adam'; did you mean 'adamw'"),
        ({"validation": 1.5}, "validation must be at least 0 and below 1, not 1.5"),
    ],
)
def test_mistakes_are_named(table, tmp_path, settings, message):
    with pytest.raises(FtransferError, match=message):
        train(table, tmp_path / "a.safetensors", **settings)


def test_unlabelled_images_cannot_train(table, tmp_path):
    with pytest.raises(FtransferError, match="no labelled training images in day, night"):
        train(table.assign(label=None), tmp_path / "a.safetensors")


def test_a_loss_that_is_not_finite_stops_with_advice(table, tmp_path):
    with pytest.raises(FtransferError, match="loss of epoch 1 is not finite; a lower learning rate"):
        train(table, tmp_path / "a.safetensors", optimizer="sgd", learning_rate=1e20, taken_rate=1)
    assert not (tmp_path / "a.safetensors").exists()


# ---------------------------------------------------------------- the command


def run(*arguments):
    return CliRunner().invoke(main, ["finetune", *map(str, arguments)])


def test_the_command_trains_and_extract_takes_what_it_wrote(pictures, tmp_path):
    (pictures / "day" / "ash" / "0.png").write_bytes(b"junk")
    out = tmp_path / "a.safetensors"
    result = run(
        pictures,
        "--out",
        out,
        "--backbone",
        "small_cnn",
        "--domain",
        "day",
        "--epochs",
        1,
        "--freeze-until",
        "block1",
    )
    assert result.exit_code == 0, result.output
    assert "small_cnn from DEFAULT, " in result.output
    assert "  frozen: stem, block1\n  head: new, 3 classes of label\n" in result.output
    assert re.search(r"night +no +12 +[\d.]+% +[\d.]+%", result.output)
    assert "1 images could not be read" in result.output
    command = [
        "extract",
        pictures,
        "--backbone",
        "small_cnn",
        "--weights",
        out,
        "--out",
        tmp_path / "features",
    ]
    done = CliRunner().invoke(main, [str(c) for c in command])
    assert done.exit_code == 0, done.output


def test_the_command_reads_label_columns_of_a_table(pictures, tmp_path):
    table = find_images(pictures)
    table["light"] = table["domain"]
    table.drop(columns="root").to_csv(pictures / "table.csv", index=False)
    columns = ("--label-column", "label", "--label-column", "light")
    small = ("--out", tmp_path / "a.safetensors", "--backbone", "small_cnn", "--epochs", 1)
    result = run(pictures / "table.csv", *small, *columns, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["classes"] == {"label": ["ash", "elm", "oak"], "light": ["day", "night"]}
    assert (
        "no label column 'ligth'; did you mean 'light'"
        in run(pictures / "table.csv", *small, "--label-column", "ligth").output
    )
    assert "needs a .csv or .parquet table" in run(pictures, *small, "--label-column", "light").output


def test_one_folder_of_classes_is_one_domain_with_a_name(pictures, tmp_path):
    small = ("--out", tmp_path / "a.safetensors", "--backbone", "small_cnn", "--epochs", 1)
    assert "--domain NAME" in run(pictures / "day", *small).output
    assert run(pictures / "day", *small, "--domain", "day").exit_code == 0
    assert (
        "written as .safetensors"
        in run(pictures, "--out", tmp_path / "a.pth", "--backbone", "small_cnn").output
    )


def test_several_folders_and_tables_train_together(pictures, tmp_path):
    (pictures / "night.tsv").write_text(
        "path\tlabel\tdomain\n"
        + "".join(f"night/{c}/{i}.png\t{c}\tnight\n" for c in ("ash", "elm") for i in range(4))
    )
    out = tmp_path / "c.safetensors"
    command = [pictures / "day", pictures / "night.tsv", "--domain", "day", "--domain", "night", "--out", out]
    quick = ["--backbone", "small_cnn", "--epochs", "1", "--validation", "0.25", "--json"]
    result = run(*command, *quick)
    assert "has no <domain>/<class>/ folders" in result.output  # of two domains it cannot be the one
    both = [pictures, pictures / "night.tsv", "--out", out, *quick]
    result = run(*both)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"]["train"] == 18  # each image once
