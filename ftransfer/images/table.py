"""The table of images: one row an image, and how CSV and Parquet tables become one."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from ftransfer.cells import (
    NAMES,
    find_column,
    find_separator,
    read_header,
    read_labels,
    read_rows,
    read_text,
    without_minus_one,
)
from ftransfer.errors import FtransferError, unknown
from ftransfer.images.kinds import is_image
from ftransfer.storage.claims import refuse_bomb
from ftransfer.storage.places import Place, Remote, Unreachable, clean, list_folders, place
from ftransfer.storage.reading import refuse_irregular

COLUMNS = ["root", "path", "label", "domain"]
TABLES = (".csv", ".tsv", ".tab", ".txt", ".parquet")
LISTED = ["size", "mtime"]  # of images in a store


def stat_listed(child: Remote) -> tuple[int, int]:
    found = child.stat()
    return found.st_size, found.st_mtime_ns


def image_table(
    root: Place | str,
    paths: Iterable[str],
    label: Sequence[str | None] | None,
    domain: Sequence[str | None] | str | None,
    listed: Mapping[str, tuple[int, int] | None] | None = None,
) -> pd.DataFrame:
    columns = {"path": [storable(p) for p in paths], "label": label, "domain": domain}
    if isinstance(root, Remote):
        stats = [(listed or {}).get(p, (None, None)) for p in paths]
        columns |= dict(zip(LISTED, zip(*stats, strict=True), strict=True))
    return pd.DataFrame({"root": storable(str(root)), **columns}, dtype=object)


def escape_bytes(name: str) -> str:
    """Escape the bytes of a name that are no valid UTF-8."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")


def storable(path: str) -> str:
    """Escape a path that is not valid UTF-8, and backslashes, so that it can be stored and found again."""
    return escape_bytes(path.replace("\\", "\\\\"))


def read_table(
    file: Place, domain: str | None, allow_outside: bool, columns: dict[str, str | None] | None = None
) -> pd.DataFrame:
    """Read a table of images, or a list of paths and labels.

    Parameters
    ----------
    file : Path or Remote
        ``.csv``, ``.tsv``, ``.txt`` or ``.parquet``, with a column path; or a ``.txt`` without a header, a path and its
        label a line.
    domain : str, optional
        Of all rows.
    allow_outside : bool
        See `find_images`.
    columns : dict, optional
        Where ``path``, ``label`` and ``domain`` are under other names.

    Raises
    ------
    FtransferError
        If it cannot be read as said, or names something that is not a file below its folder.
    """
    given, columns = _read_columns(file), columns or {}
    names = list(given)
    path = find_column(file, names, "path", columns.get("path"))
    if path is None:
        raise FtransferError(
            f"{file} needs a column 'path'; its columns: {', '.join(names)}; choose another with --path-column"
        )
    if given.empty:
        raise FtransferError(f"{file} has no rows")
    cells = [read_text(value) for value in given[path]]
    if None in cells:
        raise FtransferError(f"{file} has rows without a path; the first is row {cells.index(None) + 1}")
    paths = [cell for cell in cells if cell is not None]
    of_domain = find_column(file, names, "domain", columns.get("domain")) if domain is None else None
    if domain is None and of_domain is None:
        raise FtransferError(
            f"{file} has no column 'domain'; add one, choose another with --domain-column, or set --domain "
            f"NAME for all rows"
        )
    domains = read_labels(given[of_domain]) if domain is None else domain
    if domain is None and None in domains:
        raise FtransferError(f"{file} has rows without a domain; fill them in, or set --domain NAME for all")
    if (asked := columns.get("label")) and asked not in names:
        raise unknown("label column", asked, names)
    of_label = find_column(file, names, "label", columns.get("label"))
    label = without_minus_one(read_labels(given[of_label]), file) if of_label else None
    paths, listed = _refuse_outside(file, paths, allow_outside)
    return image_table(file.parent, paths, label, domains, listed)


def _refuse_outside(
    file: Place, paths: list[str], allow_outside: bool
) -> tuple[list[str], dict[str, tuple[int, int]] | None]:
    """Return the paths as they are on this system, and of a store what it says of each; refuse what lies elsewhere."""
    if isinstance(file, Remote):
        inside = [_inside(file, path) for path in paths]
        asked = list_folders(file.parent, sorted({path.parent for path in inside}))
        return [str(path) for path in inside], {str(path): stat_listed(c) for c, path in asked}
    folder = file.parent.resolve()
    paths = _from_windows(folder, paths)
    for path in paths:
        if "://" in path or "\0" in path:
            raise FtransferError(
                f"{file} names {path!r:.200}, which is not a file; download remote images first"
            )
        if not allow_outside and not Path(os.path.realpath(folder / path)).is_relative_to(folder):
            raise FtransferError(
                f"{file} lists {path}, which is outside {folder}; allow this with --allow-outside"
            )
    return paths, None


def _from_windows(folder: Path, paths: list[str]) -> list[str]:
    """Turn backslashes between folders around, where a table was written on Windows."""
    if os.sep == "\\":
        return paths
    return [
        path.replace("\\", "/") if "\\" in path and not os.path.lexists(folder / path) else path
        for path in paths
    ]


def _inside(file: Remote, path: str) -> PurePosixPath:
    """Return a path of a table in a store, relative to the table's folder; it cannot leave it."""
    inside = PurePosixPath(path.removeprefix(f"{file.parent}/"))
    if (
        "://" in path.removeprefix(f"{file.parent}/")
        or "\0" in path
        or inside.is_absolute()
        or ".." in inside.parts
    ):
        raise FtransferError(
            f"{file} names {clean(path)!r:.200}, which is outside {file.parent}; move the table to a folder "
            f"above all its images"
        )
    return inside


def names_domains(file: Place, given: str | None = None) -> bool:
    """Whether a table has a column of domains, under a name that is usual or the one given."""
    names = list(_read_columns(file))
    return find_column(file, names, "domain", given) is not None


def _read_columns(file: Place) -> pd.DataFrame:
    """Read a table of texts; only an empty cell is missing.

    Raises
    ------
    FtransferError
        If it cannot be read.
    """
    try:
        refuse_irregular(file)
        if not isinstance(file, Remote):
            refuse_bomb(file)
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(io.BytesIO(file.read_bytes()) if isinstance(file, Remote) else file)
            table = table.reset_index() if any(table.index.names) else table
            table.columns = read_header(table.columns, file)
            return table.astype(object)  # here, where text that is no Unicode comes to light
        content = file.read_bytes()
        if file.suffix.lower() == ".txt" and (listed := _read_list(content.decode("utf-8-sig"))) is not None:
            return listed
        return read_rows(content, file, file.suffix.lower())
    except (FtransferError, Unreachable):
        raise
    except (ValueError, OSError, TypeError, ArithmeticError, RuntimeError) as error:  # of pandas and pyarrow
        raise FtransferError(f"{file} cannot be read as a table: {str(error)[:200]}") from error


def _read_list(text: str) -> pd.DataFrame | None:
    """Read a path and its label a line, as DomainNet has them; None if the first line names columns.

    The first folder of a path is its domain, if all lie in folders two deep or more.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    names = {name.strip().strip('"').lower() for name in first.split(find_separator(first))}
    if names & set(NAMES["path"]) or not any(is_image(word) for word in (first, first.rsplit(None, 1)[0])):
        return None
    rows = []
    for line in lines:
        path, _, label = line.rpartition("\t" if "\t" in line else " ")
        bare = not path or is_image(label)
        path = line if bare else path.strip()
        rows.append((path, None if bare else label, path.split("/")[0] if path.count("/") > 1 else None))
    table = pd.DataFrame(rows, columns=["path", "label", "domain"], dtype=object)
    return table.drop(columns="domain") if table["domain"].isna().any() else table


def read_label_columns(location: str | Place, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of labels of the table that `find_images` was given, row by row; missing where there is none.

    Raises
    ------
    FtransferError
        If `location` is not a table, or a column is not there.
    """
    file = place(str(location))
    if file.suffix.lower() not in TABLES:
        raise FtransferError("--label-column needs a .csv or .parquet table, a .tsv or a .txt as IMAGES")
    table = _read_columns(file)
    for column in columns:
        if column not in table:
            raise unknown("label column", column, table.columns)
    found = {column: without_minus_one(read_labels(table[column]), file) for column in columns}
    return pd.DataFrame(found, dtype=object)
