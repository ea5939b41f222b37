import warnings

import numpy as np
import pytest
from conftest import blobs
from scipy.linalg import eigh
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer.adapt.tca import TransferComponentAnalysis

SHAPES = [(60, 45, 8), (20, 25, 45), (12, 15, 40)]  # more rows than features, as many, fewer
both_kernels = pytest.mark.parametrize("kernel", ["linear", "rbf"])


@pytest.mark.filterwarnings("ignore:no target rows", "ignore:n_components")
@parametrize_with_checks(
    [
        TransferComponentAnalysis(2),
        TransferComponentAnalysis(kernel="rbf"),
        TransferComponentAnalysis(2, kernel="rbf", n_landmarks=5, random_state=0),
    ]
)
def test_tca_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def textbook_tca(X, y, k, mu, kernel):
    """The whole n x n pencil (K H K, K L K + mu I) in float64."""
    X = X.astype(float)
    n, source = len(X), y != -1
    K = X @ X.T if kernel == "linear" else rbf_kernel(X, gamma=1 / (X.shape[1] * X.var()))
    signs = np.where(source, 1 / source.sum(), -1 / (~source).sum())
    H = np.eye(n) - 1 / n
    w, W = eigh(K @ H @ K, K @ np.outer(signs, signs) @ K + mu * np.eye(n))
    return w[::-1][:k], (K @ W)[:, ::-1][:, :k]


def up_to_sign(ours, theirs):
    return ours * np.sign((ours * theirs).sum(axis=0)), theirs


@both_kernels
@pytest.mark.parametrize(("n_source", "n_target", "d"), SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-8)])
@pytest.mark.parametrize("mu", [0.1, 10.0])
def test_tca_equals_the_textbook_up_to_sign(kernel, n_source, n_target, d, dtype, rtol, mu):
    X, y, _ = blobs(n_source, n_target, d)
    X = X.astype(dtype)
    tca = TransferComponentAnalysis(4, kernel=kernel, mu=mu)
    ours = tca.fit_transform(X, y)
    values, theirs = textbook_tca(X, y, 4, mu, kernel)
    assert ours.dtype == dtype
    np.testing.assert_allclose(tca.eigenvalues_, values, rtol=rtol)
    ours, theirs = up_to_sign(ours, theirs)
    assert np.abs(ours - theirs).max() <= rtol * np.abs(theirs).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@both_kernels
def test_rows_that_were_fitted_map_as_new_ones(kernel, dtype):
    X, y, _ = blobs()
    X = X.astype(dtype)
    tca = TransferComponentAnalysis(3, kernel=kernel)
    Z = tca.fit_transform(X, y)
    rtol = 1e-5 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(tca.transform(X), Z, rtol=rtol, atol=rtol * np.abs(Z).max())
    np.testing.assert_allclose(tca.transform_source(X), Z, rtol=rtol, atol=rtol * np.abs(Z).max())


@both_kernels
@pytest.mark.parametrize("d", [8, 150])
@pytest.mark.parametrize("n_landmarks", [20, 1000])
def test_row_order_does_not_matter(kernel, d, n_landmarks):
    X, y, _ = blobs(n_features=d)
    order = np.random.default_rng(1).permutation(len(X))
    tca = TransferComponentAnalysis(3, kernel=kernel, n_landmarks=n_landmarks, random_state=0)
    straight, shuffled = tca.fit_transform(X, y), tca.fit_transform(X[order], y[order])
    np.testing.assert_allclose(shuffled, straight[order], rtol=1e-4, atol=1e-4 * np.abs(straight).max())


@both_kernels
def test_x_and_y_of_the_caller_are_left_alone(kernel):
    X, y, _ = blobs()
    X_before, y_before = X.copy(), y.copy()
    TransferComponentAnalysis(3, kernel=kernel, n_landmarks=50).fit_transform(X, y)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


def test_labels_of_the_source_do_not_matter():
    X, y, _ = blobs()
    other = np.where(y == -1, -1, (y + 1) % 3)
    tca = TransferComponentAnalysis(3)
    np.testing.assert_array_equal(tca.fit_transform(X, y), tca.fit_transform(X, other))


def gap(Z, y):
    """Squared distance of the domain means, over the variance of all rows."""
    return ((Z[y != -1].mean(0) - Z[y == -1].mean(0)) ** 2).sum() / Z.var(0).sum()


@both_kernels
@pytest.mark.parametrize("d", [8, 150])
def test_the_domain_means_come_together(kernel, d):
    X, y, _ = blobs(n_features=d)
    Z = TransferComponentAnalysis(3, kernel=kernel, mu=0.01).fit_transform(X, y)
    assert gap(Z, y) < 0.05 * gap(X, y)


def test_less_penalty_brings_the_domain_means_closer():
    X, y, _ = blobs()
    gaps = [gap(TransferComponentAnalysis(3, mu=mu).fit_transform(X, y), y) for mu in (1e8, 1e4, 1.0)]
    assert gaps == sorted(gaps, reverse=True)


@both_kernels
@pytest.mark.parametrize("d", [8, 150])
def test_components_are_uncorrelated(kernel, d):
    X, y, _ = blobs(n_features=d)
    Z = TransferComponentAnalysis(3, kernel=kernel).fit_transform(X.astype(float), y)
    scatter = (Z - Z.mean(0)).T @ (Z - Z.mean(0))
    np.testing.assert_allclose(scatter, np.diag(np.diag(scatter)), atol=1e-8 * scatter.max())


@both_kernels
@pytest.mark.parametrize("d", [5, 60])
def test_constant_features_and_repeated_rows_stay_finite(kernel, d):
    X, y, _ = blobs(20, 15, d)
    X[:, 1:] = 7.3  # one feature varies, so one linear component has scatter
    X[1] = X[0]
    X[-1] = X[-2]
    tca = TransferComponentAnalysis(3, kernel=kernel)
    Z = tca.fit_transform(X, y)
    assert Z.shape == (35, 3)
    assert np.isfinite(Z).all()
    if kernel == "linear":
        assert (Z.std(axis=0) > 1e-3).tolist() == [True, False, False]


@both_kernels
def test_rows_that_are_all_alike_map_to_one_point(kernel):
    X, y, _ = blobs(6, 5)
    Z = TransferComponentAnalysis(2, kernel=kernel).fit_transform(np.full_like(X, 2.5), y)
    np.testing.assert_allclose(Z, np.broadcast_to(Z[0], Z.shape), atol=1e-5)


def test_landmarks_come_close_to_the_whole_kernel():
    X, y, _ = blobs(300, 200)
    exact = TransferComponentAnalysis(3, kernel="rbf").fit_transform(X.astype(float), y)
    tca = TransferComponentAnalysis(3, kernel="rbf", n_landmarks=200, random_state=0)
    near = tca.fit_transform(X.astype(float), y)
    assert tca.landmarks_.shape == (200, 8)
    np.testing.assert_allclose(tca.transform(X.astype(float)), near)
    near, exact = up_to_sign(near, exact)
    assert np.abs(near - exact).max() < 0.02 * np.abs(exact).max()


def test_a_linear_kernel_never_needs_rows_by_rows():
    X, y, _ = blobs(30_000, 30_000, 4)  # 29 GB, were it n x n
    assert TransferComponentAnalysis(2).fit_transform(X, y).shape == (60_000, 2)


def test_too_many_components_are_lowered_with_a_warning():
    X, y, _ = blobs(6, 5)
    with pytest.warns(
        UserWarning, match="n_components=20 is more than the rows and features allow; 8 are used"
    ):
        tca = TransferComponentAnalysis().fit(X, y)
    assert tca.n_components_ == tca.transform(X).shape[1] == 8
    with pytest.warns(UserWarning, match="10 are used") as said:
        TransferComponentAnalysis(kernel="rbf").fit(X, y)
    assert said[0].filename == __file__


def test_several_sources_count_as_one():
    X, y, _ = blobs(n_source=80)
    domain = np.r_[np.ones(40), np.full(40, 2), np.full(45, -1)].astype(int)
    tca = TransferComponentAnalysis(3)
    together = tca.fit_transform(X, y, sample_domain=domain)
    assert tca.sources_.tolist() == [1, 2]
    np.testing.assert_allclose(together, tca.fit_transform(X, y), rtol=1e-5)


def test_components_have_names():
    X, y, _ = blobs()
    names = TransferComponentAnalysis(2).fit(X, y).get_feature_names_out().tolist()
    assert names == ["transfercomponentanalysis0", "transfercomponentanalysis1"]


def test_a_shifted_target_is_classified_better():
    from sklearn.neighbors import KNeighborsClassifier

    X, y, labels = blobs(shift=8.0)
    source, target = y != -1, y == -1

    def accuracy(Z):
        return KNeighborsClassifier(1).fit(Z[source], y[source]).score(Z[target], labels[target])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accuracy(TransferComponentAnalysis(3).fit_transform(X, y)) > accuracy(X)
