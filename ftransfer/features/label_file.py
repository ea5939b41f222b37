"""Labels of a few target images, from text tables with the columns path and label: by hand, or saved by the page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from ftransfer.cells import read_labels as clean
from ftransfer.cells import read_rows, without_minus_one
from ftransfer.errors import FtransferError, unknown
from ftransfer.storage.places import local
from ftransfer.storage.reading import read_bytes

NONE = "none of these"  # the label of an image of none of the source's classes
RANDOM = "random"  # the reason of an image that was drawn at random: only such images estimate an accuracy
MOST_COMPARED = 5000  # paths, for the one nearest to a path that is not there

Files = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class TargetLabels:
    """Labels that are given for some of the target's images.

    Attributes
    ----------
    codes : ndarray of shape (n_target,), int
        Index into the classes; -1 for a row without a label given, -2 for `NONE`. Of images with the same content
        only one has its label here.
    random : ndarray of shape (n_target,), bool
        Labelled rows that were drawn at random, as the column why says; all of a file without that column.
    notes : list of str
        What is to be said of them.
    drawn : bool
        Whether the rows are known to be a random sample: drawn here, not said so by a file.
    """

    codes: np.ndarray
    random: np.ndarray
    notes: list[str] = field(default_factory=list)
    drawn: bool = False


def read_labels(files: Files, rows: pd.DataFrame, target: str, classes: Sequence[str]) -> TargetLabels:
    """Read the classes that files of labels give some of the target's images.

    Parameters
    ----------
    files, rows, target
        As in `read_label_file`.
    classes : sequence of str
        Of the source.

    Returns
    -------
    TargetLabels

    Raises
    ------
    FtransferError
        As `read_label_file`; and if a label is neither a class of the source nor `NONE`.
    """
    table = read_label_file(files, rows, target)
    names = table["label"].astype(object)
    codes = pd.Index(classes).get_indexer(names)
    codes[(codes < 0) & (names.str.casefold() == NONE).to_numpy()] = -2
    if (codes == -1).any():
        wrong = sorted(set(names[codes == -1]))
        more = f" (and {len(wrong) - 1} other unknown labels)" if len(wrong) > 1 else ""
        problem = unknown("class", wrong[0], classes, plural="classes of the source")
        raise FtransferError(
            f"{_named(files)}: {problem}{more}; write '{NONE}' as the label of an image of none of them"
        )
    notes = []
    if n_none := int((codes == -2).sum()):
        notes.append(
            f"{n_none} of {len(codes)} labelled target images are '{NONE}': the target has classes that no source "
            f"has, and every prediction for these images counts as wrong"
        )
    if len(codes) > 1 and len(set(codes)) == 1:
        notes.append(
            f"all {len(codes)} target labels are '{names.iloc[0]}': they say nothing about the other classes"
        )
    labels, random = np.full(len(rows), -1), np.zeros(len(rows), dtype=bool)
    labels[table["at"]] = codes
    random[table["at"]] = table["why"] == RANDOM
    return TargetLabels(labels, random, notes)


def read_label_file(files: Files, rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Read the labels that files give some of the target's images.

    Parameters
    ----------
    files : str, path or sequence of them
        CSV with the columns path and label; root where paths alone are not unique, why an image was proposed, and
        sha256, the content that was labelled.
    rows : DataFrame
        Manifest rows of the target.
    target : str
        Its name, for messages.

    Returns
    -------
    DataFrame
        ``at``, the position in `rows`; ``label``; ``why``, `RANDOM` for a file without that column. Of images with the
        same content the first.

    Raises
    ------
    FtransferError
        If a file cannot be read, names an image that is not among the rows or has other content now, or there is no
        label, or two for one image.
    """
    rows = rows.reset_index(drop=True)
    given = [files] if isinstance(files, str | Path) else list(files)
    table = pd.concat([_read_one(local(file, "a file of labels"), rows, target) for file in given])
    if table.empty:
        raise FtransferError(f"{_named(files)} has no labels")
    table["content"] = rows["sha256"].to_numpy()[table["at"]] if "sha256" in rows else table["at"]
    table = table.drop_duplicates(["content", "label", "why"])
    apart = table[table["content"].duplicated(keep=False)].drop_duplicates(["content", "label"])
    twice = apart[apart["content"].duplicated(keep=False)].sort_values("content", kind="stable")
    if len(twice):
        paths = rows["path"].iloc[twice["at"].iloc[:2]].unique()
        same = f", an image with the same content as {paths[1]}" if len(paths) > 1 else ""
        labels = " and ".join(f"'{label}'" for label in twice["label"].iloc[:2])
        raise FtransferError(f"{_named(files)} gives two labels for {paths[0]}{same}: {labels}; keep one")
    drawn_first = table.iloc[np.argsort(table["why"] != RANDOM, kind="stable")]
    return drawn_first.drop_duplicates("content")[["at", "label", "why"]].reset_index(drop=True)


def _read_one(file: Path, rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Read one file: the position in `rows`, the label and the reason of each image with a label."""
    try:
        table = read_rows(read_bytes(file), file, file.suffix.lower())
    except (OSError, ValueError) as error:
        if isinstance(error, FtransferError):
            raise
        raise FtransferError(f"the target labels in {file} cannot be read: {error}") from error
    missing = [name for name in ("path", "label") if name not in table]
    if missing:
        raise FtransferError(
            f"{file} has no column {' and '.join(missing)}; it needs path and label, and has {', '.join(table)}"
        )
    key = [name for name in ("root", "path") if name in table]
    table["label"] = without_minus_one(clean(table["label"]), file)
    table["why"] = table["why"].fillna("") if "why" in table else RANDOM
    table = table.assign(content=table.get("sha256"))
    table = table[[*key, "label", "why", "content"]].dropna(subset=[*key, "label"]).drop_duplicates()
    known = rows[key].astype(object).assign(at=rows.index)
    found = known.merge(table, on=key, how="right")
    _refuse_strange(found, file, rows, target)
    several = known[known[key].duplicated(keep=False)].merge(table[key], on=key)["path"]
    if len(several):
        raise FtransferError(
            f"{several.iloc[0]} is the path of several images of '{target}', in different folders; add the "
            f"column root of the manifest to {file}"
        )
    found["at"] = found["at"].astype(int)
    if "sha256" in rows:
        changed = found["content"].notna() & (found["content"] != rows["sha256"].to_numpy()[found["at"]])
        if changed.any():
            raise FtransferError(
                f"{found['path'][changed].iloc[0]} is not the image that was labelled in {file}, but another one of "
                f"that name (so are {int(changed.sum()) - 1} more): the images have changed, or the labels are of "
                f"another run; label them again with ftransfer suggest"
            )
    return found[["at", "label", "why"]]


def _refuse_strange(found: pd.DataFrame, file: Path, rows: pd.DataFrame, target: str) -> None:
    """Refuse images that the target has not."""
    strange = found["path"][found["at"].isna()]
    if strange.empty:
        return
    first, n_images = str(strange.iloc[0]), found["path"].nunique()
    near = get_close_matches(first, rows["path"].iloc[:MOST_COMPARED].astype(str), n=1, cutoff=0.8)
    like = f"did you mean {near[0]}?" if near else f"paths look like {rows['path'].iloc[0]}"
    if len(strange) == len(found):
        like += "; the labels may be of another run"
    if n_images > len(rows):
        like = f"it labels {n_images} images, and the target has {len(rows)}; {like}"
    raise FtransferError(
        f"{file} lists {strange.nunique()} images that are not in the target '{target}', such as {first}; {like}"
    )


def _named(files: Files) -> str:
    return str(files) if isinstance(files, str | Path) else ", ".join(map(str, files))
