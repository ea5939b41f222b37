"""Time the whole default race side by side with the same candidates in skada's pipelines under GridSearchCV.

    pip install "skada==0.6"
    python benchmarks/race_speed.py FEATURES --source printed --target handwritten

Candidates: every setting of the recipes that skada has too, {source only, per-domain scaling, CORAL, subspace
alignment} x {SVM, random forest, logistic regression}; pseudo-labelling, which it has not, is left out. Ours is
`race` as it is, with the score, the cross-validation of the best of each recipe, and one job. skada's is a
`GridSearchCV` for each recipe with the same classifiers and values, its `PredictionEntropyScorer`, one fold that holds
out a fifth (--folds 1, the least that can be asked for) or more, and a refit; source only is fitted as plain
scikit-learn there. They take turns (ours, skada's, ...), with one BLAS thread. Columns: median seconds of CPU time, so
that a busy machine does not count, and the median of the ratios of the pairs, with the smallest and the largest.
"""

import argparse
import sys
import time
import warnings

import numpy as np
import sklearn
from adapt_speed import import_skada
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.preprocessing import Normalizer, StandardScaler
from threadpoolctl import threadpool_limits

from ftransfer import FeatureSet, FtransferError, load_task, race
from ftransfer.adapt.spectrum import forget
from ftransfer.recipes import load_recipe

KINDS, CLASSIFIERS = ("source_only", "scaled", "coral", "subspace"), ("svm", "forest", "logistic")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", metavar="FEATURES", help="folder of a feature set")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 3], metavar="N", help="of skada's search")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="pairs of runs")
    parser.add_argument("--classifiers", nargs="+", default=CLASSIFIERS, choices=CLASSIFIERS)
    options = parser.parse_args()
    skada = import_skada()
    try:
        task = load_task(FeatureSet(options.features), options.source, options.target, classes="shared")
    except FtransferError as error:
        sys.exit(str(error))
    recipes = [load_recipe(f"{kind}_{name}") for kind in KINDS for name in options.classifiers]
    print(f"{'skada folds':<14}{'ours s':>10}{'skada s':>10}{'ratio':>8}  (least to most; pairs)")
    for folds in options.folds:
        seconds = []
        with threadpool_limits(1):
            for _ in range(options.repeats):
                ours = clock(lambda: race(task, recipes, jobs=1), routing=False)
                theirs = clock(lambda n=folds: search_all(skada, recipes, task, n), routing=True)
                seconds.append((ours, theirs))
        ratio = np.array([b / a for a, b in seconds])
        ours, theirs = np.median(seconds, axis=0)
        spread = f"({ratio.min():.1f} to {ratio.max():.1f}; {len(ratio)})"
        print(f"{folds:<14}{ours:10.1f}{theirs:10.1f}{np.median(ratio):8.1f}  {spread}", flush=True)


def clock(run, routing):
    """Measure the seconds of CPU time that a race takes."""
    forget()
    with sklearn.config_context(enable_metadata_routing=routing), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.process_time()
        run()
        return time.process_time() - begun


def search_all(skada, recipes, task, n_folds):
    """Search every recipe's grid in skada's pipelines; the target's labels are hidden from it, too."""
    y, domain = task.y.copy(), task.sample_domain
    folds = list(StratifiedShuffleSplit(n_folds, test_size=0.2, random_state=0).split(task.X, y))
    for recipe in recipes:
        scorer = skada.metrics.PredictionEntropyScorer()
        pipeline, grid = translate(skada, recipe)
        if recipe.name.startswith("source_only"):
            split = StratifiedShuffleSplit(n_folds, test_size=0.2, random_state=0)
            GridSearchCV(pipeline, grid, cv=split).fit(task.X[domain > 0], y[domain > 0])
        else:
            search = GridSearchCV(pipeline, grid, cv=folds, scoring=scorer, error_score="raise")
            search.fit(task.X, y.copy(), sample_domain=domain)


def translate(skada, recipe):
    """Write a recipe with skada's adapters: the same classifier, the same number of settings."""
    classifier = clone(recipe.pipeline.steps[-1][1])
    if recipe.name.startswith("source_only"):
        return classifier, {key.removeprefix("source_only__"): v for key, v in recipe.grid[0].items()}
    name = type(classifier).__name__.lower()
    if name == "svc":
        classifier.set_params(probability=True)  # its scorer asks for probabilities
    grid = {f"{name}__{k.rsplit('__', 1)[-1]}": v for k, v in recipe.grid.items() if k.startswith(name)}
    steps = [skada.PerDomain(StandardScaler())]
    if "coral" in recipe.name:
        steps.append(skada.CORALAdapter())
        grid["coraladapter__reg"] = [r / (1 + r) for r in recipe.grid["coral__ridge"]]
    elif "subspace" in recipe.name:
        steps.append(skada.SubspaceAlignmentAdapter(random_state=0))
        grid["subspacealignmentadapter__n_components"] = recipe.grid["subspacealignment__n_components"]
    if any(isinstance(step, Normalizer) for _, step in recipe.pipeline.steps):
        steps.append(Normalizer())
    return skada.make_da_pipeline(*steps, classifier), grid


if __name__ == "__main__":
    main()
