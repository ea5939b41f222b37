"""Find images, and read them: folders, tables and torchvision data sets become one table.

A location becomes a pandas table with one row an image and the columns ``root, path, label, domain``; of images
in a store also ``size, mtime`` as they were listed.
``path`` is relative to ``root``; ``label`` and ``domain`` are strings, and ``label`` is missing where
nobody gave one.
"""

import os
import sys
from pathlib import Path, PurePosixPath

import pandas as pd

from ftransfer.errors import FtransferError, unknown
from ftransfer.images.datasets import dataset_table
from ftransfer.images.table import COLUMNS, LISTED, escape_bytes, image_table, read_table, stat_listed
from ftransfer.storage.places import READERS, Remote, is_remote, list_folders, place

SUFFIXES = tuple(".jpg .jpeg .jpe .png .ppm .pgm .pbm .bmp .gif .tif .tiff .webp .avif .jp2".split())  # noqa: SIM905


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
        table = dataset_table(location)
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
            table = read_table(path.resolve(), domain, allow_outside)
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
        return image_table(root, paths, label, domain, listed)
    if max(depth) <= 2 and labels or min(depth) == 1:
        raise FtransferError(
            f"{root} has no <domain>/<class>/ folders; if all its images are of one domain, name it: "
            f"--domain NAME"
        )
    label = [_folder(p, 1) if labels and p.count("/") > 1 else None for p in paths]
    return image_table(root, paths, label, [_folder(p, 0) for p in paths], listed)


def _folder(path: str, level: int) -> str:
    """Name one of the folders on a path; a million images share the few names."""
    return sys.intern(escape_bytes(path.split("/", level + 1)[level]))


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
                paths[str(path)] = stat_listed(child)
            else:
                other.add(suffix or child.name)
    return paths, other


def _poses_as_image(folder: str) -> bool:
    """Whether an empty folder bears the name of an image: it is listed, and then cannot be read."""
    return os.path.splitext(folder)[1].lower() in SUFFIXES and not os.listdir(folder)


def _refuse(error: OSError):
    raise FtransferError(f"cannot read the folder {error.filename}: {error.strerror}") from error
