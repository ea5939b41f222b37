"""Reports of made-up data, one for each kind of run that a page has to hold, and pictures of them in a browser.

    python tests/made_pages.py OUT [KIND ...] [--width PIXELS ...]

It writes OUT/KIND/run/report.html, and, where a Chromium is installed, OUT/KIND-WIDTH.png of the whole page.
"""

import argparse
import base64
import hashlib
from pathlib import Path

import numpy as np
from browser import Browser, find_browser
from conftest import blobs, write_feature_set
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ftransfer import DomainScaler, FeatureSet, load_task, make_pipeline, race, write_report
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.report import write_several
from ftransfer.search.outcome import Race

QUICK = [
    Recipe("plain", AdaptationPipeline([("logistic", LogisticRegression())]), {"logistic__C": [0.1, 1.0]}),
    Recipe("scaled", make_pipeline(DomainScaler(), LogisticRegression())),
]
KINDS = {  # source rows, target rows, classes
    "demo-like": (200, 200, 10),
    "many-classes": (650, 1300, 65),
    "many-rows": (10_000, 10_000, 10),
    "several-sources": (240, 120, 6),
    "several-tasks": (120, 90, 4),
    "no-labels": (120, 90, 5),
    "no-thumbnails": (120, 90, 5),
    "long-names": (120, 90, 6),
    "perfect": (60, 60, 3),
}
LONG = "a class whose name is long, as those of birds and of machine parts are, number {:02d}, seen from the side"
SIDE = 24  # pixels


def make_features(kind: str, folder: Path) -> FeatureSet:
    """Write a feature set of the kind, and pictures with it but for ``no-thumbnails``."""
    n_source, n_target, k = KINDS[kind]
    X, y, labels = blobs(n_source, n_target, 16, k, shift=0.8)
    rng = np.random.default_rng(1)
    if kind == "perfect":
        X = (10 * np.eye(16)[labels]).astype(np.float32)
    else:
        X = (X + rng.normal(size=X.shape) * (1.0 if k > 20 else 3.5)).astype(np.float32)
    long = kind in ("many-classes", "long-names")
    names = np.array([LONG.format(i) if long else f"class {i}" for i in range(k)])[labels]
    domains = np.where(y == -1, "night", "day")
    if kind == "several-sources":
        domains = np.where(y == -1, "night", np.array(["dawn", "day", "dusk"])[np.arange(len(y)) % 3])
    given = [None if kind == "no-labels" and at == -1 else name for name, at in zip(names, y, strict=True)]
    features = write_feature_set(folder / "features", X, given, domains)
    if kind == "no-thumbnails":
        return features
    table = features.manifest
    (folder / "images").mkdir(parents=True, exist_ok=True)
    contents = []
    for i, label in enumerate(labels):
        pixels = rng.integers(0, 70, (SIDE, SIDE, 3)) + 10
        pixels[..., label % 3] += 60 + 40 * (label // 3 % 3)
        pixels = pixels // (1 + (y[i] == -1))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{i}.png")
        contents.append(hashlib.sha256((folder / "images" / f"{i}.png").read_bytes()).hexdigest())
    keys = features.manifest["sha256"]
    table["root"], table["sha256"] = str(folder / "images"), contents
    if kind == "several-tasks":
        table["label:shape"] = table["label"]
        table["label:place"] = np.array(["left", "right"])[labels % 2]
    again = FeatureSet.create(folder / "with-pictures", features.fingerprint)
    again.write_part(contents, features.load(features.manifest.assign(sha256=keys)))
    again.write_manifest(table)
    return again


def make_race(kind: str, folder: Path, label: str | None = None) -> tuple[Race, FeatureSet]:
    """Race two quick recipes on the kind's data."""
    features = make_features(kind, folder) if not (folder / "with-pictures").exists() else None
    features = features or FeatureSet(folder / "with-pictures")
    sources = ["dawn", "day", "dusk"] if kind == "several-sources" else "day"
    return race(load_task(features, sources, "night", label=label), QUICK), features


def make_page(kind: str, folder: Path) -> Path:
    """Write the run of the kind; returns its page."""
    command = "ftransfer fit features --source day --target night"
    if kind == "several-tasks":
        runs = {
            label: write_report(*make_race(kind, folder, label), folder / "run" / label, command=command)
            for label in ("shape", "place")
        }
        write_several("labels", runs, folder / "run", command=command)
    else:
        write_report(*make_race(kind, folder), folder / "run", command=command)
    return folder / "run" / "report.html"


def photograph(browser: Browser, page: Path, width: int, out: Path) -> None:
    """Save a picture of the whole page at a width in pixels."""
    browser.open(page, width)
    browser.run("new Promise((done) => setTimeout(done, 300))")
    height = browser.run("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16_000), "scale": 1}
    shot = browser.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    out.write_bytes(base64.b64decode(shot["data"]))


def main() -> None:
    """Make the pages and their pictures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    parser.add_argument("--width", type=int, nargs="+", default=[1280, 400])
    given = parser.parse_args()
    pages = {kind: make_page(kind, given.out / kind) for kind in given.kinds}
    for page in pages.values():
        print(f"{page}: {page.stat().st_size / 1e6:.2f} MB")
    if find_browser() is None:
        print("no Chromium is installed: no pictures")
        return
    with Browser() as browser:
        for kind, page in pages.items():
            for width in given.width:
                photograph(browser, page, width, given.out / f"{kind}-{width}.png")


if __name__ == "__main__":
    main()
