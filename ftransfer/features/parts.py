"""The files of a feature set: written whole or not at all, one writer at a time, named by their content.

A part is an Arrow IPC file with the columns ``sha256`` (of an image's bytes) and ``embedding``. Its name is the
SHA-256 of its own bytes, so that whoever reads all of it can tell whether they are those that were written; its
schema's metadata holds the digest of the fingerprint, so that a part that strayed into another folder counts for
nothing.
"""

import hashlib
import shutil
from binascii import unhexlify
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import DTypeLike

from ftransfer.errors import FtransferError
from ftransfer.storage.cache import cache_folder
from ftransfer.storage.places import Place, Remote
from ftransfer.storage.reading import NotAFile, open_regular, refuse_irregular
from ftransfer.storage.writing import whole, write_whole, writing

SUFFIX = ".arrow"
LOWER_CASE = np.uint64(0x2020202020202020)  # the bit that small letters and digits have, in eight bytes
FINGERPRINT = b"ftransfer.fingerprint"  # key in the metadata of a part's schema


class Damaged(ValueError):
    """A part that cannot be read, or whose bytes are not those that were written; the message says which."""


def write_part(folder: Place, sha256: list[str], embeddings: np.ndarray, fingerprint: str) -> Place:
    """Write rows as one part, and return its file.

    Parameters
    ----------
    folder : Path
    sha256 : list of n str
        Hexadecimal SHA-256 of each image's bytes.
    embeddings : ndarray of shape (n, width), float32
    fingerprint : str
        From `digest_fingerprint`.
    """
    keys = pa.array([bytes.fromhex(h) for h in sha256], pa.binary(32))
    flat = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).ravel())
    rows = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    table = pa.table({"sha256": keys, "embedding": rows}).replace_schema_metadata({FINGERPRINT: fingerprint})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue()
    file = folder / (hashlib.sha256(content).hexdigest() + SUFFIX)
    write_whole(file, content)
    return file


def read_part(file: Place, width: int, fingerprint: str) -> tuple[pa.Array, "np.ndarray | Fetched"]:
    """Map a part from disk, without reading its rows; of one in a store, only the keys are asked for.

    Returns
    -------
    keys : Array of n ``fixed_size_binary[32]``
    embeddings : ndarray of shape (n, width), float32; or `Fetched`, which becomes one once rows are taken

    Raises
    ------
    Damaged
        If it is torn, or no part of this fingerprint.
    OSError
        If the file system refuses it.
    """
    try:
        refuse_irregular(file)
        with file.open() if isinstance(file, Remote) else pa.memory_map(str(file)) as source:
            reader = pa.ipc.open_file(source)
            schema = reader.schema
            if isinstance(file, Remote):
                only = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index("sha256")])
                reader = pa.ipc.open_file(source, options=only)
            if reader.num_record_batches != 1:
                raise Damaged(f"of {reader.num_record_batches} batches, not one")
            table = reader.get_batch(0)  # a table's chunks would have to be combined, which copies even one
        table.validate()
        keys, kind = table.column("sha256"), schema.field("embedding").type
    except (Damaged, FtransferError, FileNotFoundError):
        raise
    except NotAFile as error:
        raise Damaged(error.strerror) from None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if getattr(
            error, "errno", None
        ):  # the file system's own error; Arrow's for a torn file has no number
            raise
        raise Damaged(f"torn ({str(error).splitlines()[0][:100]})") from None
    if keys.type != pa.binary(32) or kind != pa.list_(pa.float32(), width):
        raise Damaged(f"of another shape ({keys.type}, {kind})")
    if (schema.metadata or {}).get(FINGERPRINT, fingerprint.encode()) != fingerprint.encode():
        raise Damaged("of another fingerprint")
    if keys.null_count:
        raise Damaged("rows without a hash")
    if isinstance(file, Remote):
        return keys, Fetched(file, width, fingerprint)
    rows = table.column("embedding")
    if rows.null_count or rows.values.null_count:
        raise Damaged("rows without an embedding")
    return keys, rows.flatten().to_numpy(zero_copy_only=True).reshape(len(keys), width)


class Fetched:
    """The embeddings of a part in a store: copied to this machine's cache when rows are first taken, then mapped."""

    def __init__(self, file: Remote, width: int, fingerprint: str):
        self.file, self.width, self.fingerprint = file, width, fingerprint
        self._mapped: np.ndarray | None = None

    @property
    def mapped(self) -> np.ndarray:
        """The rows, (n, width)."""
        try:
            if self._mapped is None:
                self._mapped = np.asarray(read_part(fetch(self.file), self.width, self.fingerprint)[1])
            return self._mapped
        except Damaged as error:
            raise FtransferError(
                f"{self.file} is damaged: {error}, and run the same ftransfer extract again"
            ) from None

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.mapped[rows]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self.mapped if dtype is None else self.mapped.astype(dtype)


def fetch(file: Remote, anew: bool = False) -> Path:
    """Copy a part of a store to this machine's cache; raise `Damaged` if its bytes are not those that were written.

    A part never changes under its name, so that a copy never grows old.
    """
    name = file.name
    if len(file.stem) != 64:  # of an older release: the name does not tell the content
        name = hashlib.sha256(f"{file} {file.stat()}".encode()).hexdigest() + SUFFIX
    copy = cache_folder("parts") / name
    if anew or not (copy.is_file() and copy.stat().st_size == file.stat().st_size):
        with writing(copy.parent):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with file.open() as source, whole(copy) as out:
                shutil.copyfileobj(source, out, 2**23)
                out.seek(0)
                _refuse_changed(file, out)
    return copy


def check_part(file: Place) -> bool:
    """Read every byte of a part; return whether its name tells its content, as older releases' names do not.

    Raises
    ------
    Damaged
        If the bytes are not those that were written.
    """
    if isinstance(file, Remote):
        fetch(file, anew=True)
    elif len(file.stem) == 64:
        try:
            with open_regular(file) as source:
                _refuse_changed(file, source)
        except NotAFile as error:
            raise Damaged(error.strerror) from None
    return len(file.stem) == 64


def _refuse_changed(file: Place, source: Any) -> None:
    if len(file.stem) == 64 and hashlib.file_digest(source, "sha256").hexdigest() != file.stem:
        raise Damaged("its checksum does not match" + "; remove it" * isinstance(file, Remote))


# ---------------------------------------------------------------- rows by their hashes


def pack_hashes(sha256: Iterable[str | None]) -> pa.Array:
    """Turn hexadecimal hashes into an array of 32 bytes each; ValueError if one is none, or has capitals."""
    text = pa.array(sha256, pa.string())
    text = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    try:
        text = text.cast(pa.binary()).cast(pa.binary(64))  # refuses another length
        digits = memoryview(text.buffers()[1])[64 * text.offset : 64 * (text.offset + len(text))]
        packed = unhexlify(digits)
    except ValueError as error:
        raise ValueError("a hash is not a SHA-256") from error
    # several times as fast as a pattern
    if np.bitwise_and.reduce(np.frombuffer(digits, np.uint64)) & LOWER_CASE != LOWER_CASE:
        raise ValueError("a hash has capital letters")
    return pa.Array.from_buffers(pa.binary(32), len(text), [None, pa.py_buffer(packed)])


class HashIndex:
    """Finds hashes among many, again and again.

    Parameters
    ----------
    keys : Array of n ``fixed_size_binary[32]``
    """

    def __init__(self, keys: pa.Array) -> None:
        self.keys = keys
        self._words = _words(keys)
        self._first = pd.Index(
            self._words[:, 0]
        )  # found four times as fast as whole hashes, and they do as a rule
        self._unique = len(keys) > 0 and self._first.is_unique

    def find(self, wanted: pa.Array) -> np.ndarray:
        """Return where among the keys each wanted one is, -1 where it is not."""
        if self._unique:
            words = _words(wanted)
            where = self._first.get_indexer(words[:, 0])
            if (self._words[where] == words)[where >= 0].all():
                return where
        return pc.index_in(wanted, value_set=self.keys).fill_null(-1).to_numpy(zero_copy_only=False)


def _words(hashes: pa.Array) -> np.ndarray:
    """View hashes as four numbers each."""
    return np.frombuffer(hashes.buffers()[1], np.uint64).reshape(-1, 4)[hashes.offset :][: len(hashes)]


def blocks(into: np.ndarray, source: np.ndarray, size: int) -> Iterator[tuple]:
    """Cut two arrays of row numbers into pairs of blocks; 5, 6, 7, ... become slices, which are not copied twice."""

    def cut(numbers: np.ndarray) -> list:
        if len(numbers) and (np.diff(numbers) == 1).all():
            first, end = int(numbers[0]), int(numbers[-1]) + 1
            return [slice(i, min(i + size, end)) for i in range(first, end, size)]
        return [numbers[i : i + size] for i in range(0, len(numbers), size)]

    return zip(cut(into), cut(source), strict=True)
