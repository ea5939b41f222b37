"""Answers that are left unknown: by probability, by the share of the images, and the accuracy of the others."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set
from test_cli import run

from ftransfer import FtransferError, Model, load_pipeline, load_task
from ftransfer.model.predict import write_predictions
from ftransfer.model.reject import UNKNOWN, Reject
from ftransfer.report.labels import cover, like_none_of_the_classes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A feature set of blobs that overlap, and a model of it."""
    home = tmp_path_factory.mktemp("home")
    X, y, labels = blobs(shift=2.0)
    X = X + np.random.default_rng(0).normal(scale=5.0, size=X.shape).astype(np.float32)
    names = np.array(["ash", "elm", "oak"])[labels]
    features = write_feature_set(home / "f", X, names, np.where(y == -1, "night", "day"))
    task = load_task(features, "day", "night")
    pipeline = load_pipeline("scaled_logistic").fit(task.X, task.y, sample_domain=task.sample_domain)
    (home / "run").mkdir()
    Model.of(pipeline, task, features, {}).save(home / "run" / "model.skops")
    return home, features, Model.load(home / "run")


def test_predictions_below_a_probability_or_beyond_a_coverage_are_left_unknown(home, tmp_path):
    folder, features, model = home
    write_predictions(model, features, tmp_path / "all.csv", domain="night")
    plain = pd.read_csv(tmp_path / "all.csv")
    middle = float(plain["probability"].median())
    for reject in (Reject(probability=middle), Reject(coverage=0.5)):
        did = write_predictions(model, features, tmp_path / "some.csv", domain="night", reject=reject)
        some = pd.read_csv(tmp_path / "some.csv")
        unsure = plain["probability"] < middle - 1e-9
        assert (some["label"] == UNKNOWN).sum() == did.unknown
        assert abs(did.unknown - len(plain) / 2) <= 2
        assert (some["label"] == UNKNOWN)[unsure].mean() > 0.95
        kept = some["label"] != UNKNOWN
        pd.testing.assert_frame_equal(some[kept], plain[kept])


def test_the_accuracy_is_that_of_the_images_that_are_labelled(home, tmp_path):
    folder, features, _ = home
    asked = ["predict", folder / "run", features.folder, "--domain", "night", "--accuracy", "--json"]
    found = [
        json.loads(run(*asked, "--out", tmp_path / "p.csv", *reject).output)
        for reject in ([], ["--reject", "50%"])
    ]
    assert [each["unknown"] > 0 for each in found] == [False, True]
    counted = [each["accuracy"]["night"] for each in found]
    assert counted[1]["of"] == counted[0]["of"] - found[1]["unknown"]
    assert counted[1]["right"] / counted[1]["of"] > counted[0]["right"] / counted[0]["of"]


@pytest.mark.parametrize("text", ["1.2", "0", "most", "140%", "0%", "1"])
def test_a_threshold_that_is_neither_probability_nor_share_is_refused(text):
    with pytest.raises(FtransferError, match=f"'{text}' is neither a probability, such as 0.7, nor a share"):
        Reject.read(text)


def test_a_class_of_that_name_is_refused(home, tmp_path):
    _, features, model = home
    named = Model(model.pipeline, model.fingerprint, np.array(["ash", "elm", UNKNOWN]))
    with pytest.raises(FtransferError, match="'unknown' is a class of the model"):
        write_predictions(named, features, tmp_path / "p.csv", reject=Reject(probability=0.5))


def test_the_curve_of_accuracy_over_coverage_takes_the_surest_first():
    sure, right = np.array([0.9, 0.5, 0.8, 0.6]), np.array([1.0, 0.0, np.nan, 0.0])
    curve = cover(sure, right)
    assert [p["coverage"] for p in curve] == [0.25, 0.5, 0.75, 1.0]
    assert [p["probability"] for p in curve] == [0.9, 0.8, 0.6, 0.5]
    assert [p["accuracy"] for p in curve] == pytest.approx([1, 1, 1 / 2, 1 / 3])
    assert curve[-1]["expected"] == pytest.approx(0.7)
    assert cover(sure)[0]["accuracy"] is None


def test_unlabelled_rows_nearest_to_one_of_none_of_the_classes_are_found_the_nearest_first():
    rng = np.random.default_rng(0)
    X = np.repeat(6 * np.eye(3, 8), 20, axis=0) + rng.normal(size=(60, 8))
    codes = np.full(60, -1)
    codes[[0, 20, 40]] = 0, 1, -2
    found = like_none_of_the_classes(X, codes)
    assert set(found) == set(range(41, 60))
