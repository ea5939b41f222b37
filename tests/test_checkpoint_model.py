"""A checkpoint of a training as a model: it labels by its own head, and is counted on any labelled folder."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import draw
from PIL import Image
from test_cli import run

from ftransfer import (
    Backbone,
    FtransferError,
    Training,
    extract_features,
    find_images,
    fine_tune,
    save_backbone,
)
from ftransfer.finetune.network import Network
from ftransfer.model.checkpoint import models_of_checkpoint


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Pictures <domain>/<class>/*.png, and a checkpoint trained on those of the day."""
    home = tmp_path_factory.mktemp("home")
    for d, domain in enumerate(["day", "night"]):
        for c, label in enumerate(["ash", "elm", "oak"]):
            for i in range(6):
                draw(home / "pictures" / domain / label / f"{i}.png", c, seed=100 * d + 10 * c + i)
    settings = {
        "backbone": "small_cnn",
        "batch_size": 6,
        "epochs": 4,
        "learning_rate": 0.02,
        "domains": ("day",),
    }
    fine_tune(find_images(home / "pictures"), home / "tuned.safetensors", Training(**settings), device="cpu")
    return home


def test_a_checkpoint_labels_as_the_network_that_was_trained(home, tmp_path):
    command = ("predict", home / "tuned.safetensors", home / "pictures", "--out", tmp_path / "p.csv")
    result = run(*command, "--accuracy", "--json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    table = find_images(home / "pictures")
    network = Network("small_cnn", home / "tuned.safetensors", {"label": ["ash", "elm", "oak"]}, device="cpu")
    network.train(False)
    images = [Image.open(f"{r}/{p}").convert("RGB") for r, p in table[["root", "path"]].to_numpy()]
    with torch.no_grad():
        embedded = network.embed(torch.stack([network.backbone.preprocess(image) for image in images]))
        sure, codes = network.heads[0](embedded).softmax(dim=1).max(dim=1)
    told = pd.read_csv(tmp_path / "p.csv")
    names = np.array(["ash", "elm", "oak"])[codes.numpy()]
    assert told["label"].tolist() == names.tolist()
    np.testing.assert_allclose(told["probability"], sure.numpy(), atol=2e-4)
    right = names == table["label"].to_numpy()
    counted = json.loads(result.output)["accuracy"]
    for domain in ("day", "night"):
        of = (table["domain"] == domain).to_numpy()
        assert counted[domain] == {"right": int(right[of].sum()), "of": int(of.sum())}
    said = run(*command, "--accuracy", "--device", "cpu").output
    assert f"accuracy: {right.mean():.1%} of 36 images with a label" in said
    assert "  day: " in said


def test_class_folders_are_counted_as_one_domain_and_features_by_their_labels(home, tmp_path):
    night = home / "pictures" / "night"
    by_images = run(
        "predict", home / "tuned.safetensors", night, "--out", tmp_path / "a.csv", "--accuracy", "--json"
    )
    extract_features(
        find_images(home / "pictures"), tmp_path / "f", Backbone("small_cnn", home / "tuned.safetensors")
    )
    command = (
        "predict",
        home / "tuned.safetensors",
        tmp_path / "f",
        "--out",
        tmp_path / "b.csv",
        "--accuracy",
    )
    by_features = run(*command, "--json", "--domain", "night")
    assert by_images.exit_code == by_features.exit_code == 0, by_images.output + by_features.output
    (one,) = json.loads(by_images.output)["accuracy"].values()
    assert {"night": one} == json.loads(by_features.output)["accuracy"]
    assert one["of"] == 18


def test_a_table_with_names_of_its_own_trains_and_is_labelled_and_counted(home, tmp_path):
    table = find_images(home / "pictures")
    asked = {"file": table["path"], "site": table["domain"], "tree": table["label"], "label": "none"}
    pd.DataFrame(asked).to_csv(home / "pictures" / "own.csv", index=False)
    own, out = home / "pictures" / "own.csv", tmp_path / "t.safetensors"
    columns = ("--path-column", "file", "--domain-column", "site", "--label-column", "tree")
    training = ("--backbone", "small_cnn", "--weights", "random", "--epochs", 1, "--domain", "day", "--json")
    trained = run("finetune", own, "--out", out, *columns, *training)
    assert trained.exit_code == 0, trained.output
    assert json.loads(trained.stdout)["classes"] == {"tree": ["ash", "elm", "oak"]}
    counted = run("predict", out, own, "--out", tmp_path / "p.csv", "--accuracy", "--json", *columns)
    assert counted.exit_code == 0, counted.output
    assert {name: each["of"] for name, each in json.loads(counted.stdout)["accuracy"].items()} == {
        "day": 18,
        "night": 18,
    }
    pd.DataFrame(asked)[["file", "tree"]].to_csv(home / "pictures" / "one.csv", index=False)
    one = run("predict", out, home / "pictures" / "one.csv", "--out", tmp_path / "o.csv", "--accuracy", "--json",
              "--path-column", "file", "--label-column", "tree")  # fmt: skip
    assert json.loads(one.stdout)["accuracy"]["new"]["of"] == 36, "a table without domains is one domain"
    labelled = run("predict", out, own, "--out", tmp_path / "q.csv", "--path-column", "file")
    assert labelled.exit_code == 0, labelled.output
    assert len(pd.read_csv(tmp_path / "q.csv")) == 36


def test_a_checkpoint_that_names_no_classes_is_no_model(home, tmp_path):
    save_backbone(Backbone("small_cnn"), tmp_path / "plain.safetensors")
    with pytest.raises(FtransferError, match="has no class names, so it cannot label images"):
        models_of_checkpoint(tmp_path / "plain.safetensors")
    models = models_of_checkpoint(home / "tuned.safetensors")
    assert models[""].classes.tolist() == ["ash", "elm", "oak"]
