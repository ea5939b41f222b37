"""Methods for targets whose classes have other shares: PriorCorrected, ShareWeightedScaler, TargetMixture."""

import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import (
    DomainScaler,
    FtransferError,
    PriorCorrected,
    PseudoLabelled,
    ShareWeightedScaler,
    TargetMixture,
    make_pipeline,
)
from ftransfer.adapt.prior import calibrate, held_out_logits, most_likely_shares

STRINGS = {
    "check_classifiers_classes": "trains on the classes -1 and 1 and on strings; here -1 marks the target"
}


@pytest.mark.filterwarnings("ignore:no target rows", "ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        PriorCorrected(),
        TargetMixture(),
        ShareWeightedScaler(),
        ShareWeightedScaler(None, estimator="mixture"),
        PseudoLabelled(limit=True),
    ],
    expected_failed_checks=lambda e: {} if isinstance(e, ShareWeightedScaler) else STRINGS,
)
def test_they_pass_scikit_learns_checks(estimator, check):
    check(estimator)


def shares_shifted(shares, n=600, distance=1.5, move=0.0, seed=0, d=4):
    """Classes at the corners of a simplex, in equal shares in the source; the target has `shares` and is moved."""
    rng = np.random.default_rng(seed)
    k = len(shares)
    labels = np.r_[np.arange(n) % k, rng.choice(k, n, p=shares)]
    X = rng.normal(size=(2 * n, d)) + 2 * distance * np.eye(k, d)[labels]
    X[n:] += move
    return X, np.where(np.arange(2 * n) < n, labels, -1), labels


# ------------------------------------------------------------ prior correction


@pytest.mark.parametrize("classifier", [None, SVC(), RandomForestClassifier(100, random_state=0)])
@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.7, 0.3, 0.0], [0.1, 0.1, 0.1, 0.7]])
def test_the_targets_shares_are_found_and_raise_the_accuracy(classifier, shares):
    X, y, labels = shares_shifted(shares)
    fitted = PriorCorrected(classifier).fit(X, y)
    target = y == -1
    true = np.bincount(labels[target], minlength=len(shares)) / target.sum()
    np.testing.assert_allclose(fitted.target_shares_, true, atol=0.06)
    assert fitted.target_shares_.sum() == pytest.approx(1)
    plain = fitted.estimator_.predict(X[target])
    assert np.mean(fitted.predict(X[target]) == labels[target]) > np.mean(plain == labels[target])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**31))
def test_expectation_maximisation_climbs_to_where_the_likelihood_is_flat(k, seed):
    rng = np.random.default_rng(seed)
    logits, source = 2 * rng.normal(size=(50, k)), rng.dirichlet(np.full(k, 5.0))
    found = most_likely_shares(logits, source, 0.0)

    def likelihood(shares):
        return np.log((np.exp(log_softmax(logits, axis=1)) / source * shares).sum(axis=1)).sum()

    best = likelihood(found)
    for _ in range(20):
        assert likelihood(0.98 * found + 0.02 * rng.dirichlet(np.ones(k))) <= best + 1e-3


def test_a_pseudo_count_keeps_every_class_possible():
    logits = np.tile([[8.0, 0.0, 0.0]], (20, 1))
    assert most_likely_shares(logits, np.full(3, 1 / 3), 0.0)[1] < 1e-3
    assert most_likely_shares(logits, np.full(3, 1 / 3), 1.0)[1] == pytest.approx(1 / 23, abs=0.01)


def test_calibration_finds_the_temperature_and_the_biases_that_were_taken_away():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 3)) * 2
    codes = np.array([rng.choice(3, p=np.exp(row)) for row in log_softmax(true, axis=1)])
    bias = np.array([0.5, -0.5, 0.0])
    temperature, found = calibrate((true - bias) * 4, codes)
    assert temperature == pytest.approx(4, rel=0.1)
    np.testing.assert_allclose(found, bias, atol=0.15)


def test_held_out_logits_are_of_rows_that_were_not_fitted():
    X, y, labels = shares_shifted([0.5, 0.5], distance=0.0, n=60)
    logits = held_out_logits(RandomForestClassifier(50, random_state=0), X[:60], labels[:60])
    assert np.mean(logits.argmax(axis=1) == labels[:60]) < 0.75, "pure noise, which a forest knows by heart"


def test_a_class_of_a_single_row_is_no_obstacle():
    X, y, _ = shares_shifted([0.5, 0.5], n=40)
    y[0] = 7
    fitted = PriorCorrected(LogisticRegression()).fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
    assert np.isfinite(ShareWeightedScaler().fit_transform(X, y)).all()
    assert np.isfinite(TargetMixture().fit(X, y).predict_proba(X)).all()


def test_a_classifier_without_scores_is_refused():
    class Silent(LogisticRegression):
        predict_proba = decision_function = property()

    X, y, _ = shares_shifted([0.5, 0.5], n=40)
    with pytest.raises(FtransferError, match="Silent has neither decision_function nor predict_proba"):
        PriorCorrected(Silent()).fit(X, y)


# ------------------------------------------------------------ share-weighted scaling


def test_the_source_is_centred_as_if_it_had_the_targets_shares():
    X, y, labels = shares_shifted([0.5, 0.5, 0.0], distance=4.0)
    fitted = ShareWeightedScaler().fit(X, y)
    np.testing.assert_allclose(fitted.target_shares_, [0.5, 0.5, 0.0], atol=0.05)
    means = np.stack([X[y == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(fitted.source_center_[1], fitted.target_shares_ @ means)
    mapped = fitted.transform_source(X[y != -1])
    weights = fitted.target_shares_[y[y != -1]]
    np.testing.assert_allclose(np.average(mapped, axis=0, weights=weights), 0, atol=1e-9)
    np.testing.assert_allclose(np.average(mapped**2, axis=0, weights=weights), 1)


def test_without_trust_it_is_the_domain_scaler():
    X, y, _ = blobs()
    for scale in ("std", None):
        np.testing.assert_allclose(
            ShareWeightedScaler(scale, trust=0.0).fit_transform(X, y),
            DomainScaler(scale).fit_transform(X, y),
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_target_that_lacks_classes_is_read_better_than_after_plain_scaling():
    X, y, labels = shares_shifted([0.5, 0.5, 0.0, 0.0], distance=2.0, move=1.0)
    target = y == -1

    def accuracy(scaler):
        return make_pipeline(scaler, SVC()).fit(X, y).score(X[target], labels[target])

    assert accuracy(ShareWeightedScaler()) > accuracy(DomainScaler()) + 0.05


def test_float32_is_kept_and_several_sources_are_each_weighted():
    X, y, labels = shares_shifted([0.5, 0.5, 0.0], distance=4.0)
    X = X.astype(np.float32)
    domain = np.where(y == -1, -1, 1 + (np.arange(len(X)) < 300))
    fitted = ShareWeightedScaler()
    assert fitted.fit_transform(X, y, sample_domain=domain).dtype == np.float32
    assert sorted(fitted.source_center_) == [1, 2]


# ------------------------------------------------------------ the mixture


def test_without_target_rows_the_mixture_is_shrunk_linear_discriminant_analysis():
    X, y, _ = shares_shifted([0.5, 0.5, 0.0], d=6)
    source = y != -1
    with pytest.warns(UserWarning, match="no target rows"):
        fitted = TargetMixture(shrinkage=0.3, temperature=1.0).fit(X[source], y[source])
    residuals = X[source] - np.stack([X[y == k].mean(axis=0) for k in range(3)])[y[source]]
    level = (residuals**2).mean()
    covariance = 0.7 * residuals.T @ residuals / source.sum() + 0.3 * level * np.eye(6)
    means = np.stack([X[y == k].mean(axis=0) for k in range(3)])
    expected = np.linalg.solve(covariance, means.T).T
    np.testing.assert_allclose(fitted.coef_, expected, rtol=1e-8)
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(X[source], y[source])
    assert np.mean(fitted.predict(X) == lda.predict(X)) > 0.98


@pytest.mark.parametrize("d", [30, 500])
def test_narrow_and_wide_rows_give_the_same_mixture(d):
    X, y, _ = shares_shifted([0.2, 0.3, 0.5], n=60, d=30)
    wide = np.hstack([X, np.zeros((len(X), d - 30))])
    wide = wide @ np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    a = TargetMixture(temperature=1.0, shrinkage=0.0).fit(X, y)
    b = TargetMixture(temperature=1.0, shrinkage=0.0).fit(wide, y)
    np.testing.assert_array_equal(a.predict(X), b.predict(wide))


def test_no_matrix_of_features_by_features_is_formed_for_few_rows():
    import tracemalloc

    X, y, _ = blobs(n_source=20, n_target=15, n_features=3000)
    tracemalloc.start()
    TargetMixture().fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 3000 * 4


def test_a_class_that_the_target_lacks_stays_empty():
    X, y, labels = shares_shifted([0.5, 0.5, 0.0, 0.0], distance=2.0, move=1.0)
    fitted = make_pipeline(ShareWeightedScaler(), TargetMixture()).fit(X, y)
    target = y == -1
    assert fitted[-1].target_shares_[2:].max() < 0.05
    assert fitted.score(X[target], labels[target]) > 0.95


def test_means_are_held_at_the_sources_as_by_so_many_rows():
    X, y, _ = shares_shifted([0.5, 0.5], move=0.5)
    firm, free = (TargetMixture(prior_rows=rows).fit(X, y) for rows in (1e9, 1e-3))
    with pytest.warns(UserWarning, match="no target rows"):
        alone = TargetMixture().fit(X[y != -1], y[y != -1])
    np.testing.assert_allclose(firm.coef_, alone.coef_, atol=1e-4)
    assert np.abs(free.coef_ - alone.coef_).max() > 0.1


def test_row_order_does_not_matter_to_any():
    X, y, _ = shares_shifted([0.7, 0.2, 0.1], n=150)
    order = np.random.default_rng(1).permutation(len(X))
    for estimator in (PriorCorrected(), TargetMixture(), make_pipeline(ShareWeightedScaler(), SVC())):
        straight, shuffled = (estimator.fit(*rows).predict(X) for rows in ((X, y), (X[order], y[order])))
        np.testing.assert_array_equal(straight, shuffled)


# ------------------------------------------------------------ pseudo-labelling within limits


def test_pseudo_labelling_takes_no_more_rows_of_a_class_than_its_share_allows():
    X, y, labels = shares_shifted([0.5, 0.5, 0.0, 0.0], distance=2.5)
    fitted = PseudoLabelled(structured=False, limit=True).fit(X, y)
    target = y == -1
    np.testing.assert_allclose(fitted.target_shares_, [0.5, 0.5, 0, 0], atol=0.05)
    assert fitted.score(X[target], labels[target]) > 0.95
    assert set(fitted.transduction_[target]) <= {0, 1, 2, 3}
    assert PseudoLabelled(structured=False).fit(X, y).target_shares_ is None
