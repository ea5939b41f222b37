"""Labels under other names, where two domains call one class differently: "0 - zero" and "0"."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from ftransfer.cells import read_label, read_labels, read_rows
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.manifest import LABELS
from ftransfer.storage.places import local
from ftransfer.storage.reading import read_bytes


def name_labels(
    rows: pd.DataFrame, column: str | None, label_map: dict[str, str] | str | Path | None
) -> pd.DataFrame:
    """Put the labels of a column into ``label``, each written one way and by the name that the map gives it.

    Parameters
    ----------
    rows : DataFrame
        Of a manifest.
    column : str, optional
        The task's name, of several columns of labels.
    label_map : dict, str or path, optional
        As `read_label_map` gives it, or its file.
    """
    labels = read_labels(rows["label" if column is None else _label_column(rows, column)])
    if label_map is not None:
        labels = rename(labels, label_map if isinstance(label_map, dict) else read_label_map(label_map))
    return rows.assign(label=labels)


def _label_column(manifest: pd.DataFrame, label: str) -> str:
    columns = {name.removeprefix(LABELS): name for name in ["label", *manifest] if name.startswith("label")}
    if label not in columns:
        raise unknown("label column", label, columns)
    return columns[label]


def read_label_map(file: str | Path) -> dict[str, str]:
    """Read a text table with the columns ``from`` and ``to``: the name of a class as it is, and as it shall be.

    Raises
    ------
    FtransferError
        If it cannot be read, a cell is empty, or a name shall have two others.
    """
    file = local(file, "a label map")
    try:
        table = read_rows(read_bytes(file), file, file.suffix.lower())
    except FtransferError:
        raise
    except (OSError, ValueError) as error:
        raise FtransferError(f"the label map {file} cannot be read: {error}") from error
    if not {"from", "to"} <= set(table):
        raise FtransferError(f"{file} needs the columns from and to; it has {', '.join(table)}")
    pairs = [(read_label(old), read_label(new)) for old, new in zip(table["from"], table["to"], strict=True)]
    found: dict[str, str] = {}
    for row, (old, new) in enumerate(pairs, 1):
        if old is None or new is None:
            raise FtransferError(
                f"{file}: row {row} is incomplete; each row needs a name in from and one in to"
            )
        if found.setdefault(old, new) != new:
            raise FtransferError(f"{file} maps '{old}' to two names, '{found[old]}' and '{new}'")
    return found


def rename(
    labels: Iterable[str | None], names: dict[str, str], what: str = "the label map"
) -> list[str | None]:
    """Give labels their other names.

    Raises
    ------
    FtransferError
        If a name in the map is none of the labels.
    """
    labels = list(labels)
    known = {label for label in labels if label is not None}
    for name in names:
        if name not in known:
            raise unknown(f"class of {what}", name, sorted(known), plural="classes")
    return [names.get(label, label) if label is not None else None for label in labels]


def guess_pair(source: Iterable[str], target: Iterable[str]) -> tuple[str, str] | None:
    """Find a class of the source and one of the target that may be the same by another name.

    >>> guess_pair(["0 - zero", "1 - one"], ["0", "1"]), guess_pair(["ash"], ["yew"])
    (('0 - zero', '0'), None)
    """
    target = sorted(target)
    plain = {_plain(name): name for name in reversed(target)}
    for name in sorted(source):
        words = [_plain(name), *re.findall(r"[^\W_]+", name.casefold())]
        near = next((plain[word] for word in words if word in plain), None)
        if near is None and (close := get_close_matches(_plain(name), plain, n=1, cutoff=0.85)):
            near = plain[close[0]]
        if near is not None:
            return name, near
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
