"""Labels that are numbers: task, score, guard, race, run folder, and the command line."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from ftransfer import (
    FtransferError,
    Model,
    RegressionModel,
    RegressionTask,
    import_named_features,
    list_recipes,
    load_recipe,
    load_regression_task,
    make_pipeline,
    measure_errors,
    race_regression,
)
from ftransfer.cli import main
from ftransfer.regression.candidate import Candidate
from ftransfer.regression.ground import Ground
from ftransfer.regression.guard import walk
from ftransfer.regression.score import HeldOutSource
from ftransfer.regression.task import are_numbers, draw_target_numbers

WEIGHTS = np.array([1.0, 2.0, 0.0, -1.0, 0.5])
QUICK = ["--pipeline", "source_only_ridge", "--pipeline", "scaled_ridge"]


def rows_of(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    return X, X @ WEIGHTS + 0.5 * rng.normal(size=n)


def another_sensor():
    X, y = rows_of(240)
    return RegressionTask.of(X[:120], y[:120], 3 * X[120:] + 5, y[120:])


def write_table(folder, **labels):
    """A table of two domains, with columns of labels; 60 rows are of the first domain, or half of them."""
    n = len(next(iter(labels.values())))
    X, _ = rows_of(n)
    in_lab = np.arange(n) < n // 2
    X[~in_lab] = 3 * X[~in_lab] + 5
    table = pd.DataFrame(
        {"path": [f"{i}.png" for i in range(n)], "domain": np.where(in_lab, "lab", "field")} | labels
    )
    table.join(pd.DataFrame(X, columns=list("abcde"))).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def import_labels(folder, labels):
    file = write_table(folder, label=labels)
    return import_named_features([file], folder / "features", "made")[0]


def call(folder, *args, code=0):
    import os

    before = os.getcwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(main, [*args])
    finally:
        os.chdir(before)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two outputs, one fitted from the command line, found to be numbers."""
    folder = tmp_path_factory.mktemp("regression")
    _, y = rows_of(120)
    write_table(folder, weight=y.round(3), width=(10 - y).round(3))
    columns = ("--label-column", "weight", "--label-column", "width")
    call(folder, "import", "table.csv", "--out", "features", "--name", "made", *columns)
    fit = (
        "fit",
        "features",
        "--source",
        "lab",
        "--target",
        "field",
        "--label-column",
        "weight",
        "--out",
        "run",
    )
    return folder, call(folder, *fit, *QUICK)


def test_errors_are_those_of_scikit_learn_and_lie_in_their_intervals():
    y, p = rows_of(80)[1], rows_of(80)[1] + rows_of(80, seed=1)[1] / 4
    found = measure_errors(np.r_[y, np.nan], np.r_[p, 0.0])
    assert found["r2"].value == pytest.approx(r2_score(y, p))
    assert found["mae"].value == pytest.approx(mean_absolute_error(y, p))
    assert found["rmse"].value == pytest.approx(root_mean_squared_error(y, p))
    for each in found.values():
        assert each.low < each.value < each.high


def test_the_weighted_error_on_held_out_source_rows_is_near_that_on_a_target_that_lies_elsewhere():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(0, 1, (2000, 1)), rng.normal(0.8, 1, (2000, 1))]
    y = X[:, 0] ** 2
    held_out = HeldOutSource(RegressionTask.of(X[:2000], y[:2000], X[2000:]))
    pipeline = make_pipeline(LinearRegression())
    as_target, as_source = held_out.predict(pipeline)
    np.testing.assert_allclose(as_target, as_source)  # nothing maps the domains
    on_target = np.mean((LinearRegression().fit(X[:2000], y[:2000]).predict(X[2000:]) - y[2000:]) ** 2)
    on_source = np.mean((as_source - y[:2000]) ** 2)
    weighted = held_out.rmse(as_target)[0] ** 2
    assert abs(weighted - on_target) < 0.5 * abs(on_source - on_target)


def test_the_weighted_score_sees_the_harm_of_scaling_where_labels_depend_on_the_features_alike():
    X, y = rows_of(1200)
    high = np.random.default_rng(1).uniform(size=1200) < 1 / (1 + np.exp(-2 * X[:, 1]))
    found = race_regression(
        RegressionTask.of(X[~high], y[~high], X[high], y[high]), ["source_only_ridge", "scaled_ridge"]
    )
    best = found.table.drop_duplicates("pipeline").set_index("pipeline")
    assert found.score_name == "importance-weighted R2"
    assert best["source_r2"]["scaled_ridge"] == pytest.approx(
        best["source_r2"]["source_only_ridge"], abs=0.04
    )
    assert best["score"]["scaled_ridge"] < best["score"]["source_only_ridge"] - 0.1
    assert found.sentence.startswith("Do not adapt: source_only_ridge")
    assert found.expected.low < best["target_rmse"]["source_only_ridge"] < found.expected.high


def test_another_unit_and_zero_is_scaled_away_and_the_answers_play_no_part():
    task = another_sensor()
    found = race_regression(task, ["source_only_ridge", "scaled_ridge"])
    assert found.score_name == "reverse R2"
    assert found.sentence == "Only scale each domain separately: scaled_ridge."
    assert found.table["target_r2"][found.chosen] > 0.85
    blind = RegressionTask.of(task.X[:120], task.y[:120], task.X[120:])
    again = race_regression(blind, ["source_only_ridge", "scaled_ridge"])
    pd.testing.assert_series_equal(again.table["score"], found.table["score"])
    assert again.table["target_r2"].isna().all()


def test_nothing_is_adapted_where_no_score_can_tell():
    X, y = rows_of(120)
    few = race_regression(RegressionTask.of(X[:100], y[:100], X[100:] + 9), ["scaled_ridge"])
    assert few.score_name == "source R2"
    assert few.sentence.startswith("Do not adapt: source_only_ridge")
    assert "20 target images are too few to compare recipes" in few.reason
    on_a_line = np.repeat(X[:, :1], 5, axis=1)
    apart = race_regression(RegressionTask.of(X, y, on_a_line), ["scaled_ridge"])
    assert apart.score_name == "source R2"
    assert "they do not overlap" in apart.reason


def candidate(name, score, resampled):
    return Candidate(load_recipe(name, regression=True), {}, score=np.r_[score, resampled])


def test_the_guard_takes_a_step_only_if_its_gain_exceeds_its_error():
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    plain, ground = candidate("source_only_ridge", 0.5, 0.5 + 0 * noise), Ground(100, 0.6, 0.5)
    clear, unclear = (candidate("scaled_ridge", 0.5 + gain, 0.5 + gain + noise) for gain in (0.1, 0.03))
    assert [step.taken for step in walk([clear, plain], ground)] == [True, True]
    assert [step.taken for step in walk([unclear, plain], ground)] == [True, False]
    assert [step.taken for step in walk([clear, plain], Ground(100, 1.0, 1.0))] == [True, False]


def test_labels_of_a_few_target_images_overrule_the_score():
    noise = np.random.default_rng(0).normal(0, 0.05, 200)
    plain, scaled = (
        candidate("source_only_ridge", 0.5, 0.5 + 0 * noise),
        candidate("scaled_ridge", 0.6, 0.6 + noise),
    )
    ground, small, large = Ground(100, 0.6, 0.5), np.full(10, 0.1), np.linspace(0.8, 1.2, 10)
    assert [step.taken for step in walk([scaled, plain], ground, [large, small])] == [True, False]
    assert [step.taken for step in walk([scaled, plain], Ground(5, 1.0, 1.0), [small, large])] == [True, True]
    told = walk([scaled, plain], ground, [small, small])[1].told
    assert told == "RMSE 0.316 to 0.316 on 10 labelled target images, within noise"


def test_labels_for_the_guard_are_not_measured_on():
    task, labels = draw_target_numbers(another_sensor(), 10)
    assert (~np.isnan(labels)).sum() == 10
    assert np.isnan(task.answers[~np.isnan(labels)]).all()
    with pytest.raises(FtransferError, match="200 were requested, and 120 images of 'target' have one"):
        draw_target_numbers(another_sensor(), 200)


@pytest.mark.parametrize("name", list_recipes(regression=True))
def test_every_regressor_that_ships_comes_back_from_its_file_and_predicts_the_same(tmp_path, name):
    task = another_sensor()
    pipeline = load_recipe(name, regression=True).pipeline.fit(task.X, task.y)
    RegressionModel(pipeline, {"layers": [{"name": "x", "width": 5}]}).save(tmp_path / "m.skops")
    model = Model.load(tmp_path / "m.skops")
    assert type(model) is RegressionModel
    np.testing.assert_array_equal(model.predict(task.X_target), pipeline.predict(task.X_target))


def test_a_support_vector_regression_with_counts_of_another_is_refused(tmp_path):
    task = another_sensor()
    pipeline = load_recipe("source_only_svr", regression=True).pipeline.fit(task.X, task.y)
    inner = pipeline.steps_[-1][1][-1].regressor_
    inner._n_support = inner._n_support + 1
    RegressionModel(pipeline, {"layers": [{"name": "x", "width": 5}]}).save(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match="SVR._n_support does not fit the rest"):
        Model.load(tmp_path / "m.skops")


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (np.linspace(0, 1, 40), True),
        (np.arange(40), True),
        (np.repeat(np.arange(20), 2), False),
        (np.repeat(np.arange(25), 4), False),
        ([f"class {i}" for i in range(40)], False),
    ],
)
def test_labels_are_taken_for_numbers_only_if_nearly_all_differ(tmp_path, labels, numbers):
    assert are_numbers(import_labels(tmp_path, [*labels, *labels]), ["lab"]) is numbers


def test_a_label_that_is_no_number_is_named_with_its_image(tmp_path):
    features = import_labels(tmp_path, [*map(str, rows_of(29)[1]), "heavy"])
    with pytest.raises(FtransferError, match=r"1 of 30 are not: 'heavy' of 29.png in field"):
        load_regression_task(features, "lab", "field")


def test_fit_finds_out_that_labels_are_numbers_and_says_so(run):
    folder, result = run
    assert result.stderr.count("the labels are numbers, nearly all different: fitting a regression") == 1
    assert "Only scale each domain separately: scaled_ridge." in result.stdout
    results = json.loads((folder / "run" / "results.json").read_text())
    assert results["kind"] == "regression"
    assert [row["domain"] for row in results["errors"]] == ["lab (source, held out)", "field (target)"]
    assert results["counted"]["recommended"]["r2"]["value"] > 0.8


def test_the_page_of_a_regression_asks_nothing_of_the_network_and_shows_both_scatters(run):
    page = (run[0] / "run" / "report.html").read_text()
    assert page.count('class="scatter"') == 2
    assert "predicted against true, R2 0." in page
    assert not re.findall(r"(?:src|href)=.(?!#|data:)", page)
    assert "<script" not in page


def test_predict_writes_numbers_and_measures_their_error(run):
    folder = run[0]
    said = call(
        folder, "predict", "run", "features", "--out", "p.csv", "--domain", "field", "--accuracy"
    ).stdout
    assert re.search(r"error in field: MAE 0\.\d+, RMSE 0\.\d+ on 60 images with a label", said)
    table = pd.read_csv(folder / "p.csv")
    fitted = pd.read_csv(folder / "run" / "predictions.csv")
    np.testing.assert_allclose(table["label"], fitted["label"], rtol=1e-6)
    assert "mean" in said
    assert "classes" not in call(folder, "info", "run/model.skops").stdout


def test_several_columns_of_numbers_are_a_regression_each(run):
    folder = run[0]
    fit = ("fit", "features", "--source", "lab", "--target", "field", "--out", "both", "--regression", *QUICK)
    call(folder, *fit, "--label-column", "weight", "--label-column", "width")
    call(folder, "predict", "both", "features", "--out", "both.csv", "--domain", "field")
    written, fitted = pd.read_csv(folder / "both.csv"), pd.read_csv(folder / "both" / "predictions.csv")
    np.testing.assert_allclose(written[["weight", "width"]], fitted[["weight", "width"]], rtol=1e-6)
    np.testing.assert_allclose(fitted["width"], 10 - fitted["weight"], atol=0.2)


def test_options_that_only_classes_have_are_refused(run):
    fit = ("fit", "features", "--source", "lab", "--target", "field", "--regression")
    said = call(run[0], *fit, "--scorer", "entropy", "--leave-target-out", code=2).stderr
    assert "a regression does not take --scorer, --leave-target-out" in said


def test_a_recipe_for_classes_is_not_taken_for_a_regression(run):
    fit = ("fit", "features", "--source", "lab", "--target", "field", "--label-column", "weight")
    said = call(run[0], *fit, "--pipeline", "coral_svm", code=1).stderr
    assert "should have the same classes" in said
    said = call(run[0], *fit, "--pipeline", "coral_svm", "--regression", code=1).stderr
    assert "no pipeline 'coral_svm'; did you mean 'coral_svr'?" in said


def test_a_regression_is_not_put_beside_other_runs(run):
    said = call(run[0], "compare-runs", "run", "run", code=1).stderr
    assert "run is a regression; compare-runs takes runs whose labels are classes" in said


def test_target_labels_from_a_file_decide_and_are_not_measured_on(run):
    folder = run[0]
    pd.read_csv(folder / "table.csv").query("domain == 'field'").head(20)[["path", "weight"]].rename(
        columns={"weight": "label"}
    ).to_csv(folder / "few.csv", index=False)
    fit = (
        "fit",
        "features",
        "--source",
        "lab",
        "--target",
        "field",
        "--label-column",
        "weight",
        "--out",
        "few",
    )
    said = call(folder, *fit, "--target-labels", "few.csv", *QUICK).stdout
    assert re.search(r"RMSE \S+ to \S+ on 20 labelled target images", said)
    assert json.loads((folder / "few" / "results.json").read_text())["counted"]["labelled"] == 40
