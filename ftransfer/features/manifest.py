"""The manifest of a feature set: one row an image, in one Parquet file."""

from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ftransfer.features.parts import pack_hashes

FIELDS = {
    "root": "string",
    "path": "string",
    "sha256": "string",  # 64 hexadecimal digits; missing until the image was read
    "label": "string",
    "domain": "string",
    "group": "string",
    "status": "string",  # "ok", "pending" (not read yet) or "error"
    "error": "string",
    "size": "Int64",  # bytes
    "mtime": "Int64",  # nanoseconds; with path and size it only spares reading an unchanged file again
}
FOUND = ("sha256", "status", "error", "size", "mtime")  # columns that an extraction fills in
LABELS = "label:"  # such a column holds the labels of a further task, by its name

GROUP = 2**16  # rows of the manifest that are written, and can be read, at once


def column_kinds(table: pd.DataFrame) -> dict[str, str]:
    """Name the columns of a manifest and their types: `FIELDS`, and further columns of labels."""
    return FIELDS | {name: "string" for name in table if str(name).startswith(LABELS)}


def fill_in(manifest: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Put what an extraction found about some rows of a manifest into it, by their index."""
    for name in FOUND:  # a column at a time: pandas 3.1 fails to assign several that lack values
        manifest.loc[rows.index, name] = rows[name].array


def write_manifest(table: pd.DataFrame, out: BinaryIO) -> None:
    table = table.reindex(columns=list(kinds := column_kinds(table))).astype(kinds)
    repeated = ["root", "label", "domain", "group", "status", "error", *list(kinds)[len(FIELDS) :]]
    table = pa.Table.from_pandas(table, preserve_index=False)
    # hashes do not shrink; a group of rows is kept in memory until it is written
    kind = {"compression": "none", "write_page_checksum": True, "row_group_size": GROUP}
    pq.write_table(table, out, use_dictionary=repeated, **kind)


def find_rows(wanted: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """Return where in `rows` each wanted one is, -1 where it is not."""
    first = len(wanted) - len(rows)
    if first >= 0 and wanted[first:].reset_index(drop=True).equals(rows.reset_index(drop=True)):
        # as a rule they were listed last, and an index of them would take much memory
        return np.r_[np.full(first, -1), np.arange(len(rows))]
    there = rows.assign(at=np.arange(len(rows))).drop_duplicates(list(rows))
    at = wanted.merge(there, how="left", on=list(rows))["at"]
    return at.fillna(-1).to_numpy(dtype=int)


def check_manifest(table: pd.DataFrame) -> None:
    """Raise ValueError where a manifest holds what `write_manifest` was never given."""
    ok = table["status"] == "ok"
    if not table["status"].isin(["ok", "pending", "error"]).all():
        raise ValueError("a status is not ok, pending or error")
    if table[["path", "domain"]].isna().any(axis=None) or table.loc[ok, "sha256"].isna().any():
        raise ValueError("a path, a domain or a hash is missing")
    pack_hashes(table["sha256"].dropna())
