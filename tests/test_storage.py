"""Images and feature sets in stores: a real S3-compatible server, moto's, and fsspec's store in memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from importlib.metadata import version

import fsspec
import joblib
import numpy as np
import pandas as pd
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner
from conftest import draw, write_feature_set
from fsspec.registry import _registry
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

import ftransfer.extract.engine as engine
from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images, plan_extraction
from ftransfer.cli import main
from ftransfer.errors import unknown
from ftransfer.extract.plan import count_readers
from ftransfer.features.manifest import FIELDS
from ftransfer.features.parts import fetch
from ftransfer.features.statistics import read_statistics, write_statistics
from ftransfer.images.read import read_bytes
from ftransfer.images.table import read_label_columns
from ftransfer.storage.cache import cache_folder
from ftransfer.storage.places import Remote, Unreachable, clean, place

SECRET = "not-for-any-file"
EMPTY = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in FIELDS.items()})


@pytest.fixture(scope="module")
def server():
    """Address of an S3-compatible server on loopback; the environment names it."""
    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        address = "http://{}:{}".format(*server.get_host_and_port())
        for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield address
        server.stop()
    S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTRANSFER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bucket(server):
    """URL of a bucket of this test's own."""
    url = f"s3://test-{uuid.uuid4().hex[:12]}"
    S3FileSystem().mkdir(url)
    return url


@pytest.fixture
def memory():
    """URL of a folder of this test's own in fsspec's store in memory."""
    return f"memory://test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["s3", "memory"])
def store(request):
    return request.getfixturevalue("bucket" if request.param == "s3" else "memory")


@pytest.fixture
def elsewhere(monkeypatch):
    """Name another S3 server than the environment does, and do not try again what fails there."""

    def name(address):
        options = {"endpoint_url": address, "config_kwargs": {"retries": {"max_attempts": 0}}}
        monkeypatch.setitem(fsspec.config.conf, "s3", options)

    return name


@pytest.fixture(scope="module")
def backbone():
    return Backbone("small_cnn", "random")


@pytest.fixture
def pictures(tmp_path):
    """Folder <domain>/<class>/*.png: domains day and night, classes ash and elm, two pictures each."""
    for i, path in enumerate(
        f"{d}/{c}/{n}.png" for d in ("day", "night") for c in ("ash", "elm") for n in (0, 1)
    ):
        draw(tmp_path / "pictures" / path, i // 2 % 2, seed=i)
    return tmp_path / "pictures"


def upload(folder, url):
    fs, path = fsspec.url_to_fs(url)
    fs.put(f"{folder}/", f"{path}/", recursive=True)
    return url


@pytest.fixture
def calls(monkeypatch):
    """Count what S3 is asked for, by the name of the call, and by the names of the objects that are read."""
    calls, ask = Counter(), S3FileSystem._call_s3

    async def counted(self, method, *args, **options):
        calls[method] += 1
        calls[options.get("Key")] += method == "get_object"
        return await ask(self, method, *args, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    return calls


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


# ---------------------------------------------------------------- images and features, here and there


@pytest.mark.parametrize(
    ("images", "out"), [("s3", "s3"), ("s3", "disk"), ("disk", "s3"), ("memory", "memory")]
)
def test_rows_are_the_same_wherever_images_and_features_lie(
    pictures, tmp_path, bucket, memory, backbone, images, out
):
    root = {"s3": f"{bucket}/photos", "disk": str(pictures), "memory": f"{memory}/photos"}
    if images != "disk":
        upload(pictures, root[images])
    there = {"s3": f"{bucket}/features", "disk": str(tmp_path / "features"), "memory": f"{memory}/f"}[out]
    here = extract_features(find_images(pictures), tmp_path / "here", backbone)
    features = extract_features(find_images(root[images]), there, backbone)
    assert features.summary.computed == 8
    assert features.complete["root"].eq(root[images]).all()
    again = FeatureSet(there)
    same = ["path", "sha256", "label", "domain", "status"]
    assert again.complete[same].equals(here.complete[same])
    np.testing.assert_array_equal(again.load(again.complete), here.load(here.complete))
    assert [f.name for f in again.part_files()] == [f.name for f in here.part_files()]
    assert again.verify().wrong == []


def test_folders_are_listed_by_one_call_each_and_images_are_read_once(pictures, bucket, backbone, calls):
    upload(pictures, f"{bucket}/photos")
    calls.clear()
    table = find_images(f"{bucket}/photos")
    folders = 1 + 2 + 4
    assert len(table) == 8
    # one to tell that it is a folder, no table; s3fs 2025.2 lists by another way, that is not counted here
    assert calls["list_objects_v2"] == (1 if version("s3fs") == "2025.2.0" else folders + 1)
    assert calls["head_object"] == 1
    assert calls["get_object"] == 0
    extract_features(table, f"{bucket}/features", backbone)
    assert {calls[f"photos/{path}"] for path in table["path"]} == {1}


def test_what_is_known_by_size_and_etag_is_not_read_again(pictures, bucket, backbone, calls):
    upload(pictures, f"{bucket}/photos")
    extract_features(find_images(f"{bucket}/photos"), f"{bucket}/features", backbone)
    draw(pictures / "day" / "ash" / "0.png", 1, 99)
    upload(pictures / "day" / "ash", f"{bucket}/photos/day/ash")  # one differs, all are newer
    calls.clear()
    again = extract_features(find_images(f"{bucket}/photos"), f"{bucket}/features", backbone)
    assert (again.summary.computed, again.summary.reused) == (1, 7)
    assert [key for key in calls if str(key).endswith(".png") and calls[key]] == ["photos/day/ash/0.png"]
    plan = plan_extraction(find_images(f"{bucket}/photos"), f"{bucket}/features", backbone.fingerprint)
    assert (plan.compute, plan.reuse, plan.damaged) == (0, 8, [])


def test_images_in_a_store_are_asked_for_many_at_once(pictures):
    assert count_readers(find_images(pictures)) == joblib.cpu_count()
    assert count_readers(pd.DataFrame({"root": ["s3://bucket/photos"]})) >= 32


def test_markers_of_folders_and_hidden_names_are_no_images(pictures, bucket):
    upload(pictures, f"{bucket}/photos")
    fs = S3FileSystem()
    for name in ("", "day/", "day/ash/", "day/.hidden.png", "__MACOSX/ash/0.png"):
        fs.call_s3("put_object", Bucket=bucket[5:], Key=f"photos/{name}", Body=b"")
    table = find_images(f"{bucket}/photos/")
    assert len(table) == 8
    assert table["root"].eq(f"{bucket}/photos").all()
    with pytest.raises(FtransferError, match="no folder or table 'photo'; did you mean 'photos'"):
        find_images(f"{bucket}/photo")
    fs.pipe(f"{bucket}/none/a.txt", b"a")
    with pytest.raises(FtransferError, match="no images found in .*/none; it holds only .txt"):
        find_images(f"{bucket}/none", domain="day")


def test_a_name_with_a_backslash_is_found_again(memory):
    fs, path = fsspec.url_to_fs(memory)
    fs.pipe(f"{path}/day/ash/a\\b #1.png", b"no image")
    table = find_images(memory)
    assert (place(memory) / "day/ash/a\\b #1.png").read_bytes() == b"no image"
    assert read_bytes(*table.loc[0, ["root", "path"]]) == b"no image"


def test_a_file_url_is_a_path_on_disk(pictures):
    assert find_images(pictures.as_uri()).equals(find_images(pictures))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_names_images_below_it_by_path_or_url(pictures, bucket, backbone, calls, kind):
    paths = ["day/ash/0.png", f"{bucket}/photos/day/elm/1.png", "./night//elm/1.png", "night/elm/gone.png"]
    table = pd.DataFrame({"path": paths, "label": ["ash", "elm", None, "elm"], "domain": "all"})
    table.to_csv(pictures / "list.csv") if kind == "csv" else table.to_parquet(pictures / "list.parquet")
    upload(pictures, f"{bucket}/photos")
    calls.clear()
    found = find_images(f"{bucket}/photos/list.{kind}")
    assert found["path"].tolist() == [
        "day/ash/0.png",
        "day/elm/1.png",
        "night/elm/1.png",
        "night/elm/gone.png",
    ]
    assert found["size"].isna().tolist() == [False, False, False, True]
    assert calls["list_objects_v2"] <= 3 + 1
    features = extract_features(found, f"{bucket}/features", backbone)
    assert features.manifest["status"].tolist() == ["ok", "ok", "ok", "error"]
    assert features.summary.failed[0][0] == f"{bucket}/photos/night/elm/gone.png"


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "a/../../b.png",
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://other/a.png",
        "http://h/a.png",
    ],
)
def test_a_table_in_a_store_cannot_lead_out(memory, path, allowed):
    fs, inside = fsspec.url_to_fs(memory)
    fs.pipe(f"{inside}/photos/list.csv", f"path,domain\na.png,x\n{path},x\n".encode())
    with pytest.raises(FtransferError, match="which is outside memory://test-.*/photos; move the table"):
        find_images(f"{memory}/photos/list.csv", allow_outside=allowed)


def test_further_columns_of_labels_are_read_from_a_store(memory):
    (place(memory) / "list.csv").write_bytes(b"path,domain,size\na.png,x,big\nb.png,x,\n")
    assert read_label_columns(f"{memory}/list.csv", ["size"])["size"].tolist() == ["big", None]
    assert find_images(f"{memory}/list.csv")["size"].isna().all()  # of the objects, which are not there


def test_what_lies_beside_the_parts_is_kept_in_a_store_too(memory):
    features = write_feature_set(f"{memory}/f", np.eye(3, 4), None, "day")
    features.write_origin("from far away")
    assert FeatureSet(f"{memory}/f").origin == "from far away"
    assert features.training is None
    features.fingerprint["batch_norm"] = {"day": "sha256:ab"}
    assert read_statistics(features, "day") is None
    write_statistics(features.folder, "sha256:ab", {"mean": np.ones(2)})
    assert read_statistics(features, "day")["mean"].tolist() == [1, 1]


# ---------------------------------------------------------------- what goes wrong


def test_an_object_that_cannot_be_read_is_a_row_with_its_reason(pictures, bucket, backbone):
    upload(pictures, f"{bucket}/photos")
    fs = S3FileSystem()
    fs.pipe(f"{bucket}/photos/day/ash/0.png", b"no image")
    table = find_images(f"{bucket}/photos")
    fs.rm(f"{bucket}/photos/day/ash/1.png")  # it was listed, and then goes
    features = extract_features(table, f"{bucket}/features", backbone)
    failed = dict(features.summary.failed)
    assert failed[f"{bucket}/photos/day/ash/0.png"] == "not an image that Pillow can read"
    assert "not there" in failed[f"{bucket}/photos/day/ash/1.png"]
    assert len(failed) == 2
    assert features.summary.computed == 6


def test_a_network_that_fails_leaves_what_was_committed(
    pictures, server, bucket, backbone, elsewhere, monkeypatch
):
    monkeypatch.setattr(engine, "PART_ROWS", 2)
    own = ThreadedMotoServer("127.0.0.1", 0, verbose=False)  # of the same buckets
    own.start()
    host, port = own.get_host_and_port()
    upload(pictures, f"{bucket}/photos")
    elsewhere(f"http://{host}:{port}")
    table, write, written = find_images(f"{bucket}/photos"), FeatureSet.write_part, []

    def write_two(self, *args):
        if len(written) == 2:
            own.stop()
        written.append(write(self, *args))

    monkeypatch.setattr(FeatureSet, "write_part", write_two)
    with pytest.raises(Unreachable, match="^s3://test-.* cannot be used: .*Could not connect"):
        extract_features(table, f"{bucket}/features", backbone, batch_size=2)
    elsewhere(server)
    monkeypatch.setattr(FeatureSet, "write_part", write)
    assert len(FeatureSet(f"{bucket}/features").done()) == 4
    with pytest.raises(FtransferError, match="is incomplete: 8 of 8 images are not done"):
        FeatureSet(f"{bucket}/features").complete  # noqa: B018
    again = extract_features(table, f"{bucket}/features", backbone, batch_size=2)
    assert (again.summary.computed, again.summary.reused) == (4, 4)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "s3://bucket-that-is-not",
            "s3://bucket-that-is-not cannot be used: The specified bucket does not exist",
        ),
        ("s4://bucket/photos", "no store 's4://'; did you mean 's3://'?"),
        ("gs://bucket/photos", "gs:// needs a package that is not installed: pip install gcsfs"),
        ("hf://datasets/a/b", "hf:// needs a package that is not installed: pip install huggingface_hub"),
        ("s3://key:word@bucket/photos", "s3://bucket/photos was given with a password or signature"),
        ("https://host/list.csv?X-Amz-Signature=word", "https://host/list.csv?... was given with a password"),
        ("zip://a.zip::s3://bucket/b", "is not the URL of a store; give one such as s3://bucket/photos"),
        ("s3://", "is not the URL of a store"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_line(server, tmp_path, monkeypatch, url, message):
    draw(tmp_path / "a.png", 0, 0)
    for name in ("gcsfs", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, None)
    for words in (
        ("info", url),
        ("extract", url, "--out", tmp_path / "f", "--backbone", "small_cnn"),
        (
            "extract",
            tmp_path,
            "--domain",
            "x",
            "--out",
            url,
            "--backbone",
            "small_cnn",
            "--weights",
            "random",
        ),
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert message in result.output
        assert result.output.count("\n") == 1
        assert "word@" not in result.output
        assert "=word" not in result.output
    assert not (tmp_path / "f").exists()


def test_a_server_that_is_not_there_and_credentials_that_are_not_are_one_line(server, monkeypatch, elsewhere):
    elsewhere("http://127.0.0.1:9")
    result = run("info", "s3://bucket/features")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "s3://bucket cannot be used: Could not connect to the endpoint URL" in result.output
    assert "AWS_ENDPOINT_URL" in result.output
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    elsewhere("http://127.0.0.1:10")
    result = run("info", "s3://bucket/features")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "credentials" in result.output
    assert "FSSPEC_S3_ANON=1" in result.output


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("fsspec", 's3:// needs the extra [remote]: pip install "ftransfer[remote]"'),
        ("s3fs", "ftransfer[remote]"),
    ],
)
def test_a_missing_extra_is_one_line_with_its_command(monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    for name in ("s3", "s3a"):
        monkeypatch.delitem(_registry, name, raising=False)
    result = run("info", "s3://bucket/features")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert message in result.output


def refuse(monkeypatch, code, status, when=lambda options: True):
    """Let S3 answer some calls by an error."""
    ask = S3FileSystem._call_s3

    async def answer(self, method, *args, **options):
        if not when(options):
            return await ask(self, method, *args, **options)
        told = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise translate_boto_error(ClientError(told, method))

    monkeypatch.setattr(S3FileSystem, "_call_s3", answer)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("AccessDenied", 403, FtransferError),
        ("InvalidObjectState", 403, FtransferError),  # in an archive
        ("KeyTooLongError", 400, FtransferError),
        ("ExpiredToken", 400, Unreachable),
        ("InvalidAccessKeyId", 403, Unreachable),
        ("SlowDown", 503, Unreachable),
        ("InternalError", 500, Unreachable),
    ],
)
def test_what_s3_says_of_the_account_stops_and_of_an_object_does_not(bucket, monkeypatch, code, status, kind):
    refuse(monkeypatch, code, status)
    with pytest.raises(FtransferError, match="^s3://test-.* (is refused|cannot be used): no") as caught:
        place(f"{bucket}/a.png").read_bytes()
    assert type(caught.value) is kind


def test_no_file_holds_the_secret_or_the_server(pictures, tmp_path, bucket, backbone, server):
    upload(pictures, f"{bucket}/photos")
    extract_features(find_images(f"{bucket}/photos"), f"{bucket}/features", backbone)
    fs = S3FileSystem()
    contents = fs.cat(fs.find(f"{bucket}/features"))
    assert len(contents) == 5
    for name, content in contents.items():
        assert SECRET.encode() not in content, name
        assert b"127.0.0.1" not in content, name
    assert clean(f"https://me:{SECRET}@h/x?sig={SECRET} and s3://{SECRET}@b") == "https://h/x?... and s3://b"


# ---------------------------------------------------------------- several writers, without a lock


def rows(feature_set, domain, label):
    part = pd.DataFrame({"root": domain, "path": ["a.png"], "sha256": ["0" * 64], "label": [label]})
    return part.assign(domain=domain, status="pending").reindex(columns=list(FIELDS)).astype(FIELDS)


def test_two_extractions_that_write_a_manifest_at_once_both_end_in_it(store):
    ours = write_feature_set(f"{store}/f", np.eye(3, 4), None, "old")
    theirs, told = FeatureSet(f"{store}/f"), []

    def describe(old):
        told.append(sorted(old["domain"].unique()))
        if len(told) == 1:  # another one begins and ends while this one makes its rows
            theirs.list_rows(lambda old: rows(theirs, "theirs", "elm"))
            theirs.update_rows(rows(theirs, "theirs", "elm").assign(status="ok"))
        return rows(ours, "ours", "ash")

    ours.list_rows(describe)
    assert told == [["old"], ["old", "theirs"]]
    manifest = FeatureSet(f"{store}/f").manifest
    assert manifest["domain"].tolist() == ["old"] * 3 + ["theirs", "ours"]
    assert manifest["status"].tolist() == ["ok"] * 4 + ["pending"]


def test_who_is_never_fast_enough_is_told_so(memory, monkeypatch):
    features = write_feature_set(f"{memory}/f", np.eye(3, 4), None, "old")
    monkeypatch.setattr("ftransfer.storage.writing.TRIES", 3)
    monkeypatch.setattr(Remote, "write_if", lambda *args: False)
    with pytest.raises(FtransferError, match="manifest.parquet was changed by other processes 3 times"):
        features.write_manifest(EMPTY)


def test_a_fingerprint_is_put_only_where_none_is(store):
    write_feature_set(f"{store}/f", np.eye(3, 4), None, "old")
    fingerprint = place(f"{store}/f") / "fingerprint.json"
    before = fingerprint.read_bytes()
    assert not fingerprint.write_if(b"{}", None)
    assert fingerprint.read_bytes() == before
    with pytest.raises(FtransferError, match="was computed with other settings: layers is out there, in now"):
        write_feature_set(f"{store}/f", np.eye(3, 4), None, "old", layers={"in": 4})


def test_a_store_without_conditions_is_written_all_the_same(bucket, monkeypatch):
    seen = []

    def conditional(options):
        seen.append({"IfMatch", "IfNoneMatch"} & set(options))
        return bool(seen[-1])

    refuse(monkeypatch, "NotImplemented", 501, conditional)
    features = write_feature_set(f"{bucket}/f", np.eye(3, 4), None, "old")
    features.write_manifest(features.manifest.assign(domain="new"))
    assert FeatureSet(f"{bucket}/f").complete["domain"].eq("new").all()
    assert {"IfMatch"} in seen
    assert {"IfNoneMatch"} in seen


# ---------------------------------------------------------------- parts


def test_only_hashes_are_read_until_rows_are_wanted_and_then_their_part_alone(bucket, calls):
    X = np.random.default_rng(0).normal(size=(600, 512)).astype(np.float32)
    write_feature_set(f"{bucket}/f", X[:300], None, "day")
    features = FeatureSet(f"{bucket}/f")
    keys = [f"{i:064x}" for i in range(300, 600)]
    features.write_part(keys, X[300:])
    more = features.manifest.assign(sha256=keys, path=[f"{i}.png" for i in range(300, 600)])
    features.write_manifest(pd.concat([features.manifest, more]))
    calls.clear()
    features = FeatureSet(f"{bucket}/f")
    assert len(features.done()) == 600
    assert not cache_folder("parts").exists()
    wanted = features.complete[::-1]
    np.testing.assert_array_equal(features.load(wanted[:50]), X[::-1][:50])
    assert len(list(cache_folder("parts").iterdir())) == 1
    np.testing.assert_array_equal(features.load(wanted), X[::-1])
    reads = calls["get_object"]
    np.testing.assert_array_equal(FeatureSet(f"{bucket}/f").load(wanted), X[::-1])
    parts = {name: n for name, n in calls.items() if str(name).endswith(".arrow")}
    assert len(parts) == 2
    assert calls["get_object"] - reads < 20  # what says which rows a part holds, not the rows


@pytest.mark.parametrize("cut", [False, True])
def test_a_part_that_was_damaged_is_named_and_made_again(pictures, memory, backbone, cut):
    upload(pictures, f"{memory}/photos")
    features = extract_features(find_images(f"{memory}/photos"), f"{memory}/f", backbone)
    good = features.load(features.complete)
    (part,) = features.part_files()
    shutil.rmtree(cache_folder("parts"))
    content = bytearray(part.read_bytes())
    content[-5000] ^= 1
    part.write_bytes(content[:-200] if cut else content)
    result = run("info", f"{memory}/f", "--verify")
    assert result.exit_code == 1
    assert f"parts/{part.name} is damaged" in result.output
    with pytest.raises(
        FtransferError, match="lacks the embeddings" if cut else "is damaged: .*; remove it, and run"
    ):
        FeatureSet(f"{memory}/f").load(features.complete)
    if (
        not cut
    ):  # what is torn is set aside; what differs in its numbers alone is only found by who reads them
        part.fs.rm(part.path)
    again = extract_features(find_images(f"{memory}/photos"), f"{memory}/f", backbone)
    assert again.summary.computed == 8
    assert len(again.set_aside) == cut
    np.testing.assert_array_equal(again.load(again.complete), good)
    assert run("info", f"{memory}/f", "--verify").exit_code == 0


def test_verify_reads_the_store_and_not_the_copy(memory):
    features = write_feature_set(f"{memory}/f", np.eye(3, 4, dtype=np.float32), None, "day")
    (part,) = features.part_files()
    fetch(part)
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    assert "is damaged" in features.verify().wrong[0]


# ---------------------------------------------------------------- the command line


def test_commands_take_feature_sets_from_stores(tmp_path, memory, feature_set):
    upload(feature_set.folder, f"{memory}/f")
    result = run("info", f"{memory}/f", "--json")
    about = json.loads(result.output)
    assert (about["parts"], about["embeddings"], about["domains"]["day"]) == (
        1,
        105,
        {"ok": 60, "classes": 3},
    )
    result = run("export", f"{memory}/f", "--out", f"{memory}/all.parquet")
    assert result.output == f"{memory}/all.parquet: 105 rows\n"
    (tmp_path / "all.parquet").write_bytes(place(f"{memory}/all.parquet").read_bytes())
    result = run("import", tmp_path / "all.parquet", "--out", f"{memory}/g")
    assert "105 rows, 8 features each (105 new)" in result.output
    np.testing.assert_array_equal(*(f.load(f.complete) for f in (feature_set, FeatureSet(f"{memory}/g"))))
    result = run("fit", f"{memory}/f", "--source", "day", "--target", "night", "--out", f"{memory}/run")
    assert result.output == f"error: a run folder must be on disk, not at {memory}/run; give a local path\n"
    result = run("predict", f"{memory}/run", f"{memory}/f", "--out", tmp_path / "p.csv")
    assert "a model must be on disk" in result.output
    result = run("import", f"{memory}/all.parquet", "--out", tmp_path / "h")
    assert "a table to import must be on disk" in result.output


@pytest.mark.slow
def test_the_whole_way_in_a_bucket(pictures, tmp_path, bucket):
    upload(pictures, f"{bucket}/photos")
    result = run("extract", f"{bucket}/photos", "--out", f"{bucket}/f", "--backbone", "small_cnn")
    assert f"{bucket}/f: 8 images" in result.output
    assert "needs at least 8 rows" in run("compare", f"{bucket}/f").output
    out = tmp_path / "run"
    words = ("--source", "day", "--target", "night", "--pipeline", "source_only_svm", "--out", out)
    assert f"report: {out}" in run("fit", f"{bucket}/f", *words).output
    assert SECRET not in (out / "report.html").read_text()
    for what in (f"{bucket}/photos/day", f"{bucket}/photos/day/ash/0.png", f"{bucket}/f"):
        there = f"{bucket}/labels/{uuid.uuid4().hex}.csv" if what.endswith("day") else tmp_path / "p.csv"
        options = ("--domain", "day") if what.endswith("/f") else ()
        result = run("predict", out, what, "--out", there, *options)
        assert result.exit_code == 0, result.output
        table = pd.read_csv(place(there).open())
        assert len(table) == (1 if what.endswith("png") else 4)
        assert table["label"].notna().all()


# Extracts a bucket's images; with a number it is killed once that many parts were put.
CHILD = """
import os, signal, sys
import ftransfer.extract.engine as engine
from ftransfer.features.statistics import read_statistics, write_statistics
from ftransfer.cli import main
from ftransfer.extract.plan import count_readers
from ftransfer.storage.places import Remote
engine.PART_ROWS = 1
url, domain, kill_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
put, puts = Remote._put, []

def deadly(self, *args, **options):
    put(self, *args, **options)
    puts.append(self.name.endswith(".arrow"))
    if kill_at and sum(puts) == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)

Remote._put = deadly
sys.argv = ["ftransfer", "extract", f"{url}/photos/{domain}", "--domain", domain, "--out", f"{url}/f",
            "--backbone", "small_cnn", "--weights", "random", "--batch-size", "1", "--json"]
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_two_extractions_at_once_of_which_one_is_killed_end_as_if_nothing_had_happened(
    pictures, tmp_path, bucket, backbone
):
    upload(pictures, f"{bucket}/photos")

    def start(domain, kill_at):
        command = [sys.executable, "-c", CHILD, bucket, domain, str(kill_at)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    both = [start("day", 0), start("night", 2)]
    said = [child.communicate(timeout=120) for child in both]
    assert both[0].returncode == 0, said[0]
    assert both[1].returncode == -signal.SIGKILL, said[1]
    there = FeatureSet(f"{bucket}/f")
    assert 4 < len(there.done()) < 8
    last = start("night", 0)
    out, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    for domain in ("day", "night"):  # a listing that came too late is made up for by the same command
        extract_features(find_images(f"{bucket}/photos/{domain}", domain=domain), f"{bucket}/f", backbone)
    manifest = there.complete.sort_values(["domain", "path"])
    here = extract_features(find_images(pictures), tmp_path / "here", backbone, batch_size=1)
    np.testing.assert_array_equal(there.load(manifest), here.load(here.complete))


def test_a_store_is_known_in_capitals_and_behind_another_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(place(f"MEMORY://{tmp_path.name}/Photos")) == f"memory://{tmp_path.name}/Photos"
    with pytest.raises(FtransferError, match="goes through simplecache; give .* memory://x/y"):
        place("simplecache::memory://x/y")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "query", ["X-Amz-Signature=secret", "a=b&Signature=secret", "sig=secret", "x-goog-token=secret"]
)
def test_a_signed_url_of_any_store_is_refused_and_its_signature_not_shown(query):
    with pytest.raises(FtransferError, match="signature, which would be stored") as error:
        place(f"memory://bucket/photos?{query}")
    assert "secret" not in str(error.value)


def test_keys_with_an_empty_segment_are_told(memory):
    fs, path = fsspec.url_to_fs(memory)
    with pytest.MonkeyPatch.context() as patch:
        found = [{"name": f"{path}/a//", "type": "directory", "size": 0}]
        patch.setattr(type(fs), "ls", lambda self, place, detail=True: found)
        with pytest.raises(FtransferError, match="empty segment.*rename them"):
            place(memory).iterdir()


def test_a_link_that_leads_nowhere_is_told_and_no_name_is_the_nearest_to_itself(tmp_path):
    (tmp_path / "odd").symlink_to("nowhere")
    with pytest.raises(FtransferError, match="odd is a link to nowhere, which does not exist"):
        find_images(tmp_path / "odd")
    assert "did you mean 'odd'" not in str(unknown("folder", "odd", ["odd", "other"]))
