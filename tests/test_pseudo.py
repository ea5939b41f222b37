import warnings

import numpy as np
import pytest
from conftest import blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import DomainScaler, FtransferError, PseudoLabelled, make_pipeline
from ftransfer.adapt.pseudo import surest


@pytest.mark.filterwarnings("ignore:no target rows", "ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [PseudoLabelled()],
    expected_failed_checks=lambda _: {
        "check_classifiers_classes": "trains on the classes -1 and 1 and on strings; here -1 marks the target"
    },
)
def test_it_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def turned(seed=0):
    """Three clusters, and a target that is turned by 40 degrees: the source's boundaries cut through its clusters."""
    X, y, labels = blobs(n_source=150, n_target=150, n_features=4, seed=seed)
    X[150:] = (X[150:] - 3.0) / 1.7
    angle = np.deg2rad(40)
    turn = np.eye(4, dtype=np.float32)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    X[150:] = X[150:] @ turn
    return X, y, labels


@pytest.mark.parametrize(
    "classifier", [None, LogisticRegression(), SVC(), RandomForestClassifier(30, random_state=0)]
)
def test_it_reads_more_of_a_turned_target_than_its_classifier_alone(classifier):
    gain = []
    for seed in range(5):
        X, y, labels = turned(seed)
        target = y == -1
        alone = LogisticRegression() if classifier is None else classifier
        plain = make_pipeline(DomainScaler(None), alone).fit(X, y).score(X[target], labels[target])
        taken = make_pipeline(DomainScaler(None), PseudoLabelled(classifier)).fit(X, y)
        gain.append(taken.score(X[target], labels[target]) - plain)
    assert np.mean(gain) > 0


def test_given_labels_stay_and_the_others_are_predicted():
    X, y, _ = turned()
    fitted = PseudoLabelled(LogisticRegression()).fit(X, y)
    np.testing.assert_array_equal(fitted.transduction_[y != -1], y[y != -1])
    assert set(fitted.transduction_[y == -1]) <= {0, 1, 2}
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.predict_proba(X).sum(axis=1) == pytest.approx(1)


def test_thesurest_of_each_class_are_chosen():
    probability = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]])
    assert surest(probability, 0.3).tolist() == [0, -1, -1, 1, -1]
    assert surest(probability, 0.6).tolist() == [0, -1, 0, 1, 1]
    assert surest(probability, 1.0).tolist() == [0, 0, 0, 1, 1]


def test_row_order_and_the_callers_arrays_do_not_matter():
    X, y, _ = turned()
    before = X.copy(), y.copy()
    order = np.random.default_rng(1).permutation(len(X))
    straight = PseudoLabelled(LogisticRegression()).fit(X, y).predict(X)
    shuffled = PseudoLabelled(LogisticRegression()).fit(X[order], y[order]).predict(X)
    assert np.mean(straight == shuffled) > 0.99
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_a_few_labelled_target_rows_are_used_as_labelled():
    X, y, labels = turned()
    few = y.copy()
    few[150:159] = labels[150:159]
    domain = np.where(np.arange(300) < 150, 1, -1)
    fitted = make_pipeline(DomainScaler(None), PseudoLabelled()).fit(X, few, sample_domain=domain)
    np.testing.assert_array_equal(fitted[-1].transduction_[150:159], labels[150:159])


def test_without_clusters_and_with_fewer_target_rows_than_classes():
    X, y, _ = turned()
    assert PseudoLabelled(structured=False).fit(X, y).cluster_centers_ is None
    few = np.r_[0:150, 150:152]
    assert PseudoLabelled().fit(X[few], y[few]).cluster_centers_ is None


def test_labelled_rows_only_are_its_classifier_with_a_warning():
    X, y, _ = turned()
    source = y != -1
    with pytest.warns(UserWarning, match="no target rows.*PseudoLabelled"):
        fitted = PseudoLabelled(SVC()).fit(X[source], y[source])
    np.testing.assert_array_equal(fitted.predict(X), SVC().fit(X[source], y[source]).predict(X))


def test_a_grid_search_reaches_the_classifiers_parameters():
    X, y, labels = turned()
    grid = {"pseudolabelled__estimator__C": [0.1, 1.0]}
    pipeline = make_pipeline(DomainScaler(None), PseudoLabelled(LogisticRegression()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_estimator_.score(X[y == -1], labels[y == -1]) > 0.5


def test_strings_are_refused():
    X, y, _ = turned()
    with pytest.raises(FtransferError, match="labels are strings such as"):
        PseudoLabelled().fit(X, np.where(y == -1, "", "mug"))


def test_with_max_rows_so_many_of_each_side_are_learned_from_and_all_are_labelled():
    X, y, labels = blobs(n_source=300, n_target=240, shift=1.0)
    fitted = PseudoLabelled(max_rows=60).fit(X, y)
    assert np.array_equal(fitted.transduction_[y != -1], y[y != -1])
    assert (fitted.transduction_ >= 0).all()
    whole = PseudoLabelled().fit(X, y)
    assert np.mean(fitted.predict(X) == whole.predict(X)) > 0.97
    assert not np.array_equal(fitted.cluster_centers_, whole.cluster_centers_)


def test_a_round_that_starts_from_the_last_ends_where_one_from_scratch_does():
    X, y, _ = blobs(n_source=150, n_target=120, shift=1.0)
    X = X.astype(np.float64)
    fitted = PseudoLabelled(LogisticRegression(tol=1e-8, max_iter=5000)).fit(X, y)
    rows = np.concatenate([X[y != -1], X[y == -1]])
    labels = np.concatenate([y[y != -1], fitted.transduction_[y == -1]])
    again = LogisticRegression(tol=1e-8, max_iter=5000).fit(rows, labels)
    assert fitted.estimator_.warm_start is False
    assert np.allclose(fitted.estimator_.coef_, again.coef_, atol=1e-4)
