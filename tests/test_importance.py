import numpy as np
import pandas as pd
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import DomainScaler, FtransferError, make_pipeline
from ftransfer.adapt.importance import ImportanceWeighted, _clipped


@pytest.mark.filterwarnings("ignore:no target rows", "ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [ImportanceWeighted(), ImportanceWeighted(Ridge())],
    expected_failed_checks=lambda estimator: (
        {
            "check_classifiers_classes": "trains on the classes -1 and 1 and on strings; here -1 marks the target"
        }
        if is_classifier(estimator)
        else {}
    ),
)
def test_it_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def shifted(n=2000, shift=0.8, seed=0):
    """Two normal domains, one `shift` from the other: the density ratio is exp(shift x - shift^2 / 2)."""
    rng = np.random.default_rng(seed)
    X = np.r_[rng.normal(0, 1, n), rng.normal(shift, 1, n)][:, None]
    return X, np.arange(2 * n) < n


def parabola(seed=0, n=600):
    """A regression that is no line, with a target where the parabola rises."""
    X, source = shifted(n, 1.0, seed)
    truth = X[:, 0] ** 2 + 0.1 * np.random.default_rng(seed + 1).normal(size=len(X))
    return X, np.where(source, truth, np.nan), truth, source


# ------------------------------------------------------------ the weights


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize("n_source", [500, 2000])
def test_weights_are_the_ratio_of_the_densities(calibrate, n_source):
    X, source = shifted()
    keep = np.r_[0:n_source, 2000:4000]
    X, source = X[keep], source[keep]
    fitted = ImportanceWeighted(calibrate=calibrate, clip=None).fit(X, np.where(source, X[:, 0] > 0, -1))
    true = np.exp(0.8 * X[source, 0] - 0.32)
    assert np.corrcoef(fitted.sample_weight_, true)[0, 1] > 0.98
    np.testing.assert_allclose(fitted.sample_weight_, true / true.mean(), rtol=0.3)
    # Kish's size of the true ratio: n / E[ratio^2] = n exp(-shift^2)
    assert fitted.effective_sample_size_ == pytest.approx(n_source * np.exp(-0.64), rel=0.15)


def test_weights_of_equal_domains_are_about_one():
    X, source = shifted(shift=0.0)
    fitted = ImportanceWeighted().fit(X, np.where(source, X[:, 0] > 0, -1))
    np.testing.assert_allclose(fitted.sample_weight_, 1, atol=0.2)
    assert fitted.effective_sample_size_ > 0.99 * source.sum()


def test_calibration_tames_an_overconfident_domain_classifier():
    X, source = shifted(n=400, shift=0.5)
    y = np.where(source, X[:, 0] > 0, -1)
    forest = RandomForestClassifier(20, random_state=0)  # each leaf is pure
    raw = ImportanceWeighted(domain_classifier=forest, calibrate=False, clip=None).fit(X, y)
    calibrated = ImportanceWeighted(domain_classifier=forest, clip=None).fit(X, y)
    true = 400 * np.exp(-0.25)
    assert raw.effective_sample_size_ < 0.2 * true
    assert calibrated.effective_sample_size_ > 0.8 * true


def test_scores_are_taken_out_of_fold():
    # noise in many features: in sample the domains are told apart, out of fold they are not
    X = np.random.default_rng(0).normal(size=(200, 150))
    y = np.where(np.arange(200) < 100, np.arange(200) % 2, -1)
    assert ImportanceWeighted().fit(X, y).effective_sample_size_ > 95


def test_a_domain_classifier_without_probabilities_is_calibrated():
    X, source = shifted()
    y = np.where(source, X[:, 0] > 0, -1)
    fitted = ImportanceWeighted(domain_classifier=LinearSVC(), clip=None).fit(X, y)
    assert np.corrcoef(fitted.sample_weight_, np.exp(0.8 * X[source, 0]))[0, 1] > 0.98


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(-14, 14), min_size=1, max_size=60),
    st.sampled_from([None, 1.0, 1.5, 3.0, 10.0]),
)
def test_the_largest_weight_is_clip_times_the_mean_and_the_mean_is_one(log_odds, clip):
    raw = np.exp(np.array(log_odds))
    weight = _clipped(raw, clip)
    assert weight.mean() == pytest.approx(1)
    assert (np.diff(weight[np.argsort(raw)]) >= 0).all()
    if clip is None or raw.max() <= clip * raw.mean():
        np.testing.assert_allclose(weight, raw / raw.mean())
    else:
        assert weight.max() == pytest.approx(clip)
        uncut = weight < clip * (1 - 1e-9)
        if uncut.any():  # whatever is not cut keeps its proportions
            np.testing.assert_allclose(weight[uncut] / raw[uncut], (weight[uncut] / raw[uncut])[0])


def test_clip_is_respected_in_a_fit():
    X, source = shifted(shift=2.0)
    y = np.where(source, X[:, 0] > 0, -1)
    assert ImportanceWeighted(clip=None).fit(X, y).sample_weight_.max() > 10
    clipped = ImportanceWeighted(clip=3.0).fit(X, y)
    assert clipped.sample_weight_.max() == pytest.approx(3)
    assert clipped.sample_weight_.mean() == pytest.approx(1)
    np.testing.assert_allclose(ImportanceWeighted(clip=1).fit(X, y).sample_weight_, 1)


def test_labelled_target_rows_have_weight_one_and_are_fitted():
    X, source = shifted(n=300)
    y = np.where(source, X[:, 0] > 0, -1)
    y[-20:] = 2
    fitted = ImportanceWeighted().fit(X, y, sample_domain=np.where(source, 1, -1))
    assert fitted.sample_weight_.shape == (320,)
    np.testing.assert_array_equal(fitted.sample_weight_[-20:], 1)
    assert fitted.sample_weight_[:300].mean() == pytest.approx(1)
    assert fitted.classes_.tolist() == [0, 1, 2]


def test_source_rows_without_a_label_tell_the_domains_apart_and_are_not_fitted():
    X, source = shifted(n=300)
    y = np.where(source, X[:, 0] > 0, -1)
    y[100:300] = -1
    domain = np.where(source, 1, -1)
    assert ImportanceWeighted().fit(X, y, sample_domain=domain).sample_weight_.shape == (100,)
    only_target = np.where(source, -1, X[:, 0] > 0)
    fitted = ImportanceWeighted().fit(X, only_target, sample_domain=domain)
    np.testing.assert_array_equal(fitted.sample_weight_, np.ones(300))


# ------------------------------------------------------------ the fit


def test_a_weighted_line_beats_an_unweighted_one_where_the_target_is():
    gain = []
    for seed in range(5):
        X, y, truth, source = parabola(seed)
        weighted = ImportanceWeighted(LinearRegression()).fit(X, y)
        plain = LinearRegression().fit(X[source], y[source])
        gain.append(weighted.score(X[~source], truth[~source]) - plain.score(X[~source], truth[~source]))
    assert min(gain) > 0.1


def test_a_weighted_classifier_beats_an_unweighted_one_where_the_target_is():
    gain = []
    for seed in range(5):
        X, source = shifted(seed=seed, shift=1.5)
        labels = (np.abs(X[:, 0] - 0.5) > 1).astype(int)  # an interval: no threshold is right everywhere
        plain = LogisticRegression().fit(X[source], labels[source]).score(X[~source], labels[~source])
        fitted = ImportanceWeighted().fit(X, np.where(source, labels, -1))
        gain.append(fitted.score(X[~source], labels[~source]) - plain)
    assert min(gain) > 0.1


def test_a_regressor_is_a_regressor_and_a_classifier_a_classifier():
    assert is_regressor(ImportanceWeighted(Ridge()))
    assert is_classifier(ImportanceWeighted())
    assert not hasattr(ImportanceWeighted(Ridge()), "predict_proba")
    X, y, *_ = parabola()
    fitted = ImportanceWeighted(Ridge()).fit(X, y)
    assert not hasattr(fitted, "classes_")
    assert not hasattr(fitted, "decision_function")


def test_answers_are_those_of_the_wrapped_estimator():
    X, source = shifted(n=300)
    y = np.where(source, (X[:, 0] > 0).astype(int), -1)
    fitted = ImportanceWeighted(LogisticRegression()).fit(X, y)
    alone = LogisticRegression().fit(X[source], y[source], sample_weight=fitted.sample_weight_)
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(fitted, method)(X), getattr(alone, method)(X))
    assert not hasattr(ImportanceWeighted(GaussianNB()).fit(X, y), "decision_function")


def test_weights_follow_the_rows_in_any_order():
    X, source = shifted()
    y = np.where(source, X[:, 0] > 0, -1)
    order = np.random.default_rng(1).permutation(len(X))
    straight = np.full(len(X), np.nan)
    straight[source] = ImportanceWeighted().fit(X, y).sample_weight_
    shuffled = ImportanceWeighted().fit(X[order], y[order]).sample_weight_
    np.testing.assert_allclose(shuffled, straight[order][source[order]], rtol=1e-6)


def test_the_callers_arrays_and_estimators_are_left_alone():
    X, y, *_ = parabola()
    before, ridge, domain_classifier = (X.copy(), y.copy()), Ridge(), LogisticRegression()
    ImportanceWeighted(ridge, domain_classifier=domain_classifier).fit(X, y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert not hasattr(ridge, "coef_")
    assert not hasattr(domain_classifier, "coef_")


def test_it_is_the_last_step_of_a_pipeline_and_a_grid_search_reaches_its_parameters():
    X, y, labels = blobs()
    pipeline = make_pipeline(DomainScaler(None), ImportanceWeighted(LogisticRegression()))
    domain = np.where(y == -1, -1, 1)
    fitted = pipeline.fit(X, y, sample_domain=domain)
    assert fitted[-1].sample_weight_.shape == (60,)
    assert fitted.score(X[y == -1], labels[y == -1]) > 0.9
    grid = {"importanceweighted__estimator__C": [0.1, 1.0], "importanceweighted__clip": [3.0, None]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_estimator_.score(X[y == -1], labels[y == -1]) > 0.9


def test_sample_domain_reaches_it_with_metadata_routing():
    X, y, _ = blobs()
    y[-3:] = 0  # labelled target rows
    domain = np.where(np.arange(105) < 60, 1, -1)
    with config_context(enable_metadata_routing=True):
        fitted = make_pipeline(DomainScaler(None), ImportanceWeighted()).fit(X, y, sample_domain=domain)
    np.testing.assert_array_equal(fitted[-1].sample_weight_[-3:], 1)


def test_a_table_with_names_is_taken():
    X, y, *_ = parabola(n=50)
    fitted = ImportanceWeighted(Ridge()).fit(pd.DataFrame(X, columns=["a"]), y)
    assert fitted.feature_names_in_.tolist() == ["a"]


def test_labelled_rows_only_have_weight_one_with_a_warning():
    X, y, _, source = parabola()
    with pytest.warns(UserWarning, match="no target rows.*ImportanceWeighted"):
        fitted = ImportanceWeighted(Ridge()).fit(X[source], y[source])
    np.testing.assert_array_equal(fitted.sample_weight_, 1)
    assert fitted.effective_sample_size_ == source.sum()


# ------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("wrapped", "name"),
    [
        (KNeighborsRegressor(), "KNeighborsRegressor does not"),
        (plain_pipeline(StandardScaler(), Ridge()), "Pipeline does not. Put the steps before it"),
    ],
)
def test_an_estimator_without_sample_weight_is_refused_by_name(wrapped, name):
    X, y, *_ = parabola(n=30)
    with pytest.raises(FtransferError, match=f"whose fit takes sample_weight; {name}"):
        ImportanceWeighted(wrapped).fit(X, y)


def test_a_domain_classifier_without_a_probability_is_refused_where_nothing_is_calibrated():
    X, y, *_ = parabola(n=30)
    with pytest.raises(
        FtransferError, match="LinearSVC has no predict_proba; with a decision_function, calibrate=True works"
    ):
        ImportanceWeighted(Ridge(), domain_classifier=LinearSVC(), calibrate=False).fit(X, y)


def test_a_single_target_row_is_refused_and_two_are_enough():
    X, y, _, source = parabola(n=30)
    with pytest.raises(FtransferError, match="given 30 source and 1 target rows"):
        ImportanceWeighted(Ridge()).fit(X[:31], y[:31])
    assert ImportanceWeighted(Ridge()).fit(X[:32], y[:32]).sample_weight_.shape == (30,)


def test_labels_of_a_regression_are_refused_by_a_classifier():
    X, y, *_ = parabola(n=30)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        ImportanceWeighted(GaussianNB()).fit(X, y)


def test_strings_are_refused():
    X, y, _ = blobs()
    with pytest.raises(FtransferError, match="labels are strings such as"):
        ImportanceWeighted().fit(X, np.where(y == -1, "", "mug"))


def test_a_neighbours_classifier_is_a_domain_classifier():
    X, source = shifted(n=400)
    y = np.where(source, X[:, 0] > 0, -1)
    fitted = ImportanceWeighted(domain_classifier=KNeighborsClassifier(50), clip=None).fit(X, y)
    assert np.corrcoef(fitted.sample_weight_, np.exp(0.8 * X[source, 0]))[0, 1] > 0.7
