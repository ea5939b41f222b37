"""Compare ways to use a network of ten classes for other classes, few images of each: CIFAR-10 to CIFAR-100 in small.

    python benchmarks/new_classes.py
    python benchmarks/new_classes.py --source office_caltech10 --target pacs

small_cnn learns the classes of the source from nothing, once; then each way learns those of the target from --labels
images a class, and is counted on the others of the target. --source and --target are folders <root>/<domain>/<class>/*
or torchvision:CIFAR10 and torchvision:CIFAR100; classes of different domains are different classes. Default: ten
digits, and the hundred numbers that two of them make side by side, 32 x 32 pixels, made from data/digits.zip.

* frozen: logistic regression on the embeddings of the source's network.
* from nothing: all layers start fresh.
* taken rate R: loaded layers learn at R times the learning rate of the head; auto is the default.

Accuracies are means over the seeds, with the standard deviation; a seed draws other images, heads and orders.
"""

import argparse
import io
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

DIGITS = Path(__file__).resolve().parent.parent / "data" / "digits.zip"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", metavar="IMAGES")
    parser.add_argument("--target", metavar="IMAGES")
    parser.add_argument("--labels", type=int, default=20, metavar="N", help="images a class that train")
    parser.add_argument("--epochs", type=int, nargs="+", default=[6, 20])
    parser.add_argument("--rates", nargs="+", default=["auto", "1", "0.1"])
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
    source = find_images(options.source or folder / "pictures", domain=None if options.source else "ten")
    target = find_images(options.target or folder / "pictures", domain=None)
    if not options.source:
        source, target = (t[t["domain"] == d] for t, d in ((source, "ten"), (target, "hundred")))
    target = target.assign(label=target["domain"] + " " + target["label"], domain="target")
    target = target.reset_index(drop=True)
    trained = Path(options.keep or folder) / "source.safetensors"
    if not trained.is_file():
        fine_tune(source, trained, Training(backbone="small_cnn", weights="random", epochs=20))
    classes = target["label"].nunique()
    print(
        f"{source['label'].nunique()} classes to {classes}, {options.labels} images a class, {options.seeds} seeds"
    )
    print(f"{'way':<32}{'accuracy':>13}{'seconds':>9}", flush=True)
    ways = {"frozen, logistic regression": (frozen, trained, 0, None)}
    for epochs in options.epochs:
        ways[f"from nothing, {epochs} epochs"] = (tuned, "random", epochs, None)
        for rate in options.rates:
            ways[f"taken rate {rate}, {epochs} epochs"] = (tuned, trained, epochs, rate)
    for way, (run, weights, epochs, rate) in ways.items():
        found, started = [], time.monotonic()
        for seed in range(options.seeds):
            use = split_rows(
                target, "label", validation=0, test=0, labels_per_class=options.labels, seed=seed
            )
            found.append(
                run(
                    target.assign(domain=np.where(use == "train", "train", "test")),
                    weights,
                    folder,
                    epochs=epochs,
                    rate=rate,
                    seed=seed,
                )
            )
        seconds = (time.monotonic() - started) / options.seeds
        print(
            f"{way:<32}{100 * np.mean(found):7.1f} ±{100 * np.std(found, ddof=1):4.1f}{seconds:9.1f}",
            flush=True,
        )


def tuned(target, weights, folder, *, epochs, rate, seed):
    """Train on the rows of the domain "train", and count on the others."""
    rate = {} if rate in (None, "auto") else {"taken_rate": float(rate)}
    training = Training(
        backbone="small_cnn", weights=str(weights), domains=("train",), epochs=epochs, seed=seed, **rate
    )
    results = fine_tune(target, folder / "target.safetensors", training)
    return results["accuracy"]["test"]["label"]["accuracy"]


def frozen(target, weights, folder, **_):
    """Fit a logistic regression on embeddings."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        features = extract_features(target, Path(out) / "features", Backbone("small_cnn", weights))
        X, table = features.load()
    train = (table["domain"] == "train").to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    model.fit(X[train], table["label"][train])
    return model.score(X[~train], table["label"][~train])


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
