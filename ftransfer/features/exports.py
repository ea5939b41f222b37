"""Feature sets to tables: Parquet, CSV and NumPy, for tools that read none of ours."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ftransfer.features.manifest import LABELS, column_kinds
from ftransfer.features.protocol import Features
from ftransfer.storage.places import Place, place
from ftransfer.storage.writing import whole, writing

FORMATS = ("parquet", "npz", "csv", "tsv")
TEXTS = ("label", "domain", "path", "group", "sha256")


def export_features(features: Features, file: str | Place, kind: str) -> int:
    """Write a feature set as one table with path, label, domain, group, sha256 and the embedding.

    Parameters
    ----------
    features : FeatureSet
    file : str or path
        Replaced if it is there; appears whole or not at all.
    kind : "parquet", "npz", "csv" or "tsv"
        Parquet has the embedding as one column of lists, CSV as a column a number (e0, e1, ...), with tabs as TSV, npz
        as X with labels in y.

    Returns
    -------
    int, the rows written; images that could not be read are left out.
    """
    rows = features.complete.query("status == 'ok'")
    X = features.load(rows)
    named = [*TEXTS, *(name for name in column_kinds(rows) if name.startswith(LABELS))]
    texts = {name: rows[name].astype(object).where(rows[name].notna(), None) for name in named}
    file = place(file)
    with writing(file.parent), whole(file) as out:
        if kind == "npz":
            arrays: dict[str, Any] = {
                name: np.array(values.fillna("").tolist(), dtype=str) for name, values in texts.items()
            }
            np.savez(out, X=X, y=arrays.pop("label"), **arrays)
        else:
            columns = {name: pa.array(values, pa.string()) for name, values in texts.items()}
            if kind in ("csv", "tsv"):
                columns |= {f"e{i}": np.ascontiguousarray(X[:, i]) for i in range(X.shape[1])}
                options = pa.csv.WriteOptions(delimiter="," if kind == "csv" else "\t")
                pa.csv.write_csv(pa.table(columns), out, options)
            else:
                columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
                pq.write_table(pa.table(columns), out, use_dictionary=["label", "domain", "group"])
    return len(rows)
