"""Find images, and read them: folders, tables and torchvision data sets become one table.

A location becomes a pandas table with one row an image and the columns ``root, path, label, domain``; of images
in a store also ``size, mtime`` as they were listed.
``path`` is relative to ``root``; ``label`` and ``domain`` are strings, and ``label`` is missing where
nobody gave one.
"""

import inspect
import io
import os
import re
import stat
import sys
import time
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.error import URLError

import numpy as np
import pandas as pd
from PIL import Image

from ftransfer.errors import FtransferError, unknown
from ftransfer.storage import READERS, Remote, Unreachable, clean, is_remote, list_folders, place

SUFFIXES = tuple(".jpg .jpeg .jpe .png .ppm .pgm .pbm .bmp .gif .tif .tiff .webp .avif .jp2".split())  # noqa: SIM905
COLUMNS = ["root", "path", "label", "domain"]
LISTED = ["size", "mtime"]  # of images in a store


def find_images(location, *, domain=None, labels=True, allow_outside=False) -> pd.DataFrame:
    """List the images of a folder, a table or a torchvision data set.

    Parameters
    ----------
    location : str or path
        A folder ``<root>/<domain>/<class>/*`` (a domain without class folders is unlabelled), or
        ``<root>/<class>/*`` or ``<root>/*`` with `domain` given; a ``.csv`` or ``.parquet`` table with
        the column ``path`` (relative to the table's folder) and, if known, ``label`` and ``domain``;
        ``torchvision:NAME`` or ``torchvision:NAME:SPLIT`` for a data set of torchvision, looked for
        under ``$TORCH_HOME/datasets`` (``torchvision:NAME:SPLIT:FOLDER``: under FOLDER) and downloaded
        if it is not there. Folders and tables may be URLs that fsspec knows, ``s3://bucket/photos``.
    domain : str, optional
        Name of the domain that all the images belong to.
    labels : bool, default=True
        Whether folder names, or the column ``label``, are taken as labels.
    allow_outside : bool, default=False
        Whether paths in a table may be absolute or lead out of the table's folder.

    Returns
    -------
    DataFrame with the string columns ``root, path, label, domain``, sorted by path; of images in a store, with
    ``size`` and ``mtime`` too, see `stat_image`.

    Raises
    ------
    FtransferError
        If nothing is there, no image is found, or it cannot be told which folder is a domain.
    """
    location = str(location)
    if location.startswith("torchvision:"):
        table = _torchvision_table(location)
        table["domain"] = table["domain"] if domain is None else domain
    else:
        path = place(location)
        if path.is_dir():
            table = _folder_table(path.resolve(), domain, labels)
        elif not path.exists():
            there = isinstance(path, Remote) or path.parent.is_dir()
            near = sorted(p.name for p in path.parent.iterdir()) if there else []
            raise unknown("folder or table", path.name, near, plural=f"in {path.parent}")
        elif path.suffix.lower() in (".csv", ".parquet"):
            table = _read_table(path.resolve(), domain, allow_outside)
        else:
            raise FtransferError(
                f"{location} is one file; IMAGES is a folder, a .csv or .parquet table, or torchvision:NAME"
            )
    if not labels:
        table["label"] = None
    return table[COLUMNS + LISTED * is_remote(location)].reset_index(drop=True)


def _folder_table(root: Path | Remote, domain: str | None, labels: bool) -> pd.DataFrame:
    found, other = _list_remote(root) if isinstance(root, Remote) else _list_folder(root)
    listed = found if isinstance(root, Remote) else None
    paths = sorted(found, key=lambda path: path.replace("/", "\0"))  # folder by folder
    if not paths:
        held = f"; it holds only {', '.join(sorted(other)[:8])}" if other else "; it is empty"
        raise FtransferError(f"no images found in {root}{held} (images end in .jpg, .png, .webp, .tif ...)")
    depth = {p.count("/") + 1 for p in paths}
    if domain is not None:
        label = [_folder(p, 0) if labels and "/" in p else None for p in paths]
        if labels and min(depth) > 2:
            inside = sorted({p.split("/", 1)[0] for p in paths})
            raise FtransferError(
                f"{root} looks like <domain>/<class>/*, with the folders {', '.join(inside[:5])}; leave out "
                f"--domain, or give {root / inside[0]} with --domain {inside[0]}"
            )
        return _table(root, paths, label, domain, listed)
    if max(depth) <= 2 and labels or min(depth) == 1:
        raise FtransferError(
            f"{root} has no <domain>/<class>/ folders; if all its images are of one domain, name it: "
            f"--domain NAME"
        )
    label = [_folder(p, 1) if labels and p.count("/") > 1 else None for p in paths]
    return _table(root, paths, label, [_folder(p, 0) for p in paths], listed)


def _folder(path: str, level: int) -> str:
    """Name one of the folders on a path; a million images share the few names."""
    return sys.intern(_unicode(path.split("/", level + 1)[level]))


def _list_folder(root: Path) -> tuple[list[str], set[str]]:
    """Return the paths of the images in a folder, and the suffixes of what else is there."""
    paths, other, seen = [], set(), {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        # a folder that is reached twice, by a link, is read once: links may lead in circles
        folders[:] = [f for f in folders if os.path.realpath(os.path.join(folder, f)) not in seen]
        seen.update(os.path.realpath(os.path.join(folder, f)) for f in folders)
        inside = Path(folder).relative_to(root).as_posix()
        inside = "" if inside == "." else f"{inside}/"
        for name in files + [f for f in folders if _poses_as_image(os.path.join(folder, f))]:
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                paths.append(inside + name)
            else:
                other.add(suffix or name)
    return paths, other


def _list_remote(root: Remote) -> tuple[dict[str, tuple], set[str]]:
    """Do the same in a store, one call a folder; of each image, with what `stat_image` says."""
    paths, other, folders = {}, set(), [PurePosixPath()]
    while folders:
        now, folders = folders[:READERS], folders[READERS:]  # what a call returns is large
        for child, path in list_folders(root, now):
            suffix = child.suffix.lower()
            if child.name.startswith((".", "__MACOSX")):
                continue
            if child.is_dir():
                folders.append(path)
            elif suffix in SUFFIXES:
                paths[str(path)] = _stat_remote(child)
            else:
                other.add(suffix or child.name)
    return paths, other


def _stat_remote(child: Remote) -> tuple[int, int]:
    found = child.stat()
    return found.st_size, found.st_mtime_ns


def _poses_as_image(folder: str) -> bool:
    """Whether an empty folder bears the name of an image: it is listed, and then cannot be read."""
    return os.path.splitext(folder)[1].lower() in SUFFIXES and not os.listdir(folder)


def _refuse(error: OSError):
    raise FtransferError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _table(root, paths, label, domain, listed=None) -> pd.DataFrame:
    columns = {"path": [_storable(p) for p in paths], "label": label, "domain": domain}
    if isinstance(root, Remote):
        stats = [(listed or {}).get(p, (None, None)) for p in paths]
        columns |= dict(zip(LISTED, zip(*stats, strict=True), strict=True))
    return pd.DataFrame({"root": _storable(str(root)), **columns}, dtype=object)


def _unicode(name: str) -> str:
    """Escape the bytes of a name that are no valid UTF-8."""
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode("utf-8")


def _storable(path: str) -> str:
    """Escape a path that is no valid UTF-8, and backslashes, so that it can be stored and found again."""
    return _unicode(path.replace("\\", "\\\\"))


def _on_disk(root: str, path: str) -> str:
    """Return the name that the file of a stored root and path has."""
    return os.path.join(_original(root), _original(path))


def _original(stored: str) -> str:
    if "\\" not in stored:
        return stored
    return re.sub(
        r"\\(?:\\|udc([0-9a-f]{2}))", lambda e: chr(0xDC00 + int(e[1], 16)) if e[1] else "\\", stored
    )


def _read_table(file: Path | Remote, domain: str | None, allow_outside: bool) -> pd.DataFrame:
    try:
        given = _read_columns(file).astype(object)  # here, where text that is no Unicode comes to light
    except Unreachable:
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
        paths, listed = [str(path) for path in paths], {str(path): _stat_remote(c) for c, path in asked}
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
    return _table(file.parent, paths, label, domains, listed)


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


# ---------------------------------------------------------------- data sets of torchvision


def _torchvision_table(location: str) -> pd.DataFrame:
    name, split, folder = (location.split(":", 3)[1:] + ["", ""])[:3]
    import torch.hub
    from torchvision import datasets

    if name not in datasets.__all__:
        raise unknown("torchvision data set", name, datasets.__all__)
    folder = folder or str(Path(torch.hub.get_dir()).parent / "datasets")
    root = f"torchvision:{name}:{split or 'train'}:{Path(folder).expanduser().resolve()}"
    data = _open_dataset(root)
    targets = _targets(data, name)
    classes = getattr(data, "classes", None)
    width = len(str(len(targets)))
    label = [None if t < 0 else str(classes[t]) if classes is not None else str(t) for t in targets]
    return _table(root, [f"{i:0{width}d}" for i in range(len(targets))], label, name)


@lru_cache(maxsize=4)
def _open_dataset(root: str):
    """Open ``torchvision:NAME:SPLIT:FOLDER``; download it only if it is not there."""
    from torchvision import datasets

    _, name, split, folder = root.split(":", 3)
    make = getattr(datasets, name)
    takes = inspect.signature(make.__init__).parameters
    options = {}
    if "root" in takes:
        options["root"] = folder
    if "train" in takes:
        if split not in ("train", "test"):
            raise unknown("split", split, ["train", "test"])
        options["train"] = split == "train"
    elif "split" in takes:
        # EMNIST alone takes both: `split` is then its variant, and it is read whole from `train`
        options["split"] = split
    try:
        try:
            return make(**options)
        except (RuntimeError, FileNotFoundError):
            if "download" not in takes:
                raise
            return make(**options, download=True)
    except (URLError, OSError, RuntimeError) as error:
        raise FtransferError(
            f"torchvision data set {name} is not in {folder} and cannot be downloaded "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            f"put its files there, or name their folder: torchvision:{name}:{split}:FOLDER"
        ) from error
    except (ValueError, TypeError, ImportError) as error:
        raise FtransferError(f"torchvision data set {name} cannot be opened: {error}") from error


def _targets(data, name: str) -> list[int]:
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(data, attribute, None)
        if values is not None:
            break
    else:
        samples = getattr(data, "samples", None) or getattr(data, "_samples", None)
        values = [s[1] for s in samples] if samples else [data[i][1] for i in range(len(data))]
    try:
        values = np.asarray(values)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ValueError
    except ValueError:
        raise FtransferError(
            f"torchvision data set {name} has no single class an image; use one made for classification"
        ) from None
    return values.tolist()


# ---------------------------------------------------------------- reading


def read_bytes(root: str, path: str) -> bytes:
    """Read the bytes of an image; they name its content. A data set's image is written as PPM or PNG."""
    if is_remote(root):
        return (place(_original(root)) / _original(path)).read_bytes()
    if not root.startswith("torchvision:"):
        file = _on_disk(root, path)
        kind = os.stat(file).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # what is read may never end
            raise ValueError("a pipe, a socket or a device, not a file")
        with open(file, "rb", buffering=0) as content:
            return content.readall()
    data = _open_dataset(root)
    image = data[int(path)][0]
    buffer = io.BytesIO()
    image.save(buffer, "PPM" if image.mode in ("L", "RGB") else "PNG")
    return buffer.getvalue()


def stat_image(root: str, path: str) -> tuple[int | None, int | None]:
    """Return size (bytes) and time of change (nanoseconds) of a file, by which an unchanged one is known again.

    The time is the later of the content's and the inode's, since the former can be set back. It is missing for
    a file that was changed in the last two seconds: the next change could bear the same time. Both are missing
    for a data set's image. Of an image in a store, `find_images` says both: the time is a number drawn from its ETag,
    or from what else the store tells of its content.
    """
    try:
        found = os.stat(_on_disk(root, path))
    except (OSError, ValueError):
        return None, None
    changed = max(found.st_mtime_ns, found.st_ctime_ns)
    return found.st_size, changed if time.time_ns() - changed > 2e9 else None


def full_path(root: str, path: str) -> str:
    """Name an image as a whole, for people."""
    return f"{root}/{path}" if is_remote(root) else str(Path(root) / path)


def looks_like_photographs(table: pd.DataFrame, sample: int = 20) -> bool:
    """Whether most of a few images are larger than 64 pixels a side: no glyphs, rather photographs."""
    large = seen = 0
    for root, path in table[["root", "path"]].iloc[:: max(1, len(table) // sample)].itertuples(index=False):
        try:
            with Image.open(io.BytesIO(read_bytes(root, path))) as image:
                large += min(image.size) > 64
                seen += 1
        except Unreachable:
            raise
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
    return large > seen / 2
