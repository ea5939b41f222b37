"""Which columns are features, labels and neither: the same in every format."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ftransfer import FtransferError, import_features
from ftransfer.cells import find_separator, read_labels
from ftransfer.cli import main

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
KINDS = ["csv", "tsv", "parquet"]


def table(**more) -> pd.DataFrame:
    """Three columns of numbers, and further ones."""
    return pd.DataFrame(X, columns=["f0", "f1", "f2"]).assign(**more)


def write(frame, file, **options):
    if file.suffix == ".parquet":
        frame.to_parquet(file, **options)
    else:
        frame.to_csv(file, sep="\t" if file.suffix == ".tsv" else ",", **{"index": False, **options})
    return file


def load(features):
    return features.load(features.complete)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_several_tables_are_matched_by_name(tmp_path, kind):
    a = write(table(), tmp_path / f"a.{kind}")
    b = write(table()[["f2", "f0", "f1"]], tmp_path / f"b.{kind}")
    features, _ = import_features([a, b], tmp_path / "f")
    np.testing.assert_array_equal(load(features), np.r_[X, X])
    c = write(table().rename(columns={"f1": "f3"}), tmp_path / f"c.{kind}")
    with pytest.raises(
        FtransferError, match=f"only a.{kind} has f1; only c.{kind} has f3; choose common ones"
    ):
        import_features([a, c], tmp_path / "g")
    np.save(tmp_path / "d.npy", X)
    with pytest.raises(FtransferError, match=r"only d.npy has X"):
        import_features([a, tmp_path / "d.npy"], tmp_path / "g")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "values", "doubt"),
    [
        ("id", np.arange(12) * 7 + 100, "is named like a key or a label"),
        ("image_id", np.arange(12) * 7.0, "is named like a key or a label"),
        ("class_id", np.arange(12) % 3, "is named like a key or a label"),
        ("trueClass", np.arange(12) % 3, "is named like a key or a label"),
        ("index", np.arange(12), "is named like a row number"),
        ("Unnamed: 0", np.arange(12), "is named like a row number"),
        ("digit", np.arange(12) % 3, "is not named like the others"),
        ("score", X[:, 0] * 2, "is not named like the others"),
        ("f3", np.arange(12) % 3, "holds integers, unlike the others"),
        ("f3", np.random.default_rng(1).permutation(12) + 5, "numbers the rows"),
    ],
)
def test_what_may_be_a_row_number_a_key_or_a_label_is_refused_until_it_is_said(
    tmp_path, kind, name, values, doubt
):
    file = write(table(**{name: values}), tmp_path / f"a.{kind}")
    with pytest.raises(FtransferError, match=f"'{name}' {doubt}.*--ignore NAME.*--features 'f\\*'"):
        import_features([file], tmp_path / "f")
    without, _ = import_features([file], tmp_path / "without", ignore=name)
    np.testing.assert_array_equal(load(without), X)
    taken, _ = import_features([file], tmp_path / "taken", embedding_columns=["f*", f'"{name}"'])
    assert taken.width == 4
    named, _ = import_features([file], tmp_path / "named", columns={"label": name})
    np.testing.assert_array_equal(load(named), X)


def test_the_index_that_pandas_writes_is_no_feature(tmp_path):
    with pytest.raises(FtransferError, match="'Unnamed: 0' is named like a row number"):
        import_features([write(table(), tmp_path / "a.csv", index=True)], tmp_path / "f")
    shuffled = table().sample(frac=1, random_state=0)
    assert "__index_level_0__" in pq.read_schema(write(shuffled, tmp_path / "a.parquet")).names
    features, _ = import_features([write(shuffled, tmp_path / "a.parquet")], tmp_path / "g")
    np.testing.assert_array_equal(load(features), shuffled.to_numpy())


def test_numbers_that_are_all_whole_and_zeros_among_fractions_are_features(tmp_path):
    counts = pd.DataFrame({"red": [3, 1, 4, 1, 5, 9], "blue": [2, 7, 1, 8, 2, 8]})
    features, _ = import_features([write(counts, tmp_path / "a.csv")], tmp_path / "f")
    assert features.width == 2
    features, _ = import_features([write(table(f3=0, f4=1), tmp_path / "b.csv")], tmp_path / "g")
    assert features.width == 5


@pytest.mark.parametrize("name", ["y", "label", "labels"])
@pytest.mark.parametrize("kind", [*KINDS, "npz"])
def test_y_and_label_are_labels_in_every_format(tmp_path, kind, name):
    labels = np.arange(12) % 3
    file = tmp_path / f"a.{kind}"
    np.savez(file, X=X, **{name: labels}) if kind == "npz" else write(table(**{name: labels}), file)
    features, _ = import_features([file], tmp_path / "f")
    assert features.width == 3
    assert features.complete["label"].tolist() == [str(label) for label in labels]


def test_two_columns_that_may_be_the_label_are_refused(tmp_path):
    for file in (tmp_path / "a.csv", tmp_path / "a.npz"):
        if file.suffix == ".csv":
            write(table(y=0, label=1), file)
        else:
            np.savez(file, X=X, y=np.zeros(12), label=np.ones(12))
        with pytest.raises(FtransferError, match="columns 'label' and 'y', .*choose one: --label-column"):
            import_features([file], tmp_path / "f")
        features, _ = import_features(
            [file], tmp_path / f"f{file.suffix}", columns={"label": "y"}, ignore="label"
        )
        assert set(features.complete["label"]) == {"0"}


def test_row_numbers_in_an_array_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.c_[np.arange(12), X])
    with pytest.raises(
        FtransferError, match=r"number 0 of each row \(from 0\) numbers the rows\..*--ignore 0"
    ):
        import_features([tmp_path / "a.npy"], tmp_path / "f")
    features, _ = import_features([tmp_path / "a.npy"], tmp_path / "f", ignore="0")
    np.testing.assert_array_equal(load(features), X)
    pd.DataFrame({"embedding": list(np.c_[X, np.arange(12) % 3])}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(FtransferError, match=r"number 3 of each row .* holds integers, unlike the others"):
        import_features([tmp_path / "b.parquet"], tmp_path / "g")
    assert import_features([tmp_path / "b.parquet"], tmp_path / "g", embedding_columns="*")[0].width == 4


@pytest.mark.parametrize("cell", ["NA", "-", "n/a", "null", "1,5", "", "nan"])
def test_a_cell_that_is_no_number_is_refused_by_row_and_column_or_its_row_left_out(tmp_path, cell):
    frame = table(label="u").astype({"f0": object})
    frame.loc[[3, 7], "f0"] = cell
    for kind in ("csv", "tsv"):
        file = write(frame, tmp_path / f"a.{kind}")
        with pytest.raises(
            FtransferError, match=r"has 2 rows .*first is row 4, column f0.*--missing drop-rows"
        ):
            import_features([file], tmp_path / "f")
        features, _ = import_features([file], tmp_path / kind, missing="drop-rows")
        np.testing.assert_array_equal(load(features), np.delete(X, [3, 7], axis=0))
        assert features.imported == (f"a.{kind}: 2 rows with missing numbers were dropped",)
        assert features.complete["path"].tolist()[3] == "05"  # a row keeps its number


def test_most_of_the_cells_of_the_smallest_table_are_no_excuse(tmp_path):
    (tmp_path / "a.csv").write_text("f0,f1,label\n1,2,u\nNA,4,v\n")
    with pytest.raises(FtransferError, match=r"the first is row 2, column f0 \('NA'\)"):
        import_features([tmp_path / "a.csv"], tmp_path / "f")


def test_a_text_deep_in_a_long_table_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("ftransfer.features.tables.BLOCK", 2**12)
    long = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 2)), columns=["f0", "f1"]).astype(object)
    long.loc[2500, "f1"] = "oops"
    with pytest.raises(FtransferError, match=r"row 2501, column f1 \('oops'\)"):
        import_features([write(long, tmp_path / "a.csv")], tmp_path / "f")


def test_only_an_empty_cell_lacks_a_label_and_words_for_missing_are_classes(tmp_path):
    words = ["NA", "None", "null", "", "nan", "N/A"] * 2
    for kind in ("csv", "tsv", "parquet"):
        file = write(table(label=words, domain="NA"), tmp_path / f"a.{kind}")
        features, _ = import_features([file], tmp_path / kind)
        assert (
            features.complete["label"].fillna("-").tolist() == ["NA", "None", "null", "-", "nan", "N/A"] * 2
        )
        assert set(features.complete["domain"]) == {"NA"}


def test_a_file_that_begins_with_its_first_row_is_refused(tmp_path):
    np.savetxt(tmp_path / "a.csv", X, delimiter=",")
    with pytest.raises(FtransferError, match="begins with numbers .*not with column names"):
        import_features([tmp_path / "a.csv"], tmp_path / "f")
    pd.DataFrame(X).to_csv(tmp_path / "b.csv", index=False)  # pandas' own names: 0, 1, 2
    assert import_features([tmp_path / "b.csv"], tmp_path / "f")[0].width == 3


def test_columns_of_text_are_no_features_however_they_are_called(tmp_path):
    frame = pd.DataFrame({"height": X[:, 0], "weight": X[:, 1], "note1": "a", "note2": "b", "note3": "c"})
    features, _ = import_features([write(frame, tmp_path / "a.csv")], tmp_path / "f")
    assert features.width == 2
    assert features.imported == ("a.csv: not features: note1, note2, note3",)


def test_separators_and_blanks_in_the_header_are_understood(tmp_path):
    (tmp_path / "a.csv").write_text("path; label; f0; f1\nx.txt; ash ; 1.5; 2\ny.txt; elm; 2.5; 4\n")
    features, _ = import_features([tmp_path / "a.csv"], tmp_path / "f")
    assert features.complete["label"].tolist() == ["ash", "elm"]
    np.testing.assert_array_equal(load(features), [[1.5, 2], [2.5, 4]])
    assert [find_separator(line) for line in ("a,b", "a\tb", '"x;y",b', "a|b")] == [",", "\t", ",", "|"]
    (tmp_path / "b.csv").write_text("f0,f0\n1,2\n")
    with pytest.raises(FtransferError, match="has two columns named 'f0'"):
        import_features([tmp_path / "b.csv"], tmp_path / "g")


def test_labels_are_written_one_way():
    assert read_labels([1.0, None, 3.0]) == ["1", None, "3"]
    assert read_labels(["1.0", "", "3.0"]) == ["1", None, "3"]
    assert read_labels(["1.0", "2.5"]) == ["1.0", "2.5"]
    assert read_labels(["cafe\u0301", "caf\u00e9 "]) == ["caf\u00e9"] * 2
    assert read_labels([np.int64(3), b"ash", True]) == ["3", "ash", "True"]


def test_the_command_line_says_what_is_not_a_feature(tmp_path):
    file = write(table(note="x", id=5), tmp_path / "a.csv")
    command = ["import", str(file), "--out", str(tmp_path / "f")]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "'id' is named like a key or a label" in refused.output
    assert len(refused.output.splitlines()) == 1
    done = CliRunner().invoke(main, [*command, "--ignore", "id", "--json"])
    assert json.loads(done.output)["notes"] == ["a.csv: not features: note"]


def test_a_result_of_a_run_is_no_table_of_embeddings(tmp_path):
    for name in ("results.json", "classes.csv"):
        (tmp_path / name).write_text("class,share\nash,0.5\n")
    with pytest.raises(
        FtransferError, match="classes.csv is a result of ftransfer fit, not a table of embeddings"
    ):
        import_features([tmp_path / "classes.csv"], tmp_path / "f")
