import numpy as np
import pandas as pd
import pytest
from conftest import write_feature_set
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from ftransfer import FtransferError
from ftransfer.compare.backbones import h_score, leep, logme, nce, rank_features

SHAPES = {"tall": (60, 8), "wide": (25, 70), "square": (30, 30)}


def task(n, d, signal=1.5, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.normal(size=(n, d)) + 1
    X[:, :3] += signal * np.eye(3)[y]
    return X, y


def textbook_evidence(X, t, steps=20_000):
    """Evidence maximisation as in Bishop, section 3.5: alpha and beta in turn, from the covariance itself."""
    n, d = X.shape
    alpha = beta = 1.0
    values = np.linalg.eigvalsh(X.T @ X)
    for _ in range(steps):
        m = beta * np.linalg.solve(alpha * np.eye(d) + beta * X.T @ X, X.T @ t)
        gamma = np.sum(beta * values / (alpha + beta * values))
        before, alpha = alpha, gamma / (m @ m)
        beta = (n - gamma) / np.sum((t - X @ m) ** 2)
        if abs(alpha / before - 1) < 1e-10:
            break
    covariance = np.eye(n) / beta + X @ X.T / alpha
    return multivariate_normal(np.zeros(n), covariance, allow_singular=True).logpdf(t) / n


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logme_is_the_evidence_of_the_textbook(shape):
    X, y = task(*shape)
    expected = np.mean([textbook_evidence(X, (y == k).astype(float)) for k in range(3)])
    assert logme(X, y) == pytest.approx(expected, abs=1e-5)


def test_logme_finds_the_best_of_all_alphas_and_betas():
    X, y = task(25, 40, signal=0.3)
    y = np.minimum(y, 1)
    grid = np.logspace(-3, 5, 41)
    best = [
        max(
            multivariate_normal(np.zeros(25), np.eye(25) / beta + X @ X.T / alpha).logpdf(y == k) / 25
            for alpha in grid
            for beta in grid
        )
        for k in range(2)
    ]
    assert 0 <= logme(X, y) - np.mean(best) < 0.01


def test_logme_does_not_depend_on_scale_and_rewards_signal():
    X, y = task(60, 20)
    assert logme(1000 * X.astype(np.float32), y) == pytest.approx(logme(X, y), abs=1e-4)
    values = [logme(*task(60, 20, signal)) for signal in (0, 1, 2, 4)]
    assert values == sorted(values)
    assert np.isfinite(logme(np.zeros((10, 3)), np.arange(10) % 2))
    perfect = np.eye(3)[y] * 5
    assert np.isfinite(logme(perfect, y))
    assert logme(perfect, y) > values[-1]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_h_score_is_its_formula(shape):
    X, y = task(*shape)
    fitted = LedoitWolf().fit(X)
    means = np.array([X[y == k].mean(axis=0) for k in range(3)])[y]
    between = np.cov(means.T, bias=True)
    expected = np.trace(np.linalg.solve(fitted.covariance_, (1 - fitted.shrinkage_) * between))
    assert h_score(X, y) == pytest.approx(expected)
    assert 0 < h_score(X, y) < 2
    assert h_score(np.ones((10, 3)), np.arange(10) % 2) == 0


def test_nce_is_the_conditional_entropy():
    y = np.array(["a", "a", "b", "b"])
    assert nce([7, 7, 9, 9], y) == 0
    assert nce([7, 7, 7, 7], y) == pytest.approx(-np.log(2))
    assert nce([7, 7, 7, 9], y) == pytest.approx(0.75 * (2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)))


def test_leep_is_its_formula_and_is_nce_where_the_model_is_certain():
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(5), size=30), np.arange(30) % 3
    joint = np.array([[np.sum(p[y == k, z]) / 30 for z in range(5)] for k in range(3)])
    given = joint / joint.sum(axis=0)
    assert leep(p, y) == pytest.approx(np.mean([np.log(given[y[i]] @ p[i]) for i in range(30)]))
    certain = np.eye(5)[np.arange(30) % 5]
    assert leep(certain, y) == pytest.approx(nce(certain.argmax(axis=1), y))


@pytest.mark.parametrize("measure", [logme, h_score, leep])
def test_one_class_or_missing_labels_are_refused(measure):
    X = np.full((6, 2), 0.5)
    with pytest.raises(FtransferError, match="at least two classes are needed; found: \\[1\\]"):
        measure(X, np.ones(6, dtype=int))
    with pytest.raises(
        FtransferError, match="every row needs finite features and one label; shapes \\(6, 2\\) and \\(5,\\)"
    ):
        measure(X, np.arange(5))


# ---------------------------------------------------------------- feature sets


def feature_set(folder, X, layers=None, domains="day", labels=None):
    n = len(X)
    labels = np.array(["ash", "elm", "oak"])[np.arange(n) % 3] if labels is None else labels
    return write_feature_set(folder, X.astype(np.float32), labels, np.broadcast_to(domains, n), layers)


def test_feature_sets_are_ranked_by_what_explains_the_labels(tmp_path):
    good = feature_set(tmp_path / "good", task(90, 6, 4)[0])
    weak = feature_set(tmp_path / "weak", task(90, 6, 0.5)[0])
    ranked = rank_features([weak, good])
    assert ranked["rank"].tolist() == [1, 2]
    assert ranked["features"].tolist() == [str(good.folder), str(weak.folder)]
    assert ranked[["leep", "nce"]].isna().all(axis=None)
    assert ranked.attrs == {"notes": [], "rows": 90, "source": "day"}
    assert ranked.loc[0, "logme"] == pytest.approx(logme(good.load(good.complete), good.complete["label"]))


def test_each_layer_is_ranked_and_logits_give_leep_and_nce(tmp_path):
    X = np.hstack([task(60, 4, 0.2)[0], task(60, 5, 6)[0]])
    ranked = rank_features([feature_set(tmp_path / "f", X, {"block": 4, "fc": 5})])
    assert set(ranked["layer"]) == {"block", "fc", "block+fc"}
    rows = ranked.set_index("layer")
    assert rows["width"].to_dict() == {"block": 4, "fc": 5, "block+fc": 9}
    assert rows.loc["fc", "nce"] == pytest.approx(nce(X[:, 4:].argmax(axis=1), np.arange(60) % 3))
    assert rows.loc["fc", "leep"] < 0
    assert rows.loc[["block", "block+fc"], "leep"].isna().all()
    assert rows.loc["block", "rank"] == 3


def test_labels_of_other_domains_are_not_looked_at(tmp_path):
    X, domains = task(90, 6)[0], np.repeat(["day", "night"], 45)
    names = np.array(["ash", "elm", "oak"])[np.arange(90) % 3]
    ranks = [
        rank_features([feature_set(tmp_path / str(i), X, domains=domains, labels=labels)], "day")
        for i, labels in enumerate((names, np.where(domains == "day", names, "oak")))
    ]
    pd.testing.assert_frame_equal(*(r.drop(columns="features") for r in ranks))
    assert ranks[0].attrs["rows"] == 45


def test_only_images_that_all_sets_have_are_counted(tmp_path):
    X = task(90, 6)[0]
    ranked = rank_features([feature_set(tmp_path / "a", X), feature_set(tmp_path / "b", X[:60])])
    assert ranked.attrs["notes"] == ["only the 60 images in all feature sets were used"]
    assert ranked.loc[0, "logme"] == ranked.loc[1, "logme"]


def test_what_cannot_be_ranked_is_said(tmp_path):
    X = task(30, 4)[0]
    two = feature_set(tmp_path / "two", X, domains=np.repeat(["day", "night"], 15))
    for arguments, message in (
        (
            ([two],),
            "ranking needs the labels of one domain, the source; labelled domains in .*: day, night; choose one",
        ),
        (([two], "nigt"), "no domain 'nigt'; did you mean 'night'"),
        (([feature_set(tmp_path / "bare", X, labels=[None] * 30)],), "labelled domains in .*: none"),
        (
            ([feature_set(tmp_path / "bare2", X, labels=[None] * 30)], "day"),
            "no image of source 'day' in .* has a",
        ),
        (([feature_set(tmp_path / "one", X, labels=["ash"] * 30)],), "'day' has only one class in"),
        (
            ([feature_set(tmp_path / "day", X), feature_set(tmp_path / "dusk", X, domains="dusk")],),
            "different labelled domains: day, dusk; choose one with --source",
        ),
    ):
        with pytest.raises(FtransferError, match=message):
            rank_features(*arguments)
