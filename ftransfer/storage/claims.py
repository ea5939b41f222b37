"""What an array or a table claims to hold, asked before it is read: a small file can claim, or unpack to, any size."""

import zipfile
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from ftransfer.errors import FtransferError

PLENTY = 2**30  # bytes; what holds less is read, however small its file
GROWTH = 200  # times the size of its file; numbers that tell something apart do not grow so much
WIDTHS = {"INT32": 4, "FLOAT": 4, "INT96": 12, "BOOLEAN": 1}  # bytes of a value of Parquet, if not 8


def refuse_bomb(file: Path) -> None:
    """Refuse an array or a table that claims more than its file can hold, or would grow out of all proportion.

    Parameters
    ----------
    file : Path
        ``.npy``, ``.npz`` or ``.parquet``; anything else passes.

    Raises
    ------
    FtransferError
    ValueError
        If it is not an array at all, for who reads it to say so.
    """
    kind = file.suffix.lower()
    if kind == ".npy":
        with open(file, "rb") as content:
            _check_header(file, "it", content, file.stat().st_size)
    elif kind == ".npz":
        with zipfile.ZipFile(file) as archive:
            _refuse_growth(file, sum(member.file_size for member in archive.infolist()))
            for member in archive.infolist():
                with archive.open(member) as content:
                    _check_header(file, member.filename, content, member.file_size)
    elif kind == ".parquet":
        _check_parquet(file)


def _check_header(file: Path, name: str, content: IO[bytes], size: int) -> None:
    try:
        version = np.lib.format.read_magic(content)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(content)
    except Exception as error:  # numpy reads a header as Python's text, which fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{name} is not an array, or damaged: {reason[:200]}") from error
    claimed = prod(map(abs, shape)) * max(1, dtype.itemsize)
    if claimed > size:
        raise FtransferError(
            f"{file}: {name} declares {' x '.join(map(str, shape))} values, {_size(claimed)}, but holds "
            f"{_size(size)}; save it again"
        )


def _check_parquet(file: Path) -> None:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        found = table.metadata
        schema = [found.schema.column(j) for j in range(found.num_columns)]
        texts = [c.path for c in schema if c.physical_type == "BYTE_ARRAY" and not c.max_repetition_level]
    columns = [
        found.row_group(i).column(j) for i in range(found.num_row_groups) for j in range(found.num_columns)
    ]
    held = sum(c.num_values * WIDTHS.get(c.physical_type, 8) + c.total_uncompressed_size for c in columns)
    _refuse_growth(file, held)
    if sum(c.num_values * c.total_uncompressed_size for c in columns if c.path_in_schema in texts) < PLENTY:
        return  # even if each value were the largest
    with pq.ParquetFile(file, read_dictionary=texts) as table:  # a text that is there often is kept once
        for i in range(found.num_row_groups):
            for column in table.read_row_group(i, columns=texts).columns:
                for chunk in column.chunks:
                    if hasattr(chunk, "dictionary"):
                        lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
                        held += pc.sum(lengths.cast("int64")).as_py() or 0
            _refuse_growth(file, held)


def _refuse_growth(file: Path, held: int) -> None:
    size = file.stat().st_size
    if held > PLENTY and held > GROWTH * size:
        raise FtransferError(
            f"{file} would grow from {_size(size)} to {_size(held)} or more; that much in so small a file is refused"
        )


def _size(n: int) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} {unit}"
        n /= 1024
    return f"{n:,.1f} GiB" if n < 1e6 else f"{n:.0e} GiB"
