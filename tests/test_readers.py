"""Processes that read images, here beside the processor."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pixels
import pytest
import torch
from conftest import draw
from test_fast_pixels import jpeg

import ftransfer.extract.engine as engine
import ftransfer.images.readers as module
from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images
from ftransfer.extract.summary import Interrupted
from ftransfer.images.jpeg import Encoded
from ftransfer.images.readers import Preparation, open_processes, processes_pay, read_image
from ftransfer.images.views import describe_views

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="processes that read need Linux")


@pytest.fixture(scope="module")
def backbone():
    return Backbone("small_cnn", "random", device="cpu")


@pytest.fixture
def with_processes(monkeypatch):
    """Let extractions read in processes."""
    monkeypatch.setattr(engine, "processes_pay", lambda device, images, roots: True)


@pytest.fixture
def started(monkeypatch):
    """List the processes that are started."""
    processes, make = [], subprocess.Popen

    def start(*args, **options):
        processes.append(make(*args, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


def equal(found, expected):
    assert [f[:2] + f[4:] for f in found] == [
        e[:2] + e[4:] for e in expected
    ]  # the time is not told of a new file
    for (*_, views, _), (*_, others, _) in zip(found, expected, strict=True):
        assert (views is None) == (others is None)
        for view, other in zip(views or [], others or [], strict=True):
            if isinstance(other, Encoded):
                assert view.pixels == other.pixels
                view, other = view.content, other.content
            np.testing.assert_array_equal(view, other)


@pytest.mark.parametrize("room", [module.ROOM, 5000])
def test_a_process_finds_what_a_thread_finds(tmp_path, monkeypatch, room):
    monkeypatch.setattr(module, "ROOM", room)  # the less room, the more goes through the pipe
    draw(tmp_path / "a.png", 0, 1)
    draw(tmp_path / "known.png", 1, 2)
    (tmp_path / "b.jpg").write_bytes(jpeg())
    (tmp_path / "torn.jpg").write_bytes(jpeg()[:-50])
    (tmp_path / "empty.png").write_bytes(b"")
    places = [
        (str(tmp_path), name) for name in ["a.png", "b.jpg", "known.png", "torn.jpg", "empty.png", "none.png"]
    ]
    known = read_image(*places[2], Preparation(pixels.as_they_are), lambda sha256: False)[0]
    for more in ({"views": describe_views(3)}, {"on_gpu": True}):
        prepare = Preparation(pixels.as_they_are, **more)
        expected = [read_image(*place, prepare, {known}.__contains__) for place in places]
        assert [e[4] is None for e in expected] == [True, True, True, False, False, False]
        with open_processes(1, prepare, {known, "0" * 64, "f" * 64}) as read:
            for _ in range(2):
                equal(read(places), expected)


def test_an_extraction_gives_the_same_bytes_and_the_same_manifest(pictures, tmp_path, backbone, monkeypatch):
    monkeypatch.setattr(engine, "processes_pay", lambda device, images, roots: True)
    (pictures / "day" / "ash" / "0.png").write_bytes(b"not a picture")
    (pictures / "night" / "oak" / "twin.png").write_bytes((pictures / "day" / "ash" / "1.png").read_bytes())
    table = find_images(pictures)
    found = extract_features(table, tmp_path / "f", backbone, batch_size=4, workers=2)
    monkeypatch.undo()
    expected = extract_features(table, tmp_path / "g", backbone, batch_size=4)
    assert found.complete.drop(columns="mtime").equals(expected.complete.drop(columns="mtime"))
    assert found.summary.failed == expected.summary.failed
    assert (found.summary.computed, found.summary.reused) == (23, 1)
    rows = found.complete.query("status == 'ok'")
    np.testing.assert_array_equal(found.load(rows), expected.load(rows))


def test_what_is_there_is_not_decoded_again(pictures, tmp_path, backbone, monkeypatch):
    extract_features(find_images(pictures), tmp_path / "f", backbone)
    moved = pictures.rename(pictures.with_name("elsewhere"))
    monkeypatch.setattr(engine, "processes_pay", lambda device, images, roots: True)
    again = extract_features(find_images(moved), tmp_path / "f", backbone, workers=1)
    assert (again.summary.computed, again.summary.reused) == (0, 24)


def test_ctrl_c_keeps_what_was_finished_and_no_process_stays(
    pictures, tmp_path, backbone, with_processes, started
):
    def interrupt(n, seen=[0]):  # noqa: B006
        seen[0] += n
        if seen[0] >= 8:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="of 24 images are kept"):
        extract_features(
            find_images(pictures), tmp_path / "f", backbone, batch_size=4, workers=2, progress=interrupt
        )
    assert 8 <= len(FeatureSet(tmp_path / "f").done()) <= 24
    assert [process.poll() for process in started] == [0, 0]


def test_a_process_that_is_killed_is_one_line(tmp_path, started):
    draw(tmp_path / "a.png", 0, 1)
    with open_processes(1, Preparation(pixels.as_they_are), ()) as read:
        started[0].kill()
        with pytest.raises(FtransferError, match="a process that reads images was killed"):
            read([(str(tmp_path), "a.png")])


def test_a_fault_in_a_process_is_raised_with_its_place(tmp_path):
    draw(tmp_path / "a.png", 0, 1)
    with (
        open_processes(1, Preparation(pixels.fault), ()) as read,
        pytest.raises(RuntimeError, match="(?s)in a process that reads.*in fault.*a fault of the program"),
    ):
        read([(str(tmp_path), "a.png")])


def test_what_a_library_prints_is_no_answer(tmp_path):
    draw(tmp_path / "a.png", 0, 1)
    with open_processes(1, Preparation(pixels.talkative), ()) as read:
        ((*_, views, error),) = read([(str(tmp_path), "a.png")])
    assert error is None
    assert views[0].tolist() == [0, 1]


def test_processes_are_for_many_files_of_this_machine_beside_a_gpu():
    gpu, many, roots = torch.device("cuda"), module.PROCESSES_FROM, ["/photos"]
    assert processes_pay(gpu, many, roots)
    assert not processes_pay(gpu, many - 1, roots)
    assert not processes_pay(torch.device("cpu"), many, roots)
    assert not processes_pay(gpu, many, [*roots, "s3://bucket/photos"])
    assert not processes_pay(gpu, many, ["torchvision:CIFAR10:train:/data"])


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_process_of_the_exact_tier_or_that_only_reads_imports_no_torch(tmp_path, on_gpu):
    (tmp_path / "b.jpg").write_bytes(jpeg())
    pixels = (
        None if on_gpu else pickle.dumps(Backbone("resnet18", "random", device="cpu").preparation().pixels)
    )
    program = (
        "import pickle, sys, ftransfer.images.readers as r; from ftransfer.images.read import read_bytes\n"
        f"prepare = r.Preparation(r._Late({pixels!r}), on_gpu={on_gpu})\n"
        f"(view,) = prepare(read_bytes({str(tmp_path)!r}, 'b.jpg'), '')\n"
        f"assert {on_gpu} or view.shape == (224, 224, 3)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
