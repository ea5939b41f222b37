"""Small pictures of the images that the model is most and least sure of, where the images are still there."""

import base64
import hashlib
import io
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from ftransfer.images.pixels import decode
from ftransfer.images.read import read_bytes
from ftransfer.storage.places import is_remote

EACH = 12
SIDE = 96  # pixels
QUALITY = 80


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
    turn = np.empty(len(order), dtype=int)
    for k in np.unique(predicted):
        of_class = order[predicted[order] == k]
        turn[of_class] = np.arange(len(of_class))
    most = order[np.argsort(turn[order], kind="stable")][:EACH]
    least = order[::-1][:EACH]
    return {"most": most, "least": least[~np.isin(least, most)]}


def thumbnail(root: str, path: str, sha256: str) -> str | None:
    """Make a small JPEG as a data URI.

    None if the image is gone, is another one than the features were computed from, cannot be read, is in no file
    (a data set of torchvision) or in a store (which a stranger's feature set may name), or if its path leads out of
    its root.
    """
    inside = PurePath(path)
    if root.startswith("torchvision:") or is_remote(root) or inside.is_absolute() or ".." in inside.parts:
        return None
    try:
        if not (Path(root) / inside).is_file():
            return None
        content = read_bytes(root, path)
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        image = decode(content)
    except (OSError, ValueError, SyntaxError, MemoryError):  # Pillow says SyntaxError of a broken PNG
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
