"""Time loading a feature set beside a plain read of as many bytes.

    python benchmarks/load.py                      # 200,000 rows of 512 numbers, in a temporary folder
    python benchmarks/load.py --rows 20000 --repeats 3

The rows are made up: ten domains, a hundred classes, in parts of 8192 rows. The file that is read plainly, by
`numpy.fromfile` into a new array, holds the same numbers and nothing else. Both are in the operating system's
cache. They take turns; each line shows the median seconds, and the median ratio of the pairs to the plain read
just before with the smallest and the largest; the ratio of the fastest load to the fastest plain read; and the
ratio of the smallest processor seconds. On a busy machine the last two tell most. A ratio of 2 is half the speed.

* everything: open the folder, read the manifest with labels and paths, load all rows into one C-contiguous array
* one domain, one class: the same, for a tenth and a hundredth of the rows
* 5 % of the rows: at random, in random order
"""

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ftransfer import FeatureSet

CASES = {
    "everything": lambda rows: rows,
    "one domain": lambda rows: rows[rows["domain"] == "domain3"],
    "one class": lambda rows: rows[rows["label"] == "class33"],
    "5 % of the rows": lambda rows: rows.sample(frac=0.05, random_state=0),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=11, metavar="N", help="pairs of runs a case")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make(folder, options.rows, options.width)
        print(f"{options.rows} rows x {options.width}, {options.rows * options.width * 4 / 1e6:.0f} MB")
        print(f"{'':<18}{'plain s':>9}{'load s':>9}{'ratio':>7}  {'from, to':<13}{'fastest':>8} {'CPU':>5}")
        for name, choose in CASES.items():
            pairs = np.array([time_pair(folder, choose) for _ in range(options.repeats + 1)])[1:]
            plain, load = np.median(pairs[:, :2], axis=0)
            ratio = pairs[:, 1] / pairs[:, 0]
            fastest = pairs.min(axis=0)
            span = f"{ratio.min():.2f}, {ratio.max():.2f}"
            print(f"{name:<18}{plain:>9.3f}{load:>9.3f}{np.median(ratio):>7.2f}  {span:<13}", end="")
            print(f"{fastest[1] / fastest[0]:>8.2f} {fastest[3] / fastest[2]:>5.2f}")


def make(folder: Path, n_rows: int, width: int) -> None:
    """Write the feature set and the plain file."""
    fingerprint = {
        "format": 1,
        "backbone": "made up",
        "weights": "none",
        "layers": [{"name": "x", "width": width}],
    }
    features, rng = FeatureSet.create(folder / "features", fingerprint), np.random.default_rng(0)
    keys = [hashlib.sha256(b"%d" % i).hexdigest() for i in range(n_rows)]
    with open(folder / "plain", "wb") as plain:
        for start in range(0, n_rows, 8192):
            some = keys[start : start + 8192]
            X = rng.normal(size=(len(some), width)).astype(np.float32)
            features.write_part(some, X)
            plain.write(X.tobytes())
    label = [f"class{i % 100}" for i in range(n_rows)]
    domain = [f"domain{i * 10 // n_rows}" for i in range(n_rows)]
    path = [f"{d}/{c}/{i:06d}.jpg" for i, (d, c) in enumerate(zip(domain, label, strict=True))]
    table = pd.DataFrame({"root": "/data", "path": path, "sha256": keys, "label": label, "domain": domain})
    features.write_manifest(table.assign(status="ok"))


def time_pair(folder: Path, choose) -> tuple[float, float, float, float]:
    """Seconds, then processor seconds, of a plain read and of opening the feature set and loading some of it."""
    started = clocks()
    np.fromfile(folder / "plain", dtype=np.float32)
    middle = clocks()
    features = FeatureSet(folder / "features")
    rows = choose(features.complete)
    X = features.load(rows)
    ended = clocks()
    assert X.flags.c_contiguous
    assert len(X) == len(rows)
    return middle[0] - started[0], ended[0] - middle[0], middle[1] - started[1], ended[1] - middle[1]


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


if __name__ == "__main__":
    main()
