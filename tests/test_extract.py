import json
import shutil
import signal
import sys
import time
from importlib.util import find_spec

import joblib
import numpy as np
import pytest
import torch
from conftest import draw

import ftransfer.extract.engine as engine
from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images
from ftransfer.backbone.runtime import TorchRuntime
from ftransfer.extract.summary import Interrupted
from ftransfer.images.pixels import decode
from ftransfer.images.read import read_bytes


@pytest.fixture(scope="module")
def backbone():
    return Backbone("small_cnn", "random")


def test_every_row_is_the_embedding_of_its_picture(pictures, tmp_path, backbone):
    table = find_images(pictures)
    seen = []
    features = extract_features(table, tmp_path / "f", backbone, batch_size=5, progress=seen.append)
    assert sum(seen) == len(table) == 24
    manifest = features.complete
    assert manifest["status"].eq("ok").all()
    assert manifest[["path", "label", "domain"]].equals(table[["path", "label", "domain"]].astype("string"))
    X = features.load(manifest)
    for i in (0, 7, 23):
        pixels = backbone.preprocess(decode(read_bytes(*manifest.loc[i, ["root", "path"]])))
        np.testing.assert_allclose(X[i], backbone.embed(pixels[None])[0], rtol=1e-4, atol=1e-5)


def test_nothing_is_made_ready_to_compute_where_all_is_there(pictures, tmp_path, backbone, monkeypatch):
    extract_features(find_images(pictures), tmp_path / "f", backbone)
    moved = pictures.rename(pictures.with_name("elsewhere"))
    monkeypatch.setattr(
        "ftransfer.extract.extract.make_runtime", lambda *args: pytest.fail("a runtime was made")
    )
    assert extract_features(find_images(moved), tmp_path / "f", backbone).summary.reused == 24


def test_a_second_run_computes_nothing_and_a_new_picture_only_itself(pictures, tmp_path, backbone):
    first = extract_features(find_images(pictures), tmp_path / "f", backbone)
    assert (first.summary.computed, first.summary.reused) == (24, 0)
    again = extract_features(find_images(pictures), tmp_path / "f", backbone)
    assert (again.summary.computed, again.summary.reused) == (0, 24)
    draw(pictures / "day" / "ash" / "new.png", 0, 999)
    more = extract_features(find_images(pictures), tmp_path / "f", backbone)
    assert (more.summary.computed, more.summary.reused) == (1, 24)


def test_changed_moved_and_doubled_pictures_are_found_by_content(pictures, tmp_path, backbone):
    extract_features(find_images(pictures), tmp_path / "f", backbone)
    (pictures / "day" / "elm" / "moved.png").write_bytes((pictures / "day" / "ash" / "0.png").read_bytes())
    (pictures / "day" / "ash" / "0.png").unlink()
    shutil.copy(pictures / "day" / "ash" / "1.png", pictures / "night" / "oak" / "twin.png")
    draw(pictures / "day" / "oak" / "0.png", 2, 777)
    features = extract_features(find_images(pictures), tmp_path / "f", backbone)
    assert features.summary.computed == 1
    manifest = features.complete.set_index("path")
    assert "day/ash/0.png" not in manifest.index
    assert manifest.loc["day/elm/moved.png", "label"] == "elm"
    assert manifest.loc["night/oak/twin.png", "sha256"] == manifest.loc["day/ash/1.png", "sha256"]


def test_the_same_picture_twice_in_one_run_is_computed_once(pictures, tmp_path, backbone):
    shutil.copy(pictures / "day" / "ash" / "0.png", pictures / "night" / "oak" / "0.png")
    features = extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4)
    assert (features.summary.computed, features.summary.reused) == (23, 1)
    assert len(features.load(features.complete)) == 24


def test_a_further_folder_of_a_domain_adds_to_it_unless_it_is_to_replace(pictures, tmp_path, backbone):
    extract_features(find_images(pictures / "day", domain="one"), tmp_path / "f", backbone)
    both = extract_features(find_images(pictures / "night", domain="one"), tmp_path / "f", backbone)
    assert both.complete["domain"].value_counts().to_dict() == {"one": 24}
    assert (both.summary.kept, both.summary.replaced) == (12, 0)
    (pictures / "a.csv").write_text(
        "path,domain\nday/ash/0.png,one\n"
    )  # the same file by way of another folder
    again = extract_features(find_images(pictures / "a.csv"), tmp_path / "f", backbone)
    assert (len(again.complete), again.summary.computed) == (24, 0)
    (pictures / "b.csv").write_text("path,domain\nday/ash/1.png,one\n")  # another table of the same folder
    assert len(extract_features(find_images(pictures / "b.csv"), tmp_path / "f", backbone).complete) == 24
    table = find_images(pictures / "night", domain="one")
    alone = extract_features(table, tmp_path / "f", backbone, replace=True)
    assert (len(alone.complete), alone.summary.replaced) == (12, 12)


def test_both_splits_of_a_data_set_are_kept(tmp_path, backbone):
    for split in ("train", "test"):
        draw(tmp_path / split / "ash" / f"{split}.png", 0, len(split))
        table = find_images(f"torchvision:ImageFolder::{tmp_path / split}", domain="set")
        features = extract_features(table, tmp_path / "f", backbone)
    assert len(features.complete) == 2
    assert features.summary.kept == 1


def test_other_folders_are_added_and_a_domain_whose_folder_moved_is_replaced(pictures, tmp_path, backbone):
    extract_features(find_images(pictures / "day", domain="day"), tmp_path / "f", backbone)
    both = extract_features(find_images(pictures / "night", domain="night"), tmp_path / "f", backbone)
    assert both.complete["domain"].value_counts().to_dict() == {"day": 12, "night": 12}
    moved = pictures.rename(pictures.with_name("elsewhere"))
    again = extract_features(find_images(moved), tmp_path / "f", backbone)
    assert len(again.complete) == 24
    assert (again.summary.computed, again.summary.replaced) == (0, 24)


def test_an_image_that_cannot_be_read_is_a_row_with_its_reason(pictures, tmp_path, backbone):
    (pictures / "day" / "ash" / "0.png").write_bytes(b"not a picture")
    (pictures / "day" / "elm" / "0.png").write_bytes(b"")
    (pictures / "day" / "oak" / "0.png").unlink()
    (pictures / "day" / "oak" / "0.png").symlink_to("nowhere.png")
    (pictures / "night" / "oak" / "0.png").unlink()
    (pictures / "night" / "oak" / "0.png").mkdir()
    draw(pictures / "night" / "oak" / "0.png" / "inside.png", 2, 5)
    features = extract_features(find_images(pictures), tmp_path / "f", backbone)
    manifest = features.complete.set_index("path")
    reasons = manifest[manifest["status"] == "error"]["error"].to_dict()
    assert reasons == {
        "day/ash/0.png": "not an image that Pillow can read",
        "day/elm/0.png": "the file is empty",
        "day/oak/0.png": "No such file or directory",
    }
    assert len(features.summary.failed) == 3
    assert len(features.load(features.complete.query("status == 'ok'"))) == 21


def test_strict_stops_at_the_first_and_keeps_what_was_done(pictures, tmp_path, backbone):
    (pictures / "night" / "oak" / "3.png").write_bytes(b"not a picture")
    with pytest.raises(FtransferError, match="night/oak/3.png cannot be read: not an image"):
        extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4, strict=True)
    assert len(FeatureSet(tmp_path / "f").done()) == 20


def test_a_file_that_was_mended_is_read_again(pictures, tmp_path, backbone):
    (pictures / "day" / "ash" / "0.png").write_bytes(b"not a picture")
    extract_features(find_images(pictures), tmp_path / "f", backbone)
    draw(pictures / "day" / "ash" / "0.png", 0, 5)
    assert extract_features(find_images(pictures), tmp_path / "f", backbone).complete["status"].eq("ok").all()


def test_ctrl_c_keeps_what_was_finished_and_the_next_run_goes_on(pictures, tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(
        "ftransfer.backbone.runtime.joblib.cpu_count", lambda: 1
    )  # three batches under way at most

    def interrupt(n, seen=[0]):  # noqa: B006
        seen[0] += n
        if seen[0] >= 8:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"\d+ of 24 images are kept") as stopped:
        extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4, progress=interrupt)
    kept = int(str(stopped.value).split()[1])
    half = FeatureSet(tmp_path / "f")
    assert 8 <= kept == len(half.done()) < 24
    with pytest.raises(FtransferError, match=f"incomplete: {24 - kept} of 24"):
        half.complete  # noqa: B018
    features = extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4)
    assert features.summary.computed == 24 - kept
    undisturbed = extract_features(find_images(pictures), tmp_path / "g", backbone, batch_size=4)
    np.testing.assert_array_equal(features.load(features.complete), undisturbed.load(undisturbed.complete))


def test_what_is_embedded_is_written_while_a_slow_image_is_waited_for(
    pictures, tmp_path, backbone, monkeypatch
):
    monkeypatch.setattr(engine, "PART_SECONDS", 0.2)
    parts = tmp_path / "f" / "parts"

    def wait_for_a_part(root, path):
        if path == "night/oak/3.png":
            deadline = time.monotonic() + 60
            while not list(parts.glob("*.arrow")):
                assert time.monotonic() < deadline, "no part was written"
                time.sleep(0.01)
        return read_bytes(root, path)

    monkeypatch.setattr("ftransfer.images.readers.read_bytes", wait_for_a_part)
    features = extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=16)
    assert features.summary.computed == 24
    assert len(list(parts.glob("*.arrow"))) > 1


@pytest.mark.parametrize("at", [1, 2, 7])
def test_ctrl_c_while_a_part_is_taken_note_of_leaves_none_of_its_images_out(
    pictures, tmp_path, backbone, monkeypatch, at
):
    shutil.copy(pictures / "day" / "ash" / "0.png", pictures / "night" / "oak" / "twin.png")
    note, noted = engine._Run._set, []

    def interrupt(self, row, status, error=None):
        noted.append(row)
        if len(noted) == at:
            raise KeyboardInterrupt
        note(self, row, status, error)

    monkeypatch.setattr(engine, "PART_ROWS", 8)
    monkeypatch.setattr(engine._Run, "_set", interrupt)
    with pytest.raises(Interrupted) as stopped:
        extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4)
    half = FeatureSet(tmp_path / "f")
    ok = half.manifest.query("status == 'ok'")
    assert ok["sha256"].nunique() == len(half.done()) >= 8
    assert str(stopped.value).startswith(f"interrupted: {len(ok)} of 25 images are kept")


def test_a_part_is_closed_when_it_has_its_rows(pictures, tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(engine, "PART_ROWS", 8)
    features = extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4)
    assert [len(keys) for _, keys, _ in features.parts()] == [8, 8, 8]


def test_a_fault_in_a_lane_is_raised_and_what_was_embedded_is_kept(pictures, tmp_path, backbone, monkeypatch):
    calls = []

    def fail_at_the_third(self, pixels):
        calls.append(0)
        if len(calls) == 3:
            raise RuntimeError("a fault of the program")
        return np.zeros((len(pixels), 192), np.float32)

    monkeypatch.setattr(TorchRuntime, "__call__", fail_at_the_third)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4)
    assert 8 <= len(FeatureSet(tmp_path / "f").done()) < 24


def test_what_waits_is_bounded_whatever_the_number_of_images(tmp_path, backbone, waiting):
    for i in range(300):
        draw(tmp_path / "images" / "day" / "ash" / f"{i}.png", 0, i, size=(4, 4))
    waiting, ended = waiting
    extract_features(
        find_images(tmp_path / "images"),
        tmp_path / "f",
        backbone,
        batch_size=4,
        workers=2,
        progress=ended.append,
    )
    lanes = joblib.cpu_count()
    assert sum(ended) == 300
    assert max(waiting) <= 2 * 2 + 4 * lanes + 4 * (lanes + 2)  # read ahead, and in the ring


def test_what_computed_is_on_record(pictures, tmp_path, backbone):
    for _ in range(2):
        features = extract_features(find_images(pictures), tmp_path / "f", backbone)
    (record,) = json.loads((tmp_path / "f" / "runtimes.json").read_text())
    assert record["runtime"] == f"torch {torch.__version__}"
    assert record["batch_size"] == 64
    assert features.summary.runtime == ""  # the second time nothing had to be computed


@pytest.mark.skipif(
    find_spec("openvino") is None, reason='openvino is not installed: pip install "ftransfer[cpu]"'
)
def test_a_large_job_goes_on_with_the_same_runtime_however_few_images_are_left(
    pictures, tmp_path, backbone, monkeypatch
):
    monkeypatch.setattr("ftransfer.backbone.runtime.conversion_pays", lambda backbone, images: images >= 20)
    monkeypatch.setattr(
        "ftransfer.backbone.runtime.joblib.cpu_count", lambda: 1
    )  # three batches under way at most
    whole = extract_features(find_images(pictures), tmp_path / "whole", backbone, batch_size=4)
    assert whole.summary.runtime.startswith("openvino")

    def interrupt(n, seen=[0]):  # noqa: B006
        seen[0] += n
        if seen[0] >= 8:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="of 24 images are kept"):
        extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4, progress=interrupt)
    resumed = extract_features(find_images(pictures), tmp_path / "f", backbone, batch_size=4)
    assert resumed.summary.runtime == whole.summary.runtime
    assert 0 < resumed.summary.computed < 24
    np.testing.assert_array_equal(resumed.load(resumed.complete), whole.load(whole.complete))


def test_the_tiers_do_not_mix_in_one_folder(pictures, tmp_path, backbone):
    extract_features(find_images(pictures), tmp_path / "f", backbone)
    with pytest.raises(FtransferError, match="tier is exact there, fast now"):
        extract_features(find_images(pictures), tmp_path / "f", Backbone("small_cnn", "random", tier="fast"))


def test_another_backbone_into_the_same_folder_is_refused(pictures, tmp_path, backbone):
    extract_features(find_images(pictures), tmp_path / "f", backbone)
    with pytest.raises(FtransferError, match=r"layers is .* there, block2 now"):
        extract_features(find_images(pictures), tmp_path / "f", Backbone("small_cnn", "random", ["block2"]))


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL and SIGINT")
@pytest.mark.parametrize(("kill", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_killed_process_loses_nothing_that_was_committed(tmp_path, kill, code, nursery):
    for i in range(240):
        draw(tmp_path / "images" / "day" / "ash" / f"{i}.png", i % 3, i)
    with nursery.start("-c", PROGRAM, tmp_path / "images", tmp_path / "f") as program:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "f" / "parts").glob("*.arrow"))) < 3:
            assert time.monotonic() < deadline, f"no part was committed: {program.stderr}"
            time.sleep(0.01)
        program.send_signal(kill)
        assert program.wait() == code, program.stderr
        message = program.stderr
    committed = len(FeatureSet(tmp_path / "f").done())
    assert 0 < committed < 240
    if kill == signal.SIGINT:
        assert f"interrupted: {committed} of 240 images are kept" in message
        assert "Traceback" not in message
    features = extract_features(
        find_images(tmp_path / "images"), tmp_path / "f", Backbone("small_cnn", "random"), batch_size=8
    )
    assert features.summary.computed == 240 - committed
    assert len(features.load(features.complete)) == 240


PROGRAM = """
import sys, time
import ftransfer.extract.engine as engine
from ftransfer.cli import main
engine.PART_ROWS = 16
take = engine._Run._take
taken = iter(range(240))
engine._Run._take = lambda self, *found: (time.sleep(0.2 * (next(taken) > 100)), take(self, *found))
main(["extract", sys.argv[1], "--out", sys.argv[2], "--backbone", "small_cnn", "--weights", "random",
      "--batch-size", "8"])
"""
