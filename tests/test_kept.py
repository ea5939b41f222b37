"""Converted networks that are kept between runs: the same numbers, and nothing that others could have written."""

import os
import threading
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import ftransfer.backbone.openvino_runtime as module
from ftransfer import Backbone, FtransferError
from ftransfer.backbone.openvino_runtime import OpenVINORuntime
from ftransfer.backbone.runtime import make_runtime
from ftransfer.storage.cache import cache_folder, keep, read_kept

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason='openvino is not installed: pip install "ftransfer[cpu]"'
)
MANY = 10_000  # images: a conversion pays


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, in which networks are kept."""
    monkeypatch.setenv("FTRANSFER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FTRANSFER_NETWORKS_GB")
    return tmp_path / "cache" / "networks"


@pytest.fixture(scope="module", params=["exact", "fast"])
def backbone(request):
    return Backbone("small_cnn", "random", device="cpu", tier=request.param)


def pixels_for(runtime):
    return np.random.default_rng(0).integers(0, 256, runtime.buffer().shape, np.uint8)


def kept(cache):
    return sorted(cache.glob("*.network"))


def not_again(monkeypatch):
    monkeypatch.setattr(module, "convert", lambda *args: pytest.fail("it was converted"))


# ------------------------------------------------------------ networks


@needs_openvino
def test_a_kept_network_is_not_converted_again_and_gives_the_same_bytes(backbone, cache, monkeypatch):
    first = make_runtime(backbone, MANY, 4)
    expected = first(pixels_for(first))
    not_again(monkeypatch)
    second = make_runtime(backbone, MANY, 4)
    np.testing.assert_array_equal(second(pixels_for(second)), expected)
    assert second.record == first.record
    assert len(kept(cache)) == 1


@needs_openvino
def test_how_far_a_network_is_from_pytorch_is_measured_once(cache, monkeypatch):
    backbone = Backbone("small_cnn", "random", device="cpu")
    measured = make_runtime(backbone, MANY).difference()
    monkeypatch.setattr(module, "relative_difference", lambda *args: pytest.fail("it was measured again"))
    assert 0 < make_runtime(backbone, MANY).difference() == measured < 1e-5


@needs_openvino
@pytest.mark.parametrize(
    "change", ["torn", "empty", "flipped", "of another network", "no network", "open to others"]
)
def test_a_file_that_cannot_be_trusted_is_thrown_away_and_made_again(change, backbone, cache):
    first = make_runtime(backbone, MANY, 4)
    expected, (file,) = first(pixels_for(first)), kept(cache)
    content = file.read_bytes()
    if change in ("of another network", "no network"):
        file.unlink()
        keep(
            file, content[32:].replace(b'{"key": "', b'{"key": "0') if "another" in change else b"{}\n", 10**9
        )
    elif change == "open to others":
        file.chmod(0o666)
    else:
        file.write_bytes({"torn": content[:-1], "empty": b"", "flipped": content[:-1] + b"?"}[change])
    second = make_runtime(backbone, MANY, 4)
    np.testing.assert_array_equal(second(pixels_for(second)), expected)
    assert not second._is_kept
    assert make_runtime(backbone, MANY, 4)._is_kept
    assert file.stat().st_mode & 0o777 == 0o600


@needs_openvino
def test_whatever_shapes_the_numbers_has_a_file_of_its_own(cache):
    def is_new(backbone, size=4):
        return not OpenVINORuntime(backbone, size).keep()._is_kept

    backbone = Backbone("small_cnn", "random", device="cpu")
    assert is_new(backbone)
    assert not is_new(Backbone("small_cnn", "random", device="cpu"))
    assert is_new(backbone, 5)
    assert is_new(Backbone("small_cnn", "random", layers=backbone.layers * 2, device="cpu"))
    assert is_new(Backbone("small_cnn", "random", device="cpu", image_size=40))
    with torch.no_grad():  # as statistics of a domain are set; the fingerprint does not say so
        next(iter(backbone.network.state_dict().values())).view(-1)[0] += 1
    assert is_new(backbone)
    other = Backbone("small_cnn", "random", device="cpu")
    other.preset.mean = [0.1, 0.2, 0.3]
    assert is_new(other)
    assert len(kept(cache)) == 6


@needs_openvino
def test_a_network_of_a_user_whose_code_nothing_names_is_not_kept(cache):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    backbone = Backbone.from_module(network, lambda image: torch.zeros(3, 8, 8), device="cpu")
    OpenVINORuntime(backbone, 4).keep()
    assert not cache.exists()


@needs_openvino
def test_a_cache_that_cannot_be_written_does_no_harm(backbone, cache):
    cache.parent.write_text("a file where the folder would be")
    assert make_runtime(backbone, MANY).record["runtime"].startswith("openvino")


@needs_openvino
def test_several_that_convert_a_network_at_the_same_time_keep_it_once(backbone, cache):
    rows, start = [], threading.Barrier(4)

    def go():
        start.wait()
        runtime = make_runtime(backbone, MANY, 4)
        rows.append(runtime(pixels_for(runtime)))

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 4
    assert all(np.array_equal(each, rows[0]) for each in rows)
    assert sorted(f.name for f in cache.iterdir()) == [".lock", kept(cache)[0].name]


@needs_openvino
def test_the_cache_can_be_switched_off(backbone, cache, monkeypatch):
    monkeypatch.setenv("FTRANSFER_NETWORKS_GB", "0")
    make_runtime(backbone, MANY)
    assert not cache.exists()
    monkeypatch.setenv("FTRANSFER_NETWORKS_GB", "two")
    with pytest.raises(
        FtransferError, match="FTRANSFER_NETWORKS_GB must be a number of gigabytes .* given 'two'"
    ):
        OpenVINORuntime(backbone, 4)


# ------------------------------------------------------------ files


def test_what_was_not_used_for_longest_is_dropped(cache):
    for i in range(3):
        keep(cache / f"{i}.network", bytes(100), 450)
        os.utime(cache / f"{i}.network", (i, i))
    assert read_kept(cache / "0.network") == bytes(100)  # which makes it the newest
    keep(cache / "3.network", bytes(100), 450)
    assert [f.stem for f in kept(cache)] == ["0", "2", "3"]
    keep(cache / "4.network", bytes(1000), 450)
    assert [f.stem for f in kept(cache)] == ["0", "2", "3"]
    assert read_kept(cache / "4.network") is None


def test_what_a_killed_writer_left_is_removed(cache):
    cache.mkdir(parents=True)
    (cache / ".1.network.0123abcd").write_bytes(b"half")
    keep(cache / "1.network", b"whole", 100)
    assert read_kept(cache / "1.network") == b"whole"
    assert not list(cache.glob(".1*"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(cache):
    cache.mkdir(parents=True)
    os.mkfifo(cache / "1.network")
    assert read_kept(cache / "1.network") is None
    keep(cache / "1.network", b"whole", 100)
    assert read_kept(cache / "1.network") == b"whole"


def test_a_file_of_another_user_is_not_read(cache, monkeypatch):
    keep(cache / "1.network", b"whole", 100)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_kept(cache / "1.network") is None
    assert not kept(cache)


def test_the_cache_lies_where_the_user_wants_it(monkeypatch, tmp_path):
    assert cache_folder("networks") == tmp_path / "cache" / "networks"
    monkeypatch.delenv("FTRANSFER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("networks") == tmp_path / "ftransfer" / "networks"
