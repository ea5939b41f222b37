import numpy as np
import pytest
from conftest import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import null_space, svd
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer.adapt.gfk import GeodesicFlowKernel

SHAPES = [(60, 45, 8, 3), (60, 45, 8, 4), (20, 25, 45, 5), (12, 15, 40, 6)]


@pytest.mark.filterwarnings("ignore:no target rows", "ignore:n_components")
@parametrize_with_checks([GeodesicFlowKernel(), GeodesicFlowKernel(1)])
def test_gfk_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def axes_of(rows, k):
    return np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:k].T


def integrated_kernel(P_s, P_t, steps=400):
    """Average Phi(t) Phi(t)^T over the geodesic, with the complement formed (Gauss-Legendre)."""
    R_s = null_space(P_s.T)
    U1, cos, Vt = svd(P_s.T @ P_t)
    theta = np.arccos(np.clip(cos, -1, 1))
    U2 = -R_s.T @ P_t @ Vt.T / np.sin(theta)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    G = 0
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        Phi = P_s @ U1 * np.cos(t * theta) - R_s @ U2 * np.sin(t * theta)
        G = G + weight * Phi @ Phi.T
    return G


def paper_kernel(P_s, P_t):
    """The paper's closed form, by halves, with the complement formed."""
    R_s = null_space(P_s.T)
    U1, cos, Vt = svd(P_s.T @ P_t)
    theta = np.arccos(np.clip(cos, -1, 1))
    U2 = -R_s.T @ P_t @ Vt.T / np.sin(theta)
    one, three = 1 + np.sin(2 * theta) / (2 * theta), 1 - np.sin(2 * theta) / (2 * theta)
    two = (np.cos(2 * theta) - 1) / (2 * theta)
    core = np.block([[np.diag(one), np.diag(two)], [np.diag(two), np.diag(three)]])
    sides = np.hstack([P_s @ U1, R_s @ U2])
    return sides @ core @ sides.T / 2


@pytest.mark.parametrize(("n_source", "n_target", "d", "k"), SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-8)])
@pytest.mark.parametrize("textbook", [integrated_kernel, paper_kernel])
def test_inner_products_equal_the_kernel_of_the_paper(n_source, n_target, d, k, dtype, rtol, textbook):
    X, y, _ = blobs(n_source, n_target, d)
    X = X.astype(dtype)
    gfk = GeodesicFlowKernel(k)
    Z = gfk.fit_transform(X, y)
    assert Z.dtype == dtype
    assert Z.shape == (len(X), 2 * k)
    X = X.astype(float)
    source, target = X[y != -1], X[y == -1]
    G = textbook(axes_of(source, k), axes_of(target, k))
    np.testing.assert_allclose(gfk.factor_ @ gfk.factor_.T, G, atol=rtol * np.abs(G).max())
    centred = np.vstack([source - source.mean(0), target - target.mean(0)])
    K = centred @ G @ centred.T
    assert np.abs(Z.astype(float) @ Z.T - K).max() <= rtol * np.abs(K).max()


@settings(max_examples=60, deadline=None)
@given(st.floats(-12, -0.01), st.integers(0, 2**31))
def test_small_angles_lose_no_accuracy(exponent, seed):
    """In the plane G is known for any angle t: (1 +- sin(t) / t) / 2 along and across the middle.

    At a right angle the way is not unique: there are two.
    """
    angle = np.pi / 2 * 10**exponent
    rng = np.random.default_rng(seed)
    line = rng.normal(size=20)
    turned = np.array([np.cos(angle), np.sin(angle)])
    X = np.vstack([np.outer(line, [1.0, 0.0]), np.outer(line, turned)])
    gfk = GeodesicFlowKernel(1).fit(X, np.repeat([0, 1, -1], [10, 10, 20]))
    np.testing.assert_allclose(gfk.angles_, angle, rtol=1e-8, atol=1e-15)
    # 1 - sin(t) / t and what follows from it, by series where the formula cancels
    short = angle**2 / 6 - angle**4 / 120 if angle < 1e-2 else 1 - np.sin(angle) / angle
    across, along = [-np.sin(angle / 2), np.cos(angle / 2)], [np.cos(angle / 2), np.sin(angle / 2)]
    G = (1 - short / 2) * np.outer(along, along) + short / 2 * np.outer(across, across)
    np.testing.assert_allclose(gfk.factor_ @ gfk.factor_.T, G, atol=1e-12)
    np.testing.assert_allclose(
        (np.array(across) @ gfk.factor_) @ gfk.factor_.T @ across, short / 2, rtol=1e-6
    )


def test_equal_subspaces_give_the_projection_on_them():
    X, y, _ = blobs(40, 40)
    X[40:] = X[:40] + 5
    gfk = GeodesicFlowKernel(3).fit(X.astype(float), y)
    axes = axes_of(X[:40].astype(float), 3)
    np.testing.assert_allclose(gfk.angles_, 0, atol=1e-6)
    np.testing.assert_allclose(gfk.factor_ @ gfk.factor_.T, axes @ axes.T, atol=1e-6)


def test_perpendicular_subspaces_share_nothing_yet_stay_finite():
    rng = np.random.default_rng(0)
    X = np.zeros((40, 4))
    X[:20, :2], X[20:, 2:] = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    gfk = GeodesicFlowKernel(2).fit(X, np.repeat([0, 1, -1], [10, 10, 20]))
    np.testing.assert_allclose(gfk.angles_, np.pi / 2)
    np.testing.assert_allclose(np.linalg.eigvalsh(gfk.factor_.T @ gfk.factor_).sum(), 2.0)


@pytest.mark.parametrize("d", [8, 150])
def test_row_order_does_not_matter(d):
    X, y, _ = blobs(n_features=d)
    order = np.random.default_rng(1).permutation(len(X))
    straight = GeodesicFlowKernel(3).fit_transform(X, y)
    shuffled = GeodesicFlowKernel(3).fit_transform(X[order], y[order])
    np.testing.assert_allclose(shuffled, straight[order], rtol=1e-4, atol=1e-4)


def test_x_and_y_of_the_caller_are_left_alone():
    X, y, _ = blobs()
    X_before, y_before = X.copy(), y.copy()
    GeodesicFlowKernel(3).fit_transform(X, y)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


def test_rows_that_were_fitted_map_as_new_ones_of_their_domain():
    X, y, _ = blobs()
    gfk = GeodesicFlowKernel(3)
    Z = gfk.fit_transform(X, y)
    np.testing.assert_allclose(gfk.transform(X[y == -1]), Z[y == -1], atol=1e-5)
    np.testing.assert_allclose(gfk.transform_source(X[y != -1]), Z[y != -1], atol=1e-5)


@pytest.mark.parametrize("d", [6, 60])
def test_directions_without_variance_are_left_out_with_a_warning(d):
    X, y, _ = blobs(20, 15, d)
    X[:, 2:] = 7.3
    X[1], X[-1] = X[0], X[-2]
    with pytest.warns(
        UserWarning, match="n_components=3 is more than the rows and features allow; 2 are used"
    ):
        gfk = GeodesicFlowKernel(3).fit(X.astype(float), y)
    X = X.astype(float)
    P = np.eye(d)[:, :2]  # both domains vary in the first two features only
    np.testing.assert_allclose(gfk.factor_ @ gfk.factor_.T, P @ P.T, atol=1e-10)


def test_domains_that_do_not_vary_stay_finite():
    X, y, _ = blobs(6, 5)
    Z = GeodesicFlowKernel(1).fit_transform(np.full_like(X, 2.5), y)
    np.testing.assert_allclose(Z, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("n_source", "n_target", "d", "used"), [(60, 45, 8, 4), (60, 45, 9, 4), (5, 45, 30, 4), (60, 4, 30, 3)]
)
def test_too_many_components_are_lowered_with_a_warning(n_source, n_target, d, used):
    X, y, _ = blobs(n_source, n_target, d)
    with pytest.warns(UserWarning, match=f"n_components=20 is more .* allow; {used} are used") as said:
        gfk = GeodesicFlowKernel().fit(X, y)
    assert said[0].filename == __file__
    assert gfk.transform(X).shape[1] == 2 * used == len(gfk.get_feature_names_out())


def test_no_matrix_of_features_by_features_is_held_or_formed():
    import tracemalloc

    X, y, _ = blobs(20, 15, 6000)
    tracemalloc.start()
    gfk = GeodesicFlowKernel(5).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert gfk.factor_.shape == (6000, 10)
    assert peak < 6000 * 6000  # bytes: an eighth of such a matrix


def test_several_sources_are_centred_each_by_itself():
    X, y, _ = blobs(n_source=80)
    domain = np.r_[np.ones(40), np.full(40, 2), np.full(45, -1)].astype(int)
    gfk = GeodesicFlowKernel(3)
    Z = gfk.fit_transform(X, y, sample_domain=domain)
    moved = X.copy()
    moved[domain == 2] += 100
    np.testing.assert_allclose(gfk.fit_transform(moved, y, sample_domain=domain), Z, atol=1e-3)
    for code in (1, 2):
        np.testing.assert_allclose(Z[domain == code].mean(0), 0, atol=1e-5)


def test_a_shifted_target_is_classified_better():
    from sklearn.neighbors import KNeighborsClassifier

    X, y, labels = blobs(shift=8.0)
    source, target = y != -1, y == -1

    def accuracy(Z):
        return KNeighborsClassifier(1).fit(Z[source], y[source]).score(Z[target], labels[target])

    assert accuracy(GeodesicFlowKernel(3).fit_transform(X, y)) > accuracy(X)
