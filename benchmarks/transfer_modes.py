"""Compare modes of transfer on real domains: what each reaches on both test sets, and the seconds it takes.

    python benchmarks/transfer_modes.py IMAGES --source photo --target cartoon --backbone squeezenet1_1 --weights FILE
    python benchmarks/transfer_modes.py ftransfer-demo/images --source printed --target handwritten --backbone small_cnn

IMAGES is a folder <root>/<domain>/<class>/*. Half of the target and a fifth of the source are the test sets, the same
for all modes; a mode may see the other half of the target, without labels unless the line says so. The modes:

* frozen: embeddings of the backbone as it comes; logistic regression (C=0.01) on raw source rows, and scaled / CORAL /
  pseudo-labels as in benchmarks/methods.py.
* selected: on the frozen embeddings, scaled; logistic regression on three quarters of the source rows, those nearest to
  the target or those that a domain classifier takes for it.
* views: one further view of each source image, flip,crop,colour or fourier (amplitudes of target images), embedded by
  the frozen backbone; source only, scaled and pseudo-labels.
* adabn: batch-norm statistics re-estimated on each domain, then source only (backbones with batch norm).
* tuned: the backbone trained on the source's labels, layers up to --freeze-until left as they are; counted by its
  own head, then by its embeddings with the same adaptations.
* mixed: as tuned, on images mixed by mixup or by CutMix, or that take the amplitudes of target images (fourier).
* contrast: the backbone trained without labels on the images of both (SimCLR), then embeddings with the adaptations.
* labels: N labels a class of the target. Logistic regression on frozen embeddings of them and the source, each domain
  scaled; the backbone fine-tuned on them, from the one fine-tuned on the source or as it comes.
* losses: as tuned, own head, and a term of the loss that stays near the network as it starts: l2sp, features.
* align: as tuned, own head, and a term that brings the target's unlabelled images near: adversarial, coral, mmd.
* distilled: the backbone as it comes learns the scores of the one trained on the source, on the target's images.

Settings are the defaults of `Training` but for what the options say. One of these was chosen by target accuracy, on
printed to handwritten digits and on amazon to webcam: the weight of coral, 0.1 in place of 1.
Each seed draws other test sets, heads and orders; accuracies are means, with the standard deviation of several seeds.
Seconds are those of this machine, each mode from the images on: decoding, embedding, training, fitting.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer

from ftransfer import (
    CORAL,
    Backbone,
    DomainScaler,
    FtransferError,
    PseudoLabelled,
    SourceSelected,
    Training,
    adapt_batch_norm,
    extract_features,
    find_images,
    fine_tune,
    make_pipeline,
    save_backbone,
)
from ftransfer.finetune.data import split_rows
from ftransfer.images.styles import read_styles
from ftransfer.images.views import describe_views

TEST, SOURCE_TEST = 0.5, 0.2


class Row(NamedTuple):
    """What one way reached: accuracies on the test sets of source and target, and seconds."""

    way: str
    source: float
    target: float
    seconds: float


class Pair:
    """A source and a target, divided by a seed: what trains, what is seen, what counts."""

    def __init__(self, table, options, folder, seed, shared):
        self.table, self.options, self.folder, self.seed = table, options, folder, seed
        self.made, self.shared = {}, shared  # once for this seed, and once for all of them
        is_source = (table["domain"] == options.source).to_numpy()
        use = {
            share: split_rows(table, "label", validation=0.0, test=share, seed=seed)
            for share in (TEST, SOURCE_TEST)
        }
        few = split_rows(
            table, "label", validation=0.0, test=TEST, labels_per_class=options.labels, seed=seed
        )
        self.is_source = is_source
        self.source_test, self.target_test = (
            is_source & (use[SOURCE_TEST] == "test"),
            ~is_source & (use[TEST] == "test"),
        )
        self.source, self.unlabelled = is_source & ~self.source_test, ~is_source & ~self.target_test
        self.few = (few == "train") & ~is_source
        self.labels = np.unique(table["label"], return_inverse=True)[1]

    def right(self, predicted):
        """Accuracies on the test sets of source and target, of labels predicted for all rows."""
        right = predicted == self.labels
        return float(right[self.source_test].mean()), float(right[self.target_test].mean())

    def counted(self, results):
        """Accuracies on both test sets by the network's own head."""
        return (
            results["accuracy"]["source test"]["label"]["accuracy"],
            results["accuracy"]["target test"]["label"]["accuracy"],
        )

    def tune(self, rows, name, unlabelled=False, **settings):
        """Train on some rows, the domain "train", or on their images alone; return checkpoint, results and seconds.

        The table's domains are "train", "unlabelled" (the target's, with no labels), "source test", "target test".
        """
        started = time.monotonic()
        seen = rows | self.source_test | self.target_test
        domain = np.select(
            [rows, self.source_test, self.target_test], ["train", "source test", "target test"], ""
        )
        label = self.table["label"].mask(rows) if unlabelled else self.table["label"]
        table = self.table.assign(domain=domain, label=label)
        if "target" in settings:
            unlabelled = self.table.assign(domain="unlabelled", label=None)[self.unlabelled]
            table, seen = pd.concat([table[seen], unlabelled]), slice(None)
        options, out = self.options, self.folder / f"{self.seed}-{name}.safetensors"
        common = {
            "backbone": options.backbone,
            "weights": options.weights,
            "freeze_until": options.freeze_until,
            "rules": tuple(filter(None, options.rules.split(","))),
            "epochs": options.epochs,
            "domains": ("train",),
            "seed": self.seed,
        }
        results = fine_tune(table[seen].reset_index(drop=True), out, Training(**common | settings))
        return out, results, time.monotonic() - started

    def tuned(self):
        """The backbone trained on the source's labels, once."""
        if "tuned" not in self.made:
            self.made["tuned"] = self.tune(self.source, "tuned")
        return self.made["tuned"]

    def embed(self, weights, rows=None, views=None):
        """Embed all rows, or some, and return the seconds as well; with views one array for each."""
        started = time.monotonic()
        images = self.table if rows is None else self.table[rows].reset_index(drop=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            features = extract_features(
                images,
                Path(folder) / "features",
                Backbone(self.options.backbone, weights),
                strict=True,
                views=views,
            )
            rows = features.manifest.set_index("path", drop=False).loc[images["path"]]
            X = [features.load(rows, view=view) for view in range(features.n_views)]
        return X if views else X[0], time.monotonic() - started

    def frozen(self):
        """Embeddings of the backbone as it comes, once."""
        if "frozen" not in self.shared:
            self.shared["frozen"] = self.embed(self.options.weights)
        return self.shared["frozen"]

    def fit(
        self, name, X, seconds, adaptations=("source only", "scaled", "CORAL", "pseudo-labels")
    ) -> Iterator[Row]:
        """Fit on source rows (of all views, where `X` is a list of them) and unlabelled target rows, and count."""
        more = [view[self.source] for view in X[1:]] if isinstance(X, list) else []
        X = X[0] if isinstance(X, list) else X
        seen, y = self.source | self.unlabelled, np.where(self.is_source, self.labels, -1)
        for adaptation in adaptations:
            started = time.monotonic()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                rows = np.concatenate([X[seen], *more])
                pipeline = make(adaptation).fit(rows, np.r_[y[seen], np.tile(y[self.source], len(more))])
            predicted = pipeline.predict(X)
            predicted[self.is_source] = pipeline.predict_source(X[self.is_source])
            yield Row(f"{name}, {adaptation}", *self.right(predicted), seconds + time.monotonic() - started)


# ---------------------------------------------------------------- the modes: each yields its rows


def frozen(pair) -> Iterator[Row]:
    """Fit on frozen features."""
    yield from pair.fit("frozen", *pair.frozen())


def selected(pair) -> Iterator[Row]:
    """Fit on a part of the source."""
    yield from pair.fit("frozen", *pair.frozen(), ["scaled, nearest 3/4", "scaled, odds 3/4"])


def views(pair) -> Iterator[Row]:
    """Add a view of each source image."""
    for names in ("flip,crop,colour", "fourier"):
        styles = read_styles(pair.table[pair.unlabelled], pair.options.target) if names == "fourier" else ()
        X, seconds = pair.embed(pair.options.weights, views=describe_views(2, names, styles))
        yield from pair.fit(f"views, {names}", X, seconds, ["source only", "scaled", "pseudo-labels"])


def adabn(pair) -> Iterator[Row]:
    """Embed each domain by its own batch-norm statistics."""
    started = time.monotonic()
    backbone = Backbone(pair.options.backbone, pair.options.weights)
    X = np.empty((len(pair.table), backbone.width), np.float32)
    for seen, rows in ((pair.source, pair.is_source), (pair.unlabelled, ~pair.is_source)):
        try:
            adapt_batch_norm(pair.table[seen], backbone)
        except FtransferError as error:
            print(f"AdaBN: {error}", file=sys.stderr)
            return
        save_backbone(backbone, pair.folder / "adapted.safetensors")
        X[rows] = pair.embed(pair.folder / "adapted.safetensors", rows)[0]
    yield from pair.fit("AdaBN", X, time.monotonic() - started, ["source only"])


def tuned(pair) -> Iterator[Row]:
    """Train on the source's labels."""
    out, results, seconds = pair.tuned()
    yield Row("fine-tuned on source, own head", *pair.counted(results), seconds)
    X, more = pair.embed(out)
    yield from pair.fit("fine-tuned on source", X, seconds + more)


def mixed(pair) -> Iterator[Row]:
    """Train on the source's labels, its images mixed."""
    for rule in ("mixup", "cutmix", "fourier"):
        more = {"target": "unlabelled"} if rule == "fourier" else {}
        rules = (*filter(None, pair.options.rules.split(",")), rule)
        out, results, seconds = pair.tune(pair.source, rule, rules=rules, **more)
        yield Row(f"fine-tuned, {rule}, own head", *pair.counted(results), seconds)
        X, more_seconds = pair.embed(out)
        yield from pair.fit(f"fine-tuned, {rule}", X, seconds + more_seconds, ["scaled"])


def contrast(pair) -> Iterator[Row]:
    """Train without labels on both domains."""
    rows = pair.source | pair.unlabelled
    out, _, seconds = pair.tune(rows, "contrast", self_supervised="simclr")
    X, more = pair.embed(out)
    yield from pair.fit("SimCLR on both", X, seconds + more, ["source only", "scaled", "pseudo-labels"])


def labels(pair) -> Iterator[Row]:
    """Use a few labels of the target."""
    n = pair.options.labels
    X, seconds = pair.frozen()
    started = time.monotonic()
    X = DomainScaler().fit_transform(X, np.where(pair.is_source, pair.labels, -1))
    fitted = pair.source | pair.few
    # a domain weighs as the other
    weight = np.where(pair.few, pair.source.sum() / pair.few.sum(), 1.0)
    model = LogisticRegression(C=0.01, max_iter=1000)
    model.fit(X[fitted], pair.labels[fitted], sample_weight=weight[fitted])
    yield Row(
        f"frozen, scaled, and {n} a class",
        *pair.right(model.predict(X)),
        seconds + time.monotonic() - started,
    )
    source, _, before = pair.tuned()
    # few rows make few steps an epoch, so there are more of them; and none is spared to stop early
    few = {"validation": 0.0, "epochs": 3 * pair.options.epochs}
    _, results, seconds = pair.tune(pair.few, "few", weights=str(source), **few)
    yield Row(f"fine-tuned on source, then {n} a class", *pair.counted(results), before + seconds)
    _, results, seconds = pair.tune(pair.few, "alone", **few)
    yield Row(f"fine-tuned on {n} a class alone", *pair.counted(results), seconds)


def losses(pair) -> Iterator[Row]:
    """Train on the source's labels and a term that stays near the network as it starts."""
    for name in ("l2sp", "features"):
        _, results, seconds = pair.tune(pair.source, name, transfer_loss=name)
        yield Row(f"fine-tuned on source, {name}", *pair.counted(results), seconds)


def align(pair) -> Iterator[Row]:
    """Train on the source's labels and bring the target's unlabelled images near."""
    for name, weight in (("adversarial", None), ("coral", None), ("coral", 1.0), ("mmd", None)):
        said = name if weight is None else f"{name}, weight {weight:g}"
        _, results, seconds = pair.tune(
            pair.source, said, align=name, align_weight=weight, target="unlabelled"
        )
        yield Row(f"fine-tuned on source, {said}", *pair.counted(results), seconds)


def distilled(pair) -> Iterator[Row]:
    """Train on the images of the target by the scores of the network that was trained on the source."""
    teacher, _, before = pair.tuned()
    told = {"teacher": pair.options.backbone, "teacher_weights": str(teacher), "transfer_loss": "logits"}
    _, results, seconds = pair.tune(pair.unlabelled, "distilled", unlabelled=True, **told)
    yield Row("target by the source's scores (logits)", *pair.counted(results), before + seconds)


MODES = {
    each.__name__: each
    for each in (frozen, selected, views, adabn, tuned, mixed, contrast, labels, losses, align, distilled)
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", metavar="IMAGES", help="folder <root>/<domain>/<class>/*")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--modes", default=",".join(MODES), help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="0 to N - 1")
    parser.add_argument("--freeze-until", metavar="LAYER", help="of fine-tuning")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--labels", type=int, default=5, metavar="N", help="of each class of the target")
    parser.add_argument("--rules", default="", help="of fine-tuning: flip,colour,channels")
    parser.add_argument("--per-class", type=int, metavar="N", help="take so many images of each class")
    parser.add_argument("--out", metavar="FILE", help="write every row of every seed as .csv")
    parser.add_argument("--plot", metavar="FILE", help="draw accuracy against seconds, with matplotlib")
    options = parser.parse_args()
    try:
        rows = compare(options)
    except FtransferError as error:
        sys.exit(str(error))
    if options.plot:
        plot(rows.groupby("way", sort=False).mean(), options)


def compare(options) -> pd.DataFrame:
    """Run the modes, print a line for each row, and return all rows of all seeds."""
    table = find_images(options.images)
    for name in (options.source, options.target):
        if name not in set(table["domain"]):
            raise FtransferError(f"no domain {name}; domains found: {', '.join(table['domain'].unique())}")
    modes = options.modes.split(",")
    if wrong := [mode for mode in modes if mode not in MODES]:
        raise FtransferError(f"no mode {wrong[0]}; modes found: {', '.join(MODES)}")
    table = table[table["domain"].isin([options.source, options.target])]
    if options.per_class:
        drawn = table.sample(frac=1, random_state=0).groupby(["domain", "label"]).head(options.per_class)
        table = drawn.sort_values(["domain", "path"])
    table, rows = table.reset_index(drop=True), []
    print(
        f"{options.source} > {options.target}, {options.backbone}: {len(table)} images, {options.seeds} seeds"
    )
    print(f"{'way':<44}{'source':>13}{'target':>13}{'seconds':>9}")
    with tempfile.TemporaryDirectory() as folder:
        shared: dict = {}
        pairs = [Pair(table, options, Path(folder), seed, shared) for seed in range(options.seeds)]
        for mode in modes:
            found = [{"seed": pair.seed, **row._asdict()} for pair in pairs for row in MODES[mode](pair)]
            show(pd.DataFrame(found, columns=["seed", *Row._fields]))
            rows += found
            if options.out:
                pd.DataFrame(rows).to_csv(options.out, index=False)
    return pd.DataFrame(rows, columns=["seed", *Row._fields])


def show(found):
    """Print the mean of each way over the seeds, and the standard deviation where there are several."""
    for way, each in found.groupby("way", sort=False):
        text = ""
        for name in ("source", "target"):
            spread = f" ±{100 * each[name].std():4.1f}" if len(each) > 1 else ""
            text += f"{f'{100 * each[name].mean():.1f}{spread}':>13}"
        print(f"{way:<44}{text}{each['seconds'].mean():9.1f}", flush=True)


def make(adaptation):
    """Make the pipeline of an adaptation, as benchmarks/methods.py sets it."""
    plain = LogisticRegression(C=0.01, max_iter=1000)
    if adaptation == "source only":
        return make_pipeline(plain)
    if adaptation == "scaled":
        return make_pipeline(DomainScaler(), plain)
    if adaptation.startswith("scaled, "):
        return make_pipeline(DomainScaler(), SourceSelected(plain, criterion=adaptation.split()[1]))
    if adaptation == "CORAL":
        return make_pipeline(DomainScaler(), CORAL(ridge=1.0), plain)
    own = PseudoLabelled(LogisticRegression(C=10.0, max_iter=1000))
    return make_pipeline(DomainScaler(), Normalizer(), own)


def plot(rows, options):
    """Draw accuracy on the target against seconds."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for way, row in rows.iterrows():
        axes.plot(row["seconds"], 100 * row["target"], "o", color="C1" if "tuned" in way else "C0")
        axes.annotate(
            way, (row["seconds"], 100 * row["target"]), fontsize=7, xytext=(4, 2), textcoords="offset points"
        )
    axes.set(xscale="log", xlabel="seconds", ylabel="accuracy on the target, per cent")
    axes.set_title(f"{options.source} > {options.target}, {options.backbone}")
    figure.savefig(options.plot)


if __name__ == "__main__":
    main()
