"""Embeddings imported under a name: more rows go on with them, and a model labels them."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import blobs
from test_cli import run
from test_predict import write_run

from ftransfer import FeatureSet, FtransferError, Model, import_features, import_named_features


@pytest.fixture
def tables(tmp_path):
    """Embeddings of two domains, with labels in the first, and more of the second: day.csv, night.csv, more.csv."""
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])[labels]
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(8)]).assign(label=names)
    frame["domain"] = np.where(y == -1, "night", "day")
    for name, rows in (("day", frame[:60]), ("night", frame[60:90]), ("more", frame[90:])):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_more_rows_under_a_name_go_on_with_what_is_there(tables):
    out = tables / "f"
    features, new = import_named_features([tables / "day.csv", tables / "night.csv"], out, "minilm-l6")
    assert (new, features.fingerprint["weights"]) == (90, "minilm-l6")
    again, new = import_named_features([tables / "more.csv"], out, "minilm-l6")
    assert new == 15
    assert again.complete["domain"].value_counts().to_dict() == {"day": 60, "night": 45}
    assert import_named_features([tables / "more.csv"], out, "minilm-l6")[1] == 0
    assert len(FeatureSet(out).complete) == 105
    with pytest.raises(FtransferError, match="weights is minilm-l6 there, mpnet now"):
        import_named_features([tables / "more.csv"], out, "mpnet")


def test_columns_in_another_order_are_put_right_and_others_refused(tables):
    out, frame = tables / "f", pd.read_csv(tables / "more.csv")
    import_named_features([tables / "day.csv"], out, "m")
    frame[[*frame.columns[::-1]]].assign(extra=0.5).to_csv(tables / "turned.csv", index=False)
    features, _ = import_named_features([tables / "turned.csv"], out, "m")
    rows = features.complete.iloc[-15:]
    np.testing.assert_allclose(features.load(rows), frame[[f"f{i}" for i in range(8)]].to_numpy(), rtol=1e-6)
    frame.rename(columns={"f3": "g3"}).to_csv(tables / "other.csv", index=False)
    with pytest.raises(FtransferError, match="no column 'f3'"):
        import_named_features([tables / "other.csv"], out, "m")


@pytest.mark.parametrize("change", [lambda X: X * 10, lambda X: X / np.linalg.norm(X, axis=1, keepdims=True)])
def test_rows_of_another_scale_are_refused(tables, change):
    out, X = tables / "f", np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    np.save(tables / "first.npy", X)
    np.save(tables / "second.npy", change(X[:20]))
    import_named_features([tables / "first.npy"], out, "m", domain="a")
    with pytest.raises(
        FtransferError, match=r"rows of length [\d.]+ \(median\), and 2\.\d+ in the feature set"
    ):
        import_named_features([tables / "second.npy"], out, "m", domain="b")


def test_a_model_labels_a_table_of_new_rows(tables):
    out = tables / "f"
    features, _ = import_named_features([tables / "day.csv", tables / "night.csv"], out, "minilm-l6")
    write_run(features, tables / "run")
    result = run("predict", tables / "run", tables / "more.csv", "--out", tables / "p.csv", "--json")
    assert result.exit_code == 0, result.output
    frame, told = pd.read_csv(tables / "more.csv"), pd.read_csv(tables / "p.csv")
    assert json.loads(result.output)["images"] == 15
    assert (told["label"] == frame["label"]).mean() > 0.9
    X = frame[[f"f{i}" for i in range(8)]].to_numpy(np.float32)
    assert Model.load(tables / "run").predict(X).tolist() == told["label"].tolist()
    frame[[f"f{i}" for i in range(8)]] *= 50
    frame.to_csv(tables / "far.csv", index=False)
    result = run("predict", tables / "run", tables / "far.csv", "--out", tables / "q.csv")
    assert result.exit_code == 1
    assert "these embeddings come from another model or normalisation" in result.output


def test_rows_that_were_imported_without_a_name_say_how_to_give_one(tables):
    features, _ = import_features([tables / "day.csv", tables / "night.csv"], tables / "f")
    write_run(features, tables / "run")
    result = run("predict", tables / "run", tables / "more.csv", "--out", tables / "p.csv")
    assert result.exit_code == 1
    assert "import them again with --name" in result.output
    with pytest.raises(FtransferError, match="--name must say which model made the embeddings"):
        import_named_features([tables / "day.csv"], tables / "g", "sha256:1")
