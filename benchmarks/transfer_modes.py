"""Compare ways to transfer on real domains: what each reaches on the target, and the seconds it takes.

    python benchmarks/transfer_modes.py IMAGES --source photo --target cartoon --backbone squeezenet1_1 --weights FILE
    python benchmarks/transfer_modes.py ftransfer-demo/images --source printed --target handwritten --backbone small_cnn

IMAGES is a folder <root>/<domain>/<class>/*. Half of the target, the same for all rows, is kept for counting; the
other half is what the ways may see, without labels but where the line says so. The ways:

* frozen, source only: embeddings of the backbone as it comes, logistic regression (C=0.01) on raw source rows.
* frozen, scaled / CORAL / pseudo-labels: as in benchmarks/methods.py, on the same embeddings.
* AdaBN: batch-norm statistics re-estimated on each domain, then source only (backbones with batch norm).
* fine-tuned: the backbone trained on the source's labels, layers up to --freeze-until left as they are; counted by its
  own head, then by its embeddings with the same adaptations.
* N a class: so many labels of the target. Logistic regression on frozen embeddings of them and the source, each domain
  scaled; the backbone fine-tuned on them, from the one fine-tuned on the source or as it comes.

Nothing is tuned on these or other data; settings are the defaults of `Training` but for what the options say.
Seconds are those of this machine and one run, each way from the images on: decoding, embedding, training, fitting.
"""

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer

from ftransfer import (
    CORAL,
    Backbone,
    DomainScaler,
    FtransferError,
    PseudoLabelled,
    Training,
    adapt_batch_norm,
    extract_features,
    find_images,
    fine_tune,
    make_pipeline,
    save_backbone,
)
from ftransfer.finetune.data import split_rows

TEST = 0.5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", metavar="IMAGES", help="folder <root>/<domain>/<class>/*")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--freeze-until", metavar="LAYER", help="of fine-tuning")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--labels", type=int, default=5, metavar="N", help="of each class of the target")
    parser.add_argument("--rules", default="", help="of fine-tuning: flip,colour,channels")
    parser.add_argument("--per-class", type=int, metavar="N", help="take so many images of each class")
    parser.add_argument("--plot", metavar="FILE", help="draw accuracy against seconds, with matplotlib")
    options = parser.parse_args()
    try:
        rows = compare(options)
    except FtransferError as error:
        sys.exit(str(error))
    if options.plot:
        plot(rows, options)


def compare(options) -> list[tuple[str, float, float]]:
    """Run all ways, print a line for each, and return (way, accuracy, seconds)."""
    table = find_images(options.images)
    for name in (options.source, options.target):
        if name not in set(table["domain"]):
            raise FtransferError(f"no domain {name}; domains found: {', '.join(table['domain'].unique())}")
    table = table[table["domain"].isin([options.source, options.target])]
    if options.per_class:
        drawn = table.sample(frac=1, random_state=0).groupby(["domain", "label"]).head(options.per_class)
        table = drawn.sort_values(["domain", "path"])
    table = table.reset_index(drop=True)
    shown = []
    print(f"{options.source} > {options.target}, {options.backbone}: {len(table)} images")
    print(f"{'way':<44}{'accuracy':>9}{'seconds':>9}")

    def show(way, accuracy, seconds):
        shown.append((way, accuracy, seconds))
        print(f"{way:<44}{100 * accuracy:9.1f}{seconds:9.1f}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        Ways(table, options, Path(folder), show).go()
    return shown


class Ways:
    """The ways on one pair of domains; each of them sees the same rows."""

    def __init__(self, table, options, folder, show):
        self.table, self.options, self.folder, self.show = table, options, folder, show
        self.is_source = (table["domain"] == options.source).to_numpy()
        use = split_rows(table, "label", validation=0.0, test=TEST)
        self.counts = (use == "test") & ~self.is_source
        few = split_rows(table, "label", validation=0.0, test=TEST, labels_per_class=options.labels)
        self.few = (few == "train") & ~self.is_source
        self.classes, self.labels = np.unique(table["label"], return_inverse=True)

    def go(self):
        """Run all of them."""
        options = self.options
        self.embedded("frozen", options.weights, 0.0)
        self.few_labels()
        started = time.monotonic()
        try:
            backbone = Backbone(options.backbone, options.weights)
            X = np.empty((len(self.table), backbone.width), np.float32)
            for seen, rows in (
                (self.is_source, self.is_source),
                (~self.is_source & ~self.counts, ~self.is_source),
            ):
                adapt_batch_norm(self.table[seen], backbone)
                file = self.folder / "adapted.safetensors"
                save_backbone(backbone, file)
                X[rows] = self.embed(file, rows)
            self.fit("AdaBN, source only", X, time.monotonic() - started, ["source only"])
        except FtransferError as error:
            print(f"AdaBN: {error}")
        tuned, began = self.folder / "tuned.safetensors", time.monotonic()
        settings = {
            "backbone": options.backbone,
            "freeze_until": options.freeze_until,
            "rules": tuple(filter(None, options.rules.split(","))),
        }
        table = self.table.assign(domain=self.table["domain"].mask(self.few, "few"))

        def tune(rows, out, **more):
            return fine_tune(table[rows | self.counts], out, Training(**settings, **more))

        source = {"domains": (options.source,), "epochs": options.epochs}
        results = tune(self.is_source, tuned, weights=options.weights, **source)
        seconds = time.monotonic() - began
        self.show("fine-tuned on source, own head", self.right(results), seconds)
        self.embedded("fine-tuned on source", tuned, seconds)
        for way, weights, before in (
            (f"fine-tuned on source, then {options.labels} a class", tuned, seconds),
            (f"fine-tuned on {options.labels} a class alone", options.weights, 0.0),
        ):
            # few rows make few steps an epoch, so there are more of them; and none is spared to stop early
            few = {"domains": ("few",), "validation": 0.0, "epochs": 3 * options.epochs}
            started = time.monotonic()
            results = tune(self.few, self.folder / "few.safetensors", weights=str(weights), **few)
            self.show(way, self.right(results), before + time.monotonic() - started)

    def right(self, results):
        """Share of the counted rows that the network's own head reads rightly."""
        return results["accuracy"][self.options.target]["label"]["accuracy"]

    def embedded(self, name, weights, seconds):
        """Embed all rows with some weights, and fit what is fitted on embeddings."""
        started = time.monotonic()
        self.X = self.embed(weights, np.ones(len(self.table), dtype=bool))
        self.seconds = seconds + time.monotonic() - started
        self.fit(name, self.X, self.seconds, ["source only", "scaled", "CORAL", "pseudo-labels"])

    def embed(self, weights, rows):
        """Embed some rows."""
        images = self.table[rows].reset_index(drop=True)
        folder = self.folder / f"features{len(list(self.folder.glob('features*')))}"
        features = extract_features(images, folder, Backbone(self.options.backbone, weights), strict=True)
        return features.load(features.manifest.set_index("path", drop=False).loc[images["path"]])

    def fit(self, name, X, seconds, adaptations):
        """Fit on source rows and unlabelled target rows, and count."""
        y = np.where(self.is_source, self.labels, -1)
        seen = ~self.counts
        for adaptation in adaptations:
            started = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                pipeline = make(adaptation).fit(X[seen], y[seen])
            accuracy = float((pipeline.predict(X[self.counts]) == self.labels[self.counts]).mean())
            way = name if len(adaptations) == 1 else f"{name}, {adaptation}"
            self.show(way, accuracy, seconds + time.monotonic() - started)

    def few_labels(self):
        """Fit on source rows and a few labelled target rows, each domain scaled by all of its rows."""
        started = time.monotonic()
        X = DomainScaler().fit_transform(self.X, np.where(self.is_source, self.labels, -1))
        fitted = self.is_source | self.few
        weight = np.where(
            self.few, self.is_source.sum() / self.few.sum(), 1.0
        )  # a domain weighs as the other
        model = LogisticRegression(C=0.01, max_iter=1000)
        model.fit(X[fitted], self.labels[fitted], sample_weight=weight[fitted])
        accuracy = float((model.predict(X[self.counts]) == self.labels[self.counts]).mean())
        self.show(
            f"frozen, scaled, and {self.options.labels} a class",
            accuracy,
            self.seconds + time.monotonic() - started,
        )


def make(adaptation):
    """Make the pipeline of an adaptation, as benchmarks/methods.py sets it."""
    plain = LogisticRegression(C=0.01, max_iter=1000)
    if adaptation == "source only":
        return make_pipeline(plain)
    if adaptation == "scaled":
        return make_pipeline(DomainScaler(), plain)
    if adaptation == "CORAL":
        return make_pipeline(DomainScaler(), CORAL(ridge=1.0), plain)
    own = PseudoLabelled(LogisticRegression(C=10.0, max_iter=1000))
    return make_pipeline(DomainScaler(), Normalizer(), own)


def plot(rows, options):
    """Draw accuracy against seconds."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for way, accuracy, seconds in rows:
        axes.plot(seconds, 100 * accuracy, "o", color="C1" if "tuned" in way else "C0")
        axes.annotate(way, (seconds, 100 * accuracy), fontsize=7, xytext=(4, 2), textcoords="offset points")
    axes.set(xscale="log", xlabel="seconds", ylabel="accuracy on the target, per cent")
    axes.set_title(f"{options.source} > {options.target}, {options.backbone}")
    figure.savefig(options.plot)


if __name__ == "__main__":
    main()
