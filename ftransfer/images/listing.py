"""List the images below a folder, on disk or in a store, and count what was passed over."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ftransfer.errors import FtransferError
from ftransfer.images.kinds import PACKED, is_image, is_litter, kind_of
from ftransfer.images.shards import COMPRESSED, is_shard
from ftransfer.images.shards import SUFFIXES as SHARDS
from ftransfer.images.table import stat_listed
from ftransfer.storage.places import READERS, Place, Remote, list_folders

UNSAID = frozenset({".git", ".svn", ".hg", ".cache", "__pycache__"})  # left out as a matter of course
VISITS = 1000  # times that one folder may be reached, by links


@dataclass
class Listing:
    """What is in a folder.

    Attributes
    ----------
    paths : dict of str to (int, int) or None
        The images' paths, relative to the folder; of a store with size and time of change, see `stat_image`.
    shards : list of str
        Paths of files that hold images, see `ftransfer.images.shards`.
    other : set of str
        Suffixes of what else is there.
    passed_over : Counter
        What looks like pictures and is not read, by kind: ``.heic``, ``hidden``; folders end in a slash.
    """

    paths: dict[str, tuple | None] = field(default_factory=dict)
    shards: list[str] = field(default_factory=list)
    other: set[str] = field(default_factory=set)
    passed_over: Counter[str] = field(default_factory=Counter)

    def add(
        self, inside: str, name: str, file: str | Remote | None = None, listed: tuple[int, int] | None = None
    ) -> None:
        """Take a file in, as an image, as a shard of images or as what is passed over."""
        if is_image(name) and not name.startswith("."):
            self.paths[inside + name] = listed
            return
        if COMPRESSED.fullmatch(name):
            self.passed_over[PACKED] += 1
            return
        if file and not name.startswith(".") and name.lower().endswith(SHARDS):
            shard = file if isinstance(file, Remote) else Path(file)
            if shard.is_file() and is_shard(shard):
                self.shards.append(inside + name)
                return
        kind = kind_of(name, file if isinstance(file, str) else None)
        if kind:
            self.passed_over[kind] += 1
        if not name.startswith("."):
            self.other.add(os.path.splitext(name)[1].lower() or name)

    def leave_out(self, folder: str) -> None:
        """Count a folder that is not looked into."""
        if folder.lower() not in UNSAID:
            self.passed_over[folder + "/"] += 1


def list_folder(root: Place) -> Listing:
    """List a folder, however deep.

    Raises
    ------
    FtransferError
        If a folder cannot be read.
    """
    return _list_remote(root) if isinstance(root, Remote) else _list_local(root)


def _list_local(root: Path) -> Listing:
    """A folder that several links lead to is listed for each; one that lies in itself, by a link, is not."""
    found = Listing()
    visits: Counter[str] = Counter()
    start = os.path.realpath(root)
    waiting = [(str(root), "", start, frozenset([start]))]
    while waiting:
        folder, inside, real, above = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise FtransferError(f"cannot read the folder {error.filename}: {error.strerror}") from error
        for entry in entries:
            name = entry.name
            if not _is_dir(entry):
                found.add(inside, name, entry.path)
                continue
            if is_litter(name):
                found.leave_out(name)
                continue
            where = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, name)
            if where in above:
                found.passed_over["linked folder in a circle"] += 1
                continue
            visits[where] += 1
            if visits[where] > VISITS:
                raise FtransferError(
                    f"links lead to {where} more than {VISITS} times; use a folder without such links"
                )
            if is_image(name) and not os.listdir(entry.path):
                found.add(inside, name)  # an empty folder that bears the name of an image: it cannot be read
            waiting.append((entry.path, f"{inside}{name}/", where, above | {where}))
    return found


def _is_dir(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: it is listed, and then cannot be read
        return False


def _list_remote(root: Remote) -> Listing:
    """Do the same in a store, one call a folder."""
    found, folders = Listing(), [PurePosixPath()]
    while folders:
        now, folders = folders[:READERS], folders[READERS:]  # what a call returns is large
        for child, path in list_folders(root, now):
            if not child.is_dir():
                inside = f"{path.parent}/" if path.parent != PurePosixPath() else ""
                found.add(inside, child.name, child, stat_listed(child) if is_image(child.name) else None)
            elif is_litter(child.name):
                found.leave_out(child.name)
            else:
                folders.append(path)
    return found
