"""Rows of a feature set that are read when they are taken."""

import pickle
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set

from ftransfer import (
    DomainScaler,
    FeatureSet,
    FtransferError,
    Model,
    TargetMixture,
    load_task,
    make_pipeline,
    race,
)
from ftransfer import task as tasks
from ftransfer.features.joined import open_features
from ftransfer.features.stored import StoredRows, take_rows
from ftransfer.model import model as models

QUICK = ["source_only_logistic", "scaled_logistic", "coral_logistic"]


@pytest.fixture
def kept(tmp_path):
    X, y, labels = blobs(n_source=60, n_target=45)
    names = np.array(["ash", "elm", "oak"])[labels]
    return write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day")), X


def test_a_slice_reads_nothing_and_numbers_or_a_mask_read_their_rows(kept, monkeypatch):
    features, X = kept
    read = []
    load = FeatureSet.load
    monkeypatch.setattr(FeatureSet, "load", lambda self, rows: read.append(len(rows)) or load(self, rows))
    rows = StoredRows(features, features.complete)
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == (X.shape, np.float32, 2, len(X))
    part = take_rows(rows[10:40], np.arange(30) % 3 == 0)
    assert not read
    assert np.array_equal(part[np.array([2, 0])], X[[16, 10]])
    assert np.array_equal(rows[np.arange(len(X)) < 3], X[:3])
    assert np.array_equal(np.asarray(part), X[10:40:3])
    assert read == [2, 3, 10]
    assert np.asarray(rows, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("joined", [False, True])
def test_rows_are_pickled_without_the_embeddings(kept, tmp_path, joined):
    features, X = kept
    if joined:
        shutil.copytree(features.folder, tmp_path / "other")
        features = open_features([features.folder, tmp_path / "other"], balance=False)
    rows = StoredRows(features, features.complete).part(np.array([7, 3, 100]))
    content = pickle.dumps(rows)
    assert X[7].tobytes() not in content
    found = np.asarray(pickle.loads(content))
    assert np.array_equal(found[:, :8], X[[7, 3, 100]])


def test_new_parts_are_found_by_whoever_has_read_before(kept):
    features, X = kept
    features.load(features.complete.iloc[:3])
    features.write_part(["f" * 64], X[:1] + 1)
    new = features.complete.iloc[:1].assign(sha256="f" * 64)
    assert np.array_equal(features.load(new), X[:1] + 1)


def test_a_task_of_many_rows_is_raced_on_as_one_in_memory(kept, monkeypatch):
    features, X = kept
    whole = load_task(features, "day", "night")
    monkeypatch.setattr(tasks, "IN_MEMORY", 50)
    task = load_task(features, "day", "night")
    assert isinstance(task.X, StoredRows)
    assert np.array_equal(task.X_target, whole.X_target)
    found, known = (race(each, QUICK, jobs=1, max_rows=80) for each in (task, whole))
    assert found.table["score"].tolist() == known.table["score"].tolist()
    assert np.array_equal(found.pipeline.predict(found.task.X_target), known.pipeline.predict(whole.X_target))


def test_an_embedding_that_is_not_finite_is_named_when_it_is_read(kept, monkeypatch):
    features, X = kept
    X[5, 2] = np.nan
    hashes = [f"{1000 + i:064x}" for i in range(len(X))]
    features.write_part(hashes, X)
    rows = StoredRows(features, features.complete.assign(sha256=hashes))
    assert len(rows[np.arange(5)]) == 5
    with pytest.raises(FtransferError, match=r"the embedding of 5\.png in .* is not finite"):
        rows[np.array([5])]


def test_a_model_describes_stored_rows_in_blocks_and_asks_a_mixture_once(kept, monkeypatch):
    features, X = kept
    y = np.where(np.arange(len(X)) < 60, np.arange(len(X)) % 3, -1)
    pipeline = make_pipeline(DomainScaler(), TargetMixture()).fit(X, y)
    model, asked = Model(pipeline, features.fingerprint, np.array(["ash", "elm", "oak"])), []
    whole = model.describe(X)
    assert whole["label"].tolist() == model.predict(X).tolist()
    ask = TargetMixture.predict_proba
    monkeypatch.setattr(
        TargetMixture, "predict_proba", lambda self, rows: asked.append(len(rows)) or ask(self, rows)
    )
    monkeypatch.setattr(models, "BLOCK", 100)
    described = model.describe(StoredRows(features, features.complete))
    assert asked == [100, 5]
    pd.testing.assert_frame_equal(described, whole)
