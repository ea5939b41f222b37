"""Measure what grows with the number of images: listing, the manifest, the index of the parts, the classifiers.

    python benchmarks/scale.py                                  # a million images; takes a few minutes and 4 GB
    python benchmarks/scale.py --images 100000 --width 64

Seconds are of processor time, so that a busy machine does not count. Nothing is embedded: the feature set is made up,
and its rows are one number wide where only how many there are matters.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDClassifier
from threadpoolctl import threadpool_limits

from ftransfer import FeatureSet, find_images
from ftransfer.extract.plan import pending_rows
from ftransfer.features.manifest import FIELDS

PART = 8192
LISTED = 100_000  # files made to be listed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--width", type=int, default=2048, metavar="N", help="numbers an image")
    parser.add_argument("--classes", type=int, default=100, metavar="N")
    parser.add_argument("--components", type=int, default=1000, metavar="N", help="of Nystroem")
    options = parser.parse_args()
    if min(vars(options).values()) < 2 or options.images < PART:
        sys.exit(f"error: at least {PART} images, and at least 2 of everything else")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        measure_listing(Path(folder) / "images", min(options.images, LISTED))
        measure_feature_set(Path(folder) / "features", options.images)
        measure_classifiers(options.width, options.classes, options.components)


def measure_listing(root, n):
    """Print what it costs to find `n` files and to ask for their sizes, on this machine's disk."""
    for i in range(n):
        file = root / "day" / f"class-{i % 1000:03}" / f"{i:012}.jpg"
        if i < 1000:
            file.parent.mkdir(parents=True)
        file.touch()
    before = peak()
    started = time.process_time()
    images = find_images(root)
    found = time.process_time()
    pending_rows(pd.DataFrame(columns=list(FIELDS)).astype(FIELDS), images)
    asked = time.process_time()
    print(f"{f'{n} files, found':34}{(found - started) / n * 1e6:10.1f} microseconds an image")
    print(f"{'their sizes asked for':34}{(asked - found) / n * 1e6:10.1f} microseconds an image")
    print(f"{'memory of both, peak':34}{(peak() - before) / n:10.0f} bytes an image")


def measure_feature_set(folder, n):
    """Print what the books of a feature set of `n` images cost."""
    fingerprint = {"format": 1, "backbone": "made up", "weights": "", "dtype": "float32"}
    features = FeatureSet.create(folder, fingerprint | {"layers": [{"name": "out", "width": 1}]})
    keys = [f"{i:064x}" for i in np.random.default_rng(0).permutation(n)]
    table = pd.DataFrame(
        {
            "root": "/shared/images",
            "path": [f"day/class-{i % 1000:03}/{i:012}.jpg" for i in range(n)],
            "sha256": keys,
            "label": [f"class-{i % 1000:03}" for i in range(n)],
            "domain": "day",
            "status": "ok",
            "size": 100_000,
            "mtime": 1_700_000_000_000_000_000,
        }
    )
    say("manifest, write", timed(features.write_manifest, table))
    file = folder / "manifest.parquet"
    print(f"{'manifest, on disk':34}{file.stat().st_size / n:10.0f} bytes an image")
    before = peak()
    seconds = timed(lambda: features.manifest)
    print(
        f"{'manifest, in memory':34}{features.manifest.memory_usage(deep=True).sum() / n:10.0f} bytes an image"
    )
    print(f"{'manifest, peak while read':34}{(peak() - before) / n:10.0f} bytes an image")
    say("manifest, read", seconds)
    del table
    last, *others = [keys[start : start + PART] for start in range(0, n, PART)]  # the last one is to be full
    for part in others:
        features.write_part(part, np.zeros((len(part), 1)))
    say("one more part, lock held", timed(features.write_part, last, np.zeros((len(last), 1))))
    again = FeatureSet(folder)
    print(f"{'parts':34}{len(again.part_files()):10d}")
    say("parts, hashes that are done", timed(again.done))
    say("parts, a hash looked up", timed(again.load, features.manifest.head(1)))


def measure_classifiers(width, classes, components, rows=2000):
    """Print how fast classifiers for many rows learn, on one thread."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, width)).astype(np.float32)
    y = rng.integers(0, classes, rows)
    sgd = SGDClassifier(loss="log_loss", random_state=0)
    seconds = timed(sgd.partial_fit, X, y, np.arange(classes))
    print(f"{f'SGDClassifier, {classes} classes':34}{rows / seconds:10.0f} rows a second")
    kernel = Nystroem(n_components=min(components, rows), random_state=0)
    say(f"Nystroem, {kernel.n_components} components, fit", timed(kernel.fit, X))
    print(f"{'Nystroem, transform':34}{rows / timed(kernel.transform, X):10.0f} rows a second")


def say(what, seconds):
    print(f"{what:34}{seconds:10.2f} s")


def timed(work, *arguments):
    started = time.process_time()
    work(*arguments)
    return time.process_time() - started


def peak():
    """Bytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
