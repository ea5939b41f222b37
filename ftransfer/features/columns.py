"""Which columns of a table are features: one rule for CSV, Parquet and NumPy.

Columns called label, domain, path, group and sha256 (and their other names in `NAMES`) are what they say. The others
are features if they hold numbers; but one that may be a row number, a key or a label is refused until a user says what
it is. `--features` names them, `--ignore` leaves some out.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from ftransfer.cells import NAMES, find_column
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.manifest import LABELS

EMBEDDING = ("embedding", "embeddings", "features", "X")  # a column of lists, or the array of an .npz file
INDEX = re.compile(
    r"unnamed: \d+|index|idx|no|nr|num|number|#|row|rows|row_?(id|no|nr|num|number|names?|index)|level_\d+|__index_.*"
)
KEY_WORDS = re.compile(
    "ids?|uu?id|guid|key|pk|hash|idx|index|labels?|class|classes|cls|klass|targets?|category|categories|gt|truth|y|pred|"
    "predictions?|folds?|splits?|subset|partition|groups?|domains?"
)
WHOLE = "holds integers, unlike the others"
ENOUGH = 5  # rows from which whole numbers are no chance


@dataclass(eq=False)
class Column:
    """A column of numbers, as far as they are.

    Attributes
    ----------
    name : str
    numbers : ndarray of shape (n_rows,), float32
        NaN where a cell is empty or no number.
    n_numbers, n_texts : int
        Cells that are numbers, and those that are neither that nor empty.
    text : (int, str) or None
        Row (from 0) and content of the first of the latter.
    whole : bool
        Whether all numbers are whole.
    """

    name: str
    numbers: np.ndarray
    n_numbers: int
    n_texts: int = 0
    text: tuple[int, str] | None = None
    whole: bool = False

    @property
    def tells_kinds(self) -> bool:
        """Whether its numbers are whole, and not all one: as of a label among measurements."""
        return (
            self.whole
            and len(self.numbers) >= ENOUGH
            and bool(np.nanmax(self.numbers) > np.nanmin(self.numbers))
        )

    @property
    def counts_rows(self) -> bool:
        """Whether it numbers the rows, in whatever order."""
        n = len(self.numbers)
        if not self.whole or self.n_numbers < n or n < ENOUGH or np.ptp(self.numbers) != n - 1:
            return False
        return len(np.unique(self.numbers)) == n


def split_patterns(patterns: Sequence[str] | str | None) -> list[str]:
    """Take names apart that have commas between them; a name with a comma in it stands in quotes."""
    patterns = [patterns] if isinstance(patterns, str) else list(patterns or ())
    return [
        name.strip() for row in csv.reader(patterns, skipinitialspace=True) for name in row if name.strip()
    ]


def match(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that patterns mean: a name, a pattern such as f*, or the beginning of names.

    Raises
    ------
    FtransferError
        If a pattern means none.
    """
    found = []
    for pattern in patterns:
        some = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        some = some or [name for name in names if name.startswith(pattern)]
        if not some:
            raise unknown("column", pattern, names)
        found += some
    return list(dict.fromkeys(found))


def find_named(what: object, names: Sequence[str], columns: dict[str, str | None]) -> dict[str, str]:
    """Say which columns are label, domain, path, group, sha256 and further labels, by role.

    Parameters
    ----------
    what : path
        The file, for messages.
    names : list of str
    columns : dict
        Where a role is under another name; see `import_features`.
    """
    roles = {name: name for name in names if name.startswith(LABELS)}
    for role in dict.fromkeys([*NAMES, *columns]):
        name = find_column(what, names, role, columns.get(role))
        roles |= {role: name} if name else {}
    return roles


def choose_features(what: object, columns: Sequence[Column], wanted: Sequence[str]) -> list[Column]:
    """Choose the columns of numbers that are features; refuse those that may be something else.

    Raises
    ------
    FtransferError
        If a name is not there, none holds numbers, or one may be a row number, a key or a label.
    """
    if wanted:
        names = match([column.name for column in columns], wanted)
        return [column for column in columns if column.name in names]
    numeric = [c for c in columns if c.n_numbers and c.n_numbers >= c.n_texts]
    stems = Counter(_stem(column.name) for column in numeric if re.search(r"\d", column.name))
    (stem, size) = (*stems.most_common(1), ("", 0))[0]
    is_family = size > 1 and size >= len(numeric) / 2
    chosen = [c for c in columns if c in numeric or (is_family and _stem(c.name) == stem)]
    fractions = sum(not c.whole for c in chosen) > len(chosen) / 2
    doubts = []
    for column in chosen:
        of_family = is_family and _stem(column.name) == stem
        doubt = _doubt(column, of_family, stem if is_family else "", fractions)
        doubts += [f"'{column.name}' {doubt}"] if doubt and (len(chosen) > 1 or doubt in SURE) else []
    if doubts:
        more = f"; and {len(doubts) - 4} more" if len(doubts) > 4 else ""
        raise FtransferError(
            f"{what}: {'; '.join(doubts[:4])}{more}. Are they features? Exclude columns with --ignore NAME, "
            f"choose the features with --features 'f*', or declare a column with --label-column, "
            f"--domain-column or --path-column"
        )
    return chosen


SURE = ("is named like a row number", "is named like a key or a label")


def _stem(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _doubt(column: Column, of_family: bool, stem: str, fractions: bool) -> str:
    """Say why a column may be no feature; empty where nothing speaks against it."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.name).lower()
    if not of_family and INDEX.fullmatch(words):
        return SURE[0]
    if not of_family and any(KEY_WORDS.fullmatch(word) for word in re.split(r"[^a-z]+", words)):
        return SURE[1]
    if column.counts_rows:
        return "numbers the rows"
    if not of_family and stem:
        return f"is not named like the others ({stem.replace('#', '0')}, {stem.replace('#', '1')}, ...)"
    return WHOLE if fractions and column.tells_kinds else ""
