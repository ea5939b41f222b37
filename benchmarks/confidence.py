"""How sure predictions are, and what is flagged as far from the training domains, on feature sets of one recipe.

    ftransfer extract ../shared/real/pacs --out pacs --backbone squeezenet1_1 --weights FILE
    ftransfer extract ../shared/real/office_caltech10 --out office --backbone squeezenet1_1 --weights FILE
    python benchmarks/confidence.py pacs office

For each ordered pair of domains a recipe is fitted on 80 % of the source and half of the target. Columns, in
percent: accuracy and mean probability on the held-out rows of source (by its own map) and target; the share
flagged as far among them; then that of every other domain. Target labels are used for the count alone.
"""

import sys
from dataclasses import replace
from itertools import permutations

import numpy as np

from ftransfer import FeatureSet, Model, load_pipeline, load_task
from ftransfer.confidence import probability

RECIPES = ["scaled_logistic", "coral_svm"]


def held_out(rng, rows, share):
    """Split rows into those to fit on and those held out."""
    rows = rng.permutation(rows)
    cut = round(share * len(rows))
    return np.sort(rows[cut:]), np.sort(rows[:cut])


class AsSource:
    """A pipeline that maps every row as one of the source, for the count on held-out source rows."""

    def __init__(self, pipeline, task):
        self.pipeline, self.classes_ = pipeline, pipeline.classes_
        self.code = task.sample_domain.max()
        for method in ("predict_proba", "decision_function"):
            if hasattr(pipeline, method):
                setattr(self, method, lambda X, method=method: self.ask(X, method))

    def ask(self, X, method="predict"):
        domain = np.full(len(X), self.code)
        return self.pipeline.predict_source(X, sample_domain=domain, method=method)


def measure(features, source, target, recipe, others):
    """Return the columns of one pair."""
    task = load_task(features, source, target, classes="shared")
    rng = np.random.default_rng(0)
    fit_s, out_s = held_out(rng, np.flatnonzero(task.is_source), 0.2)
    fit_t, out_t = held_out(rng, np.flatnonzero(~task.is_source), 0.5)
    rows = np.r_[fit_s, fit_t]
    part = replace(task, X=task.X[rows], y=task.y[rows], sample_domain=task.sample_domain[rows])
    pipeline = load_pipeline(recipe).fit(part.X, part.y, sample_domain=part.sample_domain)
    model = Model.of(pipeline, part, features, {})
    as_source = AsSource(pipeline, part)
    predicted = as_source.ask(task.X[out_s])
    sure = probability(as_source, task.X[out_s], predicted, model.temperature)
    told = model.describe(task.X[out_t])
    right = told["label"] == task.classes[task.answers.codes[out_t - task.is_source.sum()]]
    far = {name: model.familiar.distance(X) > 1 for name, X in others.items() if name not in (source, target)}
    numbers = [np.mean(predicted == task.y[out_s]), sure.mean(), right.mean(), told["probability"].mean()]
    numbers += [np.mean(model.familiar.distance(task.X[out_s]) > 1), told["far"].mean()]
    return [100 * n for n in numbers], {name: 100 * flags.mean() for name, flags in far.items()}


def main(folders):
    sets = [FeatureSet(folder) for folder in folders]
    domains = {}
    for features in sets:
        for name, rows in features.complete.query("status == 'ok'").groupby("domain"):
            domains[name] = features.load(rows)
    heads = ["source", "sure", "target", "sure", "far s", "far t"]
    print(f"{'pair, recipe':<40}" + "".join(f"{head:>8}" for head in heads) + "  far of the others")
    for features in sets:
        labelled = features.complete.dropna(subset="label")["domain"].unique()
        for source, target in permutations(sorted(labelled), 2):
            for recipe in RECIPES:
                numbers, far = measure(features, source, target, recipe, domains)
                others = ", ".join(f"{name} {share:.0f}" for name, share in far.items())
                line = "".join(f"{n:8.1f}" for n in numbers)
                print(f"{f'{source} > {target}, {recipe}':<40}{line}  {others}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
