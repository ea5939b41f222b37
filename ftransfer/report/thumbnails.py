"""Small pictures of images, where the images are still there, and which of them a page shows."""

import base64
import hashlib
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, features

from ftransfer.images.pixels import decode
from ftransfer.images.read import read_bytes
from ftransfer.images.shards import split_name
from ftransfer.storage.places import is_remote

EACH = 12
SIDE = 96  # pixels
QUALITY = 80
SMALL_SIDE = 96  # pixels, of the many behind the map and the matrix
SMALL_QUALITY = 65
MOST_BYTES = 2_500_000  # of all of them in base64, so that the page stays under 5 MB
READERS = 4  # threads; Pillow decodes without the interpreter's lock


class Look(NamedTuple):
    """What one image looks like.

    Attributes
    ----------
    small : str
        A WebP of at most 96 x 96 pixels, in base64.
    size : tuple of int
        Width and height of the file in pixels.
    colour : ndarray of shape (6,)
        Mean and standard deviation of red, green and blue, from 0 to 255.
    """

    small: str
    size: tuple[int, int]
    colour: np.ndarray


def choose(sure: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Choose the target rows to show.

    Parameters
    ----------
    sure : array of shape (n_target,)
    predicted : array of shape (n_target,), int

    Returns
    -------
    dict ``most, least``: at most twelve rows each. The surest are the surest of each class in turn, else
    all of them would be of the easiest class.
    """
    order = np.argsort(-sure, kind="stable")
    turn = _turns(predicted[order])[np.argsort(order)]
    most = order[np.argsort(turn[order], kind="stable")][:EACH]
    least = order[::-1][:EACH]
    return {"most": most, "least": least[~np.isin(least, most)]}


def _turns(groups: np.ndarray) -> np.ndarray:
    """Count, for each row, how many rows of its group come before it."""
    return pd.Series(groups).groupby(groups).cumcount().to_numpy()


def spread(groups: np.ndarray, most: int, each: int, random_state: int = 0) -> np.ndarray:
    """Draw rows so that each group has some: one of each group in turn, until there are enough.

    Parameters
    ----------
    groups : array of shape (n,)
        Group of each row.
    most, each : int
        Rows in all, and of one group.

    Returns
    -------
    ndarray of int, the first of each group first

    Examples
    --------
    >>> sorted(spread(np.array([7, 7, 7, 7, 8, 9]), most=4, each=2)[:3] >= 4)
    [np.False_, np.True_, np.True_]
    """
    drawn = np.random.default_rng(random_state).permutation(len(groups))
    turn = _turns(groups[drawn])
    in_turn = np.argsort(turn, kind="stable")
    return drawn[in_turn[turn[in_turn] < each]][:most]


def _read(root: str, path: str, sha256: str, anywhere: bool = False) -> bytes | None:
    if not anywhere and not _lies_in(root, path):
        return None
    content = read_bytes(root, path)
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def _lies_in(root: str, path: str) -> bool:
    """Whether an image is a file below its root, or in a shard there, on this machine."""
    inside = PurePath(path)
    if root.startswith("torchvision:") or is_remote(root) or inside.is_absolute() or ".." in inside.parts:
        return False
    file = Path(root) / inside
    return file.is_file() or split_name(str(file)) is not None


# Pillow says SyntaxError of a broken PNG
UNREADABLE = (OSError, ValueError, SyntaxError, MemoryError)


def thumbnail(root: str, path: str, sha256: str, *, side: int = SIDE, anywhere: bool = False) -> str | None:
    """Make a small JPEG as a data URI; its longer side has `side` pixels at most.

    None if the image is gone, is another one than the features were computed from, or cannot be read; and unless
    `anywhere`, if it is in no file (a data set of torchvision) or in a store (which a stranger's feature set may name),
    or if its path leads out of its root.
    """
    try:
        content = _read(root, path, sha256, anywhere)
        if content is None:
            return None
        image = decode(content)
    except UNREADABLE:
        return None
    return "data:image/jpeg;base64," + _encode(image, side, "JPEG", QUALITY)


def look(root: str, path: str, sha256: str) -> Look | None:
    """Look at one image: its size, its colours and a small picture; None where `thumbnail` is None."""
    try:
        content = _read(root, path, sha256)
        if content is None:
            return None
        image = decode(content, reduce_to=2 * SMALL_SIDE)
        with Image.open(io.BytesIO(content)) as file:
            size = file.size
    except UNREADABLE:
        return None
    image.thumbnail((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32).reshape(-1, 3)
    colour = np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)])
    kind = (
        "WEBP" if features.check("webp") else "JPEG"
    )  # a browser looks at the bytes, whatever the page calls them
    return Look(_encode(image, SMALL_SIDE, kind, SMALL_QUALITY), size, colour)


def look_at(rows: Iterable[tuple[str, str, str]]) -> list[Look | None]:
    """Look at images, each given by its root, path and hash, several at a time."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(lambda row: look(*row), rows))


def _encode(image: Image.Image, side: int, kind: str, quality: int) -> str:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality, **({"optimize": True} if kind == "JPEG" else {"method": 4}))
    return base64.b64encode(buffer.getvalue()).decode()
