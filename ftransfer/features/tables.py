"""Feature sets from tables of numbers, and back: NumPy, Parquet and CSV.

Embeddings made elsewhere come in with their labels and domains, whatever they are of: images, texts, tables.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ftransfer.errors import FtransferError, unknown
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.manifest import LABELS, column_kinds
from ftransfer.storage.places import local, place
from ftransfer.storage.reading import refuse_irregular
from ftransfer.storage.writing import whole, writing

PART_ROWS = 8192
TEXTS = ("label", "domain", "path", "group", "sha256")
NPZ_KEYS = {
    "embedding": ("X", "features", "embeddings", "embedding"),
    "label": ("y", "label", "labels"),
    "domain": ("domain", "domains"),
    "path": ("path", "paths"),
    "group": ("group", "groups"),
    "sha256": ("sha256",),
}


@dataclass
class _Table:
    """What a file holds: numbers (n, width) float32, texts by name, and the columns that the numbers are from."""

    X: np.ndarray
    texts: dict[str, list]
    columns: list[str]


def import_features(
    files: Sequence,
    out,
    *,
    domain: str | None = None,
    labels: Sequence = (),
    embedding_columns: str | None = None,
    columns: dict[str, str] | None = None,
) -> tuple[FeatureSet, int]:
    """Make a feature set of embeddings that were made elsewhere.

    Parameters
    ----------
    files : list of str or path
        ``.npy`` (n, width); ``.npz`` with the keys X, y, domain, path, group, of which X alone is needed;
        ``.parquet`` or ``.csv`` with a column of lists or a column a number. All of one width.
    out : str or path
        Folder of the feature set. The same files again change nothing but labels and domains.
    domain : str, optional
        Domain of all rows. Default: the table's column; without one, the name of each file.
    labels : list of str or path
        A file a table with a label a line (an empty line: no label), or ``.npy``.
    embedding_columns : str, optional
        Columns of numbers, with commas, or the prefix of their names. Default: a column of lists, else every
        numeric column but those below.
    columns : dict, optional
        Where ``label``, ``domain``, ``path``, ``group`` and ``sha256`` (of what a row was made from) are in a
        table, if not under these names. Without a path, a row's number is its name. ``label:NAME`` is a further
        column of labels, of the task NAME; one that has such a name in the table is taken as it is.

    Returns
    -------
    FeatureSet, and how many embeddings were not there before.

    Raises
    ------
    FtransferError
        If a file cannot be read as said, a number is not finite, or `out` holds something else.
    """
    files = [local(str(file), "a table to import") for file in files]
    labels = [local(str(file), "a file of labels") for file in labels]
    if labels and len(labels) != len(files):
        raise FtransferError(f"{len(labels)} files of labels for {len(files)} tables; give one for each")
    tables = [_read(file, embedding_columns, columns or {}) for file in files]
    widths = sorted({table.X.shape[1] for table in tables})
    if len(widths) > 1:
        raise FtransferError(f"all tables need as many numbers a row; found {', '.join(map(str, widths))}")
    frames = []
    for i, (file, table) in enumerate(zip(files, tables, strict=True)):
        _refuse_not_finite(file, table)
        if labels:
            table.texts["label"] = _read_labels(labels[i], len(table.X))
        for name in table.texts:
            if name == "label" or name.startswith(LABELS):
                table.texts[name] = _labels(file, table.texts[name])
        frames.append(_manifest_rows(file, table, domain))
        _refuse_two_of_one_hash(file, frames[-1], table.X)
    # keys tell content only if all tables say which; those of a file without them are of the numbers themselves
    fingerprint = {
        "format": 1,
        "backbone": "imported",
        "weights": "sha256:" + _digest(files),
        "layers": [{"name": "embedding", "width": widths[0]}],
        "columns": [table.columns for table in tables],
        "rows": "content" if all("sha256" in table.texts for table in tables) else "numbers",
        "dtype": "float32",
    }
    features = FeatureSet.create(out, fingerprint)
    before = len(features.done())
    for frame, table in zip(frames, tables, strict=True):
        for start in range(0, len(frame), PART_ROWS):
            some = slice(start, start + PART_ROWS)
            features.write_part(frame["sha256"].tolist()[some], table.X[some])
    features.list_rows(lambda old: pd.concat(frames, ignore_index=True))
    return features, len(features.done()) - before


def _read(file: Path, embedding_columns, columns) -> _Table:
    if not file.is_file():
        near = sorted(p.name for p in file.parent.iterdir()) if file.parent.is_dir() else []
        raise unknown("file", file.name, near, plural=f"in {file.parent}")
    kind = file.suffix.lower()
    if kind not in (".npy", ".npz", ".parquet", ".csv"):
        raise FtransferError(f"{file} is no table of embeddings: they are .npy, .npz, .parquet or .csv")
    try:
        table = (
            _read_numpy(file) if kind in (".npy", ".npz") else _read_arrow(file, embedding_columns, columns)
        )
    except FtransferError:
        raise
    except (ValueError, OSError, KeyError, TypeError, EOFError, BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if reason.startswith("Object arrays"):
            reason = (
                "it holds Python objects, which are never unpickled; save texts as np.array(texts, dtype=str)"
            )
        raise FtransferError(f"{file} cannot be read as a table of embeddings: {reason}") from error
    for name, values in table.texts.items():
        if len(values) != len(table.X):
            raise FtransferError(
                f"{file} has {len(table.X)} embeddings, but {len(values)} entries in '{name}'"
            )
    if table.X.size == 0:
        raise FtransferError(f"{file} has no rows")
    return table


def _read_numpy(file: Path) -> _Table:
    content = np.load(file, allow_pickle=False)
    found = {"embedding": content}
    if file.suffix.lower() == ".npz":
        known = {name: next((k for k in keys if k in content), None) for name, keys in NPZ_KEYS.items()}
        if known["embedding"] is None:
            raise FtransferError(f"{file} needs the key X; its keys: {', '.join(content.files)}")
        found = {name: content[key] for name, key in known.items() if key}
    found |= {name: content[name] for name in getattr(content, "files", []) if name.startswith(LABELS)}
    X = found.pop("embedding")
    if X.ndim != 2 or X.dtype.kind not in "fiu":
        raise FtransferError(f"{file} needs numbers of shape (rows, width); it holds {X.dtype} {X.shape}")
    return _Table(_float32(X), {name: _texts(v.tolist()) for name, v in found.items()}, ["X"])


def _read_arrow(file: Path, embedding_columns, columns) -> _Table:
    is_csv = file.suffix.lower() == ".csv"
    header = pa.csv.open_csv(file).schema.names if is_csv else pq.read_schema(file).names
    names = {name: name for name in header if name.startswith(LABELS)}
    names |= {name: columns.get(name) or name for name in (*TEXTS, *columns)}
    if is_csv:
        convert = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names.values(), pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        table = pa.csv.read_csv(file, convert_options=convert)
    else:
        table = pq.read_table(file)
    for name, column in names.items():
        if columns.get(name) and column not in table.column_names:
            raise unknown("column", column, table.column_names)
    texts = {
        n: _texts(table[column].to_pylist()) for n, column in names.items() if column in table.column_names
    }
    chosen = _choose_columns(file, table, embedding_columns, set(names.values()))
    arrays = [table[name].combine_chunks() for name in chosen]
    if _is_list(arrays[0].type):
        (rows,) = arrays
        lengths = pc.unique(pc.list_value_length(rows)).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            raise FtransferError(f"{file}: the lists in '{chosen[0]}' are not of one length ({lengths[:3]})")
        return _Table(
            _float32(rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)), texts, chosen
        )
    X = np.empty((len(table), len(arrays)), dtype=np.float32)
    for i, column in enumerate(arrays):
        X[:, i] = _float32(column.to_numpy(zero_copy_only=False))
    return _Table(X, texts, chosen)


def _choose_columns(file: Path, table: pa.Table, wanted: str | None, taken: set[str]) -> list[str]:
    numeric, lists = (
        [f.name for f in table.schema if f.name not in taken and is_kind(f.type)]
        for is_kind in (_is_number, _is_list)
    )
    if wanted is None:
        chosen = ["embedding"] if "embedding" in lists else lists[:1] if len(lists) == 1 else numeric
    else:
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        chosen = names if set(names) <= set(table.column_names) else []
        if not chosen and len(names) == 1:
            chosen = [name for name in [*numeric, *lists] if name.startswith(names[0])]
        for name in names if not chosen else []:
            if name not in table.column_names:
                raise unknown("column", name, table.column_names)
    if not chosen or not (set(chosen) <= set(numeric) or (len(chosen) == 1 and chosen[0] in lists)):
        raise FtransferError(
            f"{file} needs numbers: one column of lists, or numeric columns, named by --embedding-columns; "
            f"its columns: {', '.join(f'{f.name} ({f.type})' for f in list(table.schema)[:10])}"
        )
    return chosen


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and _is_number(kind.value_type)


def _float32(X: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused by its row
        return np.ascontiguousarray(X, dtype=np.float32)


def _texts(values: list) -> list:
    def text(value):
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        if value is None or value == "" or value != value:  # the last: NaN
            return None
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    return [text(value) for value in values]


def _labels(file: Path, texts: list) -> list:
    """Take -1 for a row without a label, as scikit-learn does."""
    if {text for text in texts if text} == {"-1", "1"}:
        raise FtransferError(
            f"{file} has the labels -1 and 1, but -1 marks a row without a label; name the two classes, or use 0 and 1"
        )
    return [None if text == "-1" else text for text in texts]


def _read_labels(file: Path, n_rows: int) -> list:
    try:
        refuse_irregular(file)
        if file.suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False).ravel().tolist()
        else:
            values = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise FtransferError(f"{file} cannot be read as labels: {error}") from error
    if len(values) != n_rows:
        raise FtransferError(f"{file} has {len(values)} labels for {n_rows} embeddings; give one a line")
    return _texts(values)


def _refuse_not_finite(file: Path, table: _Table) -> None:
    finite = np.isfinite(table.X).all(axis=1)
    if not finite.all():
        row = int((~finite).argmax())
        name = f" ({table.texts['path'][row]})" if "path" in table.texts else ""
        count = int((~finite).sum())
        raise FtransferError(
            f"{file} has {count} rows with numbers that are missing or not finite, the first is row {row + 1}{name}"
        )


def _manifest_rows(file: Path, table: _Table, domain: str | None) -> pd.DataFrame:
    n_rows, texts = len(table.X), table.texts
    numbers = [f"{i:0{len(str(n_rows))}d}" for i in range(1, n_rows + 1)]
    frame = pd.DataFrame({"root": f"imported:{file.name}", "path": texts.get("path") or numbers})
    frame["sha256"] = texts.get("sha256") or [hashlib.sha256(row.tobytes()).hexdigest() for row in table.X]
    frame["label"], frame["group"] = texts.get("label"), texts.get("group")
    for name in table.texts:
        if name.startswith(LABELS):
            frame[name] = table.texts[name]
    frame["domain"] = domain or texts.get("domain") or file.stem
    frame["status"] = "ok"
    for name in ("path", "sha256", "domain"):
        if frame[name].isna().any():
            row = int(frame[name].isna().argmax()) + 1
            raise FtransferError(f"{file} has rows without a {name}, the first is row {row}")
    bad = ~frame["sha256"].str.fullmatch("[0-9a-f]{64}")
    if bad.any():
        raise FtransferError(f"{file}: row {int(bad.argmax()) + 1} has no SHA-256 in the column 'sha256'")
    return frame


def _refuse_two_of_one_hash(file: Path, frame: pd.DataFrame, X: np.ndarray) -> None:
    codes, _ = pd.factorize(frame["sha256"])
    first = np.unique(codes, return_index=True)[1][codes]
    again = np.flatnonzero(first != np.arange(len(X)))
    for row in again[(X[again] != X[first[again]]).any(axis=1)][:1]:
        raise FtransferError(
            f"{file}: rows {first[row] + 1} and {row + 1} have one SHA-256, but other numbers"
        )


def _digest(files: list[Path]) -> str:
    digests = []
    for file in files:
        with open(file, "rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


# ---------------------------------------------------------------- out


def export_features(features: FeatureSet, file, kind: str) -> int:
    """Write a feature set as one table with path, label, domain, group, sha256 and the embedding.

    Parameters
    ----------
    features : FeatureSet
    file : str or path
        Replaced if it is there; appears whole or not at all.
    kind : "parquet", "npz" or "csv"
        Parquet has the embedding as one column of lists, CSV as a column a number (e0, e1, ...), npz as X with
        labels in y.

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
            arrays = {name: np.array(values.fillna("").tolist(), dtype=str) for name, values in texts.items()}
            np.savez(out, X=X, y=arrays.pop("label"), **arrays)
        else:
            columns = {name: pa.array(values, pa.string()) for name, values in texts.items()}
            if kind == "csv":
                columns |= {f"e{i}": np.ascontiguousarray(X[:, i]) for i in range(X.shape[1])}
                pa.csv.write_csv(pa.table(columns), out)
            else:
                columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), X.shape[1])
                pq.write_table(pa.table(columns), out, use_dictionary=["label", "domain", "group"])
    return len(rows)
