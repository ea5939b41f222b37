"""Labels of a few images, from a text table with the columns path and label."""

from pathlib import Path

import numpy as np
import pandas as pd

from ftransfer.cells import read_labels, read_rows, without_minus_one
from ftransfer.errors import FtransferError
from ftransfer.storage.places import local
from ftransfer.storage.reading import read_bytes


def read_label_file(file: str | Path, rows: pd.DataFrame, target: str) -> tuple[np.ndarray, pd.Series]:
    """Read the labels that a file gives some of the target's images.

    Parameters
    ----------
    file : str or path
        CSV with the columns path and label, and root where paths alone are not unique.
    rows : DataFrame
        Manifest rows of the target.
    target : str
        Its name, for messages.

    Returns
    -------
    at : ndarray of int
        Positions in `rows`.
    labels : Series of str

    Raises
    ------
    FtransferError
        If the file cannot be read, holds no label, gives an image two, or names one that is not among the rows.
    """
    file = local(file, "a file of labels")
    try:
        table = read_rows(read_bytes(file), file, file.suffix.lower())
    except (OSError, ValueError) as error:
        if isinstance(error, FtransferError):
            raise
        raise FtransferError(f"the target labels in {file} cannot be read: {error}") from error
    missing = [name for name in ("path", "label") if name not in table]
    if missing:
        raise FtransferError(
            f"{file} has no column {' and '.join(missing)}; it needs path and label, and has {', '.join(table)}"
        )
    key = [name for name in ("root", "path") if name in table]
    table["label"] = without_minus_one(read_labels(table["label"]), file)
    table = table[[*key, "label"]].dropna().drop_duplicates()
    twice = table["path"][table[key].duplicated()]
    if len(twice):
        raise FtransferError(f"{file} gives two labels for {twice.iloc[0]}")
    if table.empty:
        raise FtransferError(f"{file} has no labels")
    rows = rows.reset_index(drop=True)
    found = rows[key].astype(object).assign(at=rows.index).merge(table, on=key, how="right")
    strange = found["path"][found["at"].isna()]
    if len(strange):
        raise FtransferError(
            f"{file} lists {len(strange)} images that are not in the target '{target}', such as "
            f"{strange.iloc[0]}; paths look like {rows['path'].iloc[0]}"
        )
    several = found["path"][found[key].duplicated()]
    if len(several):
        raise FtransferError(
            f"{several.iloc[0]} is the path of several images of '{target}', in different folders; add the "
            f"column root of the manifest to {file}"
        )
    return found["at"].to_numpy(dtype=int), found["label"]
