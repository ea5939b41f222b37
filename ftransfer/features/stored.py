"""Many rows of a feature set, read when they are taken."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike

from ftransfer.features.protocol import Features


class StoredRows:
    """Embeddings of many images, read from the parts when rows are taken, so that they need no memory before.

    As of an array that is mapped from a file, a slice is a view of it that reads nothing, and row numbers or a mask
    give an array: ``rows[:1000]`` is not read yet, ``rows[[3, 1]]`` is. ``np.asarray`` reads all. It is pickled without
    the embeddings: whoever unpickles it reads them from the same folder.

    Parameters
    ----------
    features : FeatureSet or JoinedFeatures
    table : DataFrame of n_rows rows
        Rows of its manifest.

    Attributes
    ----------
    shape : tuple of int
        ``(n_rows, width)``
    dtype : float32

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from ftransfer import FeatureSet
    >>> from ftransfer.features.stored import StoredRows
    >>> fingerprint = {"format": 1, "backbone": "own", "weights": "", "layers": [{"name": "out", "width": 2}]}
    >>> features = FeatureSet.create(tempfile.mkdtemp(), fingerprint)
    >>> hashes = [f"{i:064x}" for i in range(3)]
    >>> _ = features.write_part(hashes, np.arange(6.0).reshape(3, 2))
    >>> rows = StoredRows(features, pd.DataFrame({"sha256": hashes, "path": ["a", "b", "c"]}))
    >>> rows[1:]
    <StoredRows of shape (2, 2)>
    >>> rows[1:][[1, 0]]
    array([[4., 5.],
           [2., 3.]], dtype=float32)
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, features: Features, table: pd.DataFrame) -> None:
        self.features = features
        self.table = table[[name for name in ("sha256", "path", "_row") if name in table]]
        self.shape = len(table), features.width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return StoredRows(self.features, self.table.iloc[rows])
        return self.features.load(self.table.iloc[rows])

    def part(self, rows: Any) -> "StoredRows":
        """Take rows by number or mask without reading them."""
        return StoredRows(self.features, self.table.iloc[rows])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        X = self.features.load(self.table)
        return X if dtype is None else X.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"<StoredRows of shape {self.shape}>"


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Take rows by number or mask; of stored ones without reading them."""
    return X.part(rows) if isinstance(X, StoredRows) else X[rows]
