"""The fast tier's pixels, and which files a GPU decodes: on the CPU, with something in place of its decoder."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from test_gpu import FakeCuda

import ftransfer.backbone.fast_pixels as module
import ftransfer.extract.engine as engine
import ftransfer.images.jpeg as headers
from ftransfer import Backbone, FtransferError, extract_features, find_images
from ftransfer.backbone.fast_pixels import (
    GpuDecoder,
    Undecodable,
    resize_and_crop,
    resize_and_crop_quickly,
)
from ftransfer.backbone.gpu import Gpu
from ftransfer.backbone.runtime import TorchRuntime
from ftransfer.images.jpeg import Encoded, count_jpeg_pixels
from ftransfer.images.pixels import decode

CPU = torch.device("cpu")


def jpeg(seed=0, size=(80, 72), mode="RGB", **options) -> bytes:
    """Compress smooth colours, which each way of sampling leaves much as they are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.BICUBIC).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_orientation(content: bytes, orientation: int, **options) -> bytes:
    image, buffer = Image.open(io.BytesIO(content)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(buffer, "JPEG", exif=exif, quality=95, **options)
    return buffer.getvalue()


def encoded(content: bytes) -> Encoded:
    return Encoded(np.frombuffer(content, np.uint8).copy(), count_jpeg_pixels(content))


def pillow_in_place(files: list[torch.Tensor]) -> list[torch.Tensor]:
    """Decode as torchcodec does: all or nothing, orientation applied, grey as one channel."""
    images = []
    for file in files:
        try:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(file.numpy().tobytes())))
            pixels = np.array(image)
        except OSError as error:
            raise RuntimeError("nvjpegDecode failed") from error
        images.append(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1))
    return images


@pytest.fixture(scope="module")
def fast():
    return Backbone("small_cnn", "random", device="cpu", tier="fast")


@pytest.fixture
def on_gpu(fast, monkeypatch):
    """A backbone whose GPU decodes, for which Pillow stands in."""
    monkeypatch.setattr(fast, "decodes_on_gpu", True)
    monkeypatch.setitem(fast.fingerprint, "runtime", "torch")
    monkeypatch.setattr(GpuDecoder, "_by_torchcodec", lambda self, files: pillow_in_place(files))
    monkeypatch.setattr("ftransfer.backbone.runtime.Gpu", lambda device: Gpu(device, FakeCuda()))
    make = TorchRuntime.__init__

    def with_gpu(self, backbone, batch_size, images=1, gpu=None):
        make(self, backbone, batch_size, images, Gpu(CPU, FakeCuda()))

    monkeypatch.setattr(TorchRuntime, "__init__", with_gpu)
    return fast


# ------------------------------------------------------------ which files


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_common_jpegs_are_for_the_gpu(subsampling):
    assert count_jpeg_pixels(jpeg(subsampling=subsampling)) == 80 * 72
    assert count_jpeg_pixels(jpeg(mode="L")) == 80 * 72


def test_a_file_is_taken_with_metadata_with_a_thumbnail_and_with_bytes_behind_its_end():
    content = jpeg()
    thumbnail = b"\xff\xe1" + (2 + len(content)).to_bytes(2) + content
    assert count_jpeg_pixels(content[:2] + thumbnail + content[2:])
    assert count_jpeg_pixels(with_orientation(content, 6))
    assert count_jpeg_pixels(content + b"more")
    assert count_jpeg_pixels(content[:2] + b"\xff" + content[2:])  # a marker may be preceded by fillings


@pytest.mark.parametrize(
    "content",
    [
        jpeg(progressive=True),
        jpeg(mode="CMYK"),
        jpeg(mode="L", subsampling="4:2:0"),
        jpeg(size=(headers.MAX_ASPECT * 64 + 1, 64)),
        jpeg(size=(63, 100)),
        jpeg()[:-2],
        jpeg()[: len(jpeg()) // 2],
        jpeg()[:100],
        jpeg()[:1],
        b"",
        b"\xff\xd8" + jpeg(),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        jpeg()[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + jpeg()[2:],  # RGB, not YCbCr
        jpeg().replace(b"\xff\xc0", b"\xff\xc1", 1),
        jpeg()[:2] + b"\xff\xe0\x00\x00" + jpeg()[2:],
    ],
    ids=[
        "progressive",
        "CMYK",
        "grey with a sampling",
        "too long",
        "small",
        "no end",
        "half",
        "header",
        "a byte",
        "empty",
        "two starts",
        "PNG",
        "RGB",
        "extended",
        "a segment without length",
    ],
)
def test_everything_else_is_for_pillow(content):
    assert count_jpeg_pixels(content) is None


def test_a_thumbnail_that_is_whole_does_not_make_a_torn_picture_so():
    content, inner = jpeg(), jpeg(1)
    thumbnail = b"\xff\xe1" + (2 + len(inner)).to_bytes(2) + inner
    assert count_jpeg_pixels(content[:2] + thumbnail + content[2:-10]) is None


def test_a_file_too_large_to_decode_on_a_gpu_is_for_pillow(monkeypatch):
    monkeypatch.setattr(headers, "GPU_PIXELS", 80 * 72 - 1)
    assert count_jpeg_pixels(jpeg()) is None


def test_no_header_however_torn_is_more_than_a_no():
    content, rng = jpeg(), np.random.default_rng(0)
    for _ in range(2000):
        torn = bytearray(content)
        for at in rng.integers(0, 200, 3):
            torn[at] = rng.integers(256)
        count = count_jpeg_pixels(bytes(torn))
        assert count is None or 0 < count <= headers.GPU_PIXELS


# ------------------------------------------------------------ decoding


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(480, 640), (640, 481), (64, 71), (232, 300), (100, 300), (1500, 257)])
def test_products_of_matrices_resize_as_torch_does(fast, mode, sides):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, *sides), np.uint8))
    expected = resize_and_crop(pixels.double(), mode, 232, 224)
    for dtype, off, share in (
        (torch.float64, 1e-9, 0.001),
        (torch.float32, 1e-3, 0.001),
        (torch.float16, 0.3, 0.07),
    ):
        decoder = GpuDecoder(CPU, fast.preset)
        decoder.mode, decoder.size, decoder.crop, decoder.dtype = mode, 232, 224, dtype
        found = decoder._resize_and_crop(pixels).double()
        assert ((found - expected.clamp(0, 255)).abs() <= 0.5 + off).all()
        assert (found != expected.round().clamp(0, 255)).double().mean() <= share  # else a tie


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(480, 640), (640, 481), (64, 71), (232, 232)])
def test_pixels_lie_as_a_batch_takes_them_and_are_those_of_any_other_order_in_memory(mode, sides):
    pixels = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    found = resize_and_crop_quickly(232, 224, mode, Image.fromarray(pixels))
    assert found.strides[1:] == (3, 1)  # a line of it is copied at once
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    expected = resize_and_crop(channels_first, mode, 232, 224)[0].permute(1, 2, 0)
    np.testing.assert_array_equal(found, expected)


def rows_of(files, backbone, **options) -> np.ndarray:
    batch = torch.zeros((8, backbone.image_size, backbone.image_size, 3), dtype=torch.uint8)
    GpuDecoder(CPU, backbone.preset, pillow_in_place)({i: encoded(f) for i, f in files.items()}, batch)
    return batch.numpy()


def test_files_of_several_shapes_come_into_their_rows(fast, monkeypatch):
    monkeypatch.setattr(module, "GPU_PIXELS", 15000)  # so that they are decoded in three turns
    files = {
        0: jpeg(0),
        2: jpeg(1, (100, 72)),
        3: jpeg(2, mode="L"),
        7: jpeg(3),
        5: with_orientation(jpeg(4), 6),
    }
    rows = rows_of(files, fast)
    for i in range(8):
        expected = fast.pixels(decode(files[i])) if i in files else 0
        assert np.abs(rows[i].astype(int) - expected).max() <= 1


def test_files_that_cannot_be_decoded_are_named(fast):
    bad = Encoded(np.frombuffer(b"nothing", np.uint8).copy(), 10)
    batch = torch.zeros((4, fast.image_size, fast.image_size, 3), dtype=torch.uint8)
    files = {0: encoded(jpeg()), 1: bad, 2: encoded(jpeg(1)), 3: bad}
    with pytest.raises(Undecodable, match="2 files") as error:
        GpuDecoder(CPU, fast.preset, pillow_in_place)(files, batch)
    assert error.value.rows == [1, 3]


def test_torchcodec_counts_from_the_release_whose_decoder_keeps_to_its_memory(monkeypatch):
    torchcodec = pytest.importorskip(
        "torchcodec", reason="torchcodec is not installed: pip install torchcodec"
    )
    monkeypatch.setattr(torchcodec, "__version__", "0.16.0")
    assert module.torchcodec_version() is None
    monkeypatch.setattr(torchcodec, "__version__", "0.17.1+cu130")
    assert module.torchcodec_version() == "0.17.1"


# ------------------------------------------------------------ in an extraction


def write(folder, contents: dict[str, bytes]):
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return find_images(folder, domain="day")


def test_what_the_gpu_decodes_and_what_pillow_decodes_come_into_one_feature_set(on_gpu, tmp_path):
    contents = {f"{i}.jpg": jpeg(i, progressive=i % 3 == 0) for i in range(20)}
    table = write(tmp_path / "images", contents)
    features = extract_features(table, tmp_path / "f", on_gpu, batch_size=4)
    X = features.load(features.complete)
    pixels = np.stack([on_gpu.pixels(decode(contents[path])) for path in table["path"]])
    expected = TorchRuntime(on_gpu, 20)(pixels)
    assert np.linalg.norm(X - expected) < 0.02 * np.linalg.norm(expected)
    assert len(np.unique(X.round(3), axis=0)) == 20


def test_a_file_that_the_gpu_refuses_is_pillows_and_harms_no_other(on_gpu, tmp_path, monkeypatch):
    contents = {f"{i}.jpg": jpeg(i) for i in range(9)}
    whole = write(tmp_path / "whole", contents)
    expected = extract_features(whole, tmp_path / "e", on_gpu, batch_size=4)

    def refuse_one(self, files):
        if any(file.numpy().tobytes() == contents["4.jpg"] for file in files):
            raise RuntimeError("nvjpegDecode failed")
        return pillow_in_place(files)

    monkeypatch.setattr(GpuDecoder, "_by_torchcodec", refuse_one)
    found = extract_features(whole, tmp_path / "f", on_gpu, batch_size=4)
    assert found.summary.failed == []
    X = expected.load(expected.complete)
    assert np.linalg.norm(found.load(found.complete) - X) < 0.02 * np.linalg.norm(X)


def test_large_files_for_the_gpu_wait_in_no_more_memory_than_is_given_to_them(
    on_gpu, tmp_path, monkeypatch, waiting
):
    contents = {f"{i:03d}.jpg": jpeg(i, (300, 200), quality=95) for i in range(120)}
    most = max(map(len, contents.values()))
    monkeypatch.setattr(engine, "FILES_AHEAD", 6 * most)
    monkeypatch.setattr(engine, "FILES_A_BATCH", 4 * most)
    waiting, ended = waiting
    table = write(tmp_path / "images", contents)
    features = extract_features(
        table, tmp_path / "f", on_gpu, batch_size=32, workers=2, progress=ended.append
    )
    assert len(features.load(features.complete)) == 120
    # until the first is there nobody knows how large they are; then those ahead, in a batch, and in flying ones
    assert max(waiting[20:]) <= 6 + 2 + 5 * (4 + 1 + 1)


@pytest.fixture
def one_that_nobody_reads(monkeypatch):
    """Make Pillow fail at a file only where the GPU refused it, as it fails in the middle of some."""
    bad = jpeg(4)

    def refuse(content, reduce_to=None):
        if content == bad:
            raise ValueError("broken data stream")
        return decode(content, reduce_to)

    def refuse_tensor(self, files):
        if any(file.numpy().tobytes() == bad for file in files):
            raise RuntimeError("nvjpegDecode failed")
        return pillow_in_place(files)

    monkeypatch.setattr("ftransfer.images.readers.decoded", refuse)
    monkeypatch.setattr(GpuDecoder, "_by_torchcodec", refuse_tensor)
    return bad


def test_a_file_that_nobody_can_decode_is_a_row_with_its_reason_and_its_twin_too(
    on_gpu, tmp_path, one_that_nobody_reads
):
    contents = {f"{i}.jpg": jpeg(i) for i in range(9)} | {"41.jpg": jpeg(4), "95.jpg": jpeg(4)}
    seen = []
    table = write(tmp_path / "images", contents)
    features = extract_features(table, tmp_path / "f", on_gpu, batch_size=4, progress=seen.append)
    manifest = features.manifest.set_index("path")
    assert sum(seen) == 11
    assert features.summary.computed == 8
    errors = manifest[manifest["status"] == "error"]["error"]
    assert errors.to_dict() == dict.fromkeys(["4.jpg", "41.jpg", "95.jpg"], "broken data stream")
    assert len(features.load(features.complete.query("status == 'ok'"))) == 8


def test_a_file_that_nobody_can_decode_may_be_the_only_one(on_gpu, tmp_path, one_that_nobody_reads):
    table = write(tmp_path / "images", {"4.jpg": one_that_nobody_reads})
    features = extract_features(table, tmp_path / "f", on_gpu)
    assert features.manifest["error"].tolist() == ["broken data stream"]
    assert features.part_files() == []


def test_strict_stops_at_a_file_that_nobody_can_decode(on_gpu, tmp_path, one_that_nobody_reads):
    table = write(tmp_path / "images", {f"{i}.jpg": jpeg(i) for i in range(9)})
    with pytest.raises(FtransferError, match=r"4.jpg cannot be read: broken data stream \(--strict"):
        extract_features(table, tmp_path / "f", on_gpu, batch_size=4, strict=True)
