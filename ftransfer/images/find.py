"""Find images, and read them: folders, tables and torchvision data sets become one table.

A location becomes a pandas table with one row an image and the columns ``root, path, label, domain``; of images
in a store also ``size, mtime`` as they were listed.
``path`` is relative to ``root``; ``label`` and ``domain`` are strings, and ``label`` is missing where
nobody gave one.
"""

from pathlib import Path

import pandas as pd

from ftransfer.cells import read_label
from ftransfer.errors import FtransferError, unknown
from ftransfer.images.datasets import dataset_table
from ftransfer.images.kinds import describe_passed_over, kind_of
from ftransfer.images.layout import name_domains, name_folders
from ftransfer.images.listing import list_folder
from ftransfer.images.shards import is_shard, list_shard
from ftransfer.images.table import COLUMNS, LISTED, TABLES, image_table, read_table, stat_listed
from ftransfer.storage.places import Place, Remote, is_remote, place


def find_images(
    location: str | Place,
    *,
    domain: str | None = None,
    labels: bool = True,
    allow_outside: bool = False,
    layout: str | None = None,
    columns: dict[str, str | None] | None = None,
) -> pd.DataFrame:
    """List the images of a folder, a table or a torchvision data set.

    Parameters
    ----------
    location : str or path
        A folder ``<root>/<domain>/<class>/*`` (a domain without class folders is unlabelled; see `layout`), or
        ``<root>/<class>/*`` or ``<root>/*`` with `domain` given; a ``.csv``, ``.tsv`` or ``.parquet`` table with
        the column ``path`` (relative to the table's folder) and, if known, ``label`` and ``domain``; a
        ``.txt`` list with a path and a label per line; a WebDataset ``.tar`` or a ``.parquet`` with an image column,
        or a folder of such (``<domain>/*.tar``, or with `domain` given);
        ``torchvision:NAME`` or ``torchvision:NAME:SPLIT`` for a data set of torchvision, looked for
        under ``$TORCH_HOME/datasets`` (``torchvision:NAME:SPLIT:FOLDER``: under FOLDER) and downloaded
        if it is not there. Folders and tables may be URLs that fsspec knows, ``s3://bucket/photos``.
    domain : str, optional
        Name of the domain that all the images belong to.
    labels : bool, default=True
        Whether folder names, or the column ``label``, are taken as labels.
    allow_outside : bool, default=False
        Whether paths in a table may be absolute or outside the table's folder.
    layout : str, optional
        What each level of folders is: ``domain/class`` (the default), ``domain/*/class``, ``class/domain`` ... Folders
        called train, test, images and the like are ignored automatically.
    columns : dict, optional
        Where ``path``, ``label`` and ``domain`` are in a table, if not under these names.

    Returns
    -------
    DataFrame with the string columns ``root, path, label, domain``, sorted by path; of images in a store, with
    ``size`` and ``mtime`` too, see `stat_image`. Its ``attrs`` hold ``passed_over``, how many files that look like
    pictures, and folders, were passed over, by kind; and ``notes``, how folders were understood.

    Raises
    ------
    FtransferError
        If nothing is there, no image is found, or it cannot be told which folder is a domain.
    """
    location, domain = str(location), read_label(domain)
    if location.startswith("torchvision:"):
        table = dataset_table(location)
        table["domain"] = table["domain"] if domain is None else domain
    else:
        path = place(location)
        if path.is_dir():
            table = _folder_table(path.resolve(), domain, labels, layout, columns)
        elif not path.exists():
            if isinstance(path, Path) and path.is_symlink():
                raise FtransferError(f"{path} is a link to {path.readlink()}, which does not exist")
            there = isinstance(path, Remote) or path.parent.is_dir()
            near = sorted(p.name for p in path.parent.iterdir()) if there else []
            raise unknown("folder or table", path.name, near, plural=f"in {path.parent}")
        elif path.is_file() and is_shard(path):
            table = _shard_table(path.resolve().parent, path.name, domain, columns)
        elif path.suffix.lower() in TABLES:
            table = read_table(path.resolve(), domain, allow_outside, columns)
        else:
            kind = kind_of(path.name, None if isinstance(path, Remote) else str(path))
            passed = describe_passed_over({kind: 1}) if kind else ""
            raise FtransferError(
                f"{location} is a single file; IMAGES must be a folder, a .csv, .tsv or .parquet table, or "
                f"torchvision:NAME"
                f"{passed and f'; {passed}'}"
            )
    if not labels:
        table["label"] = None
    attrs = {"passed_over": {}, "notes": [], **table.attrs}
    table = table[COLUMNS + LISTED * is_remote(location)].reset_index(drop=True)
    table.attrs = attrs
    return table


def _folder_table(
    root: Place, domain: str | None, labels: bool, layout: str | None, columns: dict | None
) -> pd.DataFrame:
    found = list_folder(root)
    paths = sorted(found.paths, key=lambda path: path.replace("/", "\0"))  # folder by folder
    if not paths and not found.shards:
        held = f"; it holds only {', '.join(sorted(found.other)[:8])}" if found.other else "; it is empty"
        passed = describe_passed_over(found.passed_over)
        raise FtransferError(
            f"no images found in {root}{held} (images end in .jpg, .png, .webp, .tif ...){passed and f'; {passed}'}"
        )
    tables: list[pd.DataFrame] = []
    notes: list[str] = []
    if paths and labels:
        label, domains, notes = name_folders(root, paths, domain, layout)
        tables.append(image_table(root, paths, label, domains, found.paths))
    elif paths:
        tables.append(image_table(root, paths, None, domain or name_domains(root, paths), found.paths))
    for shard in sorted(found.shards):
        inside = domain or (name_domains(root, [shard])[0] if "/" in shard else None)
        tables.append(_shard_table(root, shard, inside, columns))
    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    table.attrs = {"passed_over": dict(found.passed_over), "notes": notes}
    return table


def _shard_table(root: Place, shard: str, domain: str | None, columns: dict | None) -> pd.DataFrame:
    """List the images of a shard; its own domains count where `domain` is not given."""
    found = list_shard(root / shard, columns)
    domains = domain or found.domains
    if domain is None and None in domains:
        raise FtransferError(
            f"{root / shard} does not give the domain of every image; set one for all with --domain NAME"
        )
    names = [f"{shard}#{key}" for key in found.keys]
    listed = dict.fromkeys(names, stat_listed(root / shard)) if isinstance(root, Remote) else None
    return image_table(root, names, found.labels, domains, listed)
