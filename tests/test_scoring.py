import numpy as np
import pytest
from conftest import blobs
from sklearn.svm import SVC

from ftransfer import DomainScaler, make_pipeline
from ftransfer.scoring import Judge, source_accuracy


@pytest.fixture
def task():
    X, y, labels = blobs(n_source=90, n_target=90, shift=6.0)
    return X, y, np.where(y == -1, -1, 1), labels[y == -1]


def test_right_labels_score_high_and_wrong_ones_low(task):
    X, y, domain, truth = task
    judge = Judge(X, y, domain)
    right = judge.score(truth)
    assert right.value > 0.9
    assert judge.score((truth + 1) % 3).value < 0.2, "clusters kept, names turned: they do not carry back"
    shuffled = np.random.default_rng(0).permutation(truth)
    assert judge.score(shuffled).neighbours < 0.2, "labels that cut through clusters"


def test_the_more_labels_are_wrong_the_lower_the_score(task):
    X, y, domain, truth = task
    judge, rng = Judge(X, y, domain), np.random.default_rng(0)
    wrong = rng.permutation(len(truth))
    scores = [
        judge.score(np.where(np.isin(np.arange(90), wrong[:n]), (truth + 1) % 3, truth)).value
        for n in (0, 9, 30, 60)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 0.5


def test_one_label_for_all_scores_nothing(task):
    X, y, domain, truth = task
    assert Judge(X, y, domain).score(np.zeros_like(truth)).value == 0.0


def test_the_bootstrap_surrounds_the_score(task):
    X, y, domain, truth = task
    labels = np.where(np.arange(90) % 9 == 0, (truth + 1) % 3, truth)
    score = Judge(X, y, domain).score(labels)
    assert abs(score.resampled.mean() - score.value) < 3 * score.resampled.std()
    assert score.resampled.std() > 0


@pytest.mark.parametrize("d", [4, 200])
def test_the_judge_is_a_ridge_classifier_in_either_form(d):
    from sklearn.linear_model import RidgeClassifier

    X, y, labels = blobs(n_source=60, n_target=60, n_features=d)
    domain = np.where(y == -1, -1, 1)
    Z = DomainScaler().fit_transform(X, y)
    predicted = np.random.default_rng(0).permutation(labels[60:])
    ridge = RidgeClassifier(alpha=0.2 * d).fit(Z[60:], predicted)
    expected = np.mean([np.mean(ridge.predict(Z[:60])[y[:60] == c] == c) for c in range(3)])
    assert Judge(X, y, domain).score(predicted).carried_back == pytest.approx(expected, abs=0.021)


def test_source_accuracy_maps_held_out_source_rows_by_the_sources_map(task):
    X, y, domain, _ = task
    assert source_accuracy(make_pipeline(DomainScaler(), SVC()), X, y, domain) > 0.9


def test_source_accuracy_is_unknown_for_a_class_with_fewer_rows_than_folds():
    X, y, _ = blobs()
    y[np.flatnonzero(y == 2)[2:]] = 0
    assert np.isnan(source_accuracy(make_pipeline(SVC()), X, y, np.where(y == -1, -1, 1)))
