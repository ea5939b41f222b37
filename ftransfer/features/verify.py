"""Find what is damaged in a feature set, and set it aside so that it is made again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ftransfer.errors import FtransferError
from ftransfer.features.parts import Damaged, check_part, pack_hashes
from ftransfer.storage.places import Place


@dataclass
class Verified:
    """What `FeatureSet.verify` found.

    Attributes
    ----------
    parts, embeddings, images : int
        Files, sound rows in them, and images of the manifest that should have one.
    not_checkable : list of str
        Parts of an older release, whose names do not tell their content.
    wrong : list of str
        What is wrong, a sentence each; empty if nothing is.
    """

    parts: int = 0
    embeddings: int = 0
    images: int = 0
    not_checkable: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.parts} parts with {self.embeddings} valid embeddings, {self.images} images"]
        lines += self.wrong or ["no problems found"]
        lines += ["run the same ftransfer extract again to recompute what is damaged"] if self.wrong else []
        if self.not_checkable:
            lines.append(
                f"{len(self.not_checkable)} parts from an older release have no checksum and cannot be checked"
            )
        return "\n".join(lines)


def verify(features: Any, every_byte: bool = True) -> Verified:
    """Read the parts and the manifest of a `FeatureSet`, and say what is wrong."""
    found, keys = Verified(), [pa.array([], pa.binary(32))]
    mapped = {file: part for file, *part in features.parts()}
    for file, reason, checkable in check_parts(features, every_byte):
        found.parts += 1
        if reason:
            found.wrong.append(f"parts/{file.name} is damaged: {reason}")
            continue
        if not checkable:
            found.not_checkable.append(f"parts/{file.name}")
        if file in mapped:
            keys.append(mapped[file][0])
            if every_byte and not np.isfinite(mapped[file][1]).all():
                found.wrong.append(f"parts/{file.name} holds NaN or infinity")
    keys = pa.concat_arrays(keys)
    found.embeddings = len(keys)
    try:
        rows = features.manifest.query("status == 'ok'")
    except FtransferError as error:
        found.wrong.append(str(error))
        return found
    found.images = len(rows)
    lacking = ~pc.is_in(pack_hashes(rows["sha256"]), value_set=keys).to_numpy(zero_copy_only=False)
    if lacking.any():
        first = rows["path"][lacking].iloc[0]
        found.wrong.append(f"{int(lacking.sum())} images have no valid embedding; the first is {first}")
    return found


def check_parts(features: Any, every_byte: bool = True) -> Iterator[tuple[Place, str | None, bool]]:
    """Read all parts; yield each file, why it is damaged (or None), and whether its bytes can be checked.

    Without `every_byte`, of parts in a store only what says which rows they hold is asked for.
    """
    every_byte = every_byte or isinstance(features.folder, Path)

    def check(file: Place) -> tuple[Place, str | None, bool]:
        try:
            checkable = check_part(file) if every_byte else True
            features.read_part(file)
        except Damaged as error:
            return file, str(error), True
        except FileNotFoundError:
            return file, None, True  # another process has just set it aside
        except OSError as error:  # no reason to set it aside
            raise FtransferError(f"{file} cannot be read: {error.strerror or error}") from error
        return file, None, checkable

    with ThreadPoolExecutor() as pool:  # hashing does not hold the interpreter's lock
        yield from pool.map(check, features.part_files())


def heal(features: Any) -> list[str]:
    """Set aside what is damaged, as NAME.damaged, so that it is made again; say what and why."""
    damaged = {f"parts/{file.name}": reason for file, reason, _ in check_parts(features, False) if reason}
    try:
        features.manifest  # noqa: B018
    except FtransferError:
        damaged["manifest.parquet"] = "unreadable; images of other folders must be extracted again"
    folder: Any = features.folder  # what lies in it is moved within its kind of place
    for name in damaged:
        with suppress(FileNotFoundError):  # another process was faster
            (folder / name).replace(folder / f"{name}.damaged")
    return [f"{name} was damaged ({reason}) and is ignored" for name, reason in damaged.items()]
