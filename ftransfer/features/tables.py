"""Read a table of embeddings: NumPy, Parquet, CSV and its kin become numbers and texts.

What is a feature and what is not is said by one rule for all of them, in `ftransfer.features.columns`.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from ftransfer.cells import find_separator, read_header, read_labels, read_text, without_minus_one
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.columns import EMBEDDING, ENOUGH, WHOLE, Column, choose_features, find_named, match
from ftransfer.features.manifest import LABELS
from ftransfer.storage.claims import refuse_bomb

TEXT_TABLES = (".csv", ".tsv", ".tab", ".txt")
KINDS = (".npy", ".npz", ".parquet", *TEXT_TABLES)
Columns = dict[str, str | None]  # where label, domain, path ... are under another name
BLOCK = 2**24  # bytes of a text table that are taken apart at a time
UNREADABLE = (ValueError, OSError, KeyError, TypeError, EOFError, MemoryError, SystemError, BadZipFile)


@dataclass
class Table:
    """What a file holds: numbers and texts, row by row.

    Attributes
    ----------
    X : ndarray of shape (n_rows, width), float32
    texts : dict of str to list
        ``label``, ``domain``, ``path``, ``group``, ``sha256``, as far as they are there.
    columns : list of str
        The features' names, or the one name of a column of lists or of an array.
    unused : list of str
        Columns that are neither.
    dropped : int
        Rows that were left out, as a number was missing.
    """

    X: np.ndarray
    texts: dict[str, list]
    columns: list[str]
    unused: list[str] = field(default_factory=list)
    dropped: int = 0


@dataclass
class _Content:
    """A file as it is: columns of numbers, columns of lists or arrays, and texts of those that are asked for."""

    columns: list[Column]
    lists: dict[str, np.ndarray]
    texts: dict[str, list]
    names: list[str]


def read_features(
    file: Path,
    columns: Columns,
    features: Sequence[str] = (),
    ignore: Sequence[str] = (),
    drop_rows: bool = False,
) -> Table:
    """Read a table of embeddings.

    Parameters
    ----------
    file : Path
    columns : dict
        Where a role is under another name; see `ftransfer.features.imports.import_features`.
    features, ignore : list of str
        Columns, by names or patterns.
    drop_rows : bool
        Whether rows that lack a number are left out; otherwise they are refused.

    Raises
    ------
    FtransferError
        If it cannot be read, a number is missing, or what is a feature cannot be told.
    """
    if not file.is_file():
        near = sorted(p.name for p in file.parent.iterdir()) if file.parent.is_dir() else []
        raise unknown("file", file.name, near, plural=f"in {file.parent}")
    kind = file.suffix.lower()
    if kind not in KINDS:
        raise FtransferError(
            f"{file} is not a table of embeddings; supported are .npy, .npz, .parquet, .csv and .tsv"
        )
    read = _read_numpy if kind in (".npy", ".npz") else _read_parquet if kind == ".parquet" else _read_text
    try:
        refuse_bomb(file)
        content, roles = read(file, columns, ignore)
    except FtransferError:
        raise
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if reason.startswith("Object arrays"):
            reason = "it holds Python objects, which are never unpickled; save strings with dtype=str"
        raise FtransferError(f"{file} cannot be read as a table of embeddings: {reason}") from error
    X, chosen, names = _choose(file, content, features)
    for name, values in content.texts.items():
        if len(values) != len(X):
            raise FtransferError(f"{file} has {len(X)} embeddings, but {len(values)} entries in '{name}'")
    if X.size == 0:
        raise FtransferError(f"{file} has no rows")
    texts = {role: _texts(file, role, values) for role, values in content.texts.items()}
    unused = [name for name in content.names if name not in (*names, *roles.values())]
    return _complete(file, Table(X, texts, names, unused), chosen, drop_rows)


# ---------------------------------------------------------------- the formats


def _read_numpy(file: Path, columns: Columns, ignore: Sequence[str]) -> tuple[_Content, dict[str, str]]:
    content = np.load(file, allow_pickle=False)
    if file.suffix.lower() == ".npy":
        return _Content([], {"X": _array(file, content, ignore)}, {}, ["X"]), {}
    names = _kept(content.files, [each for each in ignore if not each.isdigit()])
    roles = find_named(file, names, columns)
    arrays = [name for name in EMBEDDING if name in names]
    if not arrays:
        raise FtransferError(f"{file} needs the key X; its keys: {', '.join(content.files)}")
    lists = {name: _array(file, content[name], ignore) for name in arrays}
    told = {role: content[name] for role, name in roles.items()}
    for role, array in told.items():
        if array.ndim != 1 and array.shape != (len(array), 1):
            raise FtransferError(
                f"{file} needs one {role} per row in {roles[role]}; its shape is {array.shape}. For one-hot "
                f"labels use argmax(axis=1)"
            )
    return _Content([], lists, {role: array.ravel().tolist() for role, array in told.items()}, names), roles


def _array(file: Path, X: np.ndarray, ignore: Sequence[str]) -> np.ndarray:
    if X.ndim != 2 or X.dtype.kind not in "fiu":
        raise FtransferError(f"{file} needs numbers of shape (rows, width); it holds {X.dtype} {X.shape}")
    left_out = [int(each) for each in ignore if each.isdigit() and int(each) < X.shape[1]]
    return _float32(np.delete(X, left_out, axis=1) if left_out else X)


def _read_parquet(file: Path, columns: Columns, ignore: Sequence[str]) -> tuple[_Content, dict[str, str]]:
    table = pq.read_table(file)
    described = table.schema.pandas_metadata or {}
    names = _kept(read_header(table.column_names, file), ignore)
    table = table.rename_columns(read_header(table.column_names, file)).select(names)
    roles = find_named(file, names, columns)
    index = {
        name
        for name in described.get("index_columns", [])
        if isinstance(name, str) and name not in roles.values()  # a range is a dict
    }
    numbers, lists = [], {}
    for name in [name for name in names if name not in (*roles.values(), *index)]:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = pc.cast(column, column.type.value_type)
        if _is_list(column.type):
            lists[name] = column
        elif _is_number(column.type):
            cells = column.combine_chunks().cast(pa.float64(), safe=False)
            numbers.append(_Cells(name).add(cells, cells).column())
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            numbers.append(_Cells(name).add_texts(column.combine_chunks()).column())
    if len(lists) > 1:
        lists = {name: lists[name] for name in EMBEDDING if name in lists} or lists
    arrays = {name: _from_lists(file, name, column) for name, column in lists.items()}
    texts = {role: table[name].to_pylist() for role, name in roles.items()}
    return _Content(numbers, arrays, texts, [name for name in names if name not in index]), roles


def _from_lists(file: Path, name: str, column: pa.ChunkedArray) -> np.ndarray:
    rows = column.combine_chunks()
    lengths = pc.unique(pc.list_value_length(rows)).to_pylist()
    if len(lengths) != 1 or lengths[0] is None:
        raise FtransferError(f"{file}: the lists in '{name}' differ in length ({lengths[:3]})")
    return _float32(rows.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1))


def _read_text(file: Path, columns: Columns, ignore: Sequence[str]) -> tuple[_Content, dict[str, str]]:
    """Read CSV and its kin a block at a time: cells are numbers where they can be read as such."""
    with open(file, newline="", encoding="utf-8-sig") as lines:
        first = lines.readline()
        separator = find_separator(first, file.suffix.lower())
        lines.seek(0)
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
        header = read_header(next(reader, []), file)
        n_lines = reader.line_num
    if not header:
        raise FtransferError(f"{file} cannot be read as a table of embeddings: Empty CSV file")
    _refuse_numbers_as_header(file, header)
    names = _kept(header, ignore)
    roles = find_named(file, names, columns)
    options = (
        pa.csv.ReadOptions(column_names=header, skip_rows=n_lines, block_size=BLOCK),
        pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        pa.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True
        ),
    )
    cells = {name: _Cells(name) for name in names if name not in roles.values()}
    texts: dict[str, list] = {role: [] for role in roles}
    try:
        batches = pa.csv.open_csv(file, *options)
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise FtransferError(f"{file} has no rows") from None
        raise
    for batch in batches:
        for name, each in cells.items():
            each.add_texts(batch[name])
        for role, name in roles.items():
            texts[role] += batch[name].to_pylist()
    return _Content([each.column() for each in cells.values()], {}, texts, names), roles


def _refuse_numbers_as_header(file: Path, header: list[str]) -> None:
    """Refuse a file that begins with its first row: it would be lost as names."""
    try:
        numbers = [float(name) for name in header]
    except ValueError:
        return
    if numbers not in (list(map(float, range(start, start + len(numbers)))) for start in (0, 1)):
        raise FtransferError(
            f"{file} begins with numbers ({', '.join(header[:3])}), not with column names; add a header "
            f"line, or save it as .npy"
        )


class _Cells:
    """A column that is read piece by piece."""

    def __init__(self, name: str):
        self.name = name
        self.pieces: list[np.ndarray | int] = []  # of a piece without numbers its length alone
        self.n_rows = self.n_numbers = self.n_texts = 0
        self.text: tuple[int, str] | None = None
        self.whole = True

    def add_texts(self, cells: pa.Array) -> "_Cells":
        """Add cells of text, those of numbers as numbers."""
        cells = pc.utf8_trim_whitespace(cells)
        cells = pc.if_else(pc.equal(cells, ""), None, cells)
        try:
            return self.add(cells, pc.cast(cells, pa.float64()))
        except pa.ArrowInvalid:  # some are no numbers
            numbers = pa.array([_number(cell) for cell in cells.to_pylist()], pa.float64())
            return self.add(cells, numbers)

    def add(self, cells: pa.Array, numbers: pa.Array) -> "_Cells":
        """Add cells, and the numbers that they are, null where they are none."""
        values = numbers.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        n_numbers = len(numbers) - numbers.null_count
        is_text = pc.and_(pc.is_valid(cells), pc.is_null(numbers))
        n_texts = len(cells) - cells.null_count - n_numbers
        if n_texts and self.text is None:
            at = pc.index(is_text, True).as_py()
            self.text = (self.n_rows + at, str(cells[at].as_py())[:40])
        known = values[np.isfinite(values)]
        self.whole = self.whole and bool((known == np.floor(known)).all())
        # a column of texts alone takes no memory
        self.pieces.append(_float32(values) if n_numbers else len(values))
        self.n_rows, self.n_numbers = self.n_rows + len(values), self.n_numbers + n_numbers
        self.n_texts += n_texts
        return self

    def column(self) -> Column:
        """The column as a whole."""
        if self.n_numbers:
            pieces = [np.full(p, np.nan, np.float32) if isinstance(p, int) else p for p in self.pieces]
            numbers = np.concatenate(pieces)
        else:
            numbers = np.broadcast_to(np.float32(np.nan), self.n_rows)
        return Column(self.name, numbers, self.n_numbers, self.n_texts, self.text, self.whole)


def _number(cell: str | None) -> float | None:
    try:
        return None if cell is None or "_" in cell else float(cell)
    except ValueError:
        return None


# ---------------------------------------------------------------- numbers and texts


def _choose(
    file: Path, content: _Content, features: Sequence[str]
) -> tuple[np.ndarray, list[Column], list[str]]:
    """Return the numbers, the columns that they are from if each has a name, and their names."""
    if content.lists and features:
        names = [*content.lists, *(column.name for column in content.columns)]
        wanted = [name for name in match(names, features) if name in content.lists]
    else:
        wanted = list(content.lists)[:1] if len(content.lists) == 1 or EMBEDDING[0] in content.lists else []
    if not wanted and len(content.lists) > 1 and not features:
        raise FtransferError(
            f"{file} holds several embeddings, {', '.join(content.lists)}; choose one with --features NAME"
        )
    if wanted:
        X = content.lists[wanted[0]]
        if not features:
            _refuse_other_numbers(file, X)
        return X, [], wanted[:1]
    chosen = choose_features(file, content.columns, features)
    if not chosen or not any(column.n_numbers for column in chosen):
        kinds = {c.name: "texts" if c.n_texts > c.n_numbers else "numbers" for c in content.columns}
        found = ", ".join(f"{name} ({kinds.get(name, 'named')})" for name in content.names[:10])
        raise FtransferError(
            f"{file} needs features: a column of lists, or columns of numbers, chosen with --features; its columns: "
            f"{found}"
        )
    X = np.empty((len(chosen[0].numbers), len(chosen)), dtype=np.float32)
    for i, column in enumerate(chosen):
        X[:, i] = column.numbers
    return X, chosen, [column.name for column in chosen]


def _refuse_other_numbers(file: Path, X: np.ndarray) -> None:
    """Refuse arrays with a number a row that numbers the rows, or is whole where the others are not."""
    few = X[:ENOUGH]
    whole = np.flatnonzero((few == np.floor(few)).all(axis=0) & (len(X) >= ENOUGH))
    columns = [
        Column(str(i), X[:, i], len(X), whole=bool((X[:, i] == np.floor(X[:, i])).all())) for i in whole
    ]
    fractions = sum(not column.whole for column in columns) + X.shape[1] - len(columns) > X.shape[1] / 2
    for column in columns:
        doubt = (
            "numbers the rows" if column.counts_rows else WHOLE if fractions and column.tells_kinds else ""
        )
        if doubt:
            raise FtransferError(
                f"{file}: number {column.name} of each row (from 0) {doubt}. Is it a feature? Exclude it "
                f"with --ignore {column.name}, or keep all with --features '*'"
            )


def _complete(file: Path, table: Table, chosen: list[Column], drop_rows: bool) -> Table:
    """Refuse rows in which a number is missing or not finite, or leave them out."""
    finite = np.isfinite(table.X).all(axis=1)
    if finite.all():
        return table
    count = int((~finite).sum())
    if drop_rows:
        if count == len(finite):
            raise FtransferError(
                f"{file}: every row has a missing number, so --missing drop-rows would leave none"
            )
        n = len(finite)  # a row is called by its number in the file
        named = {"path": [f"{i:0{len(str(n))}d}" for i in range(1, n + 1)], **table.texts}
        texts = {
            role: [value for value, fine in zip(values, finite, strict=True) if fine]
            for role, values in named.items()
        }
        return Table(table.X[finite], texts, table.columns, table.unused, count)
    row = int((~finite).argmax())
    at = int((~np.isfinite(table.X[row])).argmax())
    where = f" ({table.texts['path'][row]})" if "path" in table.texts else ""
    if chosen:
        text = chosen[at].text
        where += f", column {chosen[at].name}" + (f" ({text[1]!r})" if text and text[0] == row else "")
    raise FtransferError(
        f"{file} has {count} rows with numbers that are missing, NaN or infinite; the first is row "
        f"{row + 1}{where}; fix them, or drop such rows with --missing drop-rows"
    )


def _texts(file: Path, role: str, values: list) -> list:
    if role == "label" or role.startswith(LABELS):
        return without_minus_one(read_labels(values), file)
    return read_labels(values) if role == "domain" else [read_text(value) for value in values]


def _kept(names: Sequence[str], ignore: Sequence[str]) -> list[str]:
    left_out = match(names, ignore) if ignore else []
    return [name for name in names if name not in left_out]


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_list(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and _is_number(kind.value_type)


def _float32(X: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused by its row
        return np.ascontiguousarray(X, dtype=np.float32)
