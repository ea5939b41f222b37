"""Which rows and domains are learned from: source rows chosen by the target, and domains on the way to it."""

import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import blobs, write_feature_set
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import (
    DomainScaler,
    FtransferError,
    GradualSelfTraining,
    Model,
    PseudoLabelled,
    SourceSelected,
    load_task,
    make_pipeline,
    race,
)
from ftransfer.cli import main
from ftransfer.recipes import Recipe
from ftransfer.search.data_level import gradual_recipe, with_via


@pytest.mark.filterwarnings("ignore:no target rows", "ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [GradualSelfTraining(), SourceSelected()],
    expected_failed_checks=lambda _: {
        "check_classifiers_classes": "trains on the classes -1 and 1 and on strings; here -1 marks the target"
    },
)
def test_they_pass_scikit_learns_checks(estimator, check):
    check(estimator)


# ------------------------------------------------------------ source rows


def two_sources(seed=0):
    """A source near the target and one far away whose classes lie the other way round."""
    rng, n = np.random.default_rng(seed), 120
    labels, domain = np.arange(3 * n) % 2, np.repeat([1, 2, -1], n)
    X = rng.normal(size=(3 * n, 4)) + 6 * np.outer(domain != 2, [1, 0, 0, 0])
    X[:, 1] += 3 * np.where(domain == 2, -labels, labels)
    return X - 6 * np.outer(domain == 2, [1, 0, 0, 0]), np.where(domain > 0, labels, -1), domain, labels


@pytest.mark.parametrize("criterion", ["nearest", "odds"])
def test_rows_of_the_source_that_is_near_are_kept_and_those_of_the_far_one_are_not(criterion):
    X, y, domain, labels = two_sources()
    selected = SourceSelected(LogisticRegression(), keep=0.5, criterion=criterion)
    selected.fit(X, y, sample_domain=domain)
    assert selected.kept_by_domain_ == {1: (120, 120), 2: (0, 120)}
    np.testing.assert_array_equal(selected.kept_, domain[domain > 0] == 1)
    target = domain == -1
    plain = LogisticRegression().fit(X[~target], labels[~target])
    assert selected.score(X[target], labels[target]) > plain.score(X[target], labels[target]) + 0.2


def test_the_same_share_of_each_class_is_kept_and_labelled_target_rows_always():
    X, y, _ = blobs(n_source=90)
    domain = np.where(y == -1, -1, 1)
    y[-3:] = [0, 1, 2]
    fitted = SourceSelected(keep=0.3).fit(X, y, sample_domain=domain)
    source = domain[y != -1] == 1
    assert np.bincount(y[y != -1][fitted.kept_ & source]).tolist() == [9, 9, 9]
    assert fitted.kept_[~source].all()
    kept, left = fitted.affinity_[fitted.kept_ & source], fitted.affinity_[~fitted.kept_]
    of_class = y[y != -1]
    for k in range(3):
        assert kept[of_class[fitted.kept_ & source] == k].min() >= left[of_class[~fitted.kept_] == k].max()


def test_all_rows_kept_is_the_plain_estimator_and_a_regression_keeps_a_share_of_all():
    X, y, _ = blobs()
    plain = LogisticRegression(max_iter=1000).fit(X[y != -1], y[y != -1])
    np.testing.assert_array_equal(SourceSelected(keep=1.0).fit(X, y).estimator_.coef_, plain.coef_)
    numbers = np.where(y == -1, np.nan, X[:, 0])
    assert SourceSelected(Ridge(), keep=0.25).fit(X, numbers).kept_.sum() == 15


def test_one_target_row_is_enough_for_the_nearest_and_not_for_odds():
    X, y, _ = blobs(n_target=1)
    assert SourceSelected().fit(X, y).kept_.sum() == 45
    with pytest.raises(
        FtransferError, match="at least two rows of each domain; given 60 source and 1 target"
    ):
        SourceSelected(criterion="odds").fit(X, y)


# ------------------------------------------------------------ domains on the way


def turned(degrees, seed, n=150):
    """Three clusters, turned about the origin: a third of a turn puts each where the next was."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % 3
    at = np.deg2rad(degrees + 120 * labels)
    return (4 * np.c_[np.cos(at), np.sin(at)] + rng.normal(size=(n, 2))).astype(np.float32), labels


def test_labels_are_carried_through_small_steps_where_one_large_step_fails():
    (source, labels), (target, answers) = turned(0, 0), turned(120, 1)
    X, y = np.vstack([source, target]), np.r_[labels, np.full(len(target), -1)]
    via = [turned(angle, 10 + angle)[0] for angle in range(20, 120, 20)]
    in_one = make_pipeline(DomainScaler(), PseudoLabelled()).fit(X, y)
    in_steps = make_pipeline(GradualSelfTraining(via=via)).fit(X, y)
    assert in_one.score(target, answers) < 0.1
    assert in_steps.score(target, answers) > 0.95
    assert np.mean(in_steps.predict_source(source) == labels) > 0.95
    assert len(in_steps[-1].agreement_) == 6
    wrong_order = GradualSelfTraining(via=via[::-1]).fit(X, y)
    assert wrong_order.score(target, answers) < 0.1


def test_without_domains_on_the_way_it_is_self_training_on_the_target_scaled_by_itself():
    X, y, labels = blobs()
    target = y == -1
    fitted = GradualSelfTraining(share=1.0).fit(X, y)
    scaled = DomainScaler().fit_transform(X, y)
    first = LogisticRegression(max_iter=1000).fit(scaled[~target], y[~target]).predict(scaled[target])
    again = LogisticRegression(max_iter=1000).fit(scaled[target], first)
    np.testing.assert_array_equal(fitted.predict(X[target]), again.predict(scaled[target]))


def test_a_domain_of_one_class_and_one_of_another_width_are_refused():
    (source, labels), (target, _) = turned(0, 0), turned(30, 1)
    X, y = np.vstack([source, target]), np.r_[labels, np.full(len(target), -1)]
    with pytest.raises(FtransferError, match="all rows of domain 1 of via the same class"):
        GradualSelfTraining(via=[source[labels == 0]], scale=False).fit(X, y)
    with pytest.raises(FtransferError, match="domain 1 of via has 1 features, and X has 2"):
        GradualSelfTraining(via=[target[:, :1]]).fit(X, y)


@pytest.fixture
def turning(tmp_path):
    """Feature set of the domains turn0, turn20, ... turn120."""
    parts = [turned(angle, seed=angle, n=60) for angle in range(0, 121, 20)]
    X, labels = np.vstack([rows for rows, _ in parts]), np.concatenate([labels for _, labels in parts])
    domains = np.repeat([f"turn{angle}" for angle in range(0, 121, 20)], 60)
    return write_feature_set(tmp_path / "features", X, np.array(["ash", "elm", "oak"])[labels], domains)


def test_a_race_has_a_row_for_the_domains_on_the_way_that_wins_on_turning_domains(turning, tmp_path):
    out, way = tmp_path / "run", "turn20,turn40,turn60,turn80,turn100"
    command = ["fit", turning.folder, "--source", "turn0", "--target", "turn120", "--via", way, "--out", out]
    command += ["--pipeline", "source_only_logistic", "--pipeline", "pseudo_logistic", "--jobs", 1]
    result = CliRunner().invoke(main, [str(each) for each in command])
    assert result.exit_code == 0, result.output
    assert "for the recipe gradual only: turn20 (60 images), turn40 (60 images)" in result.output
    assert re.search(
        r"gradual: images of each domain .* turn20 \d+%, turn40 \d+%, .* turn120 \d+%", result.output
    )
    found = pd.read_csv(out / "results.csv").groupby("pipeline")["target_accuracy"].max()
    assert found["gradual"] > 0.9
    assert found.drop("gradual").max() < 0.2
    assert '<th scope="row">gradual' in (out / "report.html").read_text()


def test_domains_on_the_way_are_told_apart_from_source_and_target(turning):
    task = load_task(turning, "turn0", "turn120")
    with pytest.raises(FtransferError, match="no domain 'turn30'"):
        with_via(task, turning, ["turn30"])
    for wrong in (["turn0"], ["turn20", "turn20"]):
        with pytest.raises(FtransferError, match="neither source nor target, and named once"):
            with_via(task, turning, wrong)
    with pytest.raises(FtransferError, match="--via needs images of the target"):
        with_via(load_task(turning, "turn0", "turn120", leave_target_out=True), turning, ["turn20"])


def test_a_journal_of_other_domains_on_the_way_is_another_race(turning, tmp_path):
    task = load_task(turning, "turn0", "turn120")
    recipes = ["source_only_logistic", "scaled_logistic"]
    found = {}
    for name in ("turn20", "turn40"):
        result = race(with_via(task, turning, [name]), recipes, jobs=1, journal=tmp_path / "running")
        fresh = race(with_via(task, turning, [name]), recipes, jobs=1)
        found[name] = result.table.set_index("pipeline").loc["gradual", "score"].to_numpy()
        np.testing.assert_array_equal(found[name], fresh.table.set_index("pipeline").loc["gradual", "score"])


def test_a_model_of_the_gradual_recipe_is_kept_and_read_again(turning, tmp_path):
    task = with_via(load_task(turning, "turn0", "turn120"), turning, ["turn40", "turn80"])
    pipeline = gradual_recipe(task).pipeline.fit(task.X, task.y)
    model = Model.of(pipeline, task.visible, turning, {})
    model.save(tmp_path / "model.skops")
    again = Model.load(tmp_path / "model.skops")
    np.testing.assert_array_equal(again.pipeline.predict(task.X_target), pipeline.predict(task.X_target))


def test_a_race_says_how_much_of_each_source_was_kept(tmp_path):
    X, _, domain, labels = two_sources()
    domains = np.select([domain == 1, domain == 2], ["near", "remote"], "target")
    features = write_feature_set(
        tmp_path / "features", X.astype(np.float32), np.array(["ash", "elm"])[labels], domains
    )
    task = load_task(features, ["near", "remote"], "target")
    selected = Recipe("selected", make_pipeline(SourceSelected(keep=0.5)), {})
    found = race(task, ["source_only_logistic", "scaled_logistic", selected], jobs=1, choose_sources=False)
    said = "selected learns from the source images nearest to the target (by nearest): "
    said += "120 of 120 of near, 0 of 120 of remote"
    assert said in found.task.notes
    best = found.table.groupby("pipeline")["target_accuracy"].max()
    assert best["selected"] > best["source_only_logistic"] + 0.1
