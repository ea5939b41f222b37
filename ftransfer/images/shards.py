"""Images inside shards, read in place: WebDataset's tar files, and Parquet with a column of images (Hugging Face).

An image in a shard is named ``shard.tar#key.jpg`` or ``shard.parquet#0042``, relative to the shard's folder. In a store
a tar is read through once to list it, and then the bytes of each image are one request.
"""

import io
import json
import os
import re
import tarfile
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ftransfer.cells import NAMES, find_column, read_label, read_labels, read_text, without_minus_one
from ftransfer.errors import FtransferError
from ftransfer.images.kinds import is_image
from ftransfer.images.limits import refuse_large_file
from ftransfer.storage.places import Place, Remote, is_remote, place

NAMED = re.compile(r"(.*\.(?:tar|parquet))#(.+)", re.DOTALL | re.IGNORECASE)
SUFFIXES = (".tar", ".parquet")
IMAGE_COLUMNS = ("image", "img", "picture", "photo", "jpg", "png")
MAX_LABEL = 2**20  # bytes of a label or a description beside an image
MAX_GROUP = 2**31  # bytes of a group of rows, which is read as a whole
PIECE = 2**18  # bytes that are read at once of a tar in a store
COMPRESSED = re.compile(r".*\.(tar\.\w+|tgz|tbz2?|txz|tzst)", re.DOTALL | re.IGNORECASE)
FRESH = 10  # seconds for which a shard in a store is taken to be what it was
_reading = threading.Lock()


@dataclass
class Shard:
    """What is in a shard.

    Attributes
    ----------
    keys : list of str
        Names of the images in it.
    labels, domains : list of str or None
        Beside each; None where there is none.
    """

    keys: list[str]
    labels: list[str | None]
    domains: list[str | None]


def split_name(file: str) -> tuple[str, str] | None:
    """Take a name apart into the shard's file and the key in it; None if it names a file of its own."""
    match = NAMED.fullmatch(file) if "#" in file else None
    if match is None:
        return None
    if is_remote(file):
        there = _stat_remote(match[1], int(time.monotonic() // FRESH)) is not None
    else:
        there = not os.path.lexists(file) and os.path.isfile(match[1])
    return (match[1], match[2]) if there else None


def is_shard(file: Place) -> bool:
    """Whether a file holds images: a tar, or Parquet with a column of images.

    Raises
    ------
    FtransferError
        If it is a compressed tar, in which nothing can be found without unpacking all before it.
    """
    if COMPRESSED.fullmatch(file.name):
        raise FtransferError(
            f"{file} is a compressed tar, in which an image can only be reached through all before it; unpack it "
            f"into "
            f"a .tar or a folder (gunzip, unxz, zstd -d)"
        )
    kind = file.suffix.lower()
    return kind == ".tar" or (kind == ".parquet" and _image_column(file) is not None)


def list_shard(file: Place, columns: dict[str, str | None] | None = None) -> Shard:
    """List the images of a shard, with their labels and domains.

    Parameters
    ----------
    file : Path or Remote
    columns : dict, optional
        Where ``label`` and ``domain`` are under other names, in Parquet or in the ``.json`` beside an image.

    Raises
    ------
    FtransferError
        If it is damaged, or holds no image.
    """
    try:
        found = (_list_tar if file.suffix.lower() == ".tar" else _list_parquet)(file, columns or {})
    except FtransferError:
        raise
    except (OSError, ValueError, tarfile.TarError, EOFError, RecursionError) as error:
        raise FtransferError(f"{file} cannot be read as a shard of images: {error}") from error
    if not found.keys:
        raise FtransferError(f"{file} holds no images")
    return found


def read_from_shard(file: str, key: str) -> bytes:
    """Read the bytes of one image of a shard.

    Raises
    ------
    OSError or ValueError
        If it is not there.
    """
    state = _state(file)
    try:
        if file.lower().endswith(".tar"):
            offset, size = _members(file, *state)[key]
            refuse_large_file(size)
            where = place(file)
            if isinstance(where, Remote):
                return where.read_range(offset, size)
            with open(file, "rb", buffering=0) as content:
                content.seek(offset)
                return content.read(size)
        groups = _groups(file, *state)
        row = int(key)
        group = next(i for i, (first, n) in enumerate(groups) if first <= row < first + n)
        with _reading:  # a group is read once, not by each thread that wants a row of it
            rows = _read_group(file, *state, group)
        content = rows[row - groups[group][0]].as_py()
    except (KeyError, StopIteration):
        raise FileNotFoundError(f"{os.path.basename(file)} has no image {key}") from None
    except (pa.ArrowException, tarfile.TarError) as error:
        raise ValueError(str(error)) from error
    if content is None:
        raise ValueError("the row holds no image")
    return content


def _state(file: str) -> tuple[int, int]:
    """Return size and time of change of a shard, by which what was read of it is known to hold still."""
    if not is_remote(file):
        found = os.stat(file)
        return found.st_size, found.st_mtime_ns
    state = _stat_remote(file, int(time.monotonic() // FRESH))
    if state is None:
        raise FileNotFoundError(f"{file} is not there")
    return state


@lru_cache(maxsize=256)
def _stat_remote(file: str, now: int) -> tuple[int, int] | None:
    """Ask a store for a shard, once in a while."""
    try:
        found = place(file).stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _open(file: str) -> BinaryIO:
    where = place(file)
    if isinstance(where, Remote):
        return cast(BinaryIO, io.BufferedReader(where.open(), PIECE))
    return open(where, "rb")


# ---------------------------------------------------------------- tar


@lru_cache(maxsize=256)
def _members(file: str, size: int, mtime: int) -> dict[str, tuple[int, int]]:
    """Say where each file in a tar begins, and how long it is."""
    with _open(file) as content, tarfile.open(fileobj=content, mode="r:") as archive:
        return {m.name: (m.offset_data, m.size) for m in archive if m.isreg() and not m.issparse()}


def _list_tar(file: Place, columns: dict[str, str | None]) -> Shard:
    members = _members(str(file), *_state(str(file)))
    images: list[tuple[str, str, str]] = []
    beside: dict[str, dict[str, tuple[int, int]]] = {}
    for name, (offset, size) in members.items():
        folder, _, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if base.startswith("."):
            continue
        if is_image(base):
            images.append((name, f"{folder}/{stem}", folder))
        elif suffix.lower() in ("cls", "json", "label") and size <= MAX_LABEL:
            beside.setdefault(f"{folder}/{stem}", {})[suffix.lower()] = (offset, size)
    labels, domains = [], []
    with _open(str(file)) as content:
        for name, key, folder in images:
            told = _beside(content, beside.get(key, {}), file, name)
            label = next((told[n] for n in _named("label", columns, told) if n in told), None)
            labels.append(
                read_label(label) or (read_label(folder.rsplit("/", 1)[-1]) if folder.strip(".") else None)
            )
            domains.append(
                read_label(next((told[n] for n in _named("domain", columns, told) if n in told), None))
            )
    return Shard([name for name, _, _ in images], labels, domains)


def _beside(content: BinaryIO, members: dict[str, tuple[int, int]], file: Place, name: str) -> dict[str, Any]:
    """Read what is told of an image: a class, or a description in JSON."""
    told: dict[str, Any] = {}
    for suffix, (offset, size) in members.items():
        content.seek(offset)
        text = content.read(size).decode("utf-8", "replace")
        if suffix != "json":
            told["cls"] = text.strip()
            continue
        try:
            described = json.loads(text)
        except ValueError as error:
            raise FtransferError(f"{file}: the .json beside {name} cannot be read: {error}") from error
        told |= described if isinstance(described, dict) else {}
    return {key: value for key, value in told.items() if isinstance(value, str | int | float)}


def _named(role: str, columns: dict[str, str | None], told: dict) -> tuple[str, ...]:
    given = columns.get(role)
    return (given,) if given else (*(("cls", "class") if role == "label" else ()), *NAMES[role])


# ---------------------------------------------------------------- Parquet


@lru_cache(maxsize=256)
def _groups(file: str, size: int, mtime: int) -> list[tuple[int, int]]:
    """Say of each group of rows which is its first, and how many it has."""
    found, first = [], 0
    with _open(file) as content:
        described = pq.read_metadata(content)
    for i in range(described.num_row_groups):
        group = described.row_group(i)
        if group.total_byte_size > MAX_GROUP:
            raise ValueError(
                f"its groups of rows are larger than {MAX_GROUP / 2**30:.0f} GiB; write smaller ones"
            )
        found.append((first, group.num_rows))
        first += group.num_rows
    return found


@lru_cache(maxsize=4)
def _read_group(file: str, size: int, mtime: int, group: int) -> pa.Array:
    """Read the images of a group of rows."""
    column = _image_column(place(file))
    if column is None:
        raise ValueError("it has no column of images")
    with _open(file) as content, pq.ParquetFile(content) as table:
        rows = table.read_row_group(group, columns=[column])[column].combine_chunks()
    return rows.field("bytes") if pa.types.is_struct(rows.type) else rows


def _image_column(file: Place) -> str | None:
    """Name the column of images: a struct with a field bytes, or one of bytes that is called like images."""
    try:
        with _open(str(file)) as content:
            schema = pq.read_schema(content)
    except (pa.ArrowException, OSError):
        return None
    structs = [f.name for f in schema if pa.types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0]
    plain = [
        f.name
        for f in schema
        if (pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type))
        and f.name.lower() in IMAGE_COLUMNS
    ]
    found = structs or plain
    return next((name for name in IMAGE_COLUMNS if name in found), found[0] if found else None)


def _list_parquet(file: Place, columns: dict[str, str | None]) -> Shard:
    with _open(str(file)) as content:
        table = pq.ParquetFile(content)
        schema, n_rows = table.schema_arrow, table.metadata.num_rows
        names = [f.name for f in schema if f.name != _image_column(file)]
        found = {role: find_column(file, names, role, columns.get(role)) for role in ("label", "domain")}
        told = table.read(columns=sorted({each for each in found.values() if each}))
    texts = {}
    for role, column in found.items():
        values = told[column].to_pylist() if column else [None] * n_rows
        known = _class_names(schema, column)
        if known:
            values = [known[v] if isinstance(v, int) and 0 <= v < len(known) else None for v in values]
        texts[role] = read_labels(values)
    texts["label"] = without_minus_one(texts["label"], file)
    width = len(str(max(0, n_rows - 1)))
    return Shard([f"{i:0{width}d}" for i in range(n_rows)], texts["label"], texts["domain"])


def _class_names(schema: pa.Schema, column: str | None) -> list[str]:
    """Read the names of classes that Hugging Face notes beside the numbers."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = noted["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return []
    return [str(read_text(name)) for name in names] if isinstance(names, list) else []
