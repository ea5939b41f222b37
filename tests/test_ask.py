"""Support vector machines answer by matrix products as libsvm does."""

import tracemalloc

import numpy as np
import pytest
from conftest import blobs
from scipy.sparse import csr_array
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ftransfer import DomainScaler, PriorCorrected, PseudoLabelled, make_pipeline
from ftransfer.adapt import ask as module
from ftransfer.adapt.ask import ask


def rows(n_classes, n=300, seed=0):
    X, y = make_classification(
        n, 12, n_informative=8, n_classes=n_classes, flip_y=0.1, class_sep=0.7, random_state=seed
    )
    return X.astype(np.float32), 3 * y + 1


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize(
    "params",
    [
        {"C": 10.0},
        {"kernel": "linear"},
        {"gamma": 0.3, "class_weight": "balanced"},
        {"break_ties": True},
        {"gamma": "auto", "C": 0.01},
    ],
)
def test_decision_values_and_labels_are_those_of_libsvm(n_classes, params, monkeypatch):
    X, y = rows(n_classes)
    machine = SVC(**params).fit(X[:150], y[:150])
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 1000)  # several blocks
    found = ask(machine, "decision_function", X)
    np.testing.assert_allclose(found, machine.decision_function(X), rtol=1e-10, atol=1e-12)
    assert np.array_equal(ask(machine, "predict", X), machine.predict(X))


def test_many_classes_take_no_more_memory_than_a_few_blocks():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(60), 3)
    X = rng.normal(size=(180, 20)) + 3 * rng.normal(size=(60, 20))[y]
    machine = SVC().fit(X, y)
    many = np.repeat(X, 80, axis=0)
    tracemalloc.start()
    found = ask(machine, "predict", many)  # the values of the pairs for all rows at once take 400 MB
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200e6
    assert np.array_equal(found[::80], machine.predict(X))


def test_rows_that_lie_far_from_the_origin_have_the_values_of_libsvm():
    X, y = rows(3)
    far = X.astype(np.float64) + 1e5
    machine = SVC().fit(far[:150], y[:150])
    np.testing.assert_allclose(
        ask(machine, "decision_function", far), machine.decision_function(far), rtol=1e-10
    )


def test_where_squared_lengths_cancel_libsvm_is_asked(monkeypatch):
    X, y = rows(2)
    apart = np.where(y[:, None] == 1, X, X + 1e6).astype(np.float64)  # two clouds, and a narrow kernel
    machine = SVC(gamma=1.0).fit(apart[:150], y[:150])
    assert np.array_equal(ask(machine, "decision_function", apart), machine.decision_function(apart))


@pytest.mark.parametrize(
    "machine", [SVC(kernel="poly"), SVC(decision_function_shape="ovo"), SVC(kernel=lambda A, B: A @ B.T)]
)
def test_other_machines_answer_for_themselves(machine):
    X, y = rows(3)
    machine.fit(X[:150], y[:150])
    for method in ("predict", "decision_function"):
        assert np.array_equal(ask(machine, method, X), getattr(machine, method)(X))


def test_sparse_rows_are_left_to_libsvm():
    X, y = rows(3)
    machine = SVC().fit(csr_array(X), y)
    assert np.array_equal(
        ask(machine, "decision_function", csr_array(X)), machine.decision_function(csr_array(X))
    )


def test_rows_of_another_width_are_refused_as_by_the_machine():
    X, y = rows(3)
    with pytest.raises(ValueError, match="X has 5 features, but SVC is expecting 12"):
        ask(SVC().fit(X, y), "predict", X[:, :5])


@pytest.mark.parametrize(
    "last",
    [SVC(), make_plain_pipeline(StandardScaler(), SVC()), PriorCorrected(SVC()), PseudoLabelled(SVC())],
    ids=["machine", "pipeline", "prior", "pseudo"],
)
def test_wherever_a_pipeline_holds_a_machine_it_answers_by_products(last, monkeypatch):
    X, y, _ = blobs()
    fitted = make_pipeline(DomainScaler(), last).fit(X, y)
    methods = [m for m in ("predict", "decision_function", "predict_proba") if hasattr(fitted, m)]
    fast = [getattr(fitted, method)(X) for method in methods] + [fitted.predict_source(X)]
    called = []
    monkeypatch.setattr(module, "_by_products", lambda *each: called.append(each))  # None: libsvm does
    slow = [getattr(fitted, method)(X) for method in methods] + [fitted.predict_source(X)]
    assert len(called) >= len(methods)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
