"""Our adapters as steps of skada's pipelines.

Importing skada switches on scikit-learn's metadata routing, so that all of it runs in one other process,
which prints its results; the tests read them.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# not importorskip: that would import it here
if find_spec("skada") is None:
    pytest.skip('skada is not installed: pip install "skada==0.6"', allow_module_level=True)

PROGRAM = """
import json
import numpy as np
from conftest import blobs
from skada import make_da_pipeline
from skada.metrics import PredictionEntropyScorer
from skada.model_selection import SourceTargetShuffleSplit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from ftransfer import (
    CORAL, DomainScaler, GeodesicFlowKernel, JointDistributionAdaptation, PseudoLabelled, SubspaceAlignment,
    TransferComponentAnalysis, make_pipeline,
)

X, y, labels = blobs()
source = y != -1
domain = np.where(source, 1, -2)
X_target, of_target = X[~source], labels[~source]
logistic = LogisticRegression(max_iter=1000)
pipelines = {
    "CORAL": (CORAL(), logistic),
    "DomainScaler": (DomainScaler(), logistic),
    "SubspaceAlignment": (SubspaceAlignment(3), logistic),
    "TransferComponentAnalysis": (TransferComponentAnalysis(3), logistic),
    "JointDistributionAdaptation": (JointDistributionAdaptation(n_components=3), logistic),
    "GeodesicFlowKernel": (GeodesicFlowKernel(3), logistic),
    "DomainScaler, CORAL": (DomainScaler(), CORAL(), SVC()),
    "DomainScaler, SubspaceAlignment": (DomainScaler(), SubspaceAlignment(3), SVC()),
    "DomainScaler, PseudoLabelled": (DomainScaler(), PseudoLabelled(logistic)),
}
results = {}
for name, steps in pipelines.items():
    # skada writes -1 over the target's labels in the array it is given
    skadas = make_da_pipeline(*steps).fit(X, labels.copy(), sample_domain=domain)
    ours = make_pipeline(*steps).fit(X, y, sample_domain=domain)
    with_domain = skadas.predict(X_target, sample_domain=domain[~source])
    results[name] = {
        "as ours": bool(np.array_equal(with_domain, ours.predict(X_target))),
        "without sample_domain": bool(np.array_equal(with_domain, skadas.predict(X_target))),
        "accuracy": float(np.mean(with_domain == of_target)),
        "source rows as ours": bool(np.array_equal(
            skadas.predict(X[source], sample_domain=domain[source], allow_source=True),
            ours.predict_source(X[source], sample_domain=domain[source]),
        )),
    }

steps = DomainScaler(), CORAL(), logistic
wrong = np.where(source, labels, (labels + 1) % 3)  # other target labels change nothing
fitted = [
    make_da_pipeline(*steps).fit(X, given.copy(), sample_domain=domain).predict_proba(X_target)
    for given in (labels, wrong)
]
results["other target labels"] = bool(np.array_equal(*fitted))

two = np.where(source, 1 + np.arange(len(X)) % 2, -3)
fitted = make_da_pipeline(*steps).fit(X, labels.copy(), sample_domain=two)
results["sources"] = fitted["coral"].base_estimator_.sources_.tolist()

search = GridSearchCV(
    make_da_pipeline(*steps), {"coral__ridge": [0.1, 1.0, 10.0]}, scoring=PredictionEntropyScorer(),
    cv=SourceTargetShuffleSplit(n_splits=2, random_state=0), error_score="raise",
).fit(X, labels.copy(), sample_domain=domain)
results["search"] = float(np.mean(search.predict(X_target) == of_target))

numbers = labels + 0.25
regression = make_da_pipeline(DomainScaler(), CORAL(), Ridge()).fit(X, numbers.copy(), sample_domain=domain)
results["regression"] = float(regression.score(X_target, numbers[~source]))
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "name",
    [
        "CORAL",
        "DomainScaler",
        "SubspaceAlignment",
        "TransferComponentAnalysis",
        "JointDistributionAdaptation",
        "GeodesicFlowKernel",
        "DomainScaler, CORAL",
        "DomainScaler, SubspaceAlignment",
        "DomainScaler, PseudoLabelled",
    ],
)
def test_our_steps_predict_in_skadas_pipeline_what_they_predict_in_ours(results, name):
    assert results[name]["as ours"]
    assert results[name]["without sample_domain"]
    assert results[name]["source rows as ours"]
    assert results[name]["accuracy"] > 0.7  # chance is 1 / 3


def test_in_skadas_pipeline_target_labels_have_no_influence(results):
    assert results["other target labels"]


def test_skadas_pipeline_hands_on_which_source_a_row_is_of(results):
    assert results["sources"] == [1, 2]


def test_our_parameters_are_searched_in_skadas_pipeline(results):
    assert results["search"] > 0.9


def test_skadas_mark_for_target_rows_in_a_regression_is_understood(results):
    assert results["regression"] > 0.8
