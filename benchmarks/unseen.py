"""Judge the choice for a domain never seen: each domain of a feature set in turn, all others its sources.

    ftransfer extract ../shared/real/pacs --out pacs --backbone squeezenet1_1 --weights FILE
    python benchmarks/unseen.py pacs

In per cent: what the recommended candidate reached on the sources that were held out, by which it was chosen; on the
target, which took no part; the best source-only candidate by the same score; and the best leading setting of any
recipe, by the target's labels, which is what a choice without them is measured by.
"""

import argparse
import sys

from ftransfer import FeatureSet, FtransferError, load_task, race

COLUMNS = ("held out", "chosen", "source only", "hindsight")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "features", metavar="FEATURES", help="folder of a feature set with three domains or more"
    )
    parser.add_argument("--pipeline", action="append", metavar="NAME", help="recipe; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="pipelines fitted at the same time")
    options = parser.parse_args()
    print(f"{'target':<16}" + "".join(f"{name:>13}" for name in COLUMNS) + "  recommended")
    rows = []
    try:
        for target, found in races(FeatureSet(options.features), options):
            rows.append(count(found))
            numbers = "".join(f"{100 * each:13.1f}" for each in rows[-1])
            print(f"{target:<16}{numbers}  {found.table['pipeline'][found.chosen]}", flush=True)
    except FtransferError as error:
        sys.exit(str(error))
    print(
        f"{'mean':<16}" + "".join(f"{100 * sum(each) / len(rows):13.1f}" for each in zip(*rows, strict=True))
    )


def races(features, options):
    """Race for each domain as the target; yield its name and what was found."""
    domains = sorted(features.complete["domain"].unique())
    if len(domains) < 3:
        raise FtransferError(
            f"three domains are needed, to hold one source out; {features.folder} has {len(domains)}"
        )
    for target in domains:
        task = load_task(features, [d for d in domains if d != target], target, leave_target_out=True)
        yield target, race(task, options.pipeline, jobs=options.jobs)


def count(found):
    """Count what `COLUMNS` names."""
    best = found.best_of_each
    plain = best[best["adaptation"] == "source only"].iloc[0]
    chosen = found.table.loc[found.chosen]
    return chosen["score"], chosen["target_accuracy"], plain["target_accuracy"], best["target_accuracy"].max()


if __name__ == "__main__":
    main()
