import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.base import clone
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import (
    CORAL,
    DomainScaler,
    FtransferError,
    GeodesicFlowKernel,
    SubspaceAlignment,
    TransferComponentAnalysis,
    domain_codes,
    make_pipeline,
)
from ftransfer.adapt.coral import coral

ADAPTERS = [
    CORAL(),
    CORAL(ridge="ledoit-wolf"),
    CORAL(center=False),
    DomainScaler(),
    DomainScaler("iqr"),
    SubspaceAlignment(2),
]
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=str)


@pytest.mark.filterwarnings("ignore:no target rows", "ignore:n_components")
@parametrize_with_checks([*ADAPTERS, DomainScaler(None)])
def test_adapters_pass_scikit_learns_checks(estimator, check):
    check(estimator)


# ------------------------------------------------------------ the rule of y


@every_adapter
def test_row_order_does_not_matter(adapter):
    X, y, _ = blobs()
    order = np.random.default_rng(1).permutation(len(X))
    straight = clone(adapter).fit_transform(X, y)
    shuffled = clone(adapter).fit_transform(X[order], y[order])
    np.testing.assert_allclose(shuffled, straight[order], rtol=1e-3, atol=1e-3)


@every_adapter
def test_x_and_y_of_the_caller_are_left_alone(adapter):
    X, y, _ = blobs()
    X_before, y_before = X.copy(), y.copy()
    clone(adapter).fit_transform(X, y)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


@every_adapter
def test_labels_of_the_source_do_not_matter(adapter):
    X, y, _ = blobs()
    other = np.where(y == -1, -1, (y + 1) % 3)
    np.testing.assert_array_equal(clone(adapter).fit_transform(X, y), clone(adapter).fit_transform(X, other))


@every_adapter
def test_transform_maps_target_rows_and_transform_source_maps_source_rows(adapter):
    X, y, _ = blobs()
    fitted = clone(adapter)
    both = fitted.fit_transform(X, y)
    np.testing.assert_allclose(fitted.transform(X[y == -1]), both[y == -1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fitted.transform_source(X[y != -1]), both[y != -1], rtol=1e-5, atol=1e-5)


@every_adapter
def test_transform_maps_each_row_by_the_domain_that_is_named_for_it(adapter):
    X, y, _ = blobs()
    fitted = clone(adapter)
    both = fitted.fit_transform(X, y)
    mapped = fitted.transform(X, sample_domain=np.where(y == -1, -1, 1))
    np.testing.assert_allclose(mapped, both, rtol=1e-5, atol=1e-5)
    with pytest.raises(FtransferError, match="sample_domain must give the source of each row of X"):
        fitted.transform(X, sample_domain=np.full(len(X), 7))


@every_adapter
def test_float32_is_kept(adapter):
    X, y, _ = blobs()
    assert clone(adapter).fit_transform(X, y).dtype == np.float32
    assert clone(adapter).fit_transform(X.astype(float), y).dtype == np.float64


@every_adapter
def test_tables_come_out_as_tables_with_names(adapter):
    X, y, _ = blobs(n_features=4)
    table = pd.DataFrame(X, columns=list("abcd"))
    out = clone(adapter).set_output(transform="pandas").fit_transform(table, y)
    assert isinstance(out, pd.DataFrame)
    names = out.columns.tolist()
    expected = (
        ["subspacealignment0", "subspacealignment1"]
        if isinstance(adapter, SubspaceAlignment)
        else list("abcd")
    )
    assert names == expected


def test_nan_marks_the_target_of_a_regression():
    X, y, _ = blobs()
    continuous = np.where(y == -1, np.nan, y + 0.5)
    np.testing.assert_array_equal(
        DomainScaler().fit_transform(X, continuous), DomainScaler().fit_transform(X, y)
    )


def test_minus_one_is_an_ordinary_value_where_nan_marks_the_target():
    X, y, _ = blobs()
    continuous = np.where(y == -1, np.nan, np.where(y == 0, -1.0, y))
    np.testing.assert_array_equal(
        DomainScaler().fit_transform(X, continuous), DomainScaler().fit_transform(X, y)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.full_like(y, -1), "all 105 rows are unlabelled"),
        (lambda y: np.where(y == -1, -1, 1), "y holds only -1 and 1"),
        (lambda y: np.where(y == -1, "", "mug"), "labels are strings"),
        (lambda y: y[:-1], r"inconsistent numbers of samples: \[105, 104\]"),
    ],
)
def test_a_y_against_the_rule_is_refused(change, message):
    X, y, _ = blobs()
    with pytest.raises(FtransferError, match=message):
        DomainScaler().fit(X, change(y))


def test_labelled_rows_only_stand_for_the_target_with_a_warning():
    X, y, _ = blobs()
    with pytest.warns(UserWarning, match="no target rows"):
        fitted = DomainScaler().fit(X[y != -1], y[y != -1])
    np.testing.assert_array_equal(fitted.target_center_, fitted.source_center_[1])


# ------------------------------------------------------------ sample_domain


def test_domain_codes_number_sources_and_targets():
    codes = domain_codes(["b", "a", "t", "b"], target="t")
    assert codes.tolist() == [2, 1, -1, 2]
    with pytest.raises(FtransferError, match="no row of domain x; found: a, b"):
        domain_codes(["a", "b"], target=["x"])


@every_adapter
def test_several_sources_are_each_mapped_by_themselves(adapter):
    X, y, _ = blobs(n_source=80)
    domain = np.r_[np.ones(40), np.full(40, 2), np.full(45, -1)].astype(int)
    both = clone(adapter).fit_transform(X, y, sample_domain=domain)
    for code in (1, 2):
        rows = (domain == code) | (domain == -1)
        alone = clone(adapter).fit_transform(X[rows], y[rows])
        np.testing.assert_allclose(both[rows], alone, rtol=1e-4, atol=1e-4)


def test_labelled_target_rows_count_as_target():
    X, y, labels = blobs()
    domain = np.where(y == -1, -1, 1)
    few = y.copy()
    few[-3:] = labels[-3:]
    np.testing.assert_array_equal(
        CORAL().fit_transform(X, few, sample_domain=domain), CORAL().fit_transform(X, y)
    )


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (np.zeros(105, dtype=int), "positive for a source and negative for a target"),
        (np.ones(104, dtype=int), "one integer per row"),
        (np.full(105, "day"), "domain_codes makes it from names"),
        (np.full(105, -1), "has no source rows"),
    ],
)
def test_a_sample_domain_of_another_form_is_refused(domain, message):
    X, y, _ = blobs()
    with pytest.raises(FtransferError, match=message):
        CORAL().fit(X, y, sample_domain=domain)


def test_transform_source_asks_for_the_domain_where_there_are_several():
    X, y, _ = blobs(n_source=60)
    domain = np.r_[np.ones(30), np.full(30, 2), np.full(45, -1)].astype(int)
    fitted = CORAL().fit(X, y, sample_domain=domain)
    with pytest.raises(FtransferError, match=r"fitted on 2 sources \(\[1, 2\]\)"):
        fitted.transform_source(X[:5])
    with pytest.raises(FtransferError, match="given \\[3\\]"):
        fitted.transform_source(X[:5], sample_domain=np.full(5, 3))


# ------------------------------------------------------------ the methods


def textbook_coral(source, target, ridge):
    """Algorithm 1 of Sun et al. in float64, with both means handled explicitly."""
    source, target = source.astype(float), target.astype(float)
    eye = ridge * np.eye(source.shape[1])
    whiten = np.linalg.inv(sqrtm(np.cov(source.T) + eye).real)
    color = sqrtm(np.cov(target.T) + eye).real
    return (source - source.mean(0)) @ whiten @ color + target.mean(0)


@pytest.mark.parametrize(
    ("n_source", "n_target", "d"), [(60, 45, 8), (20, 70, 30), (70, 20, 30), (12, 15, 40)]
)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-8)])
def test_coral_equals_the_textbook(n_source, n_target, d, dtype, rtol):
    X, y, _ = blobs(n_source, n_target, d)
    X = X.astype(dtype)
    source, target = X[:n_source], X[n_source:]
    expected = textbook_coral(source, target, ridge=1.0)
    assert np.abs(coral(source, target) - expected).max() <= rtol * np.abs(expected).max()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.integers(1, 30), st.booleans(), st.integers(0, 2**31))
def test_coral_is_finite_and_right_for_all_shapes(n_source, n_target, d, degenerate, seed):
    rng = np.random.default_rng(seed)
    source, target = rng.normal(size=(n_source, d)), rng.normal(size=(n_target, d)) * 2 + 1
    if degenerate:  # a constant feature and a row that comes twice
        source[:, 0] = 3.0
        target[1] = target[0]
    aligned = coral(source, target, ridge=0.5)
    expected = textbook_coral(source, target, 0.5) if d > 1 else None
    assert np.isfinite(aligned).all()
    if d > 1:
        np.testing.assert_allclose(aligned, expected, rtol=1e-7, atol=1e-7)


def test_coral_gives_the_source_the_targets_covariance_at_a_vanishing_ridge():
    X, y, _ = blobs(n_source=200, n_target=150)
    aligned = CORAL(ridge=1e-9).fit_transform(X.astype(float), y)
    np.testing.assert_allclose(np.cov(aligned[y != -1].T), np.cov(aligned[y == -1].T), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("n_source", "n_target", "d"), [(60, 45, 8), (20, 25, 40)])
def test_coral_with_ledoit_wolf_equals_scikit_learns_estimate(n_source, n_target, d):
    from sklearn.covariance import ledoit_wolf

    X, _, _ = blobs(n_source, n_target, d)
    X = X.astype(float)
    source, target = X[:n_source], X[n_source:]
    whiten = np.linalg.inv(sqrtm(ledoit_wolf(source)[0]).real)
    expected = (source - source.mean(0)) @ whiten @ sqrtm(ledoit_wolf(target)[0]).real + target.mean(0)
    np.testing.assert_allclose(coral(source, target, ridge="ledoit-wolf"), expected, rtol=1e-7, atol=1e-7)


def test_coral_with_ledoit_wolf_is_finite_on_constant_rows():
    X, y, _ = blobs()
    X[y == -1] = 2.0
    assert np.isfinite(CORAL(ridge="ledoit-wolf").fit_transform(X, y)).all()


def test_coral_leaves_target_rows_unchanged():
    X, y, _ = blobs()
    np.testing.assert_array_equal(CORAL().fit_transform(X, y)[y == -1], X[y == -1])


def test_coral_between_equal_domains_changes_nothing():
    X, y, _ = blobs(n_source=30, n_target=30)
    X[30:] = X[:30]
    np.testing.assert_allclose(CORAL().fit_transform(X, y), X, atol=1e-4)


def test_coral_forms_no_matrix_of_features_by_features_for_few_rows():
    fitted = CORAL().fit(*blobs(n_source=20, n_target=15, n_features=3000)[:2])
    whiten, both = fitted._align[1]
    held = [*vars(fitted._color).values(), *vars(whiten).values(), both]
    assert max(np.size(value) for value in held) <= 20 * 3000


def test_domain_scaler_gives_each_domain_mean_zero_and_deviation_one():
    X, y, _ = blobs()
    Z = DomainScaler().fit_transform(X.astype(float), y)
    for rows in (y == -1, y != -1):
        np.testing.assert_allclose(Z[rows].mean(0), 0, atol=1e-12)
        np.testing.assert_allclose(Z[rows].std(0), 1)


def test_domain_scaler_with_the_interquartile_range_ignores_an_outlier():
    X, y, _ = blobs()
    spoiled = X.copy()
    spoiled[0] = 1e6
    rows = slice(1, 60)
    plain, robust = DomainScaler(), DomainScaler("iqr")
    assert np.abs(robust.fit_transform(spoiled, y)[rows] - robust.fit_transform(X, y)[rows]).max() < 0.5
    assert np.abs(plain.fit_transform(spoiled, y)[rows] - plain.fit_transform(X, y)[rows]).max() > 1


def test_domain_scaler_leaves_a_constant_feature_finite():
    X, y, _ = blobs()
    X[:, 0] = 7.3
    Z = DomainScaler().fit_transform(X, y)
    np.testing.assert_allclose(Z[:, 0], 0, atol=1e-5)


def textbook_subspace(source, target, k):
    """Equations 1 to 3 of Fernando et al. in float64, by SVD."""
    source, target = source.astype(float), target.astype(float)
    axes_s = np.linalg.svd(source - source.mean(0), full_matrices=False)[2][:k].T
    axes_t = np.linalg.svd(target - target.mean(0), full_matrices=False)[2][:k].T
    return (source - source.mean(0)) @ axes_s @ axes_s.T @ axes_t, (target - target.mean(0)) @ axes_t


@pytest.mark.parametrize(("n_source", "n_target", "d"), [(60, 45, 8), (20, 30, 40)])
def test_subspace_alignment_equals_the_textbook_up_to_the_sign_of_axes(n_source, n_target, d):
    X, y, _ = blobs(n_source, n_target, d)
    out = SubspaceAlignment(3).fit_transform(X.astype(float), y)
    for ours, theirs in zip(
        (out[y != -1], out[y == -1]), textbook_subspace(X[y != -1], X[y == -1], 3), strict=True
    ):
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-7, atol=1e-7)


def test_subspace_alignment_lowers_too_many_components_with_a_warning():
    X, y, _ = blobs(n_source=6, n_target=45)
    with pytest.warns(UserWarning, match="n_components=40 is more than the domains allow; 5 are used"):
        out = SubspaceAlignment(40).fit_transform(X, y)
    assert out.shape == (51, 5)


@pytest.mark.parametrize(("n_source", "n_target", "d"), [(60, 45, 8), (20, 30, 40)])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_share_of_variance_is_kept_in_both_domains_by_as_few_components_as_can(
    n_source, n_target, d, share
):
    from sklearn.decomposition import PCA

    X, y, _ = blobs(n_source, n_target, d)
    domains = (X[y != -1].astype(float), X[y == -1].astype(float))
    needed = [PCA(share, svd_solver="full").fit(rows).n_components_ for rows in domains]
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # the larger need may be more than the smaller domain has
        assert SubspaceAlignment(share).fit(X, y).n_components_ == min(max(needed), n_source - 1, d)


@pytest.mark.parametrize(("n", "d"), [(400, 60), (150, 300)])
def test_auto_takes_the_axes_that_stand_out_from_noise(n, d):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2 * n, d))
    rows[:n] += 4 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, d))
    rows[n:] += 4 * rng.normal(size=(n, 5)) @ rng.normal(size=(5, d))
    y = np.where(np.arange(2 * n) < n, np.arange(2 * n) % 3, -1)
    assert SubspaceAlignment("auto").fit(rows, y).n_components_ == 5


def test_auto_takes_one_axis_where_all_is_noise():
    rows = np.random.default_rng(0).normal(size=(2000, 50))
    y = np.where(np.arange(2000) < 1000, np.arange(2000) % 3, -1)
    assert SubspaceAlignment("auto").fit(rows, y).n_components_ <= 2


def test_adapting_raises_the_accuracy_on_a_shifted_target():
    from sklearn.linear_model import LogisticRegression

    X, y, labels = blobs(shift=8.0)
    source, target = y != -1, y == -1

    def accuracy(adapter):
        Z = X if adapter is None else adapter.fit_transform(X, y)
        return LogisticRegression().fit(Z[source], y[source]).score(Z[target], labels[target])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = accuracy(None)
        assert accuracy(DomainScaler()) > plain
        assert accuracy(CORAL()) > plain
        assert accuracy(SubspaceAlignment(3)) > plain


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_a_warning_points_at_the_users_own_line_however_deep_it_is_given(method):
    X, y, _ = blobs(n_source=6, n_target=5)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for adapter in (SubspaceAlignment(40), TransferComponentAnalysis(40), GeodesicFlowKernel(40)):
            getattr(adapter, method)(X, y)
            getattr(make_pipeline(adapter, Normalizer()), method)(X, y)
            getattr(adapter, method)(X[y != -1], y[y != -1])
            getattr(make_pipeline(adapter, Normalizer()), method)(X[y != -1], y[y != -1])
    assert len(said) >= 12
    assert {each.filename for each in said} == {__file__}
