import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import blobs
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import FtransferError, make_pipeline
from ftransfer.adapt.transport import OptimalTransport, _memberships

ot = pytest.importorskip("ot", reason="POT is not installed: pip install 'ftransfer[ot]'")


@pytest.mark.filterwarnings("ignore:no target rows", "ignore:Sinkhorn did not converge")
@parametrize_with_checks(
    [OptimalTransport(), OptimalTransport(0.05, class_regularisation=0.01, metric="euclidean", norm="median")]
)
def test_it_passes_scikit_learns_checks(estimator, check):
    check(estimator)


def pairs(n=12, seed=0):
    """Source rows on a grid; the target rows are the same ones moved by up to a tenth, in another order."""
    rng = np.random.default_rng(seed)
    source = np.stack(np.divmod(np.arange(n), 4), axis=1).astype(float)
    order = rng.permutation(n)
    target = (source + rng.uniform(-0.1, 0.1, source.shape) + [0.3, -0.2])[order]
    return np.vstack([source, target]), np.r_[np.arange(n) % 2, np.full(n, -1)], np.argsort(order)


def crossing(seed=0, n=60):
    """Two classes side by side, the target so far to the side that the plan without labels mixes them."""
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) % 2
    X = rng.normal(size=(2 * n, 2)) * [0.6, 1.0] + np.outer(labels, [2.0, 0.0])
    X[n:] += [0.0, 3.0]
    return X, np.where(np.arange(2 * n) < n, labels, -1), labels


# ------------------------------------------------------------ the mathematics


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "cityblock"])
@pytest.mark.parametrize("norm", ["max", "median", None])
def test_with_little_entropy_each_source_row_lands_on_its_matched_target_row(metric, norm):
    X, y, match = pairs()
    moved = OptimalTransport(1e-3, metric=metric, norm=norm).fit_transform(X, y)
    np.testing.assert_allclose(moved[:12], X[12:][match], atol=1e-2)


def test_with_much_entropy_each_source_row_lands_on_the_mean_of_the_target():
    X, y, _ = pairs()
    moved = OptimalTransport(1e3).fit_transform(X, y)
    np.testing.assert_allclose(moved[:12], np.tile(X[12:].mean(axis=0), (12, 1)), atol=1e-3)


@pytest.mark.parametrize("reg", [0.001, 0.01, 0.1])
def test_the_image_has_the_targets_mean(reg):
    # the plan's column sums are uniform, so the images' mean is the target's
    X, y, _ = blobs(n_source=50, n_target=40)
    moved = OptimalTransport(reg, max_iter=20000).fit_transform(X.astype(float), y)
    np.testing.assert_allclose(moved[:50].mean(axis=0), X[50:].mean(axis=0), atol=1e-3)


def test_rows_move_as_with_pots_own_class():
    X, y, _ = blobs(n_features=4)
    X = X.astype(float)
    theirs = ot.da.SinkhornTransport(reg_e=0.1, norm="max", out_of_sample_map="ferradans", max_iter=5000)
    theirs.fit(Xs=X[:60], Xt=X[60:])
    ours = OptimalTransport(0.1, max_iter=5000).fit(X, y)
    held_out = X[:60] + 0.05
    np.testing.assert_allclose(ours.source_images_[1], theirs.transform(Xs=X[:60].copy()), atol=1e-6)
    np.testing.assert_allclose(ours.transform_source(held_out), theirs.transform(Xs=held_out), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
def test_rows_move_as_with_pots_own_class_regularisation():
    X, y, _ = blobs(n_features=4)
    X = X.astype(float)
    theirs = ot.da.SinkhornLpl1Transport(reg_e=0.1, reg_cl=0.02, norm="max", max_inner_iter=1000)
    theirs.fit(Xs=X[:60], ys=y[:60], Xt=X[60:])
    ours = OptimalTransport(0.1, class_regularisation=0.02).fit(X, y)
    np.testing.assert_allclose(ours.source_images_[1], theirs.transform(Xs=X[:60].copy()), atol=1e-5)


def test_class_regularisation_keeps_the_classes_apart():
    X, y, _ = crossing()
    source = y != -1

    def shared(regularisation):
        """Share of the mass on target rows that comes from the class that sends less there."""
        model = OptimalTransport(0.1, class_regularisation=regularisation).fit(X, y)
        member = _memberships(y[source], np.zeros(source.sum(), dtype=bool))
        mass = member.T @ model._plan(ot, X[source], X[~source], member if regularisation else None)
        return mass.min(axis=0).sum()

    assert shared(0.05) < 0.5 * shared(0)


# ------------------------------------------------------------ the adapter


def test_target_rows_stay_and_row_order_does_not_matter():
    X, y, _ = blobs()
    fitted = OptimalTransport(0.05)
    both = fitted.fit_transform(X, y)
    np.testing.assert_array_equal(both[y == -1], X[y == -1])
    np.testing.assert_array_equal(fitted.transform(X), X)
    order = np.random.default_rng(1).permutation(len(X))
    shuffled = OptimalTransport(0.05).fit_transform(X[order], y[order])
    np.testing.assert_allclose(shuffled, both[order], rtol=1e-4, atol=1e-4)


def test_rows_seen_move_as_in_fit_transform_and_held_out_ones_with_their_neighbour():
    X, y, _ = blobs()
    fitted = OptimalTransport(0.05)
    moved = fitted.fit_transform(X, y)[:60]
    np.testing.assert_array_equal(fitted.transform_source(X[:60]), moved)
    np.testing.assert_allclose(fitted.transform_source(X[:60] + 0.01), moved + 0.01, atol=1e-5)


def test_float32_is_kept_and_the_callers_arrays_are_left_alone():
    X, y, _ = blobs()
    before = X.copy(), y.copy()
    single, double = OptimalTransport(0.05), OptimalTransport(0.05)
    assert single.fit_transform(X, y).dtype == np.float32
    assert double.fit_transform(X.astype(float), y).dtype == np.float64
    np.testing.assert_allclose(single.source_images_[1], double.source_images_[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_several_sources_are_each_moved_by_themselves():
    X, y, _ = blobs(n_source=80)
    domain = np.r_[np.ones(40), np.full(40, 2), np.full(45, -1)].astype(int)
    both = OptimalTransport(0.05).fit_transform(X, y, sample_domain=domain)
    for code in (1, 2):
        rows = (domain == code) | (domain == -1)
        alone = OptimalTransport(0.05).fit_transform(X[rows], y[rows])
        np.testing.assert_allclose(both[rows], alone, rtol=1e-5, atol=1e-5)


def test_labels_matter_only_with_class_regularisation():
    X, y, _ = crossing()
    other = np.where(y == -1, -1, (np.arange(len(y)) // 2) % 3)
    plain = [OptimalTransport(0.1).fit_transform(X, labels) for labels in (y, other)]
    np.testing.assert_array_equal(*plain)
    model = OptimalTransport(0.1, class_regularisation=0.05)
    regularised = [model.fit_transform(X, labels) for labels in (y, other)]
    assert np.abs(regularised[0] - regularised[1]).max() > 0.1


def test_source_rows_without_a_label_are_a_class_each():
    member = _memberships(np.array([3, -1, 5, -1, 3]), np.array([False, True, False, True, False]))
    np.testing.assert_array_equal(member @ member.T, np.eye(5) + np.eye(5)[[4, 1, 2, 3, 0]] * [1, 0, 0, 0, 1])


def test_a_pipeline_with_it_beats_its_classifier_alone_and_can_be_pickled():
    gain = []
    for seed in range(3):
        X, y, labels = blobs(n_features=4, seed=seed, shift=6.0)
        target = y == -1
        plain = make_pipeline(LogisticRegression(max_iter=1000)).fit(X, y)
        moved = make_pipeline(OptimalTransport(0.02), LogisticRegression(max_iter=1000)).fit(X, y)
        again = pickle.loads(pickle.dumps(moved))
        np.testing.assert_array_equal(again.predict(X), moved.predict(X))
        gain.append(moved.score(X[target], labels[target]) - plain.score(X[target], labels[target]))
    assert np.mean(gain) > 0.1


def test_a_table_comes_out_as_a_table_with_names():
    X, y, _ = pairs()
    out = (
        OptimalTransport()
        .set_output(transform="pandas")
        .fit_transform(pd.DataFrame(X, columns=["a", "b"]), y)
    )
    assert out.columns.tolist() == ["a", "b"]


def test_rows_that_are_all_alike_stay_where_they_are():
    X, y, _ = pairs()
    moved = OptimalTransport().fit_transform(np.ones_like(X), y)
    np.testing.assert_allclose(moved, 1)


def test_labelled_rows_only_stay_where_they_are_with_a_warning():
    X, y, _ = pairs()
    with pytest.warns(UserWarning, match="no target rows.*OptimalTransport"):
        moved = OptimalTransport().fit_transform(X[:12], y[:12])
    np.testing.assert_array_equal(moved, X[:12])


# ------------------------------------------------------------ what is refused


def test_without_pot_the_line_that_installs_it_is_said(monkeypatch):
    X, y, _ = pairs()
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(FtransferError, match=r'not installed: pip install "ftransfer\[ot\]"$'):
        OptimalTransport().fit(X, y)


def test_class_regularisation_is_refused_for_a_regression():
    X, y, _ = pairs()
    continuous = np.where(y == -1, np.nan, y + 0.5)
    assert OptimalTransport().fit_transform(X, continuous).shape == X.shape
    with pytest.raises(FtransferError, match="y holds the numbers of a regression"):
        OptimalTransport(class_regularisation=0.1).fit(X, continuous)


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Sinkhorn did not converge")
def test_a_plan_that_is_not_finite_is_refused():
    X, y, _ = pairs()
    with pytest.raises(FtransferError, match="no transport plan: reg=1e-300 is too small"):
        OptimalTransport(1e-300, norm=None).fit(1e10 * X, y)


def test_iterations_are_counted():
    X, y, _ = blobs()
    few, many = OptimalTransport(1.0).fit(X, y).n_iter_, OptimalTransport(0.1).fit(X, y).n_iter_
    assert 1 <= few < many < 1000


def test_iterations_that_do_not_do_are_warned_of():
    X, y, _ = blobs()
    with pytest.warns(UserWarning, match="did not converge"):
        OptimalTransport(0.01, max_iter=1).fit(X, y)
