"""Count what every adaptation method reaches with every classifier, between all domains of feature sets.

    ftransfer extract ../shared/real/office_caltech10 --out office --backbone squeezenet1_1 --weights FILE
    python benchmarks/methods.py office pacs

Rows: ordered pairs of domains (classes that both have). Columns: methods, numbered below the table. Accuracy on
the target in per cent; its labels are used for this count, and for nothing else. Nothing is tuned on these or
other data. The settings:

* SVM: `SVC(C=10)` (rbf) on rows of unit length (a `Normalizer` before it).
* logistic regression: `LogisticRegression(C=0.01)`; C=10 with PseudoLabelled, where rows have unit length. It
  stops after 1000 iterations, converged or not (on the unequal components of TCA and JDA it may not be).
* forest: `RandomForestClassifier(200)`.
* source only: no adaptation, and raw rows: standardised by the source alone, logistic regression loses 6 points.
* All others come after `DomainScaler`: nothing more (per-domain scaling), CORAL (ridge=1), SubspaceAlignment
  (40 components), TCA, JDA and GFK (20 components, mu=1; JDA's own labels by the nearest neighbour),
  PseudoLabelled around the classifier, on rows of unit length,
  ImportanceWeighted and SourceSelected (keep=0.75) around the classifier, and
  OptimalTransport (reg=0.1 of the largest cost), where POT is installed (`pip install "ftransfer[ot]"`).
"""

import argparse
import sys
import warnings
from importlib.util import find_spec
from itertools import permutations

import numpy as np
from joblib import Parallel, delayed
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer import (
    CORAL,
    AdaptationPipeline,
    DomainScaler,
    FeatureSet,
    FtransferError,
    GeodesicFlowKernel,
    ImportanceWeighted,
    JointDistributionAdaptation,
    OptimalTransport,
    PseudoLabelled,
    SourceSelected,
    SubspaceAlignment,
    TransferComponentAnalysis,
    load_task,
    make_pipeline,
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("features", nargs="+", metavar="FEATURES", help="folder of a feature set")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="pipelines fitted at the same time")
    parser.add_argument("--trees", type=int, default=200, metavar="N", help="of a forest")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="rows with one of these: 'CORAL, SVM'")
    options = parser.parse_args()
    try:
        tasks = list_tasks(options.features)
    except FtransferError as error:
        sys.exit(str(error))

    pipelines = list_pipelines(options.trees)
    if options.only:
        found = {name: any(text in ", ".join(name) for text in options.only) for name in pipelines}
        pipelines = {name: pipelines[name] for name in pipelines if found[name]}
    print(f"{'pair':<24}" + "".join(f"{i:>6}" for i in range(1, len(pipelines) + 1)))
    rows = []
    with Parallel(n_jobs=options.jobs) as parallel:
        for pair, task in tasks.items():
            rows.append(parallel(delayed(accuracy)(pipeline, task) for pipeline in pipelines.values()))
            print(f"{pair:<24}" + "".join(f"{v:6.1f}" for v in rows[-1]), flush=True)
    means = np.mean(rows, axis=0)
    print(f"{'mean':<24}" + "".join(f"{v:6.1f}" for v in means))
    print(f"\n{'method':<26}{'classifier':<22}{'column':>6}{'mean':>7}")
    names = list(pipelines)
    for i in np.argsort(-means, kind="stable"):
        method, classifier = names[i]
        print(f"{method:<26}{classifier:<22}{i + 1:>6}{means[i]:7.1f}")


def list_tasks(folders):
    """Return {"source > target": Task} for all ordered pairs of domains in the feature sets."""
    tasks = {}
    for folder in folders:
        features = FeatureSet(folder)
        for source, target in permutations(sorted(features.complete["domain"].unique()), 2):
            task = load_task(features, source, target, classes="shared")
            if not task.answers:
                raise FtransferError(f"no image of '{target}' in {folder} has a label to count by")
            tasks[f"{source} > {target}"] = task
    return tasks


def list_pipelines(trees):
    """Return {(method, classifier): pipeline}."""
    svm, forest = SVC(C=10.0), RandomForestClassifier(trees, random_state=0)
    logistic = LogisticRegression(C=0.01, max_iter=1000)
    classifiers = {
        "SVM": [Normalizer(), svm],
        "logistic regression": [logistic],
        "forest": [forest],
    }
    adapters = {
        "per-domain scaling": [],
        "CORAL": [CORAL()],
        "SubspaceAlignment": [SubspaceAlignment()],
        "TCA": [TransferComponentAnalysis()],
        "JDA": [JointDistributionAdaptation()],
        "GFK": [GeodesicFlowKernel()],
    }
    if find_spec("ot") is not None:
        adapters["OptimalTransport"] = [OptimalTransport()]
    pipelines = {}
    for name, steps in classifiers.items():
        pipelines["source only", name] = AdaptationPipeline([("source_only", make_plain_pipeline(*steps))])
    for method, adapter in adapters.items():
        for name, steps in classifiers.items():
            pipelines[method, name] = make_pipeline(DomainScaler(), *adapter, *steps)
    at_unit_length = LogisticRegression(C=10.0, max_iter=1000)
    for name, classifier in zip(classifiers, (svm, at_unit_length, forest), strict=True):
        around = PseudoLabelled(classifier)
        pipelines["PseudoLabelled", name] = make_pipeline(DomainScaler(), Normalizer(), around)
    for name, (*before, classifier) in classifiers.items():
        weighted = ImportanceWeighted(classifier)
        pipelines["ImportanceWeighted", name] = make_pipeline(DomainScaler(), *before, weighted)
        for criterion in ("nearest", "odds"):
            selected = SourceSelected(classifier, criterion=criterion)
            way = f"SourceSelected, {criterion}"
            pipelines[way, name] = make_pipeline(DomainScaler(), *before, selected)
    return pipelines


def accuracy(pipeline, task):
    """Accuracy on the target in per cent; no fit sees more than `task.y`, which is -1 there."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "n_components="
        )  # small domains have fewer; that is as it should be
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = pipeline.fit(task.X, task.y, sample_domain=task.sample_domain)
        return 100 * task.answers.accuracy(fitted.predict(task.X_target))


if __name__ == "__main__":
    main()
