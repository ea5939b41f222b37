import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import blobs, write_feature_set
from scipy.linalg import sqrtm, subspace_angles
from scipy.stats import wasserstein_distance, zscore

from ftransfer import FtransferError, compare_domains
from ftransfer.cli import main
from ftransfer.compare import distances, pairs
from ftransfer.compare import domains as comparing
from ftransfer.compare.label_shift import estimate_class_shares
from ftransfer.compare.pairs import compare_all
from ftransfer.compare.screen import screen_domains


@pytest.fixture(params=[(50, 40, 6), (12, 15, 30), (12, 40, 20)], ids=["tall", "wide", "between"])
def pair(request):
    n_a, n_b, d = request.param
    rng = np.random.default_rng(0)
    return rng.normal(size=(n_a, d)) * 2 + 1, rng.normal(size=(n_b, d)) @ rng.normal(size=(d, d))


def test_frechet_distance_is_that_of_the_matrix_root(pair):
    A, B = pair
    a, b = np.cov(A.T), np.cov(B.T)
    expected = np.sum((A.mean(0) - B.mean(0)) ** 2) + np.trace(a + b) - 2 * np.trace(sqrtm(a @ b)).real
    assert distances.frechet_distance(A, B) == pytest.approx(expected, rel=1e-4)
    assert distances.frechet_distance(A, A) == pytest.approx(0, abs=1e-8)


def test_coral_distance_is_the_frobenius_norm_of_the_difference(pair):
    A, B = pair
    expected = np.sum((np.cov(A.T) - np.cov(B.T)) ** 2) / (4 * A.shape[1] ** 2)
    assert distances.coral_distance(A, B) == pytest.approx(expected)


def test_principal_angles_are_scipys(pair):
    A, B = pair
    axes = [np.linalg.svd(X - X.mean(0), full_matrices=False)[2][:4].T for X in pair]
    np.testing.assert_allclose(distances.principal_angles(A, B, 4), subspace_angles(*axes), atol=1e-6)


def test_quadratic_mmd_is_the_double_loop(pair):
    A, B = pair
    sigma = distances.median_bandwidth(np.r_[A, B])

    def k(x, y):
        return np.exp(-np.sum((x - y) ** 2) / (2 * sigma**2))

    def mean(X, Y, skip):
        return np.mean([k(x, y) for i, x in enumerate(X) for j, y in enumerate(Y) if not (skip and i == j)])

    expected = mean(A, A, True) + mean(B, B, True) - 2 * mean(A, B, False)
    kernel = distances.rbf_kernel(np.r_[A, B], sigma)
    is_a = np.arange(len(kernel)) < len(A)
    assert distances.quadratic_mmd(kernel, is_a) == pytest.approx(expected)
    both = distances.quadratic_mmd(kernel, np.stack([is_a, is_a[::-1]], axis=1))
    assert both[0] == pytest.approx(expected)
    assert both[1] != pytest.approx(expected)


def test_linear_mmd_estimates_what_the_quadratic_does():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2000, 3)), rng.normal(size=(2000, 3)) + 0.5
    is_a = np.arange(4000) < 2000
    quadratic = distances.quadratic_mmd(distances.rbf_kernel(np.r_[A, B], 2.0), is_a)
    linear = distances.linear_mmd(A, B, 2.0)
    assert linear.low < quadratic < linear.high
    assert linear.high - linear.low < 0.1
    same = [distances.linear_mmd(A, A + 0, 2.0, seed).low < 0 for seed in range(40)]
    assert np.mean(same) > 0.9


def test_the_p_value_is_uniform_without_a_difference_and_small_with_one():
    rng = np.random.default_rng(0)
    is_a = np.arange(40) < 20
    p = [
        distances.mmd_p_value(distances.rbf_kernel(rng.normal(size=(40, 3)), 2.0), is_a, 99, seed)
        for seed in range(100)
    ]
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) <= 0.05) < 0.13
    shifted = rng.normal(size=(40, 3)) + 3 * is_a[:, None]
    assert distances.mmd_p_value(distances.rbf_kernel(shifted, 2.0), is_a, 99) == 0.01


def test_single_features_are_compared_in_standard_deviations():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(4000, 3))
    shifted = distances.mean_shift(A, A + 1)
    assert shifted == pytest.approx(1 / np.sqrt(1 + 0.25), rel=0.02)
    assert distances.mean_shift(1000 * A, 1000 * A + 1000) == pytest.approx(shifted)
    assert distances.spread_ratio(A, 3 * A + 5) == distances.spread_ratio(3 * A, A) == pytest.approx(3)
    assert distances.shape_distance(A, 3 * A + 5) == pytest.approx(0, abs=1e-9)
    other = rng.exponential(size=(4000, 3))
    expected = [wasserstein_distance(zscore(a), zscore(b)) for a, b in zip(A.T, other.T, strict=True)]
    assert distances.shape_distance(A, other) == pytest.approx(np.mean(expected), rel=0.02)


def test_a_constant_feature_is_no_division_by_zero(few_trees):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    A[:, 0] = B[:, 0] = A[:, 1] = 0
    table = compare_domains(A, B)
    assert np.isfinite(table[~table["measure"].isin(["MMD p-value"])][["value", "low", "high"]]).all(
        axis=None
    )


def test_zeros_moved_by_scaling_do_not_tell_halves_of_one_domain_apart():
    rng = np.random.default_rng(0)
    X = np.maximum(rng.normal(size=(400, 20)), 0)  # half of all entries exactly zero, as after a ReLU
    assert distances.domain_accuracy(X[:200], X[200:], "forest", standardise=True).low < 0.55


def test_a_forest_sees_what_scaling_hides_from_a_linear_classifier():
    rng = np.random.default_rng(0)
    A, B = (
        rng.normal(size=(300, 4)),
        rng.choice([-1.0, 1.0], size=(300, 4)) + 0.1 * rng.normal(size=(300, 4)) + 5,
    )
    assert distances.domain_accuracy(A, B, "linear").value > 0.9
    assert distances.domain_accuracy(A, B, "linear", standardise=True).value < 0.6
    assert distances.domain_accuracy(A, B, "forest", standardise=True).low > 0.8


def test_a_picture_that_occurs_twice_is_not_learnt_by_heart():
    rng = np.random.default_rng(0)
    A, B = (np.repeat(rng.normal(size=(60, 5)), 3, axis=0) for _ in range(2))
    assert distances.domain_accuracy(A, B, "forest").low < 0.55
    assert distances.domain_accuracy(A, A, "forest").low <= 0.5


def test_the_accuracy_of_a_domain_classifier_lies_in_its_interval():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(40):
        A, B = rng.normal(size=(150, 1)), rng.normal(size=(60, 1)) + 1
        found = distances.domain_accuracy(A, B)
        inside.append(found.low < 0.6915 < found.high)  # of the best threshold: Phi(1/2)
        assert found.low <= found.value <= found.high
    assert np.mean(inside) > 0.85


@pytest.mark.parametrize(("accuracy", "distance"), [(1.0, 2.0), (0.75, 1.0), (0.5, 0.0), (0.4, 0.0)])
def test_a_distance_goes_from_nothing_to_two(accuracy, distance):
    assert distances.a_distance(accuracy) == distance


# ---------------------------------------------------------------- label shift


def label_shift(seed, n=240):
    rng = np.random.default_rng(seed)
    centres, shares = rng.normal(size=(4, 6)) * 2, rng.dirichlet([2] * 4)
    y_source, y_target = rng.integers(0, 4, n), rng.choice(4, n, p=shares)
    X_source, X_target = (centres[y] + rng.normal(size=(n, 6)) for y in (y_source, y_target))
    return X_source, y_source, X_target, shares, np.bincount(y_target, minlength=4) / n


def test_class_shares_are_recovered_within_their_intervals():
    inside, errors = [], []
    for seed in range(12):
        X_source, y_source, X_target, shares, drawn = label_shift(seed)
        found = estimate_class_shares(X_source, y_source, X_target)
        assert not found.problem
        assert found.target.sum() == pytest.approx(1)
        assert (found.target >= 0).all()
        inside += list((found.low <= shares) & (shares <= found.high))
        errors.append(np.abs(found.target - drawn).sum() / 2)
    assert np.mean(inside) > 0.85
    assert np.mean(errors) < 0.04


def test_class_shares_are_not_told_from_features_that_say_nothing():
    rng = np.random.default_rng(0)
    found = estimate_class_shares(rng.normal(size=(90, 4)), np.arange(90) % 3, rng.normal(size=(60, 4)))
    assert found.problem == "a linear classifier confuses the source's own classes too often"
    assert np.isnan(found.target).all()
    assert np.isnan(found.distance).all()


def test_class_shares_need_two_rows_a_class_and_two_classes():
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = np.repeat(["a", "b", "c"], [10, 9, 1])
    assert estimate_class_shares(X, y, X).problem == "class c has only one row in the source"
    with pytest.raises(FtransferError, match="at least two classes in the source; found: \\['a'\\]"):
        estimate_class_shares(X[:10], y[:10], X)


def test_class_shares_are_doubted_where_the_domains_differ_otherwise(few_trees):
    X_source, y_source, X_target, *_ = label_shift(0)
    pure = compare_domains(X_source, X_target, y_source).set_index("measure")
    assert "if each class looks the same" in pure.loc["label shift", "meaning"]
    assert pure.loc["share of 0", "yardstick"] == np.mean(y_source == 0)
    shifted = compare_domains(X_source, X_target + 6, y_source).set_index("measure")
    assert "do not rely on it" in shifted.loc["label shift", "meaning"]
    assert shifted.loc["share of 0", "meaning"].endswith("(do not rely on it).")


# ---------------------------------------------------------------- the table


@pytest.fixture
def few_trees(monkeypatch):
    """Make the forest small, where a test is not about it."""
    monkeypatch.setattr(distances, "TREES", 10)


@pytest.fixture
def domains(few_trees):
    X, y, labels = blobs(n_source=90, n_target=60, shift=6.0)
    names = np.array(["ash", "elm", "oak"])[labels]
    return X[:90], X[90:], names[:90], names[90:]


def test_target_labels_change_only_the_rows_that_say_so(domains):
    A, B, y_a, y_b = domains
    without, with_labels = compare_domains(A, B, y_a), compare_domains(A, B, y_a, y_b)
    by_labels = with_labels["measure"].str.endswith("(by target labels)")
    pd.testing.assert_frame_equal(with_labels[~by_labels], without)
    assert with_labels[by_labels]["measure"].tolist() == [
        f"class {name} (by target labels)" for name in ("ash", "elm", "oak")
    ]
    assert not compare_domains(A, B)["measure"].str.contains("share|class").any()
    turned = compare_domains(A, B, y_a, np.where(y_b == "ash", "elm", np.where(y_b == "elm", "ash", y_b)))
    meaning = turned.set_index("measure").loc["class ash (by target labels)", "meaning"]
    assert meaning.endswith("nearest to another class, 'elm'.")


def test_far_domains_exceed_the_yardstick_and_near_ones_do_not(few_trees):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(100, 10))
    far = compare_domains(A, 2 * rng.normal(size=(100, 10)) + 2).set_index("measure").drop("MMD p-value")
    moves = far.drop(["shape", "principal angles", "A-distance, forest, scaled"])
    assert (moves["low"] > moves["yardstick"]).all()
    assert far.loc["A-distance, forest", "meaning"].endswith("adapt.")
    assert "times as much as" in far.loc["mean shift", "meaning"]
    near = compare_domains(A, rng.normal(size=(100, 10))).set_index("measure")
    assert (near["value"] < 2 * near["yardstick"].clip(lower=0.15)).drop("MMD p-value").all()
    assert near.loc["MMD p-value", "value"] > 0.05
    assert near.loc["MMD p-value", "meaning"].endswith("no difference is proven.")
    assert "there is no difference" in near.loc["A-distance, forest", "meaning"]


def test_an_interval_tells_how_far_another_sample_moves_the_number(monkeypatch):
    monkeypatch.setattr(
        comparing, "_classifier_rows", lambda *arguments: []
    )  # has its own test, and takes long
    rng = np.random.default_rng(0)
    draws = [
        compare_domains(rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 0.8, random_state=seed)
        for seed in range(30)
    ]
    for measure, rows in pd.concat(draws).groupby("measure"):
        if measure in ("mean shift", "spread ratio", "MMD", "MMD, linear time", "Frechet distance"):
            margin = np.mean(rows["high"] - rows["value"])
            assert 1.3 < margin / rows["value"].std() < 3.5, measure


def test_with_few_rows_and_many_features_a_small_shift_still_exceeds_the_yardstick(monkeypatch):
    monkeypatch.setattr(comparing, "_classifier_rows", lambda *arguments: [])
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(60, 300)), rng.normal(size=(40, 300)) + 0.6
    far = compare_domains(A, B).set_index("measure")
    assert "more than random halves" in far.loc["Frechet distance", "meaning"]
    near = compare_domains(A, B - 0.6).set_index("measure")
    for measure in (
        "mean shift",
        "spread ratio",
        "shape",
        "CORAL distance",
        "Frechet distance",
        "principal angles",
    ):
        assert near.loc[measure, "value"] == pytest.approx(near.loc[measure, "yardstick"], rel=0.12), measure
    assert near["meaning"].str.contains("no more than random halves").sum() >= 6


def test_the_same_seed_gives_the_same_table(domains):
    pd.testing.assert_frame_equal(compare_domains(*domains), compare_domains(*domains))


def test_large_domains_are_sampled_and_it_is_said(domains):
    A, B, y_a, _ = domains
    table = compare_domains(A, B, y_a, max_rows=50)
    assert table.attrs["notes"] == ["at most 50 rows per domain were used, drawn at random from up to 90"]
    assert not compare_domains(A, B, y_a).attrs["notes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X_a": np.ones((7, 8))}, "at least 8 rows of features per domain; X_a has shape \\(7, 8\\)"),
        ({"X_a": np.ones((90, 8))}, "at least 8 different rows per domain; X_a has 1 in 90 rows"),
        ({"X_b": np.arange(540.0).reshape(60, 9)}, "X_a has 8, X_b has 9"),
        ({"X_b": np.full((60, 8), np.nan)}, "X_b holds NaN or infinity"),
        ({"y_a": ["ash"]}, "y_a must hold one label per row; it has shape \\(1,\\) for 90 rows"),
    ],
)
def test_what_cannot_be_compared_is_said(domains, change, message):
    given = dict(zip(("X_a", "X_b", "y_a", "y_b"), domains, strict=True)) | change
    with pytest.raises(FtransferError, match=message):
        compare_domains(**given)


def test_the_inputs_are_left_as_they_are(domains):
    copies = [each.copy() for each in domains]
    compare_domains(*domains)
    assert all((a == b).all() for a, b in zip(domains, copies, strict=True))


# ---------------------------------------------------------------- all pairs


@pytest.fixture
def three(tmp_path, few_trees):
    rng = np.random.default_rng(0)
    names = np.repeat(["dawn", "day", "night"], 24)
    X = rng.normal(size=(72, 5)) + np.repeat([0.0, 0.5, 4.0], 24)[:, None]
    labels = [None] * 24 + ["ash", "elm"] * 24
    return write_feature_set(tmp_path / "three", X.astype(np.float32), labels, names)


def test_all_pairs_make_a_symmetric_matrix_and_name_the_nearest(three):
    done = []
    comparison = compare_all(three, progress=lambda: done.append(1))
    assert list(comparison.tables) == [("day", "night"), ("day", "dawn"), ("night", "dawn")]  # labelled first
    assert len(done) == 3
    matrix = comparison.matrix("MMD")
    assert matrix.loc["night", "day"] == matrix.loc["day", "night"] > 0.3
    assert np.isnan(np.diag(matrix)).all()
    assert comparison.nearest == ("day", "dawn")
    with pytest.raises(FtransferError, match="no measure 'MD'; did you mean 'MMD'"):
        comparison.matrix("MD")


def test_domains_are_chosen_and_sampled_by_name(three):
    comparison = compare_all(three, ["night", "day"], max_rows=20)
    assert list(comparison.tables) == [("night", "day")]
    assert comparison.notes == [
        "night: 20 of 24 images were used, drawn at random",
        "day: 20 of 24 images were used, drawn at random",
    ]
    for names, message in (
        (["nigt", "day"], "did you mean 'night'"),
        (
            ["day", "day"],
            "at least two different domains are needed; given day, day; found: dawn, day, night",
        ),
    ):
        with pytest.raises(FtransferError, match=message):
            compare_all(three, names)


def test_of_many_domains_the_quick_measures_are_those_of_each_pair():
    rng = np.random.default_rng(0)
    sizes = [12, 30, 9, 25, 3]
    X = np.concatenate([rng.normal(i / 3, 1 + i, size=(n, 5)) for i, n in enumerate(sizes)]).astype(
        np.float32
    )
    rows = pd.DataFrame({"domain": np.repeat(list("abcde"), sizes), "status": "ok"})
    features = SimpleNamespace(complete=rows, load=lambda part: X[part.index])
    found = screen_domains(features)
    assert found.domains == ("a", "b", "c", "d")
    assert found.notes[1] == "left out, with fewer than 8 images: 1 domains, such as 'e'"
    kept = X[:-3]
    kernel = distances.rbf_kernel(kept.astype(float), distances.median_bandwidth(kept))
    domain = rows["domain"].to_numpy()[:-3]
    for pair in found.pairs.itertuples():
        i, j = (np.flatnonzero(domain == name) for name in (pair.source, pair.target))
        both = np.r_[i, j]
        exact = distances.quadratic_mmd(kernel[np.ix_(both, both)], np.arange(len(both)) < len(i))
        assert pytest.approx(exact, abs=1e-5) == pair.MMD
        assert pair[-1] == pytest.approx(distances.mean_shift(X[i], X[j]), rel=1e-4)
    assert found.pairs["MMD"].is_monotonic_increasing
    assert len(found.pairs) == 6
    assert screen_domains(features, max_rows=8).pairs.shape == (6, 4)
    with pytest.raises(
        FtransferError, match="two or more domains with at least 8 images are needed; found 1"
    ):
        screen_domains(features, ["a", "e"])


def test_of_many_domains_the_nearest_pairs_are_shown_and_one_domain_is_compared_with_the_others(
    tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    domains = np.repeat([f"site{i:02}" for i in range(22)], 9)
    X = rng.normal(size=(len(domains), 4)) + np.arange(22).repeat(9)[:, None]
    features = write_feature_set(tmp_path / "f", X, np.tile(["ash", "elm", "oak"], 66), domains).folder
    shown = CliRunner().invoke(main, ["compare", str(features)])
    assert shown.exit_code == 0, shown.output
    assert (
        "22 domains are 231 pairs: compared by MMD and mean shift of at most 100 images each" in shown.output
    )
    assert "all measures take about 4 min of a core (--all-measures)" in shown.output
    assert re.search(r"farthest +MMD +mean shift\nsite00 +site21 ", shown.output)
    told = json.loads(CliRunner().invoke(main, ["compare", str(features), "--json"]).stdout)
    assert len(told["pairs"]) == 231
    quick = {"source": "site00", "target": "site01", "MMD": 0.1, "mean shift": 0.2}
    assert {name: type(value) for name, value in told["pairs"][0].items()} == {
        name: type(value) for name, value in quick.items()
    }
    monkeypatch.setattr(pairs, "compare_pair", lambda a, b: comparing.pd.DataFrame(one_row(a, b)))
    monkeypatch.setattr(pairs, "MANY", 1000)  # no processes
    monkeypatch.setattr(pairs.Domain, "measured", lambda self: self)
    for option, column in (("--source", 0), ("--target", 1)):
        listed = CliRunner().invoke(main, ["compare", str(features), option, "site05"])
        lines = [line.split() for line in listed.output.splitlines() if line.startswith("site")]
        assert len(lines) == 21, listed.output
        assert {line[column] for line in lines} == {"site05"}


def one_row(a, b):
    from ftransfer.cli.compare import MATRICES

    return [{"measure": name, "value": abs(a.X.mean() - b.X.mean())} for name in MATRICES]


def test_many_classes_with_too_few_rows_share_one_line(few_trees):
    X = np.random.default_rng(0).normal(size=(80, 4))
    labels = np.array([f"class{i % 10}" for i in range(80)])
    labels[:20] = "often"
    table = compare_domains(X[:40], X[40:], labels[:40], np.roll(labels, 10)[40:])
    told = table[table["measure"].str.endswith("(by target labels)")]
    assert told["measure"].tolist() == ["10 classes (by target labels)"]
    assert "fewer than 8 rows in a domain; such as 'class0'" in told["meaning"].item()
