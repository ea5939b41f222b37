"""Compare classifiers that scale to many rows with those that race: accuracy on the target after CORAL, CPU seconds.

    python benchmarks/classifiers.py features.npz        # keys X, y, domain: every pair of its domains
    python benchmarks/classifiers.py features.npz --pair photo sketch

A row is a classifier: its accuracy on each pair of domains, their mean, and the CPU seconds of its fits. Features are
standardised by domain and aligned by CORAL with a ridge of 10; rows of unit length where "unit" is said.
"""

import argparse
import time
import warnings
from itertools import permutations

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC, LinearSVC

from ftransfer import CORAL, DomainScaler

CLASSIFIERS = {
    "logistic regression": LogisticRegression(C=0.01, max_iter=1000),
    "unit, linear SVM": make_pipeline(Normalizer(), LinearSVC()),
    "unit, SGD, log loss": make_pipeline(
        Normalizer(), SGDClassifier(loss="log_loss", alpha=1e-5, random_state=0)
    ),
    "unit, SVM, RBF kernel": make_pipeline(Normalizer(), SVC(C=10.0)),
    "unit, Nystroem 500, logistic": make_pipeline(
        Normalizer(),
        Nystroem(gamma=1.0, n_components=500, random_state=0),
        LogisticRegression(C=1.0, max_iter=1000),
    ),
    "forest of 200": RandomForestClassifier(200, random_state=0),
    "boosting, 30 rounds": HistGradientBoostingClassifier(max_iter=30, random_state=0),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.npz")
    parser.add_argument("--pair", nargs=2, action="append", metavar=("SOURCE", "TARGET"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = [each for file in options.files for each in read_tasks(file, options.pair)]
    print(f"{'':30}" + "".join(f"{name:>18}" for name, *_ in tasks) + f"{'mean':>8}{'fit, s':>9}")
    for name, classifier in CLASSIFIERS.items():
        accuracy, seconds = [], 0.0
        for _, source, labels, target, answers in tasks:
            started = time.process_time()
            fitted = clone(classifier).fit(source, labels)
            seconds += time.process_time() - started
            accuracy.append(100 * np.mean(fitted.predict(target) == answers))
        each = "".join(f"{value:18.1f}" for value in accuracy)
        print(f"{name:30}{each}{np.mean(accuracy):8.1f}{seconds:9.1f}", flush=True)


def read_tasks(file, pairs):
    """Yield name, aligned source rows, their labels, target rows and theirs, for each pair of domains."""
    content = np.load(file, allow_pickle=False)
    X, domain = content["X"].astype(np.float32), content["domain"].astype(str)
    labels = np.unique(content["y"], return_inverse=True)[1]
    for source, target in pairs or permutations(np.unique(domain), 2):
        of_source, of_target = domain == source, domain == target
        rows = np.concatenate([X[of_source], X[of_target]])
        y = np.r_[labels[of_source], np.full(of_target.sum(), -1)]
        for step in (DomainScaler(), CORAL(10.0)):
            rows = step.fit_transform(rows, y)
        n = int(of_source.sum())
        yield f"{source}-{target}", rows[:n], labels[of_source], rows[n:], labels[of_target]


if __name__ == "__main__":
    main()
