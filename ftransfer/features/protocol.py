"""What a task, a model and a report read of features, be they one feature set or several joined."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd


class Features(Protocol):
    """Embeddings with their images' paths, labels and domains.

    Attributes
    ----------
    folder : path or str
        Where they lie, for people.
    fingerprint : dict
        What shapes the numbers.
    width, n_views : int
        Numbers a row; views of each image, the first of which is the image as it is.
    notes : sequence of str
        What a task has to say of its features.
    origin : str
        Where the backbone's weights came from.
    training : dict or None
        How the backbone was trained, see `read_training`.
    complete : DataFrame
        The images, a row each.
    """

    @property
    def folder(self) -> Any: ...
    @property
    def fingerprint(self) -> dict[str, Any]: ...
    @property
    def width(self) -> int: ...
    @property
    def n_views(self) -> int: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def origin(self) -> str: ...
    @property
    def training(self) -> dict[str, Any] | None: ...
    @property
    def complete(self) -> pd.DataFrame: ...

    def load(self, rows: pd.DataFrame, *, view: int = 0) -> np.ndarray:
        """Load the embeddings of some rows of `complete`: float32 (len(rows), width)."""
        ...
