"""Which folder on an image's path is its domain, which its class, and which says nothing of either."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence

from ftransfer.cells import read_label
from ftransfer.errors import FtransferError
from ftransfer.images.table import escape_bytes
from ftransfer.storage.places import Place

Levels = list[list[str]]  # the folders on the path of each image

SPLITS = re.compile(
    r"(train(ing)?|trn|test(ing)?|tst|val(id(ation)?)?|dev|eval|holdout)([ "
    "_-]?(set|split|data|images?|imgs?))?"
    r"|(fold|split|part)[ _-]?\d+",
    re.IGNORECASE,
)
WRAPPERS = re.compile(r"images?|imgs?|jpegimages|jpe?g|png|pictures?|pics|data(set)?|raw", re.IGNORECASE)
BELOW = re.compile(WRAPPERS.pattern + "|photos?|all", re.IGNORECASE)  # above, photo is a domain


def read_layout(text: str) -> list[str]:
    """Take a layout apart: which level of folders is what.

    >>> read_layout("domain/*/class"), read_layout("<class>")
    (['domain', '*', 'class'], ['class'])

    Raises
    ------
    FtransferError
        If it is none.
    """
    words = [word.strip().strip("<>").lower() for word in text.strip("/").split("/")]
    if not set(words) <= {"domain", "class", "*"} or words.count("class") > 1 or words.count("domain") > 1:
        raise FtransferError(
            f"a layout gives each folder level as domain, class or *, such as domain/*/class; given {text!r}"
        )
    return words


def name_folders(
    root: Place, paths: Sequence[str], domain: str | None, layout: str | None = None
) -> tuple[list[str | None], list[str] | str, list[str]]:
    """Tell the class and the domain of each image from the folders on its path.

    Parameters
    ----------
    root : Path
        For messages.
    paths : list of str
        Relative to it.
    domain : str, optional
        Of all images, where no folder is one.
    layout : str, optional
        See `read_layout`. Default: ``domain/class``, or ``class`` where `domain` is given; folders called train,
        test, images and the like between them are passed over.

    Returns
    -------
    labels : list, None where there is none
    domains : list, or `domain`
    notes : list of str

    Raises
    ------
    FtransferError
        If it cannot be told which folder is the class.
    """
    levels = [path.split("/")[:-1] for path in paths]
    if layout is not None:
        return *_by_layout(root, levels, domain, read_layout(layout)), []
    passed: dict[str, None] = {}
    if domain is not None:
        levels = _skip(root, levels, passed)
        if min(map(len, levels)) > 1:
            inside = sorted({level[0] for level in levels})
            raise FtransferError(
                f"{root} looks like <domain>/<class>/*, with the folders {', '.join(inside[:5])}; leave out "
                f"--domain, give {root / inside[0]} with --domain {inside[0]}, or use --layout 'class/*'"
            )
        return [_name(level, 0) for level in levels], domain, _notes(passed)
    if max(map(len, levels)) < 2 or min(map(len, levels)) == 0:
        raise FtransferError(
            f"{root} has no <domain>/<class>/ folders; if all images belong to one domain, give its name: "
            f"--domain NAME"
        )
    levels = _skip_above_domains(levels, passed)
    by_domain = defaultdict(list)
    for i, level in enumerate(levels):
        by_domain[level[0]].append(i)
    for name, rows in by_domain.items():
        below = _skip(root / name, [levels[i][1:] for i in rows], passed)
        _refuse_unclear(root / name, below)
        for i, each in zip(rows, below, strict=True):
            levels[i] = [name, *each]
    return [_name(level, 1) for level in levels], [_domain(level) for level in levels], _notes(passed)


def name_domains(root: Place, paths: Sequence[str]) -> list[str]:
    """Tell the domain alone from the first folder on each path."""
    if not all("/" in path for path in paths):
        raise FtransferError(
            f"{root} has images outside any <domain>/ folder; if all images belong to one domain, give its "
            f"name: --domain NAME"
        )
    return [_domain(level) for level in _skip_above_domains([path.split("/")[:-1] for path in paths], {})]


def _by_layout(
    root: Place, levels: Levels, domain: str | None, words: list[str]
) -> tuple[list[str | None], list[str] | str]:
    if "domain" not in words and domain is None:
        raise FtransferError(
            "the layout has no level 'domain'; set the domain of all images with --domain NAME"
        )
    label = words.index("class") if "class" in words else sys.maxsize
    labels = [_name(level, label) for level in levels]
    if domain is not None:
        return labels, domain
    at = words.index("domain")
    if shallow := sum(len(level) <= at for level in levels):
        raise FtransferError(
            f"{shallow} images in {root} are above the domain level of the layout {'/'.join(words)}; move "
            f"them, or use another layout"
        )
    return labels, [_domain(level, at) for level in levels]


def _says_nothing(names: Iterable[str], pattern: re.Pattern[str] | None = None) -> bool:
    patterns = [pattern] if pattern else [SPLITS, BELOW]
    return all(any(p.fullmatch(name) for p in patterns) for name in names)


def _skip_above_domains(levels: Levels, passed: dict[str, None]) -> Levels:
    """Pass over images/ above domains, and train/ and test/ where domains of the same classes lie in them."""
    while min(map(len, levels)) >= 3:
        top = {level[0] for level in levels}
        if not _says_nothing(top, WRAPPERS) and not (
            _says_nothing(top, SPLITS)
            and not _says_nothing({level[1] for level in levels})
            and _share([level[1:] for level in levels])
        ):
            break
        passed |= dict.fromkeys(top)
        levels = [level[1:] for level in levels]
    return levels


def _skip(folder: Place, levels: Levels, passed: dict[str, None]) -> Levels:
    """Pass over train/, test/ and images/ above classes; refuse them beside classes."""
    while names := {level[0] for level in levels if level}:
        plain = sorted(name for name in names if not _says_nothing([name]))
        deep = sorted({level[0] for level in levels if len(level) > 1} - set(plain))
        if plain and deep:
            raise FtransferError(
                f"{folder / deep[0]} holds folders, unlike its neighbour {plain[0]}: which are the classes? "
                f"Use --layout, such as 'domain/class' or 'domain/*/class'"
            )
        if plain:
            break
        passed |= dict.fromkeys(names)
        levels = [level[1:] for level in levels]
    return levels


def _refuse_unclear(folder: Place, levels: Levels) -> None:
    """Refuse folders two deep whose names do not tell on which level the classes are."""
    levels = [level for level in levels if level]
    if not levels or min(map(len, levels)) < 2:
        return
    first, second = (sorted({level[at] for level in levels}) for at in (0, 1))
    numbers = all(name.isdigit() for name in second) and not all(name.isdigit() for name in first)
    if not numbers and not _says_nothing(second) and _share(levels):
        raise FtransferError(
            f"the images in {folder} are two folder levels deep: are the classes {', '.join(first[:3])}, or "
            f"{', '.join(second[:3])}? Use --layout 'domain/class/*' or 'domain/*/class'"
        )


def _share(levels: Levels) -> bool:
    """Whether most folders of the second level come in several of the first, as classes do in domains."""
    of = defaultdict(set)
    for level in levels:
        of[level[1]].add(level[0])
    return sum(len(where) > 1 for where in of.values()) >= max(1, len(of) / 2)


def _name(level: Sequence[str], at: int) -> str | None:
    """Name one of the folders on a path, if it has so many."""
    return _domain(level, at) if at < len(level) else None


def _domain(level: Sequence[str], at: int = 0) -> str:
    """Name one of the folders on a path; a million images share the few names."""
    return sys.intern(read_label(escape_bytes(level[at])) or level[at])


def _notes(passed: dict[str, None]) -> list[str]:
    return (
        [f"folders called {', '.join(sorted(passed)[:5])} were not treated as domains or classes"]
        if passed
        else []
    )
