"""Compare gradual self-training with one step, on domains that lie on a way and on domains that do not.

    python benchmarks/gradual.py
    python benchmarks/gradual.py --features pacs --source photo --via cartoon --target sketch

Without --features: the digits of data/digits.zip, printed or handwritten (--domain), turned by 0, 15, ... 90 degrees
(--step, --last), each angle with images of its own, embedded by small_cnn; 0 and 90 degrees are source and target. The
rows, all with logistic regression (C=1) on features scaled by domain: source only, fitted once and not scaled; one step
(per-domain scaling); pseudo-labels in one step; the way in order; the way in the wrong order (random, by the seed).
Accuracies are of all target images: mean and standard deviation over --seeds that draw which image has which angle
(with --features: of one run, and 80 % of the rows of each domain, drawn by the seed).
"""

import argparse
import sys
import warnings
import zipfile

import numpy as np
import torch
from PIL import Image
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from ftransfer import (
    Backbone,
    DomainScaler,
    FeatureSet,
    FtransferError,
    GradualSelfTraining,
    PseudoLabelled,
    load_task,
    make_pipeline,
)
from ftransfer.search.data_level import with_via
from ftransfer.shipped import shipped_folder

SHARE = 0.8


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--domain", default="handwritten", help="digits to turn: printed or handwritten")
    parser.add_argument("--step", type=int, default=15, metavar="DEGREES")
    parser.add_argument("--last", type=int, default=90, metavar="DEGREES")
    parser.add_argument("--features", metavar="FOLDER")
    parser.add_argument("--source")
    parser.add_argument("--via", help="domains with commas between them")
    parser.add_argument("--target")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    try:
        draw = of_features(options) if options.features else of_digits(options)
    except FtransferError as error:
        sys.exit(str(error))
    found = [measure(*draw(seed), seed) for seed in range(options.seeds)]
    for way in found[0]:
        values = [100 * each[way] for each in found]
        print(f"{way:<32}{np.mean(values):6.1f} ±{np.std(values, ddof=min(1, len(values) - 1)):4.1f}")


def measure(source, labels, via, target, answers, seed):
    """Accuracy on the target, by way."""
    X, y = np.vstack([source, target]), np.r_[labels, np.full(len(target), -1)]
    wrong = [via[i] for i in np.random.default_rng(seed).permutation(len(via))] if len(via) > 1 else []
    logistic, around = (
        LogisticRegression(max_iter=1000),
        PseudoLabelled(LogisticRegression(C=10.0, max_iter=1000)),
    )
    ways = {
        "source only": make_plain_pipeline(StandardScaler(), logistic),
        "one step, scaled": make_pipeline(DomainScaler(), logistic),
        "one step, pseudo-labels": make_pipeline(DomainScaler(), Normalizer(), around),
        "one step, self-training": make_pipeline(GradualSelfTraining(logistic)),
        "the way in order": make_pipeline(GradualSelfTraining(logistic, via=via)),
    }
    if wrong:
        ways["the way in the wrong order"] = make_pipeline(GradualSelfTraining(logistic, via=wrong))
    found = {}
    for way, pipeline in ways.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            seen = y != -1 if way == "source only" else slice(None)
            predicted = pipeline.fit(X[seen], y[seen]).predict(target)
        found[way] = float((predicted == answers).mean())
    return found


def of_digits(options):
    """Turn digits, each image by one angle, and embed them by all."""
    with zipfile.ZipFile(shipped_folder("data") / "digits.zip") as digits:
        names = sorted(
            n for n in digits.namelist() if n.startswith(f"{options.domain}/") and n.endswith(".png")
        )
        if not names:
            raise FtransferError(f"no digits {options.domain}; there are printed and handwritten")
        images = [Image.open(digits.open(name)).convert("RGB") for name in names]
    labels = np.array([int(name.split("/")[1]) for name in names])
    angles, backbone = list(range(0, options.last + 1, options.step)), Backbone("small_cnn")

    def draw(seed):
        which = np.random.default_rng(seed).permutation(len(images)) % len(angles)
        batch = [
            backbone.preprocess(
                image.rotate(angles[k], Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0)))
            )
            for image, k in zip(images, which, strict=True)
        ]
        X = np.vstack([backbone.embed(torch.stack(batch[i : i + 256])) for i in range(0, len(batch), 256)])
        first, last = which == 0, which == len(angles) - 1
        via = [X[which == k] for k in range(1, len(angles) - 1)]
        return X[first], labels[first], via, X[last], labels[last]

    return draw


def of_features(options):
    """Take domains of a feature set."""
    features = FeatureSet(options.features)
    task = load_task(features, options.source, options.target)
    task = with_via(task, features, options.via.split(","))
    answers = task.answers.codes

    def draw(seed):
        rng = np.random.default_rng(seed)

        def some(n):
            return np.sort(rng.permutation(n)[: round(SHARE * n)])

        rows, target = some(int(task.is_source.sum())), some(len(answers))
        target = target[answers[target] >= 0]
        via = [X[some(len(X))] for _, X in task.via]
        return task.X[rows], task.y[rows], via, task.X_target[target], answers[target]

    return draw


if __name__ == "__main__":
    main()
