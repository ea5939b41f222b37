"""The table of images: one row an image, and how CSV and Parquet tables become one."""

import io
import os
from pathlib import Path, PurePosixPath

import pandas as pd

from ftransfer.errors import FtransferError, unknown
from ftransfer.storage.claims import refuse_bomb
from ftransfer.storage.places import Remote, clean, list_folders, place
from ftransfer.storage.reading import refuse_irregular

COLUMNS = ["root", "path", "label", "domain"]
LISTED = ["size", "mtime"]  # of images in a store


def stat_listed(child: Remote) -> tuple[int, int]:
    found = child.stat()
    return found.st_size, found.st_mtime_ns


def image_table(root, paths, label, domain, listed=None) -> pd.DataFrame:
    columns = {"path": [storable(p) for p in paths], "label": label, "domain": domain}
    if isinstance(root, Remote):
        stats = [(listed or {}).get(p, (None, None)) for p in paths]
        columns |= dict(zip(LISTED, zip(*stats, strict=True), strict=True))
    return pd.DataFrame({"root": storable(str(root)), **columns}, dtype=object)


def escape_bytes(name: str) -> str:
    """Escape the bytes of a name that are no valid UTF-8."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")


def storable(path: str) -> str:
    """Escape a path that is no valid UTF-8, and backslashes, so that it can be stored and found again."""
    return escape_bytes(path.replace("\\", "\\\\"))


def read_table(file: Path | Remote, domain: str | None, allow_outside: bool) -> pd.DataFrame:
    try:
        given = _read_columns(file).astype(object)  # here, where text that is no Unicode comes to light
    except FtransferError:
        raise
    except (ValueError, OSError, TypeError, ArithmeticError, RuntimeError) as error:  # of pandas and pyarrow
        raise FtransferError(f"{file} cannot be read as a table: {str(error)[:200]}") from error
    if "path" not in given.columns:
        raise FtransferError(
            f"{file} needs a column 'path'; its columns: {', '.join(map(str, given.columns))}"
        )
    if given.empty:
        raise FtransferError(f"{file} has no rows")
    if given["path"].isna().any():
        raise FtransferError(
            f"{file} has rows without a path, the first is row {given['path'].isna().argmax() + 1}"
        )
    if domain is None and "domain" not in given.columns:
        raise FtransferError(f"{file} has no column 'domain'; give one, or --domain NAME for all rows")
    paths, listed = _texts(given["path"]), None
    if isinstance(file, Remote):
        paths = [_inside(file, path) for path in paths]
        asked = list_folders(file.parent, sorted({path.parent for path in paths}))
        paths, listed = [str(path) for path in paths], {str(path): stat_listed(c) for c, path in asked}
    inside = None if isinstance(file, Remote) else file.parent.resolve()
    for path in paths if inside else ():
        if "://" in path or "\0" in path:
            raise FtransferError(f"{file} names {path!r:.200}, which is no file; fetch remote images before")
        if not allow_outside and not Path(os.path.realpath(inside / path)).is_relative_to(inside):
            raise FtransferError(
                f"{file} names {path}, which lies outside {inside}; --allow-outside permits it"
            )
    label = _texts(given["label"]) if "label" in given.columns else None
    domains = _texts(given["domain"]) if domain is None else domain
    if domain is None and None in domains:
        raise FtransferError(f"{file} has rows without a domain; give each one, or --domain NAME for all")
    return image_table(file.parent, paths, label, domains, listed)


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
            f"{file} names {clean(path)!r:.200}, which lies outside {file.parent}; put the table where all its images "
            f"lie below it"
        )
    return inside


def _read_columns(file: Path | Remote) -> pd.DataFrame:
    refuse_irregular(file)
    if not isinstance(file, Remote):
        refuse_bomb(file)
    content = io.BytesIO(file.read_bytes()) if isinstance(file, Remote) else file
    return pd.read_csv(content, dtype=str) if file.suffix.lower() == ".csv" else pd.read_parquet(content)


def read_labels(location, columns) -> pd.DataFrame:
    """Read columns of labels of the table that `find_images` was given, row by row; missing where there is none.

    Raises
    ------
    FtransferError
        If `location` is no table, or a column is not there.
    """
    file = place(str(location))
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise FtransferError("--label-column needs a .csv or .parquet table as IMAGES")
    table = _read_columns(file)
    for column in columns:
        if column not in table:
            raise unknown("label column", column, table.columns)
    return pd.DataFrame({column: _texts(table[column]) for column in columns}, dtype=object)


def _texts(values: pd.Series) -> list:
    return [str(value) if known else None for value, known in zip(values, values.notna(), strict=True)]
