"""Read the bytes of one image, wherever it lies."""

import io
import os
import re
import time
from pathlib import Path

import pandas as pd
from PIL import Image

from ftransfer.images.datasets import open_dataset
from ftransfer.images.limits import refuse_large_file
from ftransfer.images.shards import read_from_shard, split_name
from ftransfer.storage.places import Unreachable, is_remote, place
from ftransfer.storage.reading import open_regular


def _on_disk(root: str, path: str) -> str:
    """Return the name that the file of a stored root and path has."""
    return os.path.join(_original(root), _original(path))


def _original(stored: str) -> str:
    if "\\" not in stored:
        return stored
    return re.sub(
        r"\\(?:\\|udc([0-9a-f]{2}))", lambda e: chr(0xDC00 + int(e[1], 16)) if e[1] else "\\", stored
    )


# ---------------------------------------------------------------- reading


def read_bytes(root: str, path: str) -> bytes:
    """Read the bytes of an image; they name its content. A data set's image is written as PPM or PNG.

    An image of a shard is named ``shard.tar#key``, see `ftransfer.images.shards`.
    """
    if is_remote(root):
        remote = place(_original(root)) / _original(path)
        if shard := split_name(str(remote)):
            return read_from_shard(*shard)
        return remote.read_bytes()
    if not root.startswith("torchvision:"):
        file = _on_disk(root, path)
        if shard := split_name(file):
            return read_from_shard(*shard)
        with open_regular(file, buffering=0) as content:
            refuse_large_file(os.fstat(content.fileno()).st_size)
            return content.read()
    data = open_dataset(root)
    image = data[int(path)][0]
    buffer = io.BytesIO()
    image.save(buffer, "PPM" if image.mode in ("L", "RGB") else "PNG")
    return buffer.getvalue()


def stat_image(root: str, path: str) -> tuple[int | None, int | None]:
    """Return size (bytes) and time of change (nanoseconds) of a file, by which an unchanged one is known again.

    The time is the later of the content's and the inode's, since the former can be set back. It is missing for
    a file that was changed in the last two seconds: the next change could bear the same time. Both are missing
    for a data set's image. Of an image in a store, `find_images` says both: the time is a number drawn from its ETag,
    or from what else the store tells of its content.
    """
    try:
        file = _on_disk(root, path)
        shard = split_name(file)  # which changes as a whole
        found = os.stat(shard[0] if shard else file)
    except (OSError, ValueError):
        return None, None
    changed = max(found.st_mtime_ns, found.st_ctime_ns)
    return found.st_size, changed if time.time_ns() - changed > 2e9 else None


def is_still_there(root: str, path: str) -> bool:
    """Whether an image's file is there, readable or not; of a data set's image it is taken for granted."""
    if is_remote(root):
        remote = place(_original(root)) / _original(path)
        return split_name(str(remote)) is not None or remote.exists()
    if root.startswith("torchvision:"):
        return True
    file = _on_disk(root, path)
    return os.path.lexists(file) or split_name(file) is not None


def full_path(root: str, path: str) -> str:
    """Name an image as a whole, for people."""
    return f"{root}/{path}" if is_remote(root) else str(Path(root) / path)


def looks_like_photographs(table: pd.DataFrame, sample: int = 20) -> bool:
    """Whether most of a few images are larger than 64 pixels a side: no glyphs, rather photographs."""
    large = seen = 0
    for root, path in table[["root", "path"]].iloc[:: max(1, len(table) // sample)].itertuples(index=False):
        try:
            with Image.open(io.BytesIO(read_bytes(root, path))) as image:
                large += min(image.size) > 64
                seen += 1
        except Unreachable:
            raise
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return large > seen / 2
