"""How sure predictions are, and what is flagged as far from the training domains, on feature sets of one fingerprint.

    ftransfer extract ../shared/real/pacs --out pacs --backbone squeezenet1_1 --weights FILE
    ftransfer extract ../shared/real/office_caltech10 --out office --backbone squeezenet1_1 --weights FILE
    python benchmarks/confidence.py pacs office

For each ordered pair of domains a recipe is fitted on 80 % of the source and half of the target. Columns, in
percent: accuracy on the held-out rows of the source (by its own map) and of the target; how sure the pipeline is of
the latter on average by itself ("raw"), with the temperature that suits held-out source rows ("source T"), and with
the one that is used ("sure"); the share flagged as far among both; then that of every other domain. At the end, for
each of the three, the mean and the largest distance from the accuracy, and the mean expected calibration error in ten
bins. Target labels are used for the count alone. Seven ways to choose the temperature were compared on these pairs.
"""

import argparse
from dataclasses import replace
from itertools import permutations

import numpy as np
from threadpoolctl import threadpool_limits

from ftransfer import FeatureSet, Model, load_pipeline, load_task
from ftransfer.model.confidence import probability, source_temperature
from ftransfer.report.numbers import calibration

RECIPES = {
    "source_only_logistic": {},
    "scaled_logistic": {"logisticregression__C": 0.01},
    "coral_svm": {"coral__ridge": 10.0},
    "scaled_forest": {},
    "pseudo_svm": {},
}
WAYS = ("raw", "source T", "sure")


def held_out(rng, rows, share):
    """Split rows into those to fit on and those held out."""
    rows = rng.permutation(rows)
    cut = round(share * len(rows))
    return np.sort(rows[cut:]), np.sort(rows[:cut])


def measure(features, source, target, recipe, others):
    """Return the columns of one pair, and the calibration errors of its three probabilities."""
    task = load_task(features, source, target, classes="shared")
    rng = np.random.default_rng(0)
    fit_s, out_s = held_out(rng, np.flatnonzero(task.is_source), 0.2)
    fit_t, out_t = held_out(rng, np.flatnonzero(~task.is_source), 0.5)
    rows = np.r_[fit_s, fit_t]
    part = replace(task, X=task.X[rows], y=task.y[rows], sample_domain=task.sample_domain[rows])
    pipeline = load_pipeline(recipe).set_params(**RECIPES[recipe])
    pipeline.fit(part.X, part.y, sample_domain=part.sample_domain)
    model = Model.of(pipeline, part, features, {})
    on_source = pipeline.predict_source(task.X[out_s]) == task.y[out_s]
    codes = pipeline.predict(task.X[out_t])
    right = codes == task.answers.codes[out_t - task.is_source.sum()]
    temperatures = [1.0, source_temperature(pipeline, part.X, part.y, part.sample_domain), model.temperature]
    sure = [calibration(probability(pipeline, task.X[out_t], codes, t), right) for t in temperatures]
    far = [np.mean(model.familiar.distance(task.X[r]) > 1) for r in (out_s, out_t)]
    of_others = {n: model.familiar.distance(X) > 1 for n, X in others.items() if n not in (source, target)}
    numbers = [on_source.mean(), right.mean(), *(each["mean_probability"] for each in sure), *far]
    return numbers, [each["error"] for each in sure], {n: 100 * f.mean() for n, f in of_others.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", nargs="+", metavar="FEATURES", help="folder of a feature set")
    parser.add_argument("--recipe", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME")
    options = parser.parse_args()
    sets = [FeatureSet(folder) for folder in options.features]
    domains = {}
    for features in sets:
        for name, rows in features.complete.query("status == 'ok'").groupby("domain"):
            domains[name] = features.load(rows)
    heads = ["source", "target", *WAYS, "far s", "far t"]
    print(f"{'pair, recipe':<40}" + "".join(f"{head:>9}" for head in heads) + "  far of the others")
    gaps, errors = [], []
    for features in sets:
        labelled = features.complete.dropna(subset="label")["domain"].unique()
        for source, target in permutations(sorted(labelled), 2):
            for recipe in options.recipe:
                numbers, error, far = measure(features, source, target, recipe, domains)
                others = ", ".join(f"{name} {share:.0f}" for name, share in far.items())
                line = "".join(f"{100 * n:9.1f}" for n in numbers)
                print(f"{f'{source} > {target}, {recipe}':<40}{line}  {others}", flush=True)
                gaps.append(100 * (np.array(numbers[2:5]) - numbers[1]))
                errors.append(100 * np.array(error))
    gaps = np.array(gaps)
    for name, values in (
        ("distance from the accuracy, mean", np.abs(gaps).mean(axis=0)),
        ("the most modest", gaps.min(axis=0)),
        ("the most too sure", gaps.max(axis=0)),
        ("calibration error, mean", np.mean(errors, axis=0)),
    ):
        print(f"{name:<58}" + "".join(f"{value:9.1f}" for value in values))


if __name__ == "__main__":
    with threadpool_limits(limits=1):
        main()
