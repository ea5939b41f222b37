"""Race every ordered pair of domains in feature sets, and count on the target's labels what was chosen.

    ftransfer extract ../shared/real/office_caltech10 --out office --backbone squeezenet1_1 --weights FILE
    python benchmarks/pairs.py office pacs

Columns: accuracy on the target, in percent, of the best source-only pipeline and the best per-domain scaling
by the same score, of what was recommended, and of the best candidate there was (an oracle that looks at the
target's labels). The labels are used for this count alone.
"""

import sys
from itertools import permutations

import numpy as np

from ftransfer import FeatureSet, load_task, race


def main(folders):
    rows = []
    print(f"{'pair':<24}{'source only':>12}{'scaled':>8}{'chosen':>8}{'oracle':>8}  recommended")
    for folder in folders:
        features = FeatureSet(folder)
        for source, target in permutations(sorted(features.complete["domain"].unique()), 2):
            found = race(load_task(features, source, target, classes="shared"))
            accuracy = 100 * found.table["target_accuracy"]
            first = [
                accuracy[found.table["adaptation"].eq(kind).idxmax()]
                for kind in ("source only", "per-domain scaling")
            ]
            rows.append([*first, accuracy[found.chosen], accuracy.max()])
            numbers = "".join(f"{v:{w}.1f}" for v, w in zip(rows[-1], (12, 8, 8, 8), strict=True))
            chosen = found.table.loc[found.chosen]
            print(
                f"{source + ' > ' + target:<24}{numbers}  {chosen['pipeline']} {chosen['params']}", flush=True
            )
    mean = np.mean(rows, axis=0)
    print(f"{'mean':<24}" + "".join(f"{v:{w}.1f}" for v, w in zip(mean, (12, 8, 8, 8), strict=True)))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
