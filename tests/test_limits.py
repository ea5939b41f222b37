"""What a picture may cost: each limit is a reason in its row, and costs nothing where a picture is ordinary."""

import io
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import draw
from PIL import Image

from ftransfer.images import limits
from ftransfer.images.limits import Room, count_scans
from ftransfer.images.pixels import decode, decoded
from ftransfer.images.readers import Preparation, read_image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8))


def encode(image, kind, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00\x00\x00"


def jpeg_of_scans(n: int, side: int = 64) -> bytes:
    """A progressive JPEG of n nearly empty scans."""
    content = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    return content[: content.rindex(b"\xff\xda")] + SCAN * n + b"\xff\xd9"


def row(tmp_path, content):
    """Read a file as an extraction does; its reason."""
    (tmp_path / "x.jpg").write_bytes(content)
    return read_image(str(tmp_path), "x.jpg", Preparation(np.asarray), lambda sha256: False)[-1]


# ---------------------------------------------------------------- scans


@pytest.mark.parametrize(
    ("options", "scans"),
    [({}, 1), ({"progressive": True}, 10), ({"subsampling": 0, "progressive": True}, 10)],
)
def test_scans_are_counted_of_the_image_alone_and_not_of_what_lies_in_it_or_behind(options, scans):
    thumbnail = encode(NOISE, "JPEG", progressive=True)
    content = encode(NOISE, "JPEG", exif=b"Exif\0\0" + thumbnail, comment=b"\xff\xd9\xff\xda", **options)
    assert count_scans(content) == scans
    assert count_scans(content + b"\xff\xda\x00\x02" * 5000) == scans
    assert decode(content + b"\xff\xda\x00\x02" * 5000).size == NOISE.size


def test_an_end_hidden_in_a_comment_hides_no_scan():
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    content = jpeg_of_scans(1)
    assert count_scans(content[:-2] + comment + SCAN * 900 + b"\xff\xd9") == limits.MAX_SCANS + 1


def test_a_jpeg_of_thousands_of_scans_is_a_row_with_its_reason(tmp_path):
    assert "501 scans of 4096 pixels; at most 500" in row(tmp_path, jpeg_of_scans(3000))
    baseline = encode(NOISE, "JPEG")
    each_alone = (
        baseline[: baseline.index(b"\xff\xda")] + (SCAN[:7] + b"\x00\x00\x3f\x00\x00") * 3000 + b"\xff\xd9"
    )
    assert "501 scans of 4800 pixels" in row(tmp_path, each_alone)


def test_an_ordinary_jpeg_is_not_searched_for_scans(monkeypatch):
    def count(content):
        raise RuntimeError("searched")

    monkeypatch.setattr(limits, "count_scans", count)
    for mode in ("RGB", "L", "CMYK"):
        decode(encode(NOISE.convert(mode), "JPEG"))
    with pytest.raises(ValueError, match="searched"):
        decode(encode(NOISE, "JPEG", progressive=True))


def test_many_scans_of_many_pixels_are_refused_where_few_are_not(monkeypatch):
    content = encode(NOISE, "JPEG", progressive=True)
    monkeypatch.setattr(limits, "MAX_SCANNED", 10 * 4800 - 1)
    with pytest.raises(ValueError, match="10 scans of 4800 pixels; at most 500, of 47999 in all"):
        decode(content)


# ---------------------------------------------------------------- time, size, memory


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "JPEG2000"])
def test_a_picture_that_takes_too_long_is_a_row_with_its_reason(tmp_path, monkeypatch, kind):
    content = encode(NOISE, kind)
    monkeypatch.setattr(limits, "MAX_SECONDS", -1.0)
    assert row(tmp_path, content) == "decoding takes over -1 seconds"


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    with open(tmp_path / "x.jpg", "wb") as file:
        file.truncate(2**30)
    monkeypatch.setattr("ftransfer.images.readers.read_bytes", lambda root, path: 1 / 0)
    found = read_image(str(tmp_path), "x.jpg", Preparation(np.asarray), lambda sha256: False)
    assert found[-1] == "the file has 1024 MiB; at most 512 are read"


def test_a_picture_that_takes_too_much_memory_is_a_row_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_DECODED", 10 * 4800)
    assert row(tmp_path, encode(NOISE, "JPEG")) is None
    assert "decoding it would take 0.0 GiB" in row(tmp_path, encode(NOISE, "JPEG", progressive=True))


def test_sixteen_bits_are_scaled_in_pieces_as_at_once(monkeypatch):
    values = np.arange(0, 65536, 7, dtype=np.uint16)[:9300].reshape(93, 100)
    content = encode(Image.fromarray(values), "PNG")
    whole = np.asarray(decode(content))
    assert (whole[..., 0] == values // 257).all()
    monkeypatch.setattr("ftransfer.images.pixels.BLOCK", 250)
    assert (np.asarray(decode(content)) == whole).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "16 bits", "WEBP", "JPEG2000", "GIF"])
def test_decoding_takes_no_more_memory_than_was_estimated(tmp_path, kind):
    pytest.importorskip("resource")
    side, options = 4000, {"progressive": {"progressive": True}, "PNG": {"compress_level": 1}}.get(kind, {})
    grey = Image.fromarray(np.zeros((side, side), np.uint16))
    image = grey if kind == "16 bits" else NOISE.resize((side, side))
    format = {"progressive": "JPEG", "16 bits": "PNG"}.get(kind, kind)
    (tmp_path / "x").write_bytes(encode(image, format, **options))
    code = """
import resource, sys
import numpy as np
from PIL import Image
from ftransfer.images import limits
from ftransfer.images.pixels import decoded
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
content = open(sys.argv[1], "rb").read()
weight = limits.weigh(Image.open(sys.argv[1]), content)
before = most()
with decoded(content) as image:
    np.array(image)
print((most() - before) * 1024 / weight)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x"], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.15


def test_large_pictures_wait_for_one_another():
    room, together, most, lock = Room(10 * limits.SMALL), [0], [0], threading.Lock()

    def work(weight):
        with room.take(weight), room.take(weight):  # the second of a thread is in the first
            with lock:
                together[0] += weight
                most[0] = max(most[0], together[0])
            threading.Event().wait(0.002)
            with lock:
                together[0] -= weight

    weights = [4 * limits.SMALL, 7 * limits.SMALL, 3 * limits.SMALL, 10 * limits.SMALL] * 8
    threads = [threading.Thread(target=work, args=(weight,)) for weight in weights]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 10 * limits.SMALL
    assert room.used == 0
    with room.take(99 * limits.SMALL), room.take(limits.SMALL):
        assert room.used == 10 * limits.SMALL


def test_a_failure_in_a_large_picture_gives_its_room_back(monkeypatch):
    monkeypatch.setattr(limits, "SMALL", 0)
    monkeypatch.setattr(limits, "ROOM", Room())
    with pytest.raises(ValueError, match="truncated|broken"):
        decode(encode(NOISE, "PNG")[:-2000])

    def use():
        with decoded(encode(NOISE, "PNG")):
            assert limits.ROOM.used == 10 * 4800
            raise RuntimeError("elsewhere")

    with pytest.raises(RuntimeError, match="elsewhere"):
        use()
    assert limits.ROOM.used == 0


def test_an_extraction_goes_on_past_pictures_that_cost_too_much(tmp_path):
    from ftransfer import Backbone, extract_features, find_images

    for i in range(3):
        draw(tmp_path / "p" / "d" / "a" / f"{i}.png", 0, i)
    (tmp_path / "p" / "d" / "a" / "scans.jpg").write_bytes(jpeg_of_scans(3000))
    features = extract_features(find_images(tmp_path / "p"), tmp_path / "f", Backbone("small_cnn", "random"))
    assert features.manifest["status"].tolist() == ["ok", "ok", "ok", "error"]
    assert "scans" in features.manifest["error"].iloc[-1]
