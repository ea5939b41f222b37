"""The feature set on disk: one fingerprint, committed parts, a manifest.

A feature set is a folder::

    fingerprint.json   what shapes the numbers; one folder holds one fingerprint
    parts/*.arrow      Arrow IPC: SHA-256 of an image's bytes + its embedding; whole or not at all
    manifest.parquet   root, path, sha256, label, domain, group, status, error, size, mtime

Rows are found by content. The manifest may change without an embedding being computed again. Several may write
at once, each under the folder's lock; in a store, which has none, the manifest is put only where it is as it was read.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ftransfer.errors import FtransferError
from ftransfer.features.arrays import Arrays
from ftransfer.features.fingerprint import (
    digest_fingerprint,
    feature_width,
    name_difference,
    not_a_feature_set,
    refuse_foreign,
)
from ftransfer.features.manifest import FIELDS, FOUND, check_manifest, column_kinds, find_rows, write_manifest
from ftransfer.features.parts import (
    SUFFIX,
    Damaged,
    Fetched,
    HashIndex,
    blocks,
    pack_hashes,
    read_part,
    write_part,
)
from ftransfer.features.training import read_training
from ftransfer.features.verify import Verified, check_parts, heal, verify
from ftransfer.storage.claims import refuse_bomb
from ftransfer.storage.places import READERS, Place, Remote, Unreachable, place
from ftransfer.storage.reading import is_there, read_text
from ftransfer.storage.writing import exchange, locked, sweep, write_whole, writing

KEY = ["root", "path"]
BLOCK = 256  # rows copied at a time: they stay in the processor's cache while they are checked


class FeatureSet(Arrays):
    """Embeddings with their images' paths, labels and domains, in a folder.

    Parameters
    ----------
    folder : str or path
        An existing feature set, on disk or at a URL that fsspec knows; `FeatureSet.create` makes one.

    Attributes
    ----------
    folder : Path, or `ftransfer.storage.places.Remote`
    fingerprint : dict
        What shapes the numbers: backbone, hash of the weights, layers, preprocessing, decoder.
    width : int
        Numbers a row.
    views, n_views : dict or None, int
        How several views of each image were made, and how many; the first is the image as it is.
    set_aside : list of str
        What `create` found damaged, a sentence each.

    Raises
    ------
    FtransferError
        If there is no feature set, or what is there cannot be read.
    """

    imported: tuple[str, ...] = ()  # what `import_features` has to say
    notes: Sequence[str] = ()  # what a task has to say of its features; a joined set has some
    summary: Any  # what the extraction that gave this object did, see `extract_features`

    def __init__(self, folder: str | Place) -> None:
        self.folder = place(folder)
        if not (self.folder / "fingerprint.json").is_file():
            raise not_a_feature_set(self.folder)
        fingerprint = self._read_fingerprint()
        self._digest = digest_fingerprint(fingerprint)
        self.views = fingerprint.pop("views", None)
        self.fingerprint = fingerprint
        self._mapped: dict[Place, tuple] = {}  # parts that were mapped already
        self._indexed: tuple[dict, HashIndex] | None = None  # their keys, and which parts these are
        self.set_aside: list[str] = []

    def __reduce__(self) -> tuple:
        """Pickle the folder alone, by its whole path."""
        return FeatureSet, (self.folder if isinstance(self.folder, Remote) else self.folder.resolve(),)

    @classmethod
    def create(cls, folder: str | Place, fingerprint: dict) -> "FeatureSet":
        """Open the feature set in `folder` for this fingerprint; start it if there is none.

        Raises
        ------
        FtransferError
            If the folder holds another fingerprint (the difference is named), other files, or is not writable.
        """
        folder = place(folder)
        with writing(folder):
            refuse_foreign(folder)
            (folder / "parts").mkdir(parents=True, exist_ok=True)
            with locked(folder) as held:
                if held:
                    sweep(folder)
                    sweep(folder / "parts")
                file, content = folder / "fingerprint.json", json.dumps(fingerprint, indent=2).encode()
                if not file.is_file():
                    # in a store, without a lock: if another writer is faster, its fingerprint counts
                    file.write_if(content, None) if isinstance(file, Remote) else write_whole(file, content)
        features = cls(folder)
        features.refuse_other(fingerprint)
        with writing(folder):
            features.set_aside = heal(features)
        return features

    def refuse_other(self, fingerprint: dict) -> None:
        """Raise an error that names the difference if this folder's fingerprint is not the one given."""
        own = self.fingerprint | ({"views": self.views} if self.views else {})
        if own != fingerprint:
            raise FtransferError(
                f"{self.folder} was computed with other settings: {name_difference(own, fingerprint)}; a "
                f"feature set has a single fingerprint, so use another folder: --out"
            )

    def _read_fingerprint(self) -> dict:
        try:
            fingerprint = json.loads(read_text(self.folder / "fingerprint.json"))
            self.width = feature_width(fingerprint)
            self.n_views = fingerprint["views"]["count"] if fingerprint.get("views") else 1
            if type(self.n_views) is not int or not 0 < self.n_views < 2**16:
                raise ValueError(f"it has {self.n_views} views")
        except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
            raise FtransferError(
                f"{self.folder / 'fingerprint.json'} cannot be read: {type(error).__name__}: {str(error)[:200]}"
            ) from error
        return fingerprint

    @property
    def origin(self) -> str:
        """Where the backbone's weights came from, for people: no part of the fingerprint, and it may be empty."""
        try:
            return read_text(self.folder / "origin.txt", errors="replace")[:200].strip()
        except OSError:
            return ""

    def write_origin(self, origin: str) -> None:
        """Note where the backbone's weights came from."""
        if origin != self.origin:
            with self.lock():
                write_whole(self.folder / "origin.txt", origin.encode())

    @property
    def training(self) -> dict | None:
        """How the backbone was trained, where `write_training` has noted it: for people, as the origin."""
        return read_training(self.folder / "training.json")

    def write_training(self, checkpoint: str | Path) -> None:
        """Note the training whose curves lie beside a checkpoint of ``ftransfer finetune``, if there are any."""
        training = read_training(Path(checkpoint).with_suffix(".json"))
        if training:
            with self.lock():
                write_whole(self.folder / "training.json", json.dumps(training).encode())

    # ------------------------------------------------------------ manifest

    @property
    def manifest(self) -> pd.DataFrame:
        """One row an image, in the order of `FIELDS`, then further columns of labels; empty before there are any."""
        file = self.folder / "manifest.parquet"
        try:
            if not is_there(file):
                return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in FIELDS.items()})
            if not isinstance(file, Remote):
                refuse_bomb(file)
            content = io.BytesIO(file.read_bytes()) if isinstance(file, Remote) else file
            table = pd.read_parquet(content, page_checksum_verification=True)
            table = table[list(kinds := column_kinds(table))].astype(kinds)
            check_manifest(table)
            return table
        except Unreachable:
            raise
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RuntimeError) as error:
            raise FtransferError(
                f"{file} cannot be read ({str(error)[:200]}); run the same ftransfer extract again to rewrite it"
            ) from error

    def write_manifest(self, table: pd.DataFrame) -> None:
        """Replace the manifest, whole or not at all."""
        self._change_manifest(lambda old: table)

    def list_rows(
        self,
        describe: Callable[[pd.DataFrame], pd.DataFrame],
        leave: Callable[[pd.DataFrame, pd.DataFrame], np.ndarray] | None = None,
    ) -> tuple[pd.DataFrame, int]:
        """Begin a run: its rows take the place of those of the same root and path, and of what `leave` says.

        Parameters
        ----------
        describe : callable
            Takes the manifest as it is and returns the rows of the run.
        leave : callable, optional
            Takes both and returns a mask of the former, of the rows that are no longer wanted. Default: those of the
            same root.

        Returns
        -------
        The rows of the run, and how many of other roots went.
        """
        found: list = []

        def change(old: pd.DataFrame) -> pd.DataFrame:
            rows = describe(old)
            same_root = old["root"].isin(rows["root"].unique()).to_numpy()
            gone = same_root if leave is None else leave(old, rows) | (find_rows(old[KEY], rows[KEY]) >= 0)
            found[:] = rows, int((gone & ~same_root).sum())
            return pd.concat([old[~gone], rows], ignore_index=True)

        self._change_manifest(change)
        return tuple(found)

    def update_rows(self, rows: pd.DataFrame) -> None:
        """End a run: put in what became of its rows, as far as no later run has listed others in their place."""
        key = ["root", "path", "domain"]
        rows = rows[rows["status"] != "pending"]

        def change(manifest: pd.DataFrame) -> pd.DataFrame:
            at = find_rows(manifest[key], rows[key])
            if np.array_equal(at, np.arange(len(rows))):  # these are all that there are, as a rule
                return manifest.assign(**{name: rows[name].array for name in FOUND})
            for name in FOUND:
                manifest.loc[at >= 0, name] = rows[name].array[at[at >= 0]]
            return manifest

        self._change_manifest(change)

    def _change_manifest(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        def write(out: BinaryIO) -> None:
            write_manifest(change(self.manifest), out)

        with self.lock():
            exchange(self.folder / "manifest.parquet", write)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other writers out meanwhile."""
        with writing(self.folder), locked(self.folder):
            yield

    @property
    def complete(self) -> pd.DataFrame:
        """The manifest of an extraction that reached its end.

        Raises
        ------
        FtransferError
            If it was stopped before, or nothing was extracted at all.
        """
        manifest = self.manifest
        again = "run the same ftransfer extract again to resume"
        if manifest.empty:
            raise FtransferError(f"{self.folder} is an empty feature set; {again}")
        pending = int((manifest["status"] == "pending").sum())
        if pending:
            raise FtransferError(
                f"{self.folder} is incomplete: {pending} of {len(manifest)} images are not done; {again}"
            )
        if (manifest["status"] != "ok").all():
            first = manifest.iloc[0]
            raise FtransferError(
                f"none of the {len(manifest)} images in {self.folder} could be read; "
                f"{first['path']}: {first['error']}"
            )
        return manifest

    # ------------------------------------------------------------ parts

    def write_part(self, sha256: list[str], embeddings: np.ndarray) -> Place | None:
        """Commit rows as one part, which appears whole or not at all.

        Rows whose embedding is there already, from another writer, are left out.

        Parameters
        ----------
        sha256 : list of n str
            Hexadecimal SHA-256 of each image's bytes.
        embeddings : ndarray of shape (n, n_views * width), float32

        Returns
        -------
        The file; None if nothing was left to write.
        """
        with self.lock():
            wanted, known = pack_hashes(sha256), [pa.array([], pa.binary(32))]
            for _, keys, _ in self.parts():
                # an index of the new ones alone: of all that is there it would grow
                known.append(keys.filter(pc.is_in(keys, value_set=wanted)))
            there = pc.is_in(wanted, value_set=pa.concat_arrays(known)).to_numpy(zero_copy_only=False)
            first = {h: i for i, h in reversed(list(enumerate(sha256)))}  # the same row twice is written once
            new = [i for i, h in enumerate(sha256) if not there[i] and first[h] == i]
            if not new:
                return None
            rows = np.asarray(embeddings)
            rows = rows if len(new) == len(rows) else rows[new]  # a part is large: not copied in vain
            return write_part(self.folder / "parts", [sha256[i] for i in new], rows, self._digest)

    def parts(self) -> list[tuple[Place, pa.Array, np.ndarray | Fetched]]:
        """List the readable parts: file, keys (n, 32) as bytes, embeddings (n, n_views * width), mapped.

        A part that is torn counts for nothing: its rows are wanted again.
        """
        files = self.part_files()
        if isinstance(self.folder, Remote):
            with ThreadPoolExecutor(READERS) as pool:
                found = list(pool.map(self._map, files))
        else:
            found = map(self._map, files)
        self._mapped = {file: part for file, part in zip(files, found, strict=True) if part}
        return [(file, keys, embeddings) for file, (_, keys, embeddings) in self._mapped.items()]

    def _map(self, file: Place) -> tuple | None:
        try:
            stat = file.stat()
            state = (stat.st_size, stat.st_mtime_ns)
            part = self._mapped.get(file)
            return part if part and part[0] == state else (state, *self.read_part(file))
        except (Damaged, FileNotFoundError):  # the latter: another process has just set it aside
            return None
        except OSError as error:
            raise FtransferError(f"{file} cannot be read: {error.strerror or error}") from error

    def read_part(self, file: Place) -> tuple[pa.Array, np.ndarray | Fetched]:
        """Map a part of this fingerprint; see `ftransfer.features.parts.read_part`."""
        return read_part(file, self.width * self.n_views, self._digest)

    def part_files(self) -> list[Place]:
        return sorted((self.folder / "parts").glob("*" + SUFFIX))

    def _index(self) -> tuple[HashIndex, np.ndarray, list[np.ndarray | Fetched]]:
        """Return all keys, the number of the first row of each part (and of the end), and their embeddings."""
        parts = self.parts()
        states = {file: part[0] for file, part in self._mapped.items()}
        if self._indexed is None or self._indexed[0] != states:
            keys = pa.concat_arrays([pa.array([], pa.binary(32)), *(keys for _, keys, _ in parts)])
            self._indexed = states, HashIndex(keys)
        starts = np.cumsum([0, *(len(keys) for _, keys, _ in parts)])
        return self._indexed[1], starts, [embeddings for _, _, embeddings in parts]

    def done(self, *, sound: bool = False) -> set[str]:
        """Hashes of the images that have an embedding; if `sound`, in a part that was checked just now."""
        damaged = {file for file, reason, _ in check_parts(self, False) if reason} if sound else ()
        return {
            key.hex() for file, keys, _ in self.parts() if file not in damaged for key in keys.to_pylist()
        }

    def load_rows(self, rows: pd.DataFrame, *, view: int = 0) -> np.ndarray:
        """Load the embeddings of some rows of the manifest, see `load`."""
        index, starts, parts = self._index()
        where = index.find(pack_hashes(rows["sha256"]))
        if (where < 0).any():
            raise FtransferError(
                f"{self.folder} lacks the embeddings of {int((where < 0).sum())} images, the first "
                f"{rows['path'].iloc[int((where < 0).argmax())]}; run the same ftransfer extract again"
            )
        X = np.empty((len(rows), self.width), dtype=np.float32)
        order = np.argsort(where, kind="stable")  # each part is read from its beginning to its end
        of_each_part = np.split(order, np.searchsorted(where[order], starts[1:-1]))
        columns = slice(view * self.width, (view + 1) * self.width)

        def copy(embeddings: np.ndarray | Fetched, start: int, rows_here: np.ndarray) -> None:
            for into, source in blocks(rows_here, where[rows_here] - start, BLOCK):
                X[into] = embeddings[source, columns]
                finite = np.isfinite(X[into])
                if not finite.all():
                    bad = np.arange(len(rows))[into][int((~finite.all(axis=1)).argmax())]
                    raise FtransferError(
                        f"the embedding of {rows['path'].iloc[bad]} in {self.folder} is not finite"
                    )

        with ThreadPoolExecutor() as pool:
            list(pool.map(copy, parts, starts[:-1], of_each_part))
        return X

    def verify(self) -> Verified:
        """Read every byte of the parts and the manifest, and say what is wrong. Images are not read."""
        return verify(self)
