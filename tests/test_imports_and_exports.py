import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import blobs, write_feature_set

from ftransfer import FeatureSet, FtransferError, export_features, import_features, load_task
from ftransfer.cli import main


@pytest.fixture
def rows():
    """Numbers (105, 8), labels ash, elm, oak, domains day and night, paths."""
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])[labels]
    return X, names, np.where(y == -1, "night", "day"), np.array([f"{i}.txt" for i in range(len(X))])


def write(file, X, labels, domains, paths):
    """Write a table in the format of the file's name."""
    if file.suffix == ".npz":
        np.savez(file, X=X, y=labels, domain=domains, path=paths)
        return file
    table = pd.DataFrame({"path": paths, "label": labels, "domain": domains})
    if file.suffix == ".csv":
        pd.concat([table, pd.DataFrame(X).add_prefix("e")], axis=1).to_csv(file, index=False)
    else:
        table.assign(embedding=list(X)).to_parquet(file)
    return file


@pytest.mark.parametrize("name", ["a.npz", "a.parquet", "a.csv"])
def test_a_table_becomes_a_feature_set_and_a_task(tmp_path, rows, name):
    features, new = import_features([write(tmp_path / name, *rows)], tmp_path / "f")
    assert new == 105
    X, labels, domains, paths = rows
    manifest = features.complete
    assert manifest["path"].tolist() == paths.tolist()
    np.testing.assert_array_equal(features.load(manifest), X)
    task = load_task(features, "day", "night")
    np.testing.assert_array_equal(task.X, X)
    assert task.classes[task.y[:60]].tolist() == labels[:60].tolist()
    assert features.verify().wrong == []


@pytest.mark.parametrize("kind", ["parquet", "npz", "csv", "tsv"])
def test_what_was_exported_comes_back_bit_for_bit(tmp_path, kind):
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-30, 30, (50, 3))).astype(np.float32)
    labels = ["ash", None, 'o"a\nk,', "7", "NA"] * 10
    features = write_feature_set(tmp_path / "f", X, labels, ["day"] * 25 + ["night"] * 25)
    assert export_features(features, tmp_path / f"out.{kind}", kind) == 50
    again, _ = import_features([tmp_path / f"out.{kind}"], tmp_path / "g")
    np.testing.assert_array_equal(again.load(again.complete), X)
    for name in ("path", "label", "domain", "sha256", "status", "group"):
        assert again.complete[name].equals(features.complete[name]), name
    assert again.fingerprint["rows"] == "content"


def test_importing_the_same_again_changes_nothing_and_another_file_is_refused(tmp_path, rows):
    file = write(tmp_path / "a.npz", *rows)
    import_features([file], tmp_path / "f")
    before = {p.name: p.read_bytes() for p in (tmp_path / "f").rglob("*") if p.is_file()}
    features, new = import_features([file], tmp_path / "f")
    assert new == 0
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "f").rglob("*") if p.is_file()}
    write(tmp_path / "b.npz", rows[0] + 1, *rows[1:])
    with pytest.raises(
        FtransferError, match=r"was computed with other settings: weights is .*use another folder: --out"
    ):
        import_features([tmp_path / "b.npz"], tmp_path / "f")
    assert len(features.complete) == 105


def test_arrays_alone_take_domains_from_files_and_labels_beside(tmp_path, rows):
    X, labels, *_ = rows
    np.save(tmp_path / "day.npy", X[:60])
    np.save(tmp_path / "night.npy", X[60:].astype(np.float64))
    (tmp_path / "day.txt").write_text("\n".join(labels[:60]))
    (tmp_path / "night.txt").write_text("\n" * 45)
    features, _ = import_features(
        [tmp_path / "day.npy", tmp_path / "night.npy"],
        tmp_path / "f",
        labels=[tmp_path / "day.txt", tmp_path / "night.txt"],
    )
    task = load_task(features, "day", "night")
    np.testing.assert_array_equal(task.X, X)
    assert not task.answers
    assert task.rows["path"].tolist()[:2] == ["01", "02"]


def test_columns_under_other_names_and_numbers_as_labels(tmp_path, rows):
    X, _, domains, paths = rows
    table = pd.DataFrame(X).add_prefix("dim_").assign(place=domains, doc=paths, year=1999)
    table["klass"] = ["c2", None, "c4"] * 35
    table.to_csv(tmp_path / "a.csv", index=False)
    columns = {"label": "klass", "domain": "place", "path": "doc"}
    for wanted in ("dim_", ",".join(f"dim_{i}" for i in range(8))):
        features, _ = import_features(
            [tmp_path / "a.csv"], tmp_path / wanted[:5], columns=columns, embedding_columns=wanted
        )
        np.testing.assert_array_equal(features.load(features.complete), X)
    assert features.complete["label"].fillna("none").tolist()[:3] == ["c2", "none", "c4"]
    with pytest.raises(FtransferError, match=r"'year' is not named like the others \(dim_0, dim_1, ...\)"):
        import_features([tmp_path / "a.csv"], tmp_path / "all", columns=columns)
    all_numbers, _ = import_features(
        [tmp_path / "a.csv"], tmp_path / "all", columns=columns, embedding_columns="dim_*,year"
    )
    assert all_numbers.width == 9


def test_labels_are_one_a_row(tmp_path):
    X = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    np.savez(tmp_path / "a.npz", X=X, y=np.eye(2)[[0, 1, 0, 1, 0, 1]])
    with pytest.raises(FtransferError, match=r"needs one label per row in y; its shape is \(6, 2\)"):
        import_features([tmp_path / "a.npz"], tmp_path / "f", domain="d")
    np.savez(tmp_path / "b.npz", X=X, y=np.array([[3], [4], [3], [4], [3], [4]]))
    features, _ = import_features([tmp_path / "b.npz"], tmp_path / "g", domain="d")
    assert set(features.manifest["label"]) == {"3", "4"}


def test_minus_one_is_no_label(tmp_path, rows):
    X = rows[0]
    np.savez(tmp_path / "a.npz", X=X, y=np.where(np.arange(105) < 60, np.arange(105) % 3, -1))
    features, _ = import_features([tmp_path / "a.npz"], tmp_path / "f", domain="d")
    assert features.complete["label"].isna().sum() == 45
    assert set(features.complete["label"].dropna()) == {"0", "1", "2"}
    np.savez(tmp_path / "b.npz", X=X, y=np.where(np.arange(105) < 60, 1, -1))
    with pytest.raises(FtransferError, match="has the labels -1 and 1, but -1 marks a row without a label"):
        import_features([tmp_path / "b.npz"], tmp_path / "g")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"X": np.array([[1.0, 2], [np.nan, 1]])},
            "1 rows with numbers that are missing, NaN or infinite; .* row 2",
        ),
        (
            {"X": np.array([[1.0, 1e300]]), "path": ["a.txt"]},
            r"NaN or infinite; the first is row 1 \(a.txt\)",
        ),
        ({"X": np.zeros(3)}, r"needs numbers of shape \(rows, width\); it holds float64 \(3,\)"),
        ({"X": np.array([["a"]])}, "needs numbers of shape"),
        ({"X": np.zeros((0, 3))}, "has no rows"),
        ({"Z": np.zeros((2, 3))}, "needs the key X; its keys: Z"),
        ({"X": np.zeros((2, 3)), "y": ["a"]}, "has 2 embeddings, but 1 entries in 'label'"),
        (
            {"X": np.zeros((2, 3)), "y": np.array(["a", None])},
            "holds Python objects, which are never unpickled",
        ),
        ({"X": np.zeros((2, 3)), "path": ["a", ""]}, "rows without a path; the first is row 2"),
        (
            {"X": np.eye(2), "sha256": ["a" * 64, "a" * 64]},
            "rows 1 and 2 have the same SHA-256 but different numbers",
        ),
        ({"X": np.zeros((2, 3)), "sha256": ["a", "b"]}, "row 1 has no SHA-256 in the column 'sha256'"),
    ],
)
def test_what_is_wrong_with_an_npz_is_one_line(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(FtransferError, match=message):
        import_features([tmp_path / "a.npz"], tmp_path / "f")
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("path,e0\na,1\nb,\n", {}, r"NaN or infinite; the first is row 2 \(b\), column e0;"),
        ("path,e0\na,1\nb,x\n", {}, r"the first is row 2 \(b\), column e0 \('x'\); .*--missing drop-rows"),
        ("path,e0\na,x\nb,y\n", {}, r"needs features: .*its columns: path \(named\), e0 \(texts\)"),
        ("path,e0\na,1\n", {"embedding_columns": "dim"}, "no column 'dim'"),
        ("path,e0\na,1\n", {"embedding_columns": "e0,e1"}, "no column 'e1'; columns found: e0"),
        ("path,e0\na,1\n", {"columns": {"label": "lable"}}, "no column 'lable'"),
        ("", {}, "cannot be read as a table of embeddings: Empty CSV file"),
    ],
)
def test_what_is_wrong_with_a_csv_is_one_line(tmp_path, text, options, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FtransferError, match=message):
        import_features([tmp_path / "a.csv"], tmp_path / "f", **options)


def test_other_mistakes_are_one_line(tmp_path, rows):
    file = write(tmp_path / "a.npz", *rows)
    with pytest.raises(FtransferError, match="no file 'b.npz'; did you mean 'a.npz'"):
        import_features([tmp_path / "b.npz"], tmp_path / "f")
    (tmp_path / "a.xlsx").write_text("")
    with pytest.raises(FtransferError, match="is not a table of embeddings; supported are .npy"):
        import_features([tmp_path / "a.xlsx"], tmp_path / "f")
    for name in ("broken.npy", "broken.npz", "broken.parquet"):
        for content in (b"", b"PK\x03\x04 or PAR1"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(FtransferError, match=f"{name} cannot be read as a table of embeddings"):
                import_features([tmp_path / name], tmp_path / "f")
    (tmp_path / "labels.txt").write_text("a\n")
    with pytest.raises(FtransferError, match="has 1 labels for 105 embeddings"):
        import_features([file], tmp_path / "f", labels=[tmp_path / "labels.txt"])
    with pytest.raises(FtransferError, match="1 label files for 2 tables"):
        import_features([file, file], tmp_path / "f", labels=[tmp_path / "labels.txt"])
    np.save(tmp_path / "c.npy", np.zeros((2, 3)))
    with pytest.raises(FtransferError, match="all tables need the same number of features; found 3, 8"):
        import_features([file, tmp_path / "c.npy"], tmp_path / "f")
    pd.DataFrame({"embedding": [[1.0], [1.0, 2.0]]}).to_parquet(tmp_path / "d.parquet")
    with pytest.raises(FtransferError, match="the lists in 'embedding' differ in length"):
        import_features([tmp_path / "d.parquet"], tmp_path / "f")


def test_the_command_line_imports_and_exports(tmp_path, rows):
    file, run = write(tmp_path / "a.csv", *rows), CliRunner()
    result = run.invoke(main, ["import", str(file), "--out", str(tmp_path / "f")])
    assert result.output.splitlines()[:2] == [
        f"{tmp_path / 'f'}: 105 rows, 8 features each (105 new)",
        "  day: 60 rows, 60 with a label, 3 classes",
    ]
    result = run.invoke(main, ["import", str(file), "--out", str(tmp_path / "f"), "--json"])
    assert json.loads(result.output)["new"] == 0
    for options in (["--format", "npz"], ["--out", str(tmp_path / "x.CSV")], []):
        assert run.invoke(main, ["export", str(tmp_path / "f"), *options]).exit_code == 0
    result = run.invoke(main, ["export", str(tmp_path / "f"), "--out", str(tmp_path / "x.xlsx")])
    assert result.exit_code == 1
    assert "tells no format that can be written; end it in .parquet, .npz, .csv, .tsv" in result.output
    assert np.load(tmp_path / "f.npz")["X"].shape == (105, 8)
    assert pd.read_csv(tmp_path / "x.CSV").shape == (105, 13)
    assert len(pd.read_parquet(tmp_path / "f.parquet")) == 105
    assert FeatureSet(tmp_path / "f").fingerprint["backbone"] == "imported"
