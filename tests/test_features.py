import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import blobs, write_feature_set

from ftransfer import FeatureSet, FtransferError

RECIPE = {"format": 1, "backbone": "a", "weights": "sha256:1", "layers": [{"name": "x", "width": 2}]}


def key(i):
    return f"{i:064x}"


def test_rows_come_back_in_the_order_asked_for(feature_set):
    X, _, _ = blobs()
    manifest = feature_set.complete
    order = np.random.default_rng(0).permutation(len(manifest))
    loaded = feature_set.load(manifest.iloc[order])
    np.testing.assert_array_equal(loaded, X[order])
    assert loaded.flags.c_contiguous
    assert loaded.dtype == np.float32


def test_rows_are_found_over_several_parts_and_twice(tmp_path):
    features = FeatureSet.create(tmp_path / "f", RECIPE)
    X = np.arange(12, dtype=np.float32).reshape(6, 2)
    features.write_part([key(i) for i in range(4)], X[:4])
    features.write_part([key(4), key(5)], X[4:])
    rows = pd.DataFrame({"sha256": [key(5), key(0), key(5)], "path": list("abc")})
    np.testing.assert_array_equal(features.load(rows), X[[5, 0, 5]])
    assert features.done() == {key(i) for i in range(6)}


def test_parts_open_as_plain_arrow_files(feature_set):
    (file,) = (feature_set.folder / "parts").glob("*.arrow")
    table = pa.ipc.open_file(file).read_all()
    assert table.schema.field("sha256").type == pa.binary(32)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 8)
    assert pd.read_feather(file).shape == (105, 2)


@pytest.mark.parametrize("damage", [b"", b"ARROW1\x00\x00 torn"])
def test_a_torn_part_counts_for_nothing(tmp_path, damage):
    features = FeatureSet.create(tmp_path / "f", RECIPE)
    part = features.write_part([key(0)], np.zeros((1, 2)))
    features.write_part([key(1)], np.ones((1, 2)))
    part.write_bytes(damage)
    assert features.done() == {key(1)}
    with pytest.raises(FtransferError, match="lacks the embeddings of 1 images, the first a"):
        features.load(pd.DataFrame({"sha256": [key(0)], "path": ["a"]}))


def test_nothing_half_written_stays_behind_when_writing_fails(tmp_path, monkeypatch):
    features = FeatureSet.create(tmp_path / "f", RECIPE)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FtransferError, match="cannot write to .*No space left on device"):
        features.write_part([key(0)], np.zeros((1, 2)))
    assert list((features.folder / "parts").iterdir()) == []


def test_another_recipe_into_the_same_folder_is_refused_with_the_difference(tmp_path):
    FeatureSet.create(tmp_path / "f", RECIPE)
    FeatureSet.create(tmp_path / "f", dict(RECIPE))
    other = {**RECIPE, "backbone": "b", "layers": [{"name": "y", "width": 2}]}
    with pytest.raises(FtransferError, match="backbone is a there, b now; layers is x there, y now.*--out"):
        FeatureSet.create(tmp_path / "f", other)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(FtransferError, match=r"is not empty \(thesis.doc\)"):
        FeatureSet.create(tmp_path, RECIPE)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_folder_that_is_a_file_or_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FtransferError, match="cannot write to"):
        FeatureSet.create(tmp_path / "file" / "inside", RECIPE)
    with pytest.raises(FtransferError, match="cannot write to /proc/nothing"):
        FeatureSet.create("/proc/nothing", RECIPE)


def test_what_is_no_feature_set_says_how_to_make_one(tmp_path):
    with pytest.raises(FtransferError, match="does not exist; make one: ftransfer extract"):
        FeatureSet(tmp_path / "nothing")
    with pytest.raises(FtransferError, match="is no feature set"):
        FeatureSet(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"layers": [{"width": "many"}]}'])
def test_a_broken_recipe_is_one_line(tmp_path, text):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(FtransferError, match="recipe.json cannot be read"):
        FeatureSet(tmp_path)


def test_an_empty_or_half_written_or_unreadable_set_says_what_to_do(tmp_path):
    features = FeatureSet.create(tmp_path / "f", RECIPE)
    with pytest.raises(FtransferError, match="is an empty feature set; run the same ftransfer extract again"):
        features.complete  # noqa: B018
    table = pd.DataFrame({"path": ["a", "b"], "status": ["ok", "pending"], "domain": "d"})
    features.write_manifest(table)
    with pytest.raises(FtransferError, match="is half-written: 1 of 2 images are not done"):
        features.complete  # noqa: B018
    features.write_manifest(table.assign(status="error", error="no image"))
    with pytest.raises(FtransferError, match="none of the 2 images .* could be read; a: no image"):
        features.complete  # noqa: B018
    (features.folder / "manifest.parquet").write_bytes(b"PAR1")
    with pytest.raises(FtransferError, match="manifest.parquet cannot be read"):
        features.complete  # noqa: B018


def test_an_embedding_that_is_not_finite_is_named(tmp_path):
    X = np.array([[0, 1], [np.nan, 1]], dtype=np.float32)
    features = write_feature_set(tmp_path / "f", X, ["a", "b"], ["d", "d"])
    with pytest.raises(FtransferError, match="the embedding of 1.png in .* is not finite"):
        features.load(features.complete)


def test_the_recipe_is_readable_json(feature_set):
    assert json.loads((feature_set.folder / "recipe.json").read_text())["layers"] == [
        {"name": "out", "width": 8}
    ]
