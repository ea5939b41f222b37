"""Read the look of a domain from some of its images."""

import hashlib

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError, unknown
from ftransfer.images.pixels import UNREADABLE, decoded
from ftransfer.images.read import read_bytes
from ftransfer.images.views import fourier_style

STYLES = 16  # images of a domain that lend their look


def read_styles(table: pd.DataFrame, domain: str) -> list[np.ndarray]:
    """Take the look of 16 images of a domain, the same ones in every run; labels are not looked at.

    Parameters
    ----------
    table : DataFrame with the columns ``root``, ``path`` and ``domain``
    domain : str

    Returns
    -------
    list of ndarray of shape (5, 5, 3), see `fourier_style`

    Raises
    ------
    FtransferError
        If the domain is not there, or none of the images can be read.
    """
    rows = table[table["domain"] == domain]
    if rows.empty:
        raise unknown("domain", domain, sorted(table["domain"].unique()))
    order = rows["path"].map(lambda path: hashlib.sha256(path.encode()).hexdigest()).argsort(kind="stable")
    styles: list[np.ndarray] = []
    for _, row in rows.iloc[order].iterrows():
        if len(styles) == STYLES:
            break
        try:
            with decoded(read_bytes(row["root"], row["path"])) as image:
                styles.append(fourier_style(image.convert("RGB")))
        except UNREADABLE:
            continue
    if not styles:
        raise FtransferError(f"no image of '{domain}' could be read")
    return styles
