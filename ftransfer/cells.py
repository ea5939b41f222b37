"""What a cell of a table means, the same wherever one is read: what is missing, how a label or a header is written."""

import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

import pandas as pd

from ftransfer.errors import FtransferError, unknown

SEPARATORS = ",;\t|"
NAMES = {
    "label": ("label", "labels", "y"),
    "domain": ("domain", "domains"),
    "path": ("path", "paths"),
    "group": ("group", "groups"),
    "sha256": ("sha256",),
}
WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
MEASURED = re.compile(
    r"-\d+(\.\d+)?|\d+\.\d*[1-9]\d*"
)  # a number below zero, or a fraction: no code of a class


def read_text(value: object) -> str | None:
    """Turn a cell into text; only an empty one is missing: NA, None and null are names like any other.

    A whole number is written without a decimal point, whatever type it was stored in.

    >>> read_text("NA"), read_text(3.0), read_text(" "), read_text(float("nan"))
    ('NA', '3', None, None)
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if not isinstance(value, str):
        try:
            if value is None or value != value:  # NaN
                return None
            value = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        except TypeError:  # pandas' NA has no truth
            return None
    return value if value.strip() else None


def read_label(value: object) -> str | None:
    """Turn a cell, a folder's name or an argument into a label or domain: composed (NFC), without outer blanks.

    >>> read_label(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    text = read_text(value)
    return text if text is None else unicodedata.normalize("NFC", text).strip()


def read_labels(values: Iterable) -> list[str | None]:
    """Turn a column into labels; whole numbers that gaps have made "1.0" are written as whole numbers again.

    >>> read_labels(["1.0", "", "2.0"]), read_labels(["1.0", "1.5"])
    (['1', None, '2'], ['1.0', '1.5'])
    """
    known = {}
    for value in (values := list(values)):
        if value.__hash__ and value not in known:
            known[value] = read_label(value)
    labels = [known[value] if value.__hash__ else read_label(value) for value in values]
    names = {label for label in labels if label is not None}
    if any("." in name for name in names) and all(WHOLE.fullmatch(name) for name in names):
        labels = [label and label.split(".")[0] for label in labels]
    return labels


def without_minus_one(labels: list[str | None], what: object) -> list[str | None]:
    """Take -1 for a row without a label, as scikit-learn does, but not where other labels are fractions or negative.

    >>> without_minus_one(["-1", "0", "1"], "t.csv"), without_minus_one(["-1", "0.5"], "t.csv")
    ([None, '0', '1'], ['-1', '0.5'])

    Raises
    ------
    FtransferError
        If the labels are -1 and 1, which are two classes elsewhere.
    """
    names = {label for label in labels if label is not None}
    if any(MEASURED.fullmatch(name) for name in names - {"-1", "-1.0"}):
        return labels
    if names == {"-1", "1"}:
        raise FtransferError(
            f"{what} has the labels -1 and 1, but -1 marks a row without a label; use class names, or 0 and 1"
        )
    return [None if label == "-1" else label for label in labels]


def read_header(names: Iterable, what: object) -> list[str]:
    """Clean the names of columns: no outer blanks, and "Unnamed: 0" in place of none, as pandas has it.

    Raises
    ------
    FtransferError
        If two columns have one name.
    """
    names = [str(name).removeprefix("\ufeff").strip() for name in names]
    names = [name or f"Unnamed: {i}" for i, name in enumerate(names)]
    twice = (
        next((name for name in names if names.count(name) > 1), None)
        if len(set(names)) < len(names)
        else None
    )
    if twice is not None:
        raise FtransferError(f"{what} has two columns named '{twice}'; rename one")
    return names


def find_column(what: object, names: Sequence[str], role: str, given: str | None = None) -> str | None:
    """Say which column is the label, domain, path, group or sha256; None if there is none.

    Parameters
    ----------
    what : path
        The file, for messages.
    names : list of str
    role : str
        One of `NAMES`, or a further label.
    given : str, optional
        The column that a user named.

    Raises
    ------
    FtransferError
        If the column given is not there, or either of two may be the one.
    """
    if given:
        if given not in names:
            raise unknown("column", given, names)
        return given
    there = [name for name in NAMES.get(role, ()) if name in names]
    if len(there) > 1:
        option = f": --{role}-column" if role in ("label", "domain", "path") else ""
        raise FtransferError(
            f"{what} has the columns {' and '.join(map(repr, there))}, and either may be the {role}; choose "
            f"one{option}"
        )
    return there[0] if there else None


def find_separator(line: str, suffix: str = ".csv") -> str:
    """Say what separates the columns of a text table, from its first line.

    >>> find_separator("path;label"), find_separator("path", ".tsv")
    (';', '\\t')
    """
    if suffix in (".tsv", ".tab"):
        return "\t"
    bare = re.sub(r'"[^"]*"', "", line)
    return max(SEPARATORS, key=bare.count)  # the first of those that come equally often


def read_rows(content: bytes, what: object, suffix: str = ".csv") -> pd.DataFrame:
    """Read a text table, each cell as text; only an empty cell is missing.

    Parameters
    ----------
    content : bytes
        UTF-8.
    what : path
        The file, for messages.
    suffix : str
        See `find_separator`.

    Raises
    ------
    ValueError
        If it is not a table.
    """
    text = content.decode("utf-8-sig")
    separator = find_separator(next((line for line in text.splitlines() if line.strip()), ""), suffix)
    kind = {"sep": separator, "dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
    table = pd.read_csv(io.StringIO(text), skipinitialspace=True, **kind)
    table.columns = read_header([name if "Unnamed: " not in name else "" for name in table], what)
    return table.astype(object)
