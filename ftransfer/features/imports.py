"""Feature sets from tables: embeddings made elsewhere, whatever they are of, with their labels and domains."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.cells import read_label, read_labels, without_minus_one
from ftransfer.errors import FtransferError
from ftransfer.features.columns import EMBEDDING, split_patterns
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.manifest import LABELS
from ftransfer.features.probe import keep_lengths, row_lengths
from ftransfer.features.tables import Table, read_features
from ftransfer.storage.claims import refuse_bomb
from ftransfer.storage.places import Place, local, place
from ftransfer.storage.reading import refuse_irregular

PART_ROWS = 8192
RESULTS = ("classes.csv", "decide.csv", "predictions.csv", "results.csv")  # of a run folder


def import_features(
    files: Sequence,
    out: str | Place,
    *,
    domain: str | None = None,
    labels: Sequence = (),
    embedding_columns: Sequence[str] | str | None = None,
    columns: dict[str, str | None] | None = None,
    ignore: Sequence[str] | str | None = None,
    missing: str = "refuse",
) -> tuple[FeatureSet, int]:
    """Make a feature set of embeddings that were made elsewhere; see also `import_named_features`.

    Parameters
    ----------
    files : list of str or path
        ``.npy`` (n, width); ``.npz`` with the keys X, y, domain, path, group, of which X alone is needed;
        ``.parquet``, ``.csv`` or ``.tsv`` with a column of lists or a column a number. All of one width; columns are
        matched by their names.
    out : str or path
        Folder of the feature set. The same files again change nothing but labels and domains.
    domain : str, optional
        Domain of all rows. Default: the table's column; without one, the name of each file.
    labels : list of str or path
        A file a table with a label a line (an empty line: no label), or ``.npy``.
    embedding_columns : str or list of str, optional
        The features: names of columns or patterns such as ``f*``, with commas. Default: a column of lists, else every
        column of numbers; one that may be a row number, a key or a label is refused.
    columns : dict, optional
        Where ``label``, ``domain``, ``path``, ``group`` and ``sha256`` (of what a row was made from) are in a
        table, if not under these names. Without a path, a row's number is its name. ``label:NAME`` is a further
        column of labels, of the task NAME; one that has such a name in the table is taken as it is.
    ignore : str or list of str, optional
        Columns to leave out, as `embedding_columns`; in an array by their number.
    missing : "refuse" or "drop-rows", default="refuse"
        What to do about a row in which a number is missing or is none.

    Returns
    -------
    FeatureSet, with the notes of the import as the attribute ``imported``; and how many embeddings were not there
    before.

    Raises
    ------
    FtransferError
        If a file cannot be read as said, its columns are not those of the others, what is a feature cannot be told, a
        number is missing, or `out` holds something else.
    """
    how = _How(domain, labels, embedding_columns, columns or {}, ignore, missing)
    return _import(files, out, how, None)


def import_named_features(files: Sequence, out: str | Place, name: str, **how: Any) -> tuple[FeatureSet, int]:
    """Make a feature set of embeddings that were made elsewhere, or go on with one of that name.

    The name is the identity of what embedded them: rows of further tables under it are added to the feature set, and a
    model of it labels them. Their columns and their scale are checked.

    Parameters
    ----------
    files, out
        As for `import_features`.
    name : str
        Of the model that made the embeddings, such as ``minilm-l6``.
    **how
        ``domain``, ``labels``, ``embedding_columns``, ``columns``, ``ignore`` and ``missing`` of `import_features`.

    Returns
    -------
    As `import_features`.

    Raises
    ------
    FtransferError
        As `import_features`; if `out` holds embeddings of another name, columns, width or scale.
    """
    if not name.strip() or name.startswith("sha256:"):
        raise FtransferError(
            f"--name must say which model made the embeddings, such as minilm-l6; given {name!r}"
        )
    return _import(files, out, _How(**how), name)


@dataclass(frozen=True)
class _How:
    """How tables are read; see `import_features`."""

    domain: str | None = None
    labels: Sequence = ()
    embedding_columns: Sequence[str] | str | None = None
    columns: dict[str, str | None] = field(default_factory=dict)
    ignore: Sequence[str] | str | None = None
    missing: str = "refuse"


def _import(files: Sequence, out: str | Place, how: _How, name: str | None) -> tuple[FeatureSet, int]:
    if how.missing not in ("refuse", "drop-rows"):
        raise FtransferError(f"missing must be 'refuse' or 'drop-rows'; given {how.missing!r}")
    files = [local(str(file), "a table to import") for file in files]
    for file in files:
        if file.name in RESULTS and (file.parent / "results.json").is_file():
            raise FtransferError(
                f"{file} is a result of ftransfer fit, not a table of embeddings; the features are in the "
                f"folder that fit read"
            )
    labels = [local(str(file), "a file of labels") for file in how.labels]
    if labels and len(labels) != len(files):
        raise FtransferError(f"{len(labels)} label files for {len(files)} tables; give one per table")
    if labels and how.missing == "drop-rows":
        raise FtransferError(
            "rows cannot be dropped when the labels are in separate files; fix the missing numbers instead"
        )
    there = _columns_there(out, name)
    wanted, left_out = split_patterns(how.embedding_columns), split_patterns(how.ignore)
    tables = []
    for file in files:
        asked = wanted or _names_there(there, file)
        tables.append(read_features(file, how.columns, asked, left_out, how.missing == "drop-rows"))
    first_file, first = (Path(str(name)), there) if there else (files[0], tables[0])
    tables = [_in_order(first_file, first, *each) for each in zip(files, tables, strict=True)]
    frames = []
    for i, (file, table) in enumerate(zip(files, tables, strict=True)):
        if labels:
            table.texts["label"] = without_minus_one(_read_label_file(labels[i], len(table.X)), labels[i])
        frames.append(_manifest_rows(file, table, read_label(how.domain)))
        _refuse_two_of_one_hash(file, frames[-1], table.X)
    fingerprint = _make_fingerprint(files, tables, name)
    if there:
        fingerprint["rows"] = FeatureSet(out).fingerprint.get("rows")
    features = FeatureSet.create(out, fingerprint)
    if name:
        keep_lengths(features, row_lengths(np.concatenate([table.X for table in tables])))
    before = len(features.done())
    for frame, table in zip(frames, tables, strict=True):
        for start in range(0, len(frame), PART_ROWS):
            some = slice(start, start + PART_ROWS)
            features.write_part(frame["sha256"].tolist()[some], table.X[some])
    # rows of another file are more of a domain, not in place of what is there
    features.list_rows(lambda old: pd.concat(frames, ignore_index=True))
    features.imported = tuple(n for each in zip(files, tables, strict=True) for n in _describe(*each))
    return features, len(features.done()) - before


def _is_nameless(names: list[str]) -> bool:
    """Whether a place is all that tells a number: of a list or an array, or as `export_features` names them."""
    return (len(names) == 1 and names[0] in EMBEDDING) or names == [f"e{i}" for i in range(len(names))]


def _columns_there(out: str | Place, name: str | None) -> Table | None:
    """Return a table without rows whose columns are those of the feature set `out`; None if it is not there yet."""
    if not name or not (place(out) / "fingerprint.json").is_file():
        return None
    features = FeatureSet(out)
    names = features.fingerprint.get("columns")
    if (
        features.fingerprint.get("weights") != name
        or not names
        or not all(isinstance(each, str) for each in names)
    ):
        return None  # which is refused, with the difference named
    return Table(np.empty((0, features.width), np.float32), {}, names)


def _names_there(there: Table | None, file: Path) -> list[str]:
    """Name the columns to take of a file, where a feature set says which and the file has names."""
    if there is None or _is_nameless(there.columns) or file.suffix.lower() in (".npy", ".npz"):
        return []
    return there.columns


def _make_fingerprint(files: list[Path], tables: list[Table], name: str | None) -> dict:
    names = tables[0].columns
    of_name = (
        ["embedding"] if _is_nameless(names) else names
    )  # a place tells the former, whatever it is called
    # keys tell content only if all tables say which; those of a file without them are of the numbers themselves
    has_content = all("sha256" in table.texts for table in tables)
    return {
        "format": 1,
        "backbone": "imported",
        "weights": name or "sha256:" + _digest(files),
        "layers": [{"name": "embedding", "width": tables[0].X.shape[1]}],
        "columns": of_name if name else [table.columns for table in tables],
        "rows": "content" if has_content else "numbers",
        "dtype": "float32",
    }


def _in_order(first_file: Path, first: Table, file: Path, table: Table) -> Table:
    """Put a table's columns into the order of the first table's.

    Raises
    ------
    FtransferError
        If it has other columns.
    """
    if _is_nameless(first.columns) and _is_nameless(table.columns):
        if first.X.shape[1] != table.X.shape[1]:
            widths = ", ".join(map(str, sorted({first.X.shape[1], table.X.shape[1]})))
            raise FtransferError(f"all tables need the same number of features; found {widths}")
        return table
    sides = [(first_file, first.columns, table.columns), (file, table.columns, first.columns)]
    found = []
    for whose, own, other in sides:
        only = [name for name in own if name not in set(other)]
        more = f" and {len(only) - 5} more" if len(only) > 5 else ""
        found += [f"only {whose.name} has {', '.join(only[:5])}{more}"] if only else []
    if found or first.X.shape[1] != table.X.shape[1]:
        raise FtransferError(
            f"all tables need the same feature columns, but {'; '.join(found)}; choose common ones with "
            f"--features, or import each table into its own folder"
        )
    if table.columns == first.columns:
        return table
    at = {name: i for i, name in enumerate(table.columns)}
    return replace(
        table, X=np.ascontiguousarray(table.X[:, [at[name] for name in first.columns]]), columns=first.columns
    )


def _describe(file: Path, table: Table) -> list[str]:
    """Say what of a table was not taken."""
    notes = []
    if table.dropped:
        notes.append(f"{file.name}: {table.dropped} rows with missing numbers were dropped")
    if table.unused:
        more = f" and {len(table.unused) - 5} more" if len(table.unused) > 5 else ""
        notes.append(f"{file.name}: not features: {', '.join(table.unused[:5])}{more}")
    return notes


def _read_label_file(file: Path, n_rows: int) -> list:
    try:
        refuse_irregular(file)
        refuse_bomb(file)
        if file.suffix.lower() == ".npy":
            values = np.load(file, allow_pickle=False).ravel().tolist()
        else:
            values = file.read_text("utf-8-sig").splitlines()
    except FtransferError:
        raise
    except (OSError, ValueError, SystemError) as error:  # the latter: text that is no Unicode
        raise FtransferError(f"{file} cannot be read as labels: {error}") from error
    if len(values) != n_rows:
        raise FtransferError(f"{file} has {len(values)} labels for {n_rows} embeddings; give one per line")
    return read_labels(values)


def _manifest_rows(file: Path, table: Table, domain: str | None) -> pd.DataFrame:
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
            raise FtransferError(f"{file} has rows without a {name}; the first is row {row}")
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
            f"{file}: rows {first[row] + 1} and {row + 1} have the same SHA-256 but different numbers"
        )


def _digest(files: list[Path]) -> str:
    digests = []
    for file in files:
        with open(file, "rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
