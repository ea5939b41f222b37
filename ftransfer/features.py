"""The feature set on disk: one recipe, committed parts, a manifest.

A feature set is a folder::

    recipe.json        what shapes the numbers; one folder holds one recipe
    parts/*.arrow      Arrow IPC: SHA-256 of an image's bytes + its embedding; whole or not at all
    manifest.parquet   root, path, sha256, label, domain, group, status, error, size, mtime

Rows are found by content. The manifest may change without an embedding being computed again.
"""

import json
import os
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ftransfer.errors import FtransferError

FIELDS = {
    "root": "string",
    "path": "string",
    "sha256": "string",  # 64 hexadecimal digits; missing until the image was read
    "label": "string",
    "domain": "string",
    "group": "string",
    "status": "string",  # "ok", "pending" (not read yet) or "error"
    "error": "string",
    "size": "Int64",  # bytes
    "mtime": "Int64",  # nanoseconds; with path and size it only spares reading an unchanged file again
}


class FeatureSet:
    """Embeddings with their images' paths, labels and domains, in a folder.

    Parameters
    ----------
    folder : str or path
        An existing feature set; `FeatureSet.create` makes one.

    Attributes
    ----------
    folder : Path
    recipe : dict
        What shapes the numbers: backbone, hash of the weights, layers, preprocessing, decoder.

    Raises
    ------
    FtransferError
        If there is no feature set, or what is there cannot be read.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not (self.folder / "recipe.json").is_file():
            what = "is no feature set (it has no recipe.json)" if self.folder.is_dir() else "does not exist"
            raise FtransferError(
                f"{self.folder} {what}; make one: ftransfer extract IMAGES --out {self.folder}"
            )
        self.recipe = self._read_recipe()

    @classmethod
    def create(cls, folder, recipe: dict) -> "FeatureSet":
        """Open the feature set in `folder` for this recipe; start it if there is none.

        Raises
        ------
        FtransferError
            If the folder holds another recipe (the difference is named), other files, or is not writable.
        """
        folder = Path(folder)
        with writing(folder):
            if not (folder / "recipe.json").is_file():
                foreign = [p.name for p in folder.iterdir() if p.name != "parts"] if folder.is_dir() else []
                foreign = [name for name in foreign if not name.startswith(".")]
                if foreign:
                    raise FtransferError(
                        f"{folder} is no feature set and is not empty ({', '.join(sorted(foreign)[:3])}); "
                        f"name another folder: --out"
                    )
                (folder / "parts").mkdir(parents=True, exist_ok=True)
                write_whole(folder / "recipe.json", json.dumps(recipe, indent=2).encode())
        features = cls(folder)
        if features.recipe != recipe:
            raise FtransferError(
                f"{folder} holds another recipe: {_difference(features.recipe, recipe)}; "
                f"one folder holds one recipe, so name another: --out"
            )
        return features

    def _read_recipe(self) -> dict:
        try:
            recipe = json.loads((self.folder / "recipe.json").read_text("utf-8"))
            self.width = sum(int(layer["width"]) for layer in recipe["layers"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise FtransferError(f"{self.folder / 'recipe.json'} cannot be read: {error!r}") from error
        return recipe

    # ------------------------------------------------------------ manifest

    @property
    def manifest(self) -> pd.DataFrame:
        """One row an image, in the order of `FIELDS`; empty before the first extraction got that far."""
        file = self.folder / "manifest.parquet"
        if not file.is_file():
            return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in FIELDS.items()})
        try:
            table = pd.read_parquet(file)
            return table[list(FIELDS)].astype(FIELDS)
        except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are of these kinds
            raise FtransferError(
                f"{file} cannot be read ({error}); run the same ftransfer extract again to write it anew"
            ) from error

    def write_manifest(self, table: pd.DataFrame) -> None:
        """Replace the manifest, whole or not at all."""
        with writing(self.folder):
            buffer = pa.BufferOutputStream()
            table = table.reindex(columns=list(FIELDS)).astype(FIELDS)
            pq.write_table(pa.Table.from_pandas(table, preserve_index=False), buffer)
            write_whole(self.folder / "manifest.parquet", buffer.getvalue())

    @property
    def complete(self) -> pd.DataFrame:
        """The manifest of an extraction that reached its end.

        Raises
        ------
        FtransferError
            If it was stopped before, or nothing was extracted at all.
        """
        manifest = self.manifest
        again = "run the same ftransfer extract again: it goes on where it was"
        if manifest.empty:
            raise FtransferError(f"{self.folder} is an empty feature set; {again}")
        pending = int((manifest["status"] == "pending").sum())
        if pending:
            raise FtransferError(
                f"{self.folder} is half-written: {pending} of {len(manifest)} images are not done; {again}"
            )
        if (manifest["status"] != "ok").all():
            first = manifest.iloc[0]
            raise FtransferError(
                f"none of the {len(manifest)} images in {self.folder} could be read; "
                f"{first['path']}: {first['error']}"
            )
        return manifest

    # ------------------------------------------------------------ parts

    def write_part(self, sha256: list[str], embeddings: np.ndarray) -> Path:
        """Commit rows as one part, which appears whole or not at all.

        Parameters
        ----------
        sha256 : list of n str
            Hexadecimal SHA-256 of each image's bytes.
        embeddings : ndarray of shape (n, width), float32
        """
        keys = pa.array([bytes.fromhex(h) for h in sha256], pa.binary(32))
        flat = pa.array(np.ascontiguousarray(embeddings, dtype=np.float32).ravel())
        rows = pa.FixedSizeListArray.from_arrays(flat, self.width)
        table = pa.table({"sha256": keys, "embedding": rows})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        file = self.folder / "parts" / f"{uuid.uuid4().hex}.arrow"
        with writing(self.folder):
            write_whole(file, sink.getvalue())
        return file

    def parts(self) -> list[tuple[Path, np.ndarray, np.ndarray]]:
        """List the readable parts: file, keys (n, 32) as bytes, embeddings (n, width), mapped from disk.

        A part that cannot be read counts for nothing: its rows are wanted again.
        """
        return [(f, *part) for f in self._part_files() if (part := self._read_part(f)) is not None]

    def _part_files(self) -> list[Path]:
        return sorted((self.folder / "parts").glob("*.arrow"))

    def _read_part(self, file: Path):
        try:
            table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
            keys, rows = table["sha256"].combine_chunks(), table["embedding"].combine_chunks()
            if keys.type != pa.binary(32) or rows.type != pa.list_(pa.float32(), self.width):
                return None
            return keys, rows.flatten().to_numpy(zero_copy_only=True).reshape(len(keys), self.width)
        except (pa.ArrowException, OSError, KeyError, ValueError):
            return None

    def done(self) -> set[str]:
        """Hashes of the images that have an embedding."""
        return {key.hex() for _, keys, _ in self.parts() for key in keys.to_pylist()}

    def load(self, rows: pd.DataFrame) -> np.ndarray:
        """Load the embeddings of some rows of the manifest.

        Parameters
        ----------
        rows : DataFrame
            Rows of `manifest` whose status is "ok", in any order.

        Returns
        -------
        ndarray of shape (len(rows), width), float32, C-contiguous, in the order of `rows`.

        Raises
        ------
        FtransferError
            If an embedding is not there, or is not finite.
        """
        X = np.empty((len(rows), self.width), dtype=np.float32)
        found = np.zeros(len(rows), dtype=bool)
        wanted = pa.array([bytes.fromhex(h) for h in rows["sha256"]], pa.binary(32))
        for _, keys, embeddings in self.parts():
            where = pc.index_in(wanted, value_set=keys).to_numpy(zero_copy_only=False)
            here = ~np.isnan(where.astype(float))
            X[here] = embeddings[where[here].astype(np.intp)]
            found |= here
        if not found.all():
            raise FtransferError(
                f"{self.folder} lacks the embeddings of {int((~found).sum())} images, the first "
                f"{rows['path'].iloc[int(found.argmin())]}; run the same ftransfer extract again"
            )
        if not np.isfinite(X).all():
            bad = int((~np.isfinite(X).all(axis=1)).argmax())
            raise FtransferError(f"the embedding of {rows['path'].iloc[bad]} in {self.folder} is not finite")
        return X


def _difference(old: dict, new: dict, prefix: str = "") -> str:
    different = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if a != b and isinstance(a, dict) and isinstance(b, dict):
            different.append(_difference(a, b, f"{prefix}{key}."))
        elif a != b:
            different.append(f"{prefix}{key} is {_short(a)} there, {_short(b)} now")
    return "; ".join(different)


def _short(value) -> str:
    if isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value):
        return "+".join(v["name"] for v in value)
    text = str(value)
    return text if len(text) <= 60 else text[:24] + "..."


@contextmanager
def writing(folder: Path):
    """Turn what the file system refuses into an error that a user can mend."""
    try:
        yield
    except OSError as error:
        raise FtransferError(f"cannot write to {folder}: {error.strerror or error}") from error


def write_whole(file: Path, content) -> None:
    """Write aside, flush to disk, rename: the file appears whole or not at all."""
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        with open(aside, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(aside, file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be flushed
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
