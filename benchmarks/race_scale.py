"""Time a whole default race on many rows: CPU seconds and peak memory, the prediction of all target rows included.

    python benchmarks/race_scale.py                      # 200,000 x 512, ten classes; some three minutes
    python benchmarks/race_scale.py --rows 1000000       # 2 GB of features, written to the folder of temporary files
    python benchmarks/race_scale.py --max-rows 200000    # race on all rows, in place of 100,000
    python benchmarks/race_scale.py --rows 20000 --search grid
    python benchmarks/race_scale.py --rows 40000 --width 128 --classes 50 --report      # of 20,000 target rows

The feature set is made up: half of the rows are the source; classes are Gaussian clouds in 64 dimensions, mapped to as
many features as asked for, with noise, and cut off at zero, as features of a network are; the target is rotated a
little, and its features are stretched and moved. Seconds are of CPU time, so that a busy machine does not count.
Memory is what the process has for itself (on Linux), without the pages of the features' files that are mapped.
"""

import argparse
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ftransfer import FeatureSet, load_task, race, write_report
from ftransfer.search.settings import MAX_ROWS

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
    parser.add_argument("--max-rows", type=int, default=MAX_ROWS, metavar="N", help="that are raced on")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument(
        "--keep", metavar="FOLDER", help="of the features, made where there are none, and kept"
    )
    parser.add_argument("--report", action="store_true", help="write the run folder, too")
    options = parser.parse_args()
    if options.rows < 2000:
        sys.exit("error: at least 2000 rows")
    with tempfile.TemporaryDirectory() as temporary, threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(options.keep or temporary) / "features"
        if not folder.is_dir():
            make(folder, options.rows, options.width, options.classes)
        peak = Peak()
        begun, started = time.process_time(), time.monotonic()
        task = load_task(FeatureSet(folder), "source", "target")
        peak.say("loaded", begun)
        budgeted = time.monotonic()
        found = race(
            task, jobs=options.jobs, search=options.search, budget=options.budget, max_rows=options.max_rows
        )
        peak.say("raced", begun)
        if options.budget:
            print(f"{time.monotonic() - budgeted:.0f} s of {options.budget:.0f}")
        predicted = found.pipeline.predict(task.X_target)
        peak.say("predicted", begun)
        if options.report:
            write_report(found, FeatureSet(folder), Path(temporary) / "run")
            page = (Path(temporary) / "run" / "report.html").stat().st_size / 1e6
            peak.say("reported", begun)
            print(f"report.html has {page:.1f} MB")
        print(f"{time.monotonic() - started:.0f} s on the clock")
    accuracy = found.table["target_accuracy"]
    print(*found.task.notes, found.sentence, sep="\n")
    print(
        f"of the rows raced on: {accuracy[found.chosen]:.4f}, the best of the candidates {accuracy.max():.4f}"
    )
    print(f"of all target rows: {task.answers.accuracy(predicted):.4f}")


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


class Peak:
    """Look at the memory of this process ten times a second."""

    def __init__(self):
        self.most = 0.0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        while True:
            self.most = max(self.most, own_memory())
            time.sleep(0.1)

    def say(self, what, begun):
        seconds = time.process_time() - begun
        print(f"{what:<10}{seconds:8.1f} s of CPU time{self.most:8.2f} GB at most", flush=True)


def own_memory():
    """GB that the process has for itself: of files that are mapped, other processes share the pages."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1e6 for line in lines if line.startswith("RssAnon")), float("nan"))


if __name__ == "__main__":
    main()
