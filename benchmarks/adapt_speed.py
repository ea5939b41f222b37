"""Time the adapters, and grids over them, side by side with skada's.

    pip install "skada==0.6"
    python benchmarks/adapt_speed.py                                # everything; takes half an hour
    python benchmarks/adapt_speed.py --cases "CORAL 1000+500 x 2048" --repeats 5

Both libraries get the same float32 rows, made up, each domain standardised by itself. They take turns (ours,
skada's, ours, ...), once with a single BLAS thread and once with all there are. Columns: median seconds of
either, their ratio (above 1: ours is faster) as median of the pairs with the smallest and the largest, and how
many pairs there were. A case ends early when its seconds are used up (--seconds); one pair is always run.
Ours keeps decompositions for the next question about the same rows; each run here begins with none kept.

* CORAL, `fit_transform` of all rows: ours with ridge=1.0. skada shrinks, (1 - reg) cov + reg trace / d I,
  where we add to the diagonal. On standardised features the trace over d is one, so that reg=0.5 is our
  ridge=1.0 but for a factor that cancels between whitening and colouring.
* SubspaceAlignment, `fit_transform` of all rows, n_components=40 in both. skada's axes come from
  scikit-learn's PCA, which for these shapes takes its randomised, approximate solver; ours are exact.
* Grids: a `GridSearchCV` of ten values over adapter and logistic regression, refit included, on the same three
  folds of source and target rows, scored in both by the entropy of the predicted target labels. CORAL: ten
  ridges r in ours, reg = r / (1 + r) in skada's. SubspaceAlignment: ten n_components.

Importing skada switches on scikit-learn's metadata routing for the whole process. Here it is on for skada's
turns only.
"""

import argparse
import sys
import time
from contextlib import nullcontext

import numpy as np
import sklearn
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from threadpoolctl import threadpool_limits

from ftransfer import CORAL, DomainScaler, SubspaceAlignment, make_pipeline
from ftransfer.adapt.spectrum import forget

CLASSES = 10
RIDGES = np.logspace(-1, 2, 10)
SHAPES = [(1000, 500, 2048), (1000, 500, 4096), (300, 150, 4096), (10000, 5000, 2048)]
GRID_SHAPE = (1000, 500, 2048)
QUICK_SHAPES, QUICK_GRID_SHAPE = [(60, 45, 32), (30, 25, 64)], (60, 45, 32)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="pairs of runs a case")
    parser.add_argument("--seconds", type=float, default=120.0, help="after which no further pair is begun")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="only those whose name begins so")
    parser.add_argument("--quick", action="store_true", help="small shapes, to see that it runs")
    options = parser.parse_args()
    skada = import_skada()

    cases = list_cases(options.quick)
    if options.cases:
        chosen = {name: case for name, case in cases.items() if name.startswith(tuple(options.cases))}
        if not chosen:
            sys.exit(f"no case begins with {' or '.join(options.cases)}; cases: {', '.join(cases)}")
        cases = chosen
    print(f"{'case':<44}{'threads':>8}{'ours s':>10}{'skada s':>10}{'ratio':>8}  (least to most; pairs)")
    for name, (shape, kind) in cases.items():
        X, y, domain = make_rows(*shape)
        ours, theirs = kind(skada, X, y, domain, options.quick)
        for threads in (1, None):
            seconds, failure = race(ours, theirs, threads, options)
            print(f"{name:<44}{threads or 'all':>8}{describe(seconds, failure)}", flush=True)


def import_skada():
    """Import skada, and leave scikit-learn's configuration as it was."""
    before = sklearn.get_config()
    try:
        import skada
        import skada.metrics
    except ImportError as error:
        sys.exit(f'the comparison needs skada (pip install "skada==0.6"): {error}')
    finally:
        sklearn.set_config(**before)
    return skada


def list_cases(quick):
    """Return {name: (shape, function that makes both runs)}."""
    kinds = {"CORAL": coral, "SubspaceAlignment": subspace}
    shapes, (n_source, n_target, d) = (QUICK_SHAPES, QUICK_GRID_SHAPE) if quick else (SHAPES, GRID_SHAPE)
    cases = {f"{name} {s}+{t} x {f}": ((s, t, f), kind) for name, kind in kinds.items() for s, t, f in shapes}
    for name, kind in (("ridges", coral_grid), ("n_components", subspace_grid)):
        cases[f"grid of 10 {name} {n_source}+{n_target} x {d}"] = ((n_source, n_target, d), kind)
    return cases


def make_rows(n_source, n_target, d, seed=0):
    """Make classes in a correlated cloud, another one for each domain, and standardise each domain."""
    rng = np.random.default_rng(seed)
    n = n_source + n_target
    labels = np.arange(n) % CLASSES
    centers = rng.normal(size=(CLASSES, d))
    X = rng.normal(size=(n, d)) + centers[labels]
    rank = min(50, d)
    for rows in (slice(n_source), slice(n_source, n)):
        X[rows] += rng.normal(size=(len(X[rows]), rank)) @ rng.normal(size=(rank, d)) * 0.5
    domain = np.where(np.arange(n) < n_source, 1, -1)
    y = np.where(domain > 0, labels, -1)
    return DomainScaler().fit_transform(X.astype(np.float32), y), y, domain


def coral(skada, X, y, domain, quick):
    adapter = skada.CORALAdapter(reg=0.5)
    return (
        lambda: CORAL(ridge=1.0).fit_transform(X, y),
        lambda: adapter.fit_transform(X, y.copy(), sample_domain=domain),
    )


def subspace(skada, X, y, domain, quick):
    k = 10 if quick else 40
    adapter = skada.SubspaceAlignmentAdapter(n_components=k, random_state=0)
    return (
        lambda: SubspaceAlignment(n_components=k).fit_transform(X, y),
        lambda: adapter.fit_transform(X, y.copy(), sample_domain=domain),
    )


def coral_grid(skada, X, y, domain, quick):
    grids = {"coral__ridge": RIDGES}, {"coraladapter__reg": RIDGES / (1 + RIDGES)}
    return searches(skada, CORAL(), skada.CORALAdapter(), grids, X, y, domain)


def subspace_grid(skada, X, y, domain, quick):
    values = np.arange(1, 11) if quick else np.arange(10, 101, 10)
    grids = {"subspacealignment__n_components": values}, {"subspacealignmentadapter__n_components": values}
    theirs = skada.SubspaceAlignmentAdapter(random_state=0)
    return searches(skada, SubspaceAlignment(), theirs, grids, X, y, domain)


def searches(skada, ours, theirs, grids, X, y, domain):
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    classifier = LogisticRegression(C=0.01, max_iter=1000)

    def run_ours():
        GridSearchCV(
            make_pipeline(ours, classifier), grids[0], cv=folds, scoring=certainty, error_score="raise"
        ).fit(X, y)

    def run_theirs():
        GridSearchCV(
            skada.make_da_pipeline(theirs, classifier),
            grids[1],
            cv=folds,
            scoring=skada.metrics.PredictionEntropyScorer(),
            error_score="raise",
        ).fit(X, y.copy(), sample_domain=domain)

    return run_ours, run_theirs


def certainty(pipeline, X, y):
    """Score by the entropy of the predicted target labels, negative, as skada's PredictionEntropyScorer."""
    return -entropy(pipeline.predict_proba(X[y == -1]), axis=1).mean()


def race(ours, theirs, threads, options):
    """Run both in turns; return the pairs of seconds, and what skada's run failed with, if it did."""
    seconds, begun = [], time.perf_counter()
    with threadpool_limits(threads) if threads else nullcontext():
        warm_up()
        while not seconds or (
            len(seconds) < options.repeats and time.perf_counter() - begun < options.seconds
        ):
            first = clock(ours, routing=False)
            try:
                second = clock(theirs, routing=True)
            except Exception as error:  # whatever it is, it is a result: the table goes on
                return [(first, np.nan)], f"skada failed: {type(error).__name__}: {error}".splitlines()[0]
            seconds.append((first, second))
    return seconds, None


def warm_up():
    """Wake the BLAS threads, so that the first run does not pay for it."""
    rows = np.ones((500, 500), dtype=np.float32)
    for _ in range(20):
        rows @ rows


def clock(run, routing):
    forget()
    with sklearn.config_context(enable_metadata_routing=routing):
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun


def describe(seconds, failure):
    ours, theirs = np.median(seconds, axis=0)
    if failure:
        return f"{ours:10.4f}{'-':>10}{'-':>8}  {failure}"
    ratio = np.array([b / a for a, b in seconds])
    spread = f"({ratio.min():.1f} to {ratio.max():.1f}; {len(ratio)})"
    return f"{ours:10.4f}{theirs:10.4f}{np.median(ratio):8.1f}  {spread}"


if __name__ == "__main__":
    main()
