"""The embedded default: data and weights that ship, and the whole way on them."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file

from ftransfer import Backbone, FeatureSet
from ftransfer.backbone.small_cnn import small_cnn
from ftransfer.cli import fit, main
from ftransfer.shipped import shipped_folder


def test_the_embedded_default_ships_and_is_small():
    files = {f.name: f.stat().st_size for f in shipped_folder("data").iterdir() if f.is_file()}
    assert {"digits.zip", "small_cnn.safetensors", "README.md"} <= set(files)
    assert sum(files.values()) < 4e6
    assert not [name for name in files if name.endswith((".ttf", ".otf", ".woff", ".pfb"))]


def test_the_weights_fit_the_network_and_say_what_they_are():
    file = shipped_folder("data") / "small_cnn.safetensors"
    network = small_cnn(weights=load_file(file)).eval()
    assert {t.dtype for t in load_file(file).values()} <= {torch.float16, torch.int64}
    with torch.inference_mode():
        assert torch.isfinite(network(torch.zeros(2, 3, 32, 32))).all()
    with safe_open(file, "pt") as opened:
        assert opened.metadata()


def test_the_default_layer_is_the_pooled_last_block():
    assert Backbone("small_cnn").width == 192


@pytest.fixture(scope="module")
def demo(newcomer):
    """What the demo prints, and its folder: the one that the pages' commands use, too."""
    return newcomer.run("ftransfer demo"), newcomer.home / "ftransfer-demo"


@pytest.mark.slow
def test_the_demo_goes_the_whole_way_and_ends_with_a_sentence(demo):
    printed, out = demo
    lines = printed.strip().splitlines()
    assert (
        "$ ftransfer extract ftransfer-demo/images --out ftransfer-demo/features --backbone small_cnn"
        in lines
    )
    assert "report: ftransfer-demo/run/report.html" in lines
    assert lines[-1].startswith("In short: ")
    assert (out / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_demo_reads_real_handwriting_by_printed_labels(demo):
    _, out = demo
    counted = json.loads((out / "run" / "results.json").read_text())["counted"]
    assert counted["labelled"] == 1797
    assert counted["recommended"] > 0.85
    assert counted["recommended"] >= counted["source_only"] - 0.01


@pytest.mark.slow
def test_the_handwriting_is_scikit_learns(demo):
    from PIL import Image
    from sklearn.datasets import load_digits

    _, out = demo
    digits = load_digits()
    files = sorted((out / "images" / "handwritten").rglob("*.png"), key=lambda f: int(f.stem))
    assert [int(f.parent.name) for f in files] == digits.target.tolist()
    pixels = np.stack([np.asarray(Image.open(f)) for f in files])
    np.testing.assert_allclose(pixels / 255, digits.images / 16, atol=1 / 255)


@pytest.mark.slow
def test_the_demo_again_computes_nothing_again(demo, newcomer, monkeypatch):
    _, out = demo
    n = len(FeatureSet(out / "features").done())
    results = json.loads((out / "run" / "results.json").read_text())
    monkeypatch.setattr(
        fit, "run_fit", lambda *args, **options: (results, out / "run")
    )  # that takes its time again
    with newcomer.alone():  # others fit on the features meanwhile
        again = CliRunner().invoke(main, ["demo", "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert f"(0 computed, {len(FeatureSet(out / 'features').complete)} cached or duplicate" in again.output
    assert len(FeatureSet(out / "features").done()) == n
