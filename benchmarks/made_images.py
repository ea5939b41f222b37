"""JPEG files as photographs give them, for the benchmarks of extraction; and the processor time that was used."""

import io
import resource
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, BYTES = (640, 480), 99_000
DISTINCT = 64  # pictures; further files have the same pixels and other bytes


def cpu_seconds():
    """Say how much processor time this process and its children that have ended used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def write_images(folder: Path, count: int, photographs: Path | None) -> None:
    """Write `count` files; beyond the first few the pixels repeat, with some bytes after the end of the image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    found = sorted(f for f in photographs.rglob("*.jpg")) if photographs else []
    if photographs and not found:
        sys.exit(f"no .jpg in {photographs}")
    contents = []
    for i in range(min(count, DISTINCT)):
        if found:
            image = Image.open(found[i * len(found) // DISTINCT]).convert("RGB").resize(SIZE)
            pixels = np.asarray(image) + rng.normal(
                0, 6, (SIZE[1], SIZE[0], 1)
            )  # the grain that resizing took
        else:
            pixels = smooth_noise(rng)
        contents.append(jpeg(pixels))
    for i in range(count):
        (folder / f"{i:07d}.jpg").write_bytes(contents[i % DISTINCT] + i.to_bytes(4, "big"))


def smooth_noise(rng) -> np.ndarray:
    """Sum noise of all scales, as photographs have it."""
    pixels = rng.normal(0, 5, (SIZE[1], SIZE[0], 3))
    for step in (4, 8, 16, 32, 64, 128):
        for c in range(3):
            coarse = rng.normal(0, 4 * step**0.5, (SIZE[1] // step + 1, SIZE[0] // step + 1))
            pixels[..., c] += np.asarray(
                Image.fromarray(coarse.astype(np.float32)).resize(SIZE, Image.BICUBIC)
            )
    return pixels + 128


def jpeg(pixels: np.ndarray) -> bytes:
    """Compress to the largest quality within `BYTES`."""
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    low, high = 5, 98
    while low <= high:
        middle = (low + high) // 2
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=middle)
        low, high = (middle + 1, high) if buffer.tell() <= BYTES else (low, middle - 1)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=max(high, 5))
    return buffer.getvalue()
