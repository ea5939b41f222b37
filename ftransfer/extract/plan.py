"""What an extraction has to do: which images are new, which are there already, which are gone."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from ftransfer.features.feature_set import KEY, FeatureSet
from ftransfer.features.fingerprint import refuse_foreign
from ftransfer.features.manifest import FIELDS, column_kinds, find_rows
from ftransfer.features.verify import verify
from ftransfer.images.kinds import describe_passed_over
from ftransfer.images.read import full_path, is_still_there, read_bytes, stat_image
from ftransfer.storage.places import READERS, Unreachable, is_remote, place


def count_readers(images: pd.DataFrame, cores: int | None = None) -> int:
    """Say how many threads read: the cores, all usable ones by default; of images in a store more: they mostly wait."""
    remote = any(map(is_remote, images["root"].unique()))
    return max(cores or joblib.cpu_count(), READERS if remote else 1)


def pending_rows(old: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Make manifest rows of images, none of them done.

    Parameters
    ----------
    old : DataFrame
        The manifest as it is. An image whose path, size and time of change are those of a row there has that
        row's hash and need not be read again.
    images : DataFrame
        From `find_images`.
    """
    new = images.reindex(columns=list(kinds := column_kinds(images)))
    key = ["root", "path", "size", "mtime"]
    hashes = old.dropna(subset=[*key, "sha256"]).drop_duplicates(key).set_index(key)["sha256"]
    # images of a store have been asked for theirs, a folder at a time
    if len(hashes) and "size" not in images:
        stats = [stat_image(root, path) for root, path in zip(new["root"], new["path"], strict=True)]
        new["size"] = [size for size, _ in stats]
        new["mtime"] = [mtime for _, mtime in stats]
    new["status"] = "pending"
    new = new.astype(kinds)
    if len(hashes):
        new["sha256"] = new.drop(columns="sha256").join(hashes, on=key)["sha256"].astype("string")
    return new


def rows_that_leave(old: pd.DataFrame, rows: pd.DataFrame, replace: bool = False) -> np.ndarray:
    """Say which rows of the manifest are no longer wanted once others are listed.

    Parameters
    ----------
    old, rows : DataFrame
        The manifest as it is, and the rows of the run.
    replace : bool, default=False
        Whether all rows of the same roots and domains go. Otherwise only those whose file is no longer there: a further
        split, table or folder of a domain adds to it.

    Returns
    -------
    ndarray of shape (len(old),), bool; rows that are listed again are not among them.
    """
    same_root = old["root"].isin(rows["root"].unique()).to_numpy()
    same = same_root | old["domain"].isin(rows["domain"].unique()).to_numpy()
    listed = find_rows(old[KEY], rows[KEY]) >= 0
    if replace:
        return same & ~listed
    leave = np.zeros(len(old), dtype=bool)
    asked = np.flatnonzero(same & ~listed)
    if not len(asked):
        return leave
    places = list(zip(old["root"].iloc[asked], old["path"].iloc[asked], strict=True))
    with ThreadPoolExecutor(READERS) as pool:
        there = list(pool.map(lambda at: is_still_there(*at), places))
    # of a data set of torchvision, a root is listed as a whole
    whole = same_root[asked] & old["root"].iloc[asked].str.startswith("torchvision:").to_numpy()
    # the same file, by way of a folder above or below
    files = {full_path(*at) for at in zip(rows["root"], rows["path"], strict=True)}
    twice = [full_path(*at) in files for at in places]
    leave[asked] = ~np.array(there, dtype=bool) | whole | np.array(twice, dtype=bool)
    return leave


def count_kept(old: pd.DataFrame, rows: pd.DataFrame, leave: np.ndarray) -> int:
    """Count the rows of other roots that stay, of those of the same domains."""
    elsewhere = ~old["root"].isin(rows["root"].unique()) & old["domain"].isin(rows["domain"].unique())
    return int((elsewhere.to_numpy() & ~leave).sum())


class Leaving:
    """`rows_that_leave` for `FeatureSet.list_rows`; afterwards `kept` is what `count_kept` says."""

    def __init__(self, replace: bool) -> None:
        self.replace, self.kept = replace, 0

    def __call__(self, old: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
        leave = rows_that_leave(old, rows, self.replace)
        self.kept = count_kept(old, rows, leave)
        return leave


@dataclass
class Plan:
    """What an extraction would do.

    Attributes
    ----------
    images, compute, reuse : int
        Images listed; embeddings to be computed; images whose embedding is there, or that come twice.
    unreadable : list of (path, reason)
        What cannot even be opened; whether the others can be decoded shows when they are.
    relabelled, gone, replaced, kept : int
        Rows of the manifest that change their label or domain; whose image is no longer there; that give way to
        images of the same domain in another folder; that stay beside these, though of the same domain.
    passed_over : dict of str to int
        What looks like pictures and is not read, by kind.
    damaged : list of str
        What would be set aside, a sentence each.
    """

    images: int
    compute: int = 0
    reuse: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    relabelled: int = 0
    gone: int = 0
    replaced: int = 0
    kept: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.images} images; {self.compute} to compute, {self.reuse} cached or duplicate"]
        for count, what in (
            (self.relabelled, "change their label or domain"),
            (self.gone, "no longer exist and are removed from the manifest"),
            (self.replaced, "of the same domains in another folder are replaced by these"),
            (self.kept, "of the same domains from elsewhere are kept; --replace removes them"),
            (len(self.unreadable), "cannot be opened:"),
        ):
            lines += [f"{count} {what}"] if count else []
        lines += [f"  {path}: {reason}" for path, reason in self.unreadable[:10]]
        passed = describe_passed_over(self.passed_over)
        lines += [passed] if passed else []
        return "\n".join(lines + self.damaged)


def plan_extraction(
    images: pd.DataFrame,
    out: str | Path,
    fingerprint: dict,
    *,
    replace: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> Plan:
    """Say what `extract_features` would do, and change nothing.

    Images that are not known by path, size and time of change are read, since only their content tells whether
    their embedding is there.

    Parameters
    ----------
    images : DataFrame
        From `find_images`.
    out : str or path
        The feature set, which need not exist.
    fingerprint : dict
        The backbone's.
    replace : bool, default=False
        As for `extract_features`.
    progress : callable
        Called with the number of images dealt with since the last call.

    Raises
    ------
    FtransferError
        If `out` holds other files or another fingerprint.
    """
    passed_over = images.attrs.get("passed_over", {})
    plan, done, old = (
        Plan(len(images), passed_over=passed_over),
        set(),
        pd.DataFrame(columns=list(FIELDS)).astype(FIELDS),
    )
    refuse_foreign(out)
    if (place(out) / "fingerprint.json").is_file():
        features = FeatureSet(out)
        features.refuse_other(fingerprint)
        plan.damaged = verify(features, every_byte=False).wrong
        done, old = features.done(sound=True), features.manifest
    rows = pending_rows(old, images)
    with ThreadPoolExecutor(count_readers(rows) + 4) as pool:  # they only read and hash
        for path, sha256, error in pool.map(_hash, rows["root"], rows["path"], rows["sha256"]):
            if error:
                plan.unreadable.append((path, error))
            elif sha256 is None or sha256 in done:
                plan.reuse += 1
            else:
                plan.compute += 1
                done.add(sha256)  # a twin that comes later is not computed again
            progress(1)
    leave = rows_that_leave(old, rows, replace)
    same_root = old["root"].isin(rows["root"].unique()).to_numpy()
    plan.replaced = int((leave & ~same_root).sum())
    plan.kept = count_kept(old, rows, leave)
    both = old[same_root].merge(rows, on=KEY, suffixes=("", "_new"))
    changed = [both[name].fillna("") != both[name + "_new"].fillna("") for name in ("label", "domain")]
    plan.relabelled = int((changed[0] | changed[1]).sum())
    plan.gone = int((leave & same_root).sum())
    return plan


def _hash(root: str, path: str, known: Any) -> tuple[str, str | None, str | None]:
    if isinstance(known, str):
        return path, known, None
    try:
        return path, hashlib.sha256(read_bytes(root, path)).hexdigest(), None
    except Unreachable:
        raise
    except (OSError, ValueError) as error:
        return path, None, getattr(error, "strerror", None) or str(error)
