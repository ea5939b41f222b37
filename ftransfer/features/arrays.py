"""Feature sets as arrays and tables, for people."""

from typing import overload

import numpy as np
import pandas as pd

SHOWN = ("domain", "label", "path")  # columns of a table that come first


class Arrays:
    """What stands where a `FeatureSet` does: it has `complete` and `load_rows`."""

    complete: pd.DataFrame
    width: int

    def load_rows(self, rows: pd.DataFrame, *, view: int = 0) -> np.ndarray:
        """Load the embeddings of some rows of `complete`."""
        raise NotImplementedError

    @overload
    def load(self, rows: None = None, *, view: int = 0) -> tuple[np.ndarray, pd.DataFrame]: ...
    @overload
    def load(self, rows: pd.DataFrame, *, view: int = 0) -> np.ndarray: ...
    def load(
        self, rows: pd.DataFrame | None = None, *, view: int = 0
    ) -> np.ndarray | tuple[np.ndarray, pd.DataFrame]:
        """Load embeddings; what is not asked for is not read.

        Parameters
        ----------
        rows : DataFrame, optional
            Rows of `manifest` whose status is "ok", in any order. Default: all of them.
        view : int, default=0
            Which of the views; the first is the image as it is.

        Returns
        -------
        X : ndarray of shape (n_rows, width), float32, C-contiguous
            In the order of `rows`.
        table : DataFrame
            Only where no `rows` are given: those that `X` is of.

        Raises
        ------
        FtransferError
            If an embedding is not there, or is not finite.
        """
        if rows is not None:
            return self.load_rows(rows, view=view)
        rows = self.readable
        return self.load_rows(rows, view=view), rows

    @property
    def readable(self) -> pd.DataFrame:
        """The rows of `complete` that have an embedding, those whose image could be read."""
        rows = self.complete
        return rows[rows["status"] == "ok"].reset_index(drop=True)

    def to_numpy(self) -> np.ndarray:
        """Return the embeddings of `readable`.

        Returns
        -------
        ndarray of shape (n_rows, width), float32
        """
        return self.load_rows(self.readable)

    def to_pandas(self) -> pd.DataFrame:
        """Return one table of domains, labels, paths and embeddings, a row an image.

        Returns
        -------
        DataFrame of n_rows rows: ``domain, label, path``, further columns of labels, and a column a number, ``e0, e1``
        and so on, float32.
        """
        X, rows = self.load()
        more = [name for name in rows if str(name).startswith("label:")]
        names = [f"e{i}" for i in range(X.shape[1])]
        return pd.concat([rows[[*SHOWN, *more]], pd.DataFrame(X, columns=names)], axis=1)
