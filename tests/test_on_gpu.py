"""What the tests with a stand-in for `torch.cuda` cannot show: on a GPU, where there is one."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from test_fast_pixels import encoded, jpeg, with_orientation

from ftransfer import Backbone, extract_features, find_images
from ftransfer.backbone import runtime as module
from ftransfer.backbone.embedder import relative_difference
from ftransfer.backbone.fast_pixels import GpuDecoder, torchcodec_version
from ftransfer.backbone.gpu import Gpu
from ftransfer.backbone.runtime import TorchRuntime, lanes
from ftransfer.extract.summary import Interrupted
from ftransfer.images.jpeg import count_jpeg_pixels
from ftransfer.images.pixels import decode

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU of CUDA here")
needs_torchcodec = pytest.mark.skipif(
    torchcodec_version() is None, reason='torchcodec is not installed: pip install "ftransfer[gpu]"'
)


@pytest.fixture(scope="module")
def exact():
    return Backbone("resnet18", "random", device="cuda")


@pytest.fixture(scope="module")
def fast():
    return Backbone("resnet18", "random", device="cuda", tier="fast")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """JPEGs of several sizes and kinds, and a PNG."""
    folder = tmp_path_factory.mktemp("images")
    sizes = [(320, 240), (300, 400), (640, 480)]
    for i in range(200):
        content = jpeg(i, sizes[i % 3], "L" if i % 7 == 0 else "RGB", progressive=i % 5 == 0, quality=92)
        (folder / f"{i:03d}.jpg").write_bytes(with_orientation(content, i % 9) if i % 11 == 0 else content)
    Image.open(io.BytesIO(jpeg(999, (260, 270)))).save(folder / "other.png")
    return folder


def some_pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 224, 224, 3), np.uint8)


def test_the_exact_tier_gives_what_the_processor_gives(exact):
    runtime, plain = TorchRuntime(exact, 16), TorchRuntime(exact.on("cpu"), 16)
    with lanes(runtime) as pool:
        for seed, rows in enumerate(pool.map(runtime, [some_pixels(16, seed) for seed in range(6)])):
            assert relative_difference(rows, plain(some_pixels(16, seed))) < 1e-5


def test_a_resumed_run_gives_the_same_bytes(exact, photographs, tmp_path):
    table = find_images(photographs, domain="day")
    whole = extract_features(table, tmp_path / "whole", exact, batch_size=16)

    def interrupt(n, seen=[0]):  # noqa: B006
        seen[0] += n
        if seen[0] >= 60:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="of 201 images are kept"):
        extract_features(table, tmp_path / "f", exact, batch_size=16, progress=interrupt)
    resumed = extract_features(table, tmp_path / "f", exact, batch_size=16)
    assert 0 < resumed.summary.computed < 201
    np.testing.assert_array_equal(resumed.load(resumed.complete), whole.load(whole.complete))


def test_two_processes_give_what_one_gives(exact, photographs, tmp_path):
    table = find_images(photographs, domain="day")
    one = extract_features(table, tmp_path / "one", exact, batch_size=16)
    two = extract_features(table, tmp_path / "two", exact, batch_size=16, devices=["cuda:0", "cuda:0"])
    np.testing.assert_array_equal(two.load(two.complete), one.load(one.complete))


def test_the_batch_is_measured(fast):
    assert 256 <= TorchRuntime(fast, "auto", images=100_000).batch_size <= 2048


def test_out_of_memory_computes_in_smaller_pieces_and_goes_on(fast):
    pixels = some_pixels(1024)
    runtime = TorchRuntime(fast, 1024)
    with lanes(runtime) as pool:
        expected = pool.submit(runtime, pixels).result()
        runtime._network = runtime.embedder  # what is recorded has its memory
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        hoard = torch.empty(free - 900 * 2**20, dtype=torch.uint8, device="cuda")
        found = pool.submit(runtime, pixels).result()
        assert 1 <= runtime.pieces.at_once < 1024
        del hoard
        torch.cuda.empty_cache()
    assert relative_difference(found, expected) < 0.05


def test_a_compiled_network_gives_what_the_network_gives_in_every_lane(fast, monkeypatch):
    monkeypatch.setattr(module, "compiling_pays", lambda images, seconds: True)
    runtime = TorchRuntime(fast, 16)
    assert runtime.record["compiled"]
    monkeypatch.setattr(module, "compiling_pays", lambda images, seconds: False)
    plain = TorchRuntime(fast, 16)
    batches = [some_pixels(16, seed) for seed in range(12)]
    with lanes(runtime) as pool:
        found = list(pool.map(runtime, batches))
    for rows, pixels in zip(found, batches, strict=True):
        assert relative_difference(rows, plain(pixels)) < 0.05


@pytest.mark.parametrize("tier", ["exact", "fast"])
def test_a_recorded_network_gives_what_the_network_gives_in_every_lane(tier, request):
    runtime = TorchRuntime(request.getfixturevalue(tier), 16)
    recorded, batches = runtime._network, [some_pixels(16, seed) for seed in range(12)]
    assert recorded is not runtime.embedder
    with lanes(runtime) as pool:
        found = list(pool.map(runtime, batches))
        runtime._network = runtime.embedder
        expected = list(pool.map(runtime, batches))
    np.testing.assert_array_equal(found, expected)


def test_what_asks_the_gpu_and_waits_is_not_recorded_and_computed_all_the_same(exact):
    def network(batch):
        return batch.float().mean(dim=(1, 2)) * (1 if batch.max().item() else 2)

    gpu = Gpu(exact.device)
    pixels = some_pixels(4)
    assert gpu.record(network, pixels.shape) is network
    np.testing.assert_allclose(gpu.run(network, pixels), pixels.mean(axis=(1, 2)), rtol=1e-5)
    assert gpu.record(mean_colour, pixels.shape) is not mean_colour


def mean_colour(batch):
    return batch.float().mean(dim=(1, 2))


@needs_torchcodec
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_gpu_decodes_nearly_what_pillow_decodes(fast, subsampling):
    files = {i: with_orientation(jpeg(i, (330, 280)), i, subsampling=subsampling) for i in range(1, 9)}
    files |= {i: jpeg(i, (330, 280), "L") for i in range(9, 12)}
    assert differences(fast, files).max() < 1.5


def differences(fast, files) -> np.ndarray:
    """Mean difference from Pillow's pixels in grey levels, file by file."""
    batch = torch.zeros((1 + max(files), 224, 224, 3), dtype=torch.uint8, device="cuda")
    GpuDecoder(fast.device, fast.preset)({i: encoded(file) for i, file in files.items()}, batch)
    rows = batch.cpu().numpy().astype(int)
    assert not rows[[i for i in range(len(rows)) if i not in files]].any()
    return np.array([np.abs(rows[i] - fast.pixels(decode(file))).mean() for i, file in files.items()])


@needs_torchcodec
def test_the_gpu_decodes_images_of_any_size_and_quality(fast):
    rng, files = np.random.default_rng(0), {}
    for i in range(150):
        size = tuple(int(2 ** rng.uniform(6, 10)) for _ in "wh")
        options = {"quality": int(rng.integers(30, 100)), "subsampling": int(rng.integers(3))}
        content = jpeg(i, size, **options | ({"restart_marker_rows": 1} if i % 4 == 0 else {}))
        if count_jpeg_pixels(content):
            files[i] = content
    assert len(files) > 100
    found = differences(fast, files)
    wrong = {i: round(d, 1) for i, d in zip(files, found, strict=True) if d > 3}
    assert not wrong


WAITS = """
import torch
from test_fast_pixels import encoded, jpeg
from ftransfer import Backbone
from ftransfer.backbone.gpu import Gpu
from ftransfer.backbone.fast_pixels import GpuDecoder

fast = Backbone("resnet18", "random", device="cuda", tier="fast")
gpu, decoder = Gpu(fast.device), GpuDecoder(fast.device, fast.preset)
files = {i: encoded(jpeg(i, (640, 480))) for i in range(64)}
batch = torch.zeros((64, 224, 224, 3), dtype=torch.uint8, device="cuda")

def decode():
    with torch.cuda.stream(gpu._uploading()):
        decoder(files, batch)
        torch.cuda.current_stream().synchronize()

decode()  # makes ready
with torch.cuda.stream(gpu._computing):
    for _ in range(100):
        torch.cuda._sleep(10**8)  # cycles: 5 s in all
    computed = torch.cuda.Event()
    computed.record()
decode()
print("waits" if computed.query() else "overtakes")
"""


@needs_torchcodec
def test_decoding_does_not_wait_for_the_network():
    # in a process of its own, since CUDA reads how many queues it has when it is first used
    paths = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    environment = {k: v for k, v in os.environ.items() if k != "CUDA_DEVICE_MAX_CONNECTIONS"}
    done = subprocess.run(
        [sys.executable, "-c", WAITS],
        env=environment | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "overtakes\n", done.stderr


@needs_torchcodec
def test_what_the_gpu_decodes_is_embedded_nearly_as_in_the_exact_tier(fast, photographs, tmp_path):
    assert fast.decodes_on_gpu
    assert "decoded by the GPU" in fast.fingerprint["preprocessing"]["shortcuts"]
    features = extract_features(find_images(photographs, domain="day"), tmp_path / "f", fast)
    assert features.summary.failed == []
    assert features.summary.drift["centred_cosine"] > 0.98
    again = extract_features(find_images(photographs, domain="day"), tmp_path / "g", fast)
    difference = relative_difference(again.load(again.complete), features.load(features.complete))
    assert difference < 0.02


@needs_torchcodec
def test_torn_files_are_rows_with_their_reason_and_harm_no_other(fast, photographs, tmp_path):
    whole = extract_features(find_images(photographs, domain="day"), tmp_path / "whole", fast)
    folder = tmp_path / "images"
    folder.mkdir()
    for i, file in enumerate(sorted(photographs.iterdir())):
        content = bytearray(file.read_bytes())
        if i % 10 == 1:
            content = content[: len(content) // 2]
        if i % 10 == 3:  # noise in the middle of the scan: what comes of it is open, but not to the others
            middle = len(content) // 2
            content[middle : middle + 40] = np.random.default_rng(i).bytes(40)
        (folder / file.name).write_bytes(content)
    features = extract_features(find_images(folder, domain="day"), tmp_path / "f", fast)
    manifest = features.complete
    torn = np.arange(201) % 10 == 1
    assert (manifest["status"] == "error").to_numpy()[torn].all()
    same = np.flatnonzero(~torn & (np.arange(201) % 10 != 3))
    found, expected = (f.load(f.complete.iloc[same]) for f in (features, whole))
    assert relative_difference(found, expected) < 0.02
