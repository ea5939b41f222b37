"""Images as a network sees them, decoded once into a file."""

import math
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from torchvision.transforms import functional as F

from ftransfer.errors import FtransferError
from ftransfer.images.pixels import UNREADABLE, decoded
from ftransfer.images.read import full_path, read_bytes
from ftransfer.storage.places import Unreachable


class Pixels:
    """Images as the network sees them, decoded once into a file that vanishes with the object.

    Parameters
    ----------
    table : DataFrame with the columns ``root`` and ``path``
    backbone : Backbone
        Its preprocessing is applied.
    folder : Path
        Where the file lies: side x side x 3 bytes an image, four times as many where a user's transforms prepare it.
    progress : callable
        Called with the number of images decoded since the last call.

    Attributes
    ----------
    values : tensor of shape (n, 3, side, side), uint8; or (n, channels, height, width), float32
    readable : ndarray of bool
    unreadable : list of (path, reason)
    """

    def __init__(
        self,
        table: pd.DataFrame,
        backbone: Any,
        folder: Any,
        progress: Callable[[int], None] = lambda n: None,
    ) -> None:
        self.backbone = backbone
        self._is_ready = backbone.input_type is np.float32  # normalised already
        shape = backbone.input_shape
        shape = shape if self._is_ready else (shape[2], *shape[:2])
        self.values = on_disk((len(table), *shape), torch.float32 if self._is_ready else torch.uint8, folder)
        self.readable, self.unreadable = np.ones(len(table), dtype=bool), []
        with ThreadPoolExecutor(joblib.cpu_count()) as pool:
            for row, error in enumerate(
                pool.map(self._read, range(len(table)), table["root"], table["path"])
            ):
                if error is not None:
                    self.readable[row] = False
                    self.unreadable.append(
                        (full_path(table["root"].iloc[row], table["path"].iloc[row]), error)
                    )
                progress(1)

    @property
    def can_vary(self) -> bool:
        """Whether the images are still pixels of 8 bits, which `batch` can change; a user's transforms make other."""
        return not self._is_ready

    def _read(self, row: int, root: str, path: str) -> str | None:
        try:
            with decoded(read_bytes(root, path)) as image:
                pixels = self.backbone.pixels(image)
                self.values.numpy()[row] = pixels if self._is_ready else pixels.transpose(2, 0, 1)
        except Unreachable:
            raise
        except UNREADABLE as error:
            return str(error) or type(error).__name__
        return None

    def batch(
        self, rows: np.ndarray, change: Callable[[torch.Tensor], torch.Tensor] = lambda images: images
    ) -> torch.Tensor:
        """Normalise some images, after `change` has augmented them, RGB in [0, 1]: float32 (n, 3, side, side)."""
        if self._is_ready:
            return self.values[rows]
        images = change(F.convert_image_dtype(self.values[rows], torch.float32))
        preset = self.backbone.preset
        return F.normalize(images, list(preset.mean), list(preset.std))


def batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut rows into batches of nearly equal sizes: batch norm cannot train on a single row."""
    return np.array_split(rows, math.ceil(len(rows) / size)) if len(rows) else []


def on_disk(shape: Sequence[int], dtype: torch.dtype, folder: Any) -> torch.Tensor:
    """Make a tensor in a file without a name: the system keeps it in memory while there is room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            name = torch.empty(0, dtype=dtype).numpy().dtype
            return torch.from_numpy(np.memmap(file, name, mode="w+", shape=tuple(shape)))
    except OSError as error:
        raise FtransferError(f"cannot write the training images to {folder}: {error.strerror}") from error
