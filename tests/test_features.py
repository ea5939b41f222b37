import json
import os
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from conftest import blobs, write_feature_set

from ftransfer import FeatureSet, FtransferError
from ftransfer.features.parts import Damaged, check_part
from ftransfer.features.verify import Verified

FINGERPRINT = {"format": 1, "backbone": "a", "weights": "sha256:1", "layers": [{"name": "x", "width": 2}]}


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


def test_a_manifest_of_several_groups_of_rows_comes_back_as_it_was(feature_set, monkeypatch):
    manifest = feature_set.manifest
    monkeypatch.setattr("ftransfer.features.manifest.GROUP", 7)
    feature_set.write_manifest(manifest)
    written = pq.ParquetFile(feature_set.folder / "manifest.parquet")
    assert written.num_row_groups == -(-len(manifest) // 7) > 1
    pd.testing.assert_frame_equal(feature_set.manifest, manifest)


def test_rows_are_found_over_several_parts_and_twice(tmp_path):
    features = FeatureSet.create(tmp_path / "f", FINGERPRINT)
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
    features = FeatureSet.create(tmp_path / "f", FINGERPRINT)
    part = features.write_part([key(0)], np.zeros((1, 2)))
    features.write_part([key(1)], np.ones((1, 2)))
    part.write_bytes(damage)
    assert features.done() == {key(1)}
    with pytest.raises(FtransferError, match="lacks the embeddings of 1 images, the first a"):
        features.load(pd.DataFrame({"sha256": [key(0)], "path": ["a"]}))


def test_nothing_half_written_stays_behind_when_writing_fails(tmp_path, monkeypatch):
    features = FeatureSet.create(tmp_path / "f", FINGERPRINT)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FtransferError, match="cannot write to .*No space left on device"):
        features.write_part([key(0)], np.zeros((1, 2)))
    assert list((features.folder / "parts").iterdir()) == []


def test_another_fingerprint_into_the_same_folder_is_refused_with_the_difference(tmp_path):
    FeatureSet.create(tmp_path / "f", FINGERPRINT)
    FeatureSet.create(tmp_path / "f", dict(FINGERPRINT))
    other = {**FINGERPRINT, "backbone": "b", "layers": [{"name": "y", "width": 2}]}
    with pytest.raises(FtransferError, match="backbone is a there, b now; layers is x there, y now.*--out"):
        FeatureSet.create(tmp_path / "f", other)


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.doc").write_text("x")
    with pytest.raises(FtransferError, match=r"is not empty and not a feature set \(thesis.doc\)"):
        FeatureSet.create(tmp_path, FINGERPRINT)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_folder_that_is_a_file_or_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FtransferError, match="cannot write to"):
        FeatureSet.create(tmp_path / "file" / "inside", FINGERPRINT)
    with pytest.raises(FtransferError, match="cannot write to /proc/nothing"):
        FeatureSet.create("/proc/nothing", FINGERPRINT)


def test_what_is_no_feature_set_says_how_to_make_one(tmp_path):
    with pytest.raises(FtransferError, match="does not exist; make one: ftransfer extract"):
        FeatureSet(tmp_path / "nothing")
    with pytest.raises(FtransferError, match="is not a feature set"):
        FeatureSet(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"layers": [{"width": "many"}]}'])
def test_a_broken_fingerprint_is_one_line(tmp_path, text):
    (tmp_path / "fingerprint.json").write_text(text)
    with pytest.raises(FtransferError, match="fingerprint.json cannot be read"):
        FeatureSet(tmp_path)


def test_an_empty_or_half_written_or_unreadable_set_says_what_to_do(tmp_path):
    features = FeatureSet.create(tmp_path / "f", FINGERPRINT)
    with pytest.raises(FtransferError, match="is an empty feature set; run the same ftransfer extract again"):
        features.complete  # noqa: B018
    table = pd.DataFrame({"path": ["a", "b"], "status": ["ok", "pending"], "domain": "d", "sha256": key(0)})
    features.write_manifest(table)
    with pytest.raises(FtransferError, match="is incomplete: 1 of 2 images are not done"):
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


def test_the_fingerprint_is_readable_json(feature_set):
    assert json.loads((feature_set.folder / "fingerprint.json").read_text())["layers"] == [
        {"name": "out", "width": 8}
    ]


def test_every_flipped_byte_of_a_part_is_found_and_none_breaks_a_load(tmp_path):
    features = FeatureSet.create(tmp_path / "f", FINGERPRINT)
    part = features.write_part([key(0), key(1)], np.ones((2, 2)))
    content = part.read_bytes()
    for i in range(len(content)):
        part.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        with pytest.raises(Damaged, match="its checksum does not match"):
            check_part(part)
        for _, keys, embeddings in features.parts():
            assert embeddings.shape == (len(keys), 2)
            embeddings.sum()  # reads them all


def test_verify_tells_sound_from_damaged_from_not_checkable(tmp_path):
    features = write_feature_set(tmp_path / "f", np.zeros((3, 2), np.float32), None, "d")
    assert features.verify() == Verified(parts=1, embeddings=3, images=3)
    (part,) = (features.folder / "parts").glob("*.arrow")
    old = part.rename(part.with_name("0123456789abcdef0123456789abcdef.arrow"))
    assert features.verify() == Verified(1, 3, 3, not_checkable=[f"parts/{old.name}"])
    old.rename(part)
    os.truncate(part, 700)
    assert features.verify().wrong == [
        f"parts/{part.name} is damaged: its checksum does not match",
        "3 images have no valid embedding; the first is 0.png",
    ]


def test_opening_a_set_to_write_sets_damaged_files_aside(tmp_path):
    features = write_feature_set(tmp_path / "f", np.zeros((3, 2), np.float32), None, "d")
    (part,) = (features.folder / "parts").glob("*.arrow")
    part.write_bytes(part.read_bytes()[:-1])
    (features.folder / "manifest.parquet").write_bytes(b"PAR1")
    (features.folder / "parts" / f".{part.name}.0123abcd").write_bytes(b"left by a kill")
    again = FeatureSet.create(features.folder, features.fingerprint)
    assert [line.split()[0] for line in again.set_aside] == [f"parts/{part.name}", "manifest.parquet"]
    assert again.done() == set()
    assert again.verify().wrong == []
    assert sorted(p.name for p in (features.folder / "parts").iterdir()) == [f"{part.name}.damaged"]
    assert FeatureSet.create(features.folder, features.fingerprint).set_aside == []


def test_a_part_of_another_fingerprint_counts_for_nothing(tmp_path):
    ours = FeatureSet.create(tmp_path / "ours", FINGERPRINT)
    other = FeatureSet.create(tmp_path / "other", {**FINGERPRINT, "weights": "sha256:2"})
    shutil.copy(other.write_part([key(0)], np.ones((1, 2))), ours.folder / "parts")
    assert ours.done() == set()
    assert "of another fingerprint" in ours.verify().wrong[0]


def test_an_embedding_that_is_there_is_not_written_again(tmp_path):
    one, two = (FeatureSet.create(tmp_path / "f", FINGERPRINT) for _ in range(2))
    one.write_part([key(0), key(1)], np.zeros((2, 2)))
    two.write_part([key(1), key(2), key(2)], np.ones((3, 2)))
    assert two.write_part([key(0)], np.ones((1, 2))) is None
    assert [len(keys) for _, keys, _ in one.parts()] in ([2, 1], [1, 2])
    rows = pd.DataFrame({"sha256": [key(i) for i in range(3)], "path": list("abc")})
    assert one.load(rows)[:, 0].tolist() == [0, 0, 1]


def test_two_runs_put_their_rows_into_one_manifest(tmp_path):
    def rows(root, domain, names, **more):
        return pd.DataFrame(
            {"root": root, "path": list(names), "domain": domain, "status": "pending", **more}
        )

    one, two = (FeatureSet.create(tmp_path / "f", FINGERPRINT) for _ in range(2))
    a, _ = one.list_rows(lambda old: rows("A", "day", "ab"))
    b, _ = two.list_rows(lambda old: rows("B", "night", "c"))
    one.update_rows(a.assign(status="ok", sha256=key(0), error=None, size=1, mtime=1))
    two.update_rows(b.assign(status="error", sha256=None, error="torn", size=1, mtime=1))
    assert one.manifest["status"].tolist() == ["ok", "ok", "error"]
    # a later listing of the same folder stands, and a run that has not come to a row leaves it
    later, replaced = two.list_rows(lambda old: rows("A", "day", "bd", sha256=[key(0), None]))
    two.update_rows(later.assign(status="ok", sha256=key(1), error=None, size=2, mtime=2))
    one.update_rows(a.assign(status=["ok", "pending"], sha256=key(0), error=None, size=1, mtime=1))
    assert one.manifest[["path", "size"]].to_numpy().tolist() == [["c", 1], ["b", 2], ["d", 2]]
    assert two.list_rows(lambda old: rows("C", "night", "x"))[1] == 0  # it adds to the domain
    assert one.manifest["path"].tolist() == ["c", "b", "d", "x"]


# ------------------------------------------------------------ without our code


@pytest.fixture
def by_hand(feature_set):
    """The parts' files, the manifest's file, and the rows as our code loads them."""
    rows = feature_set.complete
    return list((feature_set.folder / "parts").glob("*.arrow")), feature_set.folder / "manifest.parquet", rows


def test_pandas_reads_parts_and_manifest(by_hand, feature_set):
    parts, manifest, rows = by_hand
    embeddings = pd.concat([pd.read_feather(part) for part in parts]).assign(
        key=lambda t: t["sha256"].map(bytes.hex)
    )
    joined = pd.read_parquet(manifest).merge(embeddings, left_on="sha256", right_on="key")
    assert joined["path"].tolist() == rows["path"].tolist()
    np.testing.assert_array_equal(np.stack(joined["embedding"]), feature_set.load(rows))


def test_polars_reads_parts_and_manifest(by_hand, feature_set):
    pl = pytest.importorskip("polars", reason="polars is not installed: the extra [test]")
    parts, manifest, rows = by_hand
    embeddings = pl.concat([pl.read_ipc(part) for part in parts])
    embeddings = embeddings.with_columns(pl.col("sha256").bin.encode("hex"))
    joined = pl.read_parquet(manifest).join(embeddings, on="sha256", maintain_order="left")
    assert joined["path"].to_list() == rows["path"].tolist()
    np.testing.assert_array_equal(joined["embedding"].to_numpy(), feature_set.load(rows))


def test_duckdb_reads_parts_and_manifest(by_hand, feature_set):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: the extra [test]")
    parts, manifest, rows = by_hand
    embeddings = pyarrow.dataset.dataset([str(part) for part in parts], format="arrow")
    question = """
        select domain, count(*), sum(embedding[1])
        from read_parquet(?) as m join embeddings as e on m.sha256 = lower(hex(e.sha256))
        group by domain order by domain
    """
    connection = duckdb.connect()
    connection.register("embeddings", embeddings)
    found = connection.execute(question, [str(manifest)]).fetchall()
    first = pd.Series(feature_set.load(rows)[:, 0]).groupby(rows["domain"].to_numpy()).sum()
    assert [(d, n) for d, n, _ in found] == [("day", 60), ("night", 45)]
    np.testing.assert_allclose([s for _, _, s in found], first.to_numpy(), rtol=1e-5)


def test_a_selection_comes_from_its_rows_alone(tmp_path):
    # rows that are not asked for are not looked at: not even NaN in them is noticed
    X = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    X[::3] = np.nan
    features = write_feature_set(
        tmp_path / "f", X, None, np.array(["bad", "good", "good"])[np.arange(600) % 3]
    )
    good = features.complete.query("domain == 'good'")
    np.testing.assert_array_equal(features.load(good), X[np.arange(600) % 3 > 0])
    some = good.sample(50, random_state=0)
    np.testing.assert_array_equal(features.load(some), X[some.index])
    assert features.load(good[:0]).shape == (0, 4)


def test_a_flipped_byte_of_the_manifest_never_gives_other_rows(tmp_path):
    features = write_feature_set(tmp_path / "f", np.zeros((3, 2), np.float32), list("abc"), "d")
    file, sound, reasons = features.folder / "manifest.parquet", features.manifest, []
    content = file.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for i in range(4, footer):  # every page with its header; the footer names columns and where they are
        file.write_bytes(content[:i] + bytes([content[i] ^ 0xFF]) + content[i + 1 :])
        try:
            assert features.manifest.equals(sound)
        except FtransferError as error:
            reasons.append(str(error))
    assert len(reasons) > 0.4 * (footer - 4)
    assert all("manifest.parquet cannot be read" in reason for reason in reasons)


def test_a_feature_set_as_arrays_and_as_a_table(feature_set):
    X, _, _ = blobs()
    manifest = feature_set.manifest
    manifest.loc[3, ["status", "error"]] = ["error", "no image"]
    feature_set.write_manifest(manifest)
    found, table = feature_set.load()
    np.testing.assert_array_equal(found, np.delete(X, 3, axis=0))
    assert len(table) == len(found) == 104
    np.testing.assert_array_equal(feature_set.to_numpy(), found)
    frame = feature_set.to_pandas()
    assert frame.columns.tolist()[:4] == ["domain", "label", "path", "e0"]
    np.testing.assert_array_equal(frame.filter(regex="^e").to_numpy(), found)
    assert frame["path"].tolist() == table["path"].tolist()
