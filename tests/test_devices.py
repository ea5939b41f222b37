"""Several devices of one machine: here the processor, taken for several."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import ROOT, draw

from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images
from ftransfer.extract.devices import IMAGES_EACH, name_devices


def rows_by_hash(features):
    return {
        k: row.tobytes()
        for _, keys, rows in features.parts()
        for k, row in zip(keys.to_pylist(), rows, strict=True)
    }


@pytest.mark.slow
def test_two_devices_give_the_bytes_that_one_gives_and_say_what_they_did(pictures, tmp_path):
    (pictures / "day" / "ash" / "0.png").write_bytes(b"not a picture")
    backbone, table, seen = Backbone("small_cnn", "random", device="cpu"), find_images(pictures), []
    one = extract_features(table, tmp_path / "one", backbone, batch_size=4)
    two = extract_features(
        table, tmp_path / "two", backbone, batch_size=4, devices=["cpu", "cpu"], progress=seen.append
    )
    assert sum(seen) == 24
    assert rows_by_hash(two) == rows_by_hash(one)
    assert two.complete.drop(columns="mtime").equals(one.complete.drop(columns="mtime"))
    did = two.summary
    assert (did.images, did.computed, did.reused) == (24, 23, 0)
    assert did.runtime == f"torch {torch.__version__}"
    assert [reason for _, reason in did.failed] == ["not an image that Pillow can read"]


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_of_them_in_one_line(pictures, tmp_path):
    (pictures / "night" / "oak" / "3.png").write_bytes(b"not a picture")
    backbone = Backbone("small_cnn", "random", device="cpu")
    with pytest.raises(FtransferError, match="night/oak/3.png cannot be read: not an image"):
        extract_features(
            find_images(pictures), tmp_path / "f", backbone, batch_size=4, strict=True, devices=["cpu", "cpu"]
        )
    with pytest.raises(FtransferError, match="device 'cdua' cannot be used"):
        extract_features(find_images(pictures), tmp_path / "g", backbone, devices=["cpu", "cdua"])


PACED = """
import time
import ftransfer.extract.devices as devices  # by the processes of the devices, too

told = devices._Parent.progress
devices._Parent.progress = lambda self, n: (time.sleep(0.1), told(self, n))
if __name__ == "__main__":
    from ftransfer.cli import main
    from ftransfer.cli.interrupt import wait_for_workers

    wait_for_workers()  # on a busy machine one of the processes may still be importing torch
    main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_all_processes_and_keeps_what_they_finished(tmp_path):
    count = 600
    for i in range(count):
        draw(tmp_path / "images" / "day" / "ash" / f"{i}.png", i % 3, i, size=(8, 8))
    (tmp_path / "program.py").write_text(PACED)
    command = [sys.executable, str(tmp_path / "program.py"), "extract", str(tmp_path / "images")]
    command += ["--out", str(tmp_path / "f"), "--backbone", "small_cnn", "--weights", "random"]
    command += ["--device", "cpu,cpu", "--batch-size", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "f" / "runtimes.json").exists():  # one of them has begun to compute
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, message = process.communicate(timeout=300)
    assert process.returncode == 130, message
    kept = len(FeatureSet(tmp_path / "f").done())
    assert f"interrupted: {kept} of {count} images are kept" in message
    assert "Traceback" not in message
    assert kept < count
    backbone = Backbone("small_cnn", "random", device="cpu")
    features = extract_features(find_images(tmp_path / "images"), tmp_path / "f", backbone)
    assert features.summary.computed == count - kept
    assert np.isfinite(features.load(features.complete)).all()


def test_devices_are_named_with_commas_and_auto_takes_as_many_as_pay(monkeypatch):
    assert name_devices("cpu,cpu", 1) == ["cpu", "cpu"]
    assert name_devices("cuda:1", 10**6) == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert name_devices("auto", 10) == ["auto"]
    assert name_devices("auto", 2 * IMAGES_EACH) == ["cuda:0", "cuda:1"]
    assert name_devices("auto", 20 * IMAGES_EACH) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert name_devices("auto", 10**6) == ["auto"]
