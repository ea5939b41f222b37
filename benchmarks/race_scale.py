"""Time a whole default race on many rows, on one thread: CPU seconds and peak memory.

    python benchmarks/race_scale.py                      # 200,000 x 512, ten classes; some four minutes
    python benchmarks/race_scale.py --rows 20000 --search grid

The feature set is made up: half of the rows are the source; classes are Gaussian clouds in 64 dimensions, mapped to as
many features as asked for, with noise, and cut off at zero, as features of a network are; the target is rotated a
little, and its features are stretched and moved. Seconds are of CPU time, so that a busy machine does not count.
"""

import argparse
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ftransfer import FeatureSet, load_task, race

PART, INNER = 8192, 64


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000, metavar="N", help="of both domains together")
    parser.add_argument("--width", type=int, default=512, metavar="N", help="features")
    parser.add_argument("--classes", type=int, default=10, metavar="N")
    parser.add_argument("--search", default="auto", help="auto, grid or halving")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of the race, on the clock")
    options = parser.parse_args()
    if options.rows < 2000:
        sys.exit("error: at least 2000 rows")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = make(Path(folder) / "features", options.rows, options.width, options.classes)
        begun = time.process_time()
        task = load_task(features, "source", "target")
        say("loaded", begun)
        started = time.monotonic()
        found = race(task, jobs=1, search=options.search, budget=options.budget)
        say("raced", begun)
        if options.budget:
            print(f"{time.monotonic() - started:.0f} s of {options.budget:.0f}")
    accuracy = found.table["target_accuracy"]
    print(found.sentence)
    print(f"accuracy {accuracy[found.chosen]:.3f}, the best of the candidates {accuracy.max():.3f}")


def make(folder, n, width, classes):
    """Write the rows as a feature set."""
    rng = np.random.default_rng(0)
    out = (2 * rng.normal(size=(INNER, width)) / np.sqrt(INNER)).astype(np.float32)
    means = (0.55 * rng.normal(size=(classes, INNER))).astype(np.float32)
    stretch = np.exp(0.4 * rng.normal(size=width)).astype(np.float32)
    move = (0.5 * rng.normal(size=width)).astype(np.float32)
    turn = (np.eye(INNER) + 0.12 * rng.normal(size=(INNER, INNER))).astype(np.float32)
    fingerprint = {"format": 1, "backbone": "made up", "weights": "", "dtype": "float32"}
    features = FeatureSet.create(folder, fingerprint | {"layers": [{"name": "out", "width": width}]})
    labels, is_target = rng.integers(0, classes, n), np.arange(n) >= n // 2
    keys = [f"{i:064x}" for i in range(n)]
    for start in range(0, n, PART):
        part = slice(start, min(start + PART, n))
        rows = means[labels[part]] + rng.normal(size=(part.stop - start, INNER)).astype(np.float32)
        rows[is_target[part]] @= turn
        rows = rows @ out + rng.normal(size=(len(rows), width)).astype(np.float32)
        rows[is_target[part]] = rows[is_target[part]] * stretch + move
        features.write_part(keys[part], np.maximum(rows + 0.5, 0))
    table = pd.DataFrame({"root": "made up", "path": [f"{i}.png" for i in range(n)], "sha256": keys})
    table["label"] = [f"class-{k}" for k in labels]
    table["domain"], table["status"] = np.where(is_target, "target", "source"), "ok"
    features.write_manifest(table)
    return features


def say(what, begun):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{what:<10}{time.process_time() - begun:8.1f} s of CPU time{peak / 1e9:8.2f} GB at most", flush=True
    )


if __name__ == "__main__":
    main()
