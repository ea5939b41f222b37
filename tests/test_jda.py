import numpy as np
import pytest
from conftest import blobs
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer.adapt.jda import JointDistributionAdaptation
from ftransfer.adapt.tca import TransferComponentAnalysis

SHAPES = [(60, 45, 8), (20, 25, 45), (12, 15, 40)]  # more rows than features, as many, fewer
few_and_many_features = pytest.mark.parametrize("d", [8, 150])


@pytest.mark.filterwarnings("ignore:no target rows", "ignore:n_components")
@parametrize_with_checks(
    [
        JointDistributionAdaptation(),
        JointDistributionAdaptation(LogisticRegression(), n_components=2, n_iterations=3, balance=0.5),
    ]
)
def test_jda_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def textbook_jda(X, y, k, mu, balance=None, n_iterations=10):
    """Algorithm 1 of Long et al. in float64, every matrix formed, the nearest neighbour by hand."""
    X = X.astype(float)
    n, source = len(X), y != -1
    scatter = X.T @ (np.eye(n) - 1 / n) @ X
    guess = None
    for _ in range(n_iterations):
        signs = np.where(source, 1 / source.sum(), -1 / (~source).sum())
        M = np.outer(signs, signs)
        if guess is not None:
            each = np.zeros((n, n))
            for c in np.unique(y[source]):
                if (guess == c).any():
                    signs = np.where(source, (y == c) / (y == c).sum(), 0)
                    signs[~source] = (guess == c) / -(guess == c).sum()
                    each += np.outer(signs, signs)
            M = M + each if balance is None else (1 - balance) * M + balance * each
        w, A = eigh(scatter, X.T @ M @ X + mu * np.eye(X.shape[1]))
        A = A[:, ::-1][:, :k]  # A^T X H X^T A = diag(w)
        Z = X @ A
        distance = ((Z[~source][:, None] - Z[source][None]) ** 2).sum(-1)
        guess, before = y[source][distance.argmin(1)], guess
        if before is not None and (guess == before).all():
            break
    return Z - Z.mean(0), guess


@pytest.mark.parametrize(("n_source", "n_target", "d"), SHAPES)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-8)])
@pytest.mark.parametrize(("mu", "balance", "n_iterations"), [(1.0, None, 10), (0.1, 0.3, 10), (1.0, None, 2)])
def test_jda_equals_the_textbook_up_to_sign(n_source, n_target, d, dtype, rtol, mu, balance, n_iterations):
    X, y, _ = blobs(n_source, n_target, d, shift=5.0)
    X = X.astype(dtype)
    jda = JointDistributionAdaptation(n_components=3, mu=mu, balance=balance, n_iterations=n_iterations)
    ours = jda.fit_transform(X, y)
    assert ours.dtype == dtype
    theirs, guess = textbook_jda(X, y, 3, mu, balance, n_iterations)
    np.testing.assert_array_equal(jda.pseudo_labels_, guess)
    ours = ours * np.sign((ours * theirs).sum(axis=0))
    assert np.abs(ours - theirs).max() <= rtol * np.abs(theirs).max()


@few_and_many_features
def test_the_scatter_of_components_is_their_eigenvalue(d):
    X, y, _ = blobs(n_features=d)
    jda = JointDistributionAdaptation(n_components=3)
    Z = jda.fit_transform(X.astype(float), y)
    np.testing.assert_allclose(Z.T @ Z, np.diag(jda.eigenvalues_), atol=1e-10 * jda.eigenvalues_[0])
    np.testing.assert_allclose(Z.mean(0), 0, atol=1e-10)


def shifted(seed=0):
    """Blobs whose target is shifted, but no longer stretched."""
    X, y, labels = blobs(150, 120, shift=0.0, seed=seed)
    X[y == -1] = X[y == -1] / 1.7 + 5
    return X, y, labels


@pytest.mark.parametrize("seed", range(5))
def test_the_accuracy_of_the_nearest_neighbour_rises_on_a_shifted_target(seed):
    X, y, labels = shifted(seed)
    source, target = y != -1, y == -1

    def accuracy(Z):
        return KNeighborsClassifier(1).fit(Z[source], y[source]).score(Z[target], labels[target])

    plain = accuracy(X)
    jda = JointDistributionAdaptation(n_components=3)
    assert accuracy(jda.fit_transform(X, y)) > max(plain, 0.9)
    assert (jda.pseudo_labels_ == labels[target]).mean() > max(plain, 0.9)


def class_gap(Z, labels, source):
    means = [Z[source & (labels == c)].mean(0) - Z[~source & (labels == c)].mean(0) for c in range(3)]
    return (np.array(means) ** 2).sum() / Z.var(0).sum()


def test_the_means_of_classes_come_closer_than_by_domain_means_alone():
    X, y, labels = blobs(150, 120, shift=5.0)
    once, often = (
        JointDistributionAdaptation(n_components=2, n_iterations=n).fit_transform(X, y) for n in (1, 10)
    )
    assert class_gap(often, labels, y != -1) < 0.5 * class_gap(once, labels, y != -1)


def test_iterations_end_when_the_labels_stop_changing():
    X, y, _ = shifted(seed=1)
    ended = JointDistributionAdaptation(n_components=3, n_iterations=50).fit(X, y)
    assert 2 <= ended.n_iterations_ < 50
    as_long = JointDistributionAdaptation(n_components=3, n_iterations=ended.n_iterations_ + 1).fit(X, y)
    np.testing.assert_array_equal(as_long.weights_, ended.weights_)


def test_a_balance_of_zero_is_the_match_of_domain_means_only():
    X, y, _ = blobs()
    none = JointDistributionAdaptation(n_components=3, balance=0.0).fit_transform(X, y)
    once = JointDistributionAdaptation(n_components=3, n_iterations=1).fit_transform(X, y)
    np.testing.assert_allclose(none, once, atol=1e-5)


def test_a_balance_of_one_half_is_jda_at_twice_the_penalty():
    X, y, _ = shifted(seed=1)  # where the first pseudo-labels agree
    half = JointDistributionAdaptation(n_components=3, mu=1.0, balance=0.5).fit(X, y)
    plain = JointDistributionAdaptation(n_components=3, mu=2.0).fit(X, y)
    np.testing.assert_allclose(half.weights_, np.sqrt(2) * plain.weights_, rtol=1e-6, atol=1e-9)


@few_and_many_features
def test_row_order_does_not_matter(d):
    X, y, _ = blobs(n_features=d)
    order = np.random.default_rng(1).permutation(len(X))
    jda = JointDistributionAdaptation(n_components=3)
    straight, shuffled = jda.fit_transform(X, y), jda.fit_transform(X[order], y[order])
    np.testing.assert_allclose(shuffled, straight[order], rtol=1e-4, atol=1e-5)


def test_x_and_y_of_the_caller_are_left_alone():
    X, y, _ = blobs()
    X_before, y_before = X.copy(), y.copy()
    JointDistributionAdaptation(n_components=3).fit_transform(X, y)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


@few_and_many_features
def test_rows_that_were_fitted_map_as_new_ones(d):
    X, y, _ = blobs(n_features=d)
    jda = JointDistributionAdaptation(n_components=3)
    Z = jda.fit_transform(X, y)
    np.testing.assert_allclose(jda.transform(X), Z, atol=1e-6)
    np.testing.assert_allclose(jda.transform_source(X), Z, atol=1e-6)


def test_the_estimator_given_makes_the_pseudo_labels_and_stays_unfitted():
    class Stubborn(KNeighborsClassifier):
        def predict(self, X):
            return np.full(len(X), 2)

    X, y, _ = blobs()
    estimator = Stubborn()
    jda = JointDistributionAdaptation(estimator, n_components=3).fit(X, y)
    assert (jda.pseudo_labels_ == 2).all()  # classes 0 and 1 are then left out
    assert jda.n_iterations_ == 2
    assert not hasattr(estimator, "classes_")


def test_labelled_target_rows_keep_their_label_and_help():
    X, y, labels = blobs(shift=8.0)
    domain = np.where(y == -1, -1, 1)
    few = y.copy()
    few[-9:] = wrong = (labels[-9:] + 1) % 3
    jda = JointDistributionAdaptation(n_components=3).fit(X, few, sample_domain=domain)
    np.testing.assert_array_equal(jda.pseudo_labels_[-9:], wrong)
    without = JointDistributionAdaptation(n_components=3).fit(X, y)
    assert not np.allclose(jda.weights_, without.weights_)


def test_a_target_with_all_labels_needs_one_projection():
    X, y, labels = blobs(shift=5.0)
    domain = np.where(y == -1, -1, 1)
    jda = JointDistributionAdaptation(n_components=2)
    Z = jda.fit_transform(X, labels, sample_domain=domain)
    assert jda.n_iterations_ == 1
    np.testing.assert_array_equal(jda.pseudo_labels_, labels[domain < 0])
    once = JointDistributionAdaptation(n_components=2, n_iterations=1).fit_transform(X, y)
    assert class_gap(Z, labels, domain > 0) < class_gap(once, labels, domain > 0)


def test_source_rows_without_a_label_count_for_the_domain_only():
    X, y, labels = blobs()
    domain = np.where(y == -1, -1, 1)
    y[:5] = -1
    jda = JointDistributionAdaptation(n_components=3)
    assert np.isfinite(jda.fit_transform(X, y, sample_domain=domain)).all()
    assert set(jda.pseudo_labels_) <= {0, 1, 2}
    assert len(jda.pseudo_labels_) == (domain < 0).sum()


@pytest.mark.parametrize(
    "change", [lambda y: np.where(y == -1, np.nan, y + 0.5), lambda y: np.where(y == -1, -1, 7)]
)
def test_without_classes_the_domain_means_only_are_matched(change):
    X, y, _ = blobs()
    jda = JointDistributionAdaptation(n_components=3)
    Z = jda.fit_transform(X, change(y))
    assert jda.n_iterations_ == 1
    assert jda.pseudo_labels_ is None
    once = JointDistributionAdaptation(n_components=3, n_iterations=1).fit_transform(X, y)
    np.testing.assert_allclose(Z, once, atol=1e-6)


def test_whole_numbers_kept_as_floats_are_classes():
    X, y, _ = blobs()
    jda = JointDistributionAdaptation(n_components=3)
    ints = jda.fit_transform(X, y)
    np.testing.assert_array_equal(jda.fit_transform(X, np.where(y == -1, np.nan, y)), ints)


def test_labelled_rows_only_give_principal_components_with_a_warning():
    X, y, _ = blobs()
    X, y = X[y != -1].astype(float), y[y != -1]
    jda = JointDistributionAdaptation(n_components=3)
    with pytest.warns(UserWarning, match="no target rows"):
        Z = jda.fit_transform(X, y)
    U, length, _ = np.linalg.svd(X - X.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(Z), np.abs(U * length)[:, :3], atol=1e-8)


@pytest.mark.parametrize("d", [5, 60])
def test_constant_features_and_repeated_rows_stay_finite(d):
    X, y, _ = blobs(20, 15, d)
    X[:, 1:] = 7.3  # one feature varies, so one component has scatter
    X[1], X[-1] = X[0], X[-2]
    Z = JointDistributionAdaptation(n_components=3).fit_transform(X, y)
    assert np.isfinite(Z).all()
    assert (Z.std(axis=0) > 1e-3).tolist() == [True, False, False]


def test_too_many_components_are_lowered_with_a_warning():
    X, y, _ = blobs(6, 5, 30)
    with pytest.warns(
        UserWarning, match="n_components=20 is more than the rows and features allow; 10 are used"
    ) as said:
        jda = JointDistributionAdaptation().fit(X, y)
    assert said[0].filename == __file__
    assert jda.transform(X).shape[1] == 10


def test_few_rows_of_many_features_form_no_matrix_of_features_by_features():
    import tracemalloc

    X, y, _ = blobs(20, 15, 6000)
    tracemalloc.start()
    JointDistributionAdaptation(n_components=5).fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6000 * 6000  # bytes: an eighth of such a matrix


def test_several_sources_count_as_one():
    X, y, _ = blobs(n_source=80)
    domain = np.r_[np.ones(40), np.full(40, 2), np.full(45, -1)].astype(int)
    jda = JointDistributionAdaptation(n_components=3)
    together = jda.fit_transform(X, y, sample_domain=domain)
    assert jda.sources_.tolist() == [1, 2]
    np.testing.assert_array_equal(together, jda.fit_transform(X, y))


def test_without_a_penalty_jda_and_tca_bring_the_domain_means_together_fully():
    X, y, _ = blobs(shift=8.0)
    source = y != -1
    jda = JointDistributionAdaptation(n_components=3, n_iterations=1, mu=1e-6).fit_transform(
        X.astype(float), y
    )
    tca = TransferComponentAnalysis(3, mu=1e-6).fit_transform(X.astype(float), y)
    for Z in (jda, tca):
        np.testing.assert_allclose(Z[source].mean(0), Z[~source].mean(0), atol=1e-6 * np.abs(Z).max())


def test_components_have_names():
    X, y, _ = blobs()
    names = JointDistributionAdaptation(n_components=2).fit(X, y).get_feature_names_out().tolist()
    assert names == ["jointdistributionadaptation0", "jointdistributionadaptation1"]
