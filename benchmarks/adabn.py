"""Compare batch-norm statistics of the target's own (AdaBN) with those that a backbone came with.

    python benchmarks/adabn.py office_caltech10 --backbone lite0.py --out adabn
    python benchmarks/adabn.py pacs --backbone resnet50 --out adabn --targets sketch

IMAGES is a folder <root>/<domain>/<class>/*. All images are embedded by the backbone as it came, and those of each
domain by statistics of its own, into the folder --out, where a second call finds them. A logistic regression (C=0.01)
is fitted on all rows of the source, as they are and with each domain scaled by itself, and counted on all rows of the
target, whose labels nothing else sees: with no statistics adapted, those of the target alone, and those of both
domains. Nothing is tuned.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from ftransfer import DomainScaler, extract_adapted, extract_features, find_images, make_pipeline
from ftransfer.backbone.backbone import open_backbone

COLUMNS = {"as it came": 12, "target": 9, "both": 9, "scaled: as it came": 20, "target ": 9, "both ": 9}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", metavar="IMAGES", help="folder <root>/<domain>/<class>/*")
    parser.add_argument("--backbone", default="resnet50", help="a name, timm:NAME or FILE.py")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--targets", nargs="+", metavar="DOMAIN", help="[default: each domain]")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="keeps the features")
    options = parser.parse_args()
    table, name = find_images(options.images), Path(options.images).name
    domains = sorted(table["domain"].unique())

    def backbone():
        return open_backbone(options.backbone, options.weights)

    plain = extract_features(table, options.out / f"{name}-plain", backbone())
    adapted = {
        domain: extract_adapted(
            table[table["domain"] == domain], options.out / f"{name}-{domain}", backbone(), [domain]
        )
        for domain in domains
    }
    print(f"{'source to target':<24}{'rows':>6}" + "".join(f"{c:>{w}}" for c, w in COLUMNS.items()))
    for target in options.targets or domains:
        own = adapted[target]
        for source in domains:
            if source == target:
                continue
            row = [
                accuracy(given, source, asked, target, steps)
                for steps in ([], [DomainScaler()])
                for given, asked in ((plain, plain), (plain, own), (adapted[source], own))
            ]
            shown = "".join(f"{a:{w}.1%}" for a, w in zip(row, COLUMNS.values(), strict=True))
            print(f"{source + ' to ' + target:<24}{len(own.complete):6d}{shown}", flush=True)


def accuracy(of_source, source: str, of_target, target: str, steps: list) -> float:
    """Return the share of the target's rows that are labelled right, each domain taken from its feature set."""
    given, asked = of_source.complete.query("status == 'ok'"), of_target.complete.query("status == 'ok'")
    given, asked = given[given["domain"] == source], asked[asked["domain"] == target]
    X = np.concatenate([of_source.load(given), of_target.load(asked)])
    classes, codes = np.unique(given["label"].to_numpy(str), return_inverse=True)
    y = np.r_[codes, np.full(len(asked), -1)]
    fitted = make_pipeline(*steps, LogisticRegression(C=0.01, max_iter=2000)).fit(X, y)
    return float((classes[fitted.predict(X[len(given) :])] == asked["label"].to_numpy(str)).mean())


if __name__ == "__main__":
    main()
