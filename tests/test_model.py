import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import skops.io
from conftest import blobs
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from ftransfer import (
    DomainScaler,
    FtransferError,
    Model,
    list_recipes,
    load_pipeline,
    load_task,
    make_pipeline,
)
from ftransfer.model.confidence import Familiar, fit_temperature, probability, source_temperature
from ftransfer.scoring.judge import Judge

FINGERPRINT = {"backbone": "b", "weights": "sha256:0", "layers": [{"name": "x", "width": 8}]}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_comes_back_from_its_file_and_predicts_the_same(tmp_path, name):
    X, y, _ = blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pipeline = load_pipeline(name).fit(X, y)
    classes = np.array(["ash", "elm", "oak"])
    Model(pipeline, FINGERPRINT, classes, {"score": 0.5}).save(tmp_path / "m.skops")
    model = Model.load(tmp_path / "m.skops")
    np.testing.assert_array_equal(model.predict(X), classes[pipeline.predict(X)])
    assert model.fingerprint == FINGERPRINT
    assert model.chosen_by == {"score": 0.5}


def test_what_is_no_model_file_is_one_line(tmp_path):
    with pytest.raises(FtransferError, match="nothing.skops does not exist"):
        Model.load(tmp_path / "nothing.skops")
    (tmp_path / "junk.skops").write_bytes(b"junk")
    with pytest.raises(FtransferError, match=r"junk.skops is not a model file, or is damaged: BadZipFile"):
        Model.load(tmp_path / "junk.skops")
    skops.io.dump([1, 2], tmp_path / "list.skops")
    with pytest.raises(FtransferError, match=r"list.skops is not a model file, or is damaged: TypeError"):
        Model.load(tmp_path / "list.skops")


class Trap:
    def __reduce__(self):
        return (print, ("code was run",))


def test_a_pickle_is_not_run_as_a_model(tmp_path, capsys):
    (tmp_path / "trap.skops").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FtransferError, match="is not a model file"):
        Model.load(tmp_path / "trap.skops")
    assert "code was run" not in capsys.readouterr().out


def test_an_unknown_type_is_refused_and_named(tmp_path):
    X, y, _ = blobs()
    pipeline = make_pipeline(DomainScaler(), FunctionTransformer(np.negative), SVC()).fit(X, y)
    Model(pipeline, FINGERPRINT, np.array(["a", "b", "c"])).save(tmp_path / "m.skops")
    skops_trusts = not skops.io.get_untrusted_types(file=tmp_path / "m.skops")
    assert not skops_trusts
    foreign = make_pipeline(DomainScaler(), Foreign()).fit(X, y)
    Model(foreign, FINGERPRINT, np.array(["a", "b", "c"])).save(tmp_path / "foreign.skops")
    with pytest.raises(
        FtransferError,
        match=r"types that are not trusted: test_model.Foreign; if you trust its origin, load it with trusted",
    ):
        Model.load(tmp_path / "foreign.skops")
    assert Model.load(tmp_path / "foreign.skops", trusted=["test_model.Foreign"]).predict(X).shape == (105,)


class Foreign(SVC):
    """An estimator that is not of scikit-learn."""


# ---------------------------------------------------------------- how sure


def noisy(seed=0, n=600):
    """Source rows of which a fifth has a wrong label, and target rows: nobody can be sure of these."""
    X, y, labels = blobs(n_source=n, n_target=n // 2, seed=seed)
    rng = np.random.default_rng(seed)
    wrong = (rng.random(len(y)) < 0.2) & (y != -1)
    y[wrong] = (y[wrong] + 1) % 3
    return X, y, np.where(y == -1, -1, 1)


@pytest.mark.parametrize("classifier", [SVC(), RidgeClassifier(), GaussianNB(), LogisticRegression()])
def test_probabilities_are_as_often_right_as_they_say_on_held_out_source_rows(classifier):
    X, y, domain = noisy()
    pipeline = make_pipeline(DomainScaler(), classifier).fit(X, y)
    temperature = source_temperature(pipeline, X, y, domain)
    fresh, labels, fresh_domain = noisy(n=600)
    known = fresh_domain > 0
    pipeline = make_pipeline(classifier).fit(X[domain > 0], y[domain > 0])
    predicted = pipeline.predict(fresh[known])
    sure = probability(pipeline, fresh[known], predicted, temperature)
    assert np.all((sure > 0) & (sure <= 1))
    assert sure.mean() == pytest.approx(np.mean(predicted == labels[known]), abs=0.06)


def test_no_target_label_has_a_say_in_the_temperature():
    X, y, domain = noisy()
    shuffled = X.copy()
    shuffled[domain < 0] = X[domain < 0][::-1]
    pipeline = make_pipeline(DomainScaler(), LogisticRegression()).fit(X, y)
    assert fit_temperature(pipeline, X, y, domain) == pytest.approx(
        fit_temperature(pipeline, shuffled, y, domain), rel=1e-3
    )


@pytest.mark.parametrize("expected", [None, 0.6, 0.9])
def test_on_the_target_the_mean_probability_is_the_accuracy_to_be_expected(expected):
    X, y, _ = blobs(n_source=300, n_target=300, shift=6.0)
    domain = np.where(y == -1, -1, 1)
    # the shift makes most rows one class, and surely so
    pipeline = make_pipeline(LogisticRegression()).fit(X, y)
    assert pipeline.predict_proba(X[300:]).max(axis=1).mean() > 0.95
    temperature = fit_temperature(pipeline, X, y, domain, expected=expected)
    modest = probability(pipeline, X[300:], pipeline.predict(X[300:]), temperature).mean()
    if expected is None:
        expected = max(Judge(X, y).panel.expected_accuracy(pipeline.predict(X[300:])), 1 / 3)
        assert expected < 0.9
    assert modest == pytest.approx(expected, abs=0.01)


def test_where_nothing_can_be_calibrated_there_is_no_or_the_pipelines_own_probability():
    X, y, _ = blobs(n_source=6)
    domain = np.where(y == -1, -1, 1)
    logistic = make_pipeline(DomainScaler(), LogisticRegression()).fit(X, y)
    assert fit_temperature(logistic, X, y, domain) is None
    codes = logistic.predict(X)
    np.testing.assert_allclose(
        probability(logistic, X, codes, None), logistic.predict_proba(X).max(axis=1), rtol=1e-4
    )
    svm = make_pipeline(DomainScaler(), SVC()).fit(X, y)
    assert np.isnan(probability(svm, X, svm.predict(X), None)).all()
    described = Model(svm, FINGERPRINT, np.array(["a", "b", "c"])).describe(X)
    assert described[["probability", "distance"]].isna().all(axis=None)
    assert described["far"].eq(0).all()


def test_what_a_model_says_of_rows_survives_its_file(tmp_path, feature_set):
    task = load_task(feature_set, "day", "night")
    pipeline = load_pipeline("coral_svm").fit(task.X, task.y, sample_domain=task.sample_domain)
    model = Model.of(pipeline, task, feature_set, {"score": 0.5})
    model.save(tmp_path / "model.skops")
    pd.testing.assert_frame_equal(Model.load(tmp_path).describe(task.X), model.describe(task.X))
    assert model.describe(task.X)["label"].tolist() == model.predict(task.X).tolist()


def test_distance_is_relative_to_each_domains_own_and_whatever_the_length_of_a_row():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal([9, 0, 0], 0.1, (400, 3)), rng.normal([0, 9, 0], 2.0, (400, 3))].astype(np.float32)
    familiar = Familiar.of(X, np.repeat([1, -1], 400))
    assert len(familiar.domains) == 2
    assert familiar.limits[1] < familiar.limits[0] / 5  # the target, -1, comes first
    assert np.mean(familiar.distance(X) > 1) <= 0.02
    odd = np.array([[0, 0, 9], [9, 0.01, 0], [-9, 0, 0]], dtype=np.float32)
    np.testing.assert_allclose(familiar.distance(odd), familiar.distance(odd * 50), rtol=1e-4)
    assert (familiar.distance(odd) > 1).tolist() == [True, False, True]


def test_at_most_two_thousand_rows_go_into_the_file():
    X = np.random.default_rng(0).normal(size=(9000, 4)).astype(np.float32)
    familiar = Familiar.of(X, np.repeat([1, 2, -1], 3000))
    assert sum(map(len, familiar.domains)) <= 2000
    assert {rows.dtype for rows in familiar.domains} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 7)), r"takes features of shape \(n, 8\), or images; given float64 \(3, 7\)"),
        (np.zeros(8), r"given float64 \(8,\)"),
        ([["a"] * 8], r"given <U1"),
        ([], r"given float64 \(0,\)"),
        (np.full((2, 8), np.nan), "row 0 holds NaN or infinity"),
    ],
)
def test_features_of_another_shape_are_refused(X, message):
    X_fit, y, _ = blobs()
    pipeline = make_pipeline(DomainScaler(), SVC()).fit(X_fit, y)
    with pytest.raises(FtransferError, match=message):
        Model(pipeline, FINGERPRINT, np.array(["a", "b", "c"])).predict(X)
