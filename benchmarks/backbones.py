"""Does a ranking of backbones and layers by source labels agree with what they reach on the target?

    ftransfer extract ../shared/real/pacs --out pacs --backbone squeezenet1_1 --weights FILE \\
        --layer features.5 --layer features.8 --layer features.10 --layer features.12 --layer classifier
    ftransfer extract ../shared/real/pacs --out pacs-small --backbone small_cnn
    python benchmarks/backbones.py pacs pacs-small

The feature sets hold the same images. For each pair of domains: every layer's LogME and H-score on the source, and the
accuracy on the target, in per cent, of a logistic regression (C = 0.01) on standardised source rows: ``plain``, and
``scaled``, each domain standardised by itself. The target's labels are used for this count, and for nothing else.
``lost``: how many points the first by LogME stays behind the best layer.
"""

import argparse
import sys
from itertools import permutations

import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ftransfer import FeatureSet, FtransferError, load_task
from ftransfer.compare.backbones import list_layers, rank_features


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", nargs="+", metavar="FEATURES", help="folder of a feature set")
    options = parser.parse_args()
    try:
        sets = [FeatureSet(folder) for folder in options.features]
        domains = sorted(sets[0].complete["domain"].unique())
        tables = [count(sets, *pair) for pair in permutations(domains, 2)]
    except FtransferError as error:
        sys.exit(f"error: {error}")
    print_summary(tables)


def count(sets, source, target):
    """Rank the layers by the source, and count what each reaches on the target."""
    reached = []
    for features in sets:
        task = load_task(features, source, target)
        for layer, columns in list_layers(features):
            X, is_source = task.X[:, columns], task.is_source
            scaler = StandardScaler().fit(X[is_source])
            model = LogisticRegression(C=0.01, max_iter=2000)
            model.fit(scaler.transform(X[is_source]), task.y[is_source])
            by_itself = StandardScaler().fit_transform(X[~is_source])
            reached.append(
                {
                    "features": str(features.folder),
                    "layer": layer,
                    "plain": 100 * task.answers.accuracy(model.predict(scaler.transform(X[~is_source]))),
                    "scaled": 100 * task.answers.accuracy(model.predict(by_itself)),
                }
            )
    table = rank_features(sets, source).merge(pd.DataFrame(reached), on=["features", "layer"])
    print(f"\n{source} -> {target}")
    shown = table[["rank", "backbone", "layer", "width", "logme", "h_score", "plain", "scaled"]]
    print(shown.to_string(index=False, float_format="{:.2f}".format), flush=True)
    return table.assign(pair=f"{source} -> {target}")


def print_summary(tables):
    """Print the rank correlations with the accuracies, pair by pair and on average."""
    rows = {}
    for table in tables:
        rows[table["pair"].iloc[0]] = {
            f"{score} ~ {kind}": table[score].corr(table[kind], method="spearman")
            for kind in ("plain", "scaled")
            for score in ("logme", "h_score", "width")
        } | {f"lost {kind}": table[kind].max() - table[kind].iloc[0] for kind in ("plain", "scaled")}
    summary = pd.DataFrame(rows).T
    summary.loc["mean"] = summary.mean()
    print("\nrank correlations (width: would the number of features have ranked them as well?)")
    print(summary.to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
