"""Compare ways to use a network of ten classes for other classes, few images of each: CIFAR-10 to CIFAR-100 in small.

    python benchmarks/new_classes.py
    python benchmarks/new_classes.py --source office_caltech10 --target pacs

small_cnn learns the classes of the source from nothing, once; then each way learns those of the target from --labels
images a class, and is counted on the others of the target. --source and --target are folders <root>/<domain>/<class>/*
or torchvision:CIFAR10 and torchvision:CIFAR100:train; of the target, classes of different domains differ. Default: ten
digits, and the hundred numbers that two of them make side by side, 32 x 32 pixels, made from data/digits.zip.

* frozen: logistic regression on the embeddings of the source's network.
* from nothing: all layers start fresh.
* taken rate R: loaded layers learn at R times the learning rate of the head.
* default: both rates are trained, and the one with the better validation (a fifth of the images) is kept.

Accuracies are means over the seeds, with the standard deviation; a seed draws other images, heads and orders.
"""

import argparse
import io
import json
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ftransfer import Backbone, FtransferError, Training, extract_features, find_images, fine_tune
from ftransfer.finetune.data import split_rows
from ftransfer.finetune.settings import TAKEN_RATES

DIGITS = Path(__file__).resolve().parent.parent / "data" / "digits.zip"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", metavar="IMAGES")
    parser.add_argument("--target", metavar="IMAGES")
    parser.add_argument("--labels", type=int, default=20, metavar="N", help="images a class that train")
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="0 to N - 1")
    parser.add_argument(
        "--keep", metavar="FOLDER", help="keep the source's checkpoint here, and use it again"
    )
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, Path(folder))
    except FtransferError as error:
        sys.exit(str(error))


def compare(options, folder):
    """Run all ways, and print a line for each."""
    if not options.source:
        write_digits_and_numbers(folder / "pictures")
    source = find_images(options.source or folder / "pictures")
    target = find_images(options.target or folder / "pictures")
    if not options.source:
        source, target = source[source["domain"] == "ten"], target[target["domain"] == "hundred"]
    target = target.assign(label=target["domain"] + " " + target["label"], domain="target")
    target = target.reset_index(drop=True)
    keep = Path(options.keep or folder)
    trained = keep / "source.safetensors"
    if not trained.is_file():
        fine_tune(source, trained, Training(backbone="small_cnn", weights="random", epochs=20))
    classes = target["label"].nunique(), source["label"].nunique()
    print(f"{classes[1]} classes to {classes[0]}, {options.labels} images a class, {options.seeds} seeds")
    print(f"{'way':<32}{'accuracy':>13}{'seconds':>9}", flush=True)

    def run(way, function, **settings):
        found = []
        for seed in range(options.seeds):
            file = keep / f"{way}, {options.labels} images, seed {seed}.json"
            if not file.is_file():
                use = split_rows(
                    target, "label", validation=0, test=0, labels_per_class=options.labels, seed=seed
                )
                rows = target.assign(domain=np.where(use == "train", "train", "test"))
                started = time.monotonic()
                result = function(rows, trained, folder, seed=seed, **settings)
                result["seconds"] = time.monotonic() - started
                file.write_text(json.dumps(result))
            found.append(json.loads(file.read_text()))
        show(way, found)
        return found

    run("frozen, logistic regression", frozen)
    for epochs in options.epochs:
        run(f"from nothing, {epochs} epochs", tuned, epochs=epochs, random=True)
        tried = [run(f"taken rate {r}, {epochs} epochs", tuned, epochs=epochs, rate=r) for r in TAKEN_RATES]
        best = [dict(max(each, key=lambda found: found["merit"])) for each in zip(*tried, strict=True)]
        for result, each in zip(best, zip(*tried, strict=True), strict=True):
            result["seconds"] = sum(found["seconds"] for found in each)
        show(f"default, {epochs} epochs", best)


def show(way, found):
    """Print a line: mean and standard deviation over the seeds."""
    accuracy, seconds = ([each[name] for each in found] for name in ("accuracy", "seconds"))
    spread = np.std(accuracy, ddof=1) if len(found) > 1 else 0.0
    print(f"{way:<32}{100 * np.mean(accuracy):7.1f} ±{100 * spread:4.1f}{np.mean(seconds):9.1f}", flush=True)


def tuned(target, weights, folder, *, epochs, seed, rate=None, random=False):
    """Train on the rows of the domain "train", and count on the others."""
    training = Training(
        backbone="small_cnn",
        weights="random" if random else str(weights),
        domains=("train",),
        epochs=epochs,
        taken_rate=rate,
        seed=seed,
    )
    results = fine_tune(target, folder / "target.safetensors", training)
    best = results["history"][results["best_epoch"] - 1]
    merit = [best["validation_accuracy"], -best["validation_loss"]]
    return {"accuracy": results["accuracy"]["test"]["label"]["accuracy"], "merit": merit}


def frozen(target, weights, folder, seed):
    """Fit a logistic regression on embeddings."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        features = extract_features(target, Path(out) / "features", Backbone("small_cnn", weights))
        X, table = features.load()
    train = (table["domain"] == "train").to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(X[train], table["label"][train])
    return {"accuracy": float(model.score(X[~train], table["label"][~train]))}


def write_digits_and_numbers(root):
    """Write 32 x 32 pictures of ten digits, and of the hundred numbers that two of them make, squeezed."""
    rng, glyphs = np.random.default_rng(0), {}
    with zipfile.ZipFile(DIGITS) as digits:
        for name in sorted(digits.namelist()):
            if name.startswith("printed/") and not name.endswith("/"):
                glyphs.setdefault(name.split("/")[1], []).append(
                    Image.open(io.BytesIO(digits.read(name))).convert("L")
                )
    for label in [*sorted(glyphs), *(f"{number:02}" for number in range(100))]:
        folder = root / ("ten" if len(label) == 1 else "hundred") / label
        folder.mkdir(parents=True)
        for i in range(100 if len(label) == 1 else 40):
            picture, width = Image.new("L", (32, 32)), 32 // len(label)
            for place, digit in enumerate(label):
                glyph = glyphs[digit][rng.integers(len(glyphs[digit]))]
                picture.paste(glyph.resize((width, 32)), (width * place, 0))
            pixels = np.asarray(picture) + rng.normal(0, 40, (32, 32))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")


if __name__ == "__main__":
    main()
