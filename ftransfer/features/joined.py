"""Several feature sets of the same images as one: what several backbones know, side by side."""

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError
from ftransfer.features.arrays import Arrays
from ftransfer.features.feature_set import FeatureSet
from ftransfer.storage.places import Place, place

NARROW = 8  # numbers a row from which its length may be divided out
UNLIKE = 3  # ratio of lengths from which a set outweighs another
SAMPLE = 256  # rows


class JoinedFeatures(Arrays):
    """Feature sets of the same images, their embeddings side by side; stands where a `FeatureSet` does.

    Rows are matched by content, the hash of the image's bytes. Where a set does not have it (embeddings that were
    imported without), by domain and path. Labels, domains and order are those of the first set.

    Parameters
    ----------
    feature_sets : list of two or more FeatureSet
    balance : bool, default=True
        Whether each row of each set is scaled to one length, the root of the sets' mean width, so that no set outweighs
        the others by its scale alone and a number is about 1, as after standardising.
        Sets of fewer than 8 numbers a row are left as they are: a length would take too much of them.

    Attributes
    ----------
    shown : list of FeatureSet
        Those whose embeddings are loaded: all, or one.
    folder : str; Path or Remote where one is shown
    fingerprint : dict
        With ``joined``, the fingerprints of all that are shown; that of the one.
    width : int
        Numbers a row, all together.
    complete : DataFrame
        Manifest of the first set, without the images that another one lacks.
    notes : list of str
        How many were left out; whether sets of unlike scale lie side by side.
    balanced : bool
        Whether rows are scaled.
    training : dict or None
        That of one backbone; None of several.

    Raises
    ------
    FtransferError
        If nothing is in all of them.
    """

    def __init__(self, feature_sets: Sequence[FeatureSet], *, balance: bool = True):
        self.feature_sets = list(feature_sets)
        first, *others = self.feature_sets
        self._show(self.feature_sets)
        self.complete = first.complete.assign(_row=range(len(first.complete)))
        self.notes: list[str] = []
        self._scales: list[str] = []  # those of scale
        self._hashes = []  # of each other set: its hash of each row of the first, missing where it has none
        for other in others:
            match = _match(first, self.complete, other)
            lost = match.isna() & (self.complete["status"] == "ok")
            if lost.any():
                self.notes.append(f"{int(lost.sum())} images that are not in {other.folder} were dropped")
            self.complete = self.complete[~lost]
            self._hashes.append(match)
        self.balanced = balance and bool(others) and min(f.width for f in self.feature_sets) >= NARROW
        if not (self.complete["status"] == "ok").any():
            raise FtransferError(
                f"no image is in all of {', '.join(str(f.folder) for f in self.feature_sets)}; images are "
                f"matched by content, and imported embeddings by domain and path"
            )
        if self.balanced:
            self.fingerprint["balanced"] = "unit-length rows"
        elif others:
            self._scales = self._describe_scales()
            self.notes += self._scales

    def _show(self, shown: list[FeatureSet]) -> None:
        self.shown, (first, *others) = shown, shown
        self.folder = " + ".join(str(f.folder) for f in shown) if others else first.folder
        self.width = sum(f.width for f in shown)
        # where the views differ, of images as they are
        self.n_views = first.n_views if all(f.views == first.views for f in others) else 1
        self.origin = " + ".join(f.origin for f in shown)
        self.fingerprint = _join_fingerprints([f.fingerprint for f in shown]) if others else first.fingerprint
        self.training = None if others else first.training

    def alone(self, which: int) -> "JoinedFeatures":
        """Show one of the sets alone, as far as all of them have an image; labels and order are the same."""
        other = copy.copy(self)
        other._show([self.feature_sets[which]])
        other.balanced = False
        other.notes = [note for note in self.notes if note not in self._scales]
        return other

    @property
    def manifest(self) -> pd.DataFrame:
        """The same as `complete`."""
        return self.complete

    def load_rows(self, rows: pd.DataFrame, *, view: int = 0) -> np.ndarray:
        """Load the embeddings of some rows of `complete`, as `FeatureSet.load` does."""
        X, start = np.empty((len(rows), self.width), dtype=np.float32), 0
        for each in self.shown:
            part = self._load_of(each, rows, view)
            if self.balanced:
                length = np.linalg.norm(part, axis=1, keepdims=True)
                part *= np.sqrt(self.width / len(self.shown)) / np.where(length > 0, length, 1)
            X[:, start : start + each.width] = part
            start += each.width
        return X

    def _load_of(self, one: FeatureSet, rows: pd.DataFrame, view: int = 0) -> np.ndarray:
        """Load the embeddings that one of the sets has of some rows of `complete`."""
        which = self.feature_sets.index(one)
        if which:
            rows = rows.assign(sha256=self._hashes[which - 1].loc[rows["_row"]].to_numpy())
        return one.load(rows, view=view)

    def _describe_scales(self) -> list[str]:
        """Say in a note if the sets' rows are of unlike length."""
        some = self.complete[self.complete["status"] == "ok"].iloc[:SAMPLE]
        parts = [self._load_of(each, some) for each in self.feature_sets]
        lengths = [float(np.sqrt(np.square(part).sum(axis=1).mean())) for part in parts]
        if max(lengths) <= UNLIKE * min(lengths):
            return []
        told = ", ".join(f"{f.folder} {n:.3g}" for f, n in zip(self.feature_sets, lengths, strict=True))
        return [
            f"the feature sets differ in scale (median row length: {told}), so the largest outweighs the others"
        ]


def open_alternatives(folders: Iterable[str | Place]) -> dict[str, JoinedFeatures]:
    """Open several feature sets of the same images as alternatives, by the shortest names that tell them apart.

    Raises
    ------
    FtransferError
        If there are not several, or no image is in all of them.
    """
    places = list(dict.fromkeys(place(folder) for folder in folders))
    if len(places) < 2:
        raise FtransferError("alternatives needs at least two feature sets; given one")
    joined = JoinedFeatures([FeatureSet(folder) for folder in places])
    names = [folder.resolve().name for folder in places]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in places]
    return {name: joined.alone(which) for which, name in enumerate(names)}


def _match(first: FeatureSet, rows: pd.DataFrame, other: FeatureSet) -> pd.Series:
    """Return the other set's hash of each row, by row number; missing where it has none."""
    there = other.complete.query("status == 'ok'")
    if all(f.fingerprint.get("rows", "content") == "content" for f in (first, other)):
        match = rows["sha256"].where(rows["sha256"].isin(there["sha256"]))
    else:
        hashes = there.drop_duplicates(["domain", "path"]).set_index(["domain", "path"])["sha256"]
        match = rows[["domain", "path"]].join(hashes, on=["domain", "path"])["sha256"]
    return match.set_axis(rows["_row"])


def _join_fingerprints(fingerprints: list[dict]) -> dict:
    layers = [
        {"name": f"{fingerprint['backbone']}:{layer['name']}", "width": layer["width"]}
        for fingerprint in fingerprints
        for layer in fingerprint["layers"]
    ]
    return {
        "format": 1,
        "backbone": " + ".join(fingerprint["backbone"] for fingerprint in fingerprints),
        "weights": " + ".join(fingerprint["weights"] for fingerprint in fingerprints),
        "layers": layers,
        "dtype": "float32",
        "joined": fingerprints,
    }


def open_features(
    folders: str | Place | FeatureSet | JoinedFeatures | Iterable[str | Place],
    *,
    balance: bool = True,
) -> FeatureSet | JoinedFeatures:
    """Open a feature set, or several as one.

    Parameters
    ----------
    folders : str, path, or list of them; or what is open already
    balance : bool, default=True
        As for `JoinedFeatures`.
    """
    if isinstance(folders, FeatureSet | JoinedFeatures):
        return folders
    folders = [folders] if isinstance(folders, str | Place) else list(dict.fromkeys(folders))
    sets = [FeatureSet(folder) for folder in folders]
    return sets[0] if len(sets) == 1 else JoinedFeatures(sets, balance=balance)
