"""The roads of the page "Which backbone": from images or embeddings of a field to predictions, on made data."""

import numpy as np
import pandas as pd
import pytest
from pages import Page
from PIL import Image
from test_cli import run

from ftransfer import Model

FIT = ("--pipeline", "source_only_svm", "--pipeline", "scaled_svm")


def scan(file, sick, south, seed):
    """Write a grey scan of 16 bits: a spot where it is sick, brighter in the south."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(9000 + 6000 * south, 1500, (80, 72))
    if sick:
        pixels[25:50, 20:45] += 15000
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 65535).astype(np.uint16)).save(file)


@pytest.mark.slow
def test_medical_images_go_from_start_to_prediction_by_a_file(tmp_path):
    Page("docs/which-backbone.md").write_files(tmp_path)
    file, images = tmp_path / "xray.py", tmp_path / "hospitals"
    for south, domain in enumerate(["north", "south"]):
        for sick, label in enumerate(["clear", "opacity"]):
            for i in range(12):
                scan(images / domain / label / f"{i}.png", sick, south, seed=100 * south + 50 * sick + i)
    assert (
        run("extract", images, "--out", tmp_path / "f", "--backbone", file, "--device", "cpu").exit_code == 0
    )
    fitted = run(
        "fit", tmp_path / "f", "--source", "north", "--target", "south", "--out", tmp_path / "run", *FIT
    )
    assert fitted.exit_code == 0, fitted.output
    command = ("predict", tmp_path / "run", images / "south", "--backbone", file, "--device", "cpu")
    result = run(*command, "--out", tmp_path / "p.csv", "--accuracy")
    assert result.exit_code == 0, result.output
    assert "of 24 images with a label" in result.output
    told = pd.read_csv(tmp_path / "p.csv")
    assert (told["label"] == told["path"].str.split("/").str[0]).mean() > 0.8


def tiles(file, shift, seed, labelled=True):
    """Write embeddings of tiles in three classes, moved from one year to the next."""
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 3
    X = np.random.default_rng(0).normal(size=(3, 32))[y] + 0.4 * rng.normal(size=(60, 32)) + shift
    names = np.array(["field", "forest", "water"])[y]
    np.savez(file, X=X.astype(np.float32), **({"y": names} if labelled else {}))
    return names


@pytest.mark.slow
def test_embeddings_of_satellite_tiles_go_from_start_to_prediction(tmp_path):
    tiles(tmp_path / "tiles-2019.npz", 0, 1)
    tiles(tmp_path / "tiles-2024.npz", 1.5, 2, labelled=False)
    names = tiles(tmp_path / "tiles-2025.npz", 1.5, 3, labelled=False)
    tables = [tmp_path / f"tiles-{year}.npz" for year in (2019, 2024)]
    assert run("import", *tables, "--name", "satlas-b", "--out", tmp_path / "f").exit_code == 0
    domains = ("--source", "tiles-2019", "--target", "tiles-2024")
    fitted = run("fit", tmp_path / "f", *domains, "--out", tmp_path / "run", *FIT)
    assert fitted.exit_code == 0, fitted.output
    result = run("predict", tmp_path / "run", tmp_path / "tiles-2025.npz", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    told = pd.read_csv(tmp_path / "p.csv")["label"].to_numpy()
    assert (told == names).mean() > 0.9
    X = np.load(tmp_path / "tiles-2025.npz")["X"]
    assert Model.load(tmp_path / "run").predict(X).tolist() == told.tolist()


@pytest.mark.slow
def test_embeddings_of_texts_go_from_start_to_prediction(tmp_path):
    tables = []
    for seed, (site, shift) in enumerate({"shop": 0, "forum": 1.5, "new": 1.5}.items()):
        rng, topics = np.random.default_rng(seed), np.arange(60) % 3
        X = rng.normal(size=(60, 8)) + 6 * np.eye(8)[topics] + shift
        table = pd.DataFrame(X.round(4), columns=[f"e{i}" for i in range(8)])
        table["path"], table["topic"] = (
            [f"{site}-{i:03}" for i in range(60)],
            np.array(["a", "b", "c"])[topics],
        )
        tables.append(tmp_path / f"{site}.csv")
        table.drop(columns="topic" if site == "new" else []).to_csv(tables[-1], index=False)
    options = ("--features", "e*", "--label-column", "topic", "--name", "minilm-l6", "--out", tmp_path / "f")
    made = run("import", *tables[:2], *options)
    assert made.exit_code == 0, made.output
    fitted = run(
        "fit", tmp_path / "f", "--source", "shop", "--target", "forum", "--out", tmp_path / "run", *FIT
    )
    assert fitted.exit_code == 0, fitted.output
    result = run("predict", tmp_path / "run", tables[2], "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    told = pd.read_csv(tmp_path / "p.csv")
    assert told["path"].tolist() == [f"new-{i:03}" for i in range(60)]
    assert (told["label"] == np.array(["a", "b", "c"])[np.arange(60) % 3]).mean() > 0.9
