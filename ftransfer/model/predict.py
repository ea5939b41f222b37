"""Label new images with a model: the backbone that its fingerprint names, the same extraction, a table of labels."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError, unknown
from ftransfer.features.manifest import LABELS
from ftransfer.features.protocol import Features
from ftransfer.model.new_images import check_features
from ftransfer.model.reject import UNKNOWN, Reject, check_rejects, leave_unknown
from ftransfer.storage.places import place
from ftransfer.storage.writing import write_whole, writing

CHUNK = 8192  # rows that are predicted at a time
KINDS = (".csv", ".tsv", ".parquet")  # that predictions are written as


@dataclass
class Labelled:
    """What `write_predictions` did.

    Attributes
    ----------
    images, failed, far, unknown : int
        Rows written; those of images that could not be read; those that lie far from what was trained on; labels that
        were left unknown.
    labels : dict of str to int
        How many images got each label.
    numbers : dict of str to dict
        Of models of a regression, by the column of labels: ``n``, ``mean``, ``min`` and ``max`` of what was predicted.
    accuracy : dict of str to dict
        Of images whose labels are known: by domain, and by the column of labels where there are several, how many
        labels are ``right``, and ``of`` how many; of a regression ``of`` how many, and the sums of
        the ``absolute_errors`` and ``squared_errors``.
    """

    images: int = 0
    failed: int = 0
    far: int = 0
    unknown: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)


def write_predictions(
    model: Any,
    features: Features,
    out: Any,
    *,
    domain: str | None = None,
    count: bool = False,
    reject: Reject | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Labelled:
    """Label every image of a feature set, part by part, into a table that appears whole or not at all.

    Parameters
    ----------
    model : Model, or dict of str to Model
        Of several columns of labels the model of each, see `load_models`.
    features : FeatureSet
        Of the model's fingerprint.
    out : str or path
        A ``.csv``, ``.tsv`` or ``.parquet`` file.
        The columns: ``root, path``, those of `Model.describe`, and ``error``, why an image has no label. Of several
        models, the columns of each: ``NAME, NAME probability, NAME distance, NAME far``.
    domain : str, optional
        Take the images of this domain only.
    count : bool, default=False
        Whether to compare the labels with those of the feature set, where an image has one and is not left unknown.
    reject : Reject, optional
        Which images get "unknown" in place of a label.
    progress : callable
        Called with the number of images written since the last call.

    Raises
    ------
    FtransferError
        If the features are of another fingerprint, are not complete, or the file cannot be written.
    """
    kind = refuse_other_kinds(out)
    models = model if isinstance(model, dict) else {"": model}
    for each in models.values():
        check_features(each, features)
    manifest = features.complete
    if domain is not None:
        domains = sorted(manifest["domain"].unique())
        if domain not in domains:
            raise unknown("domain", domain, domains)
        manifest = manifest[manifest["domain"] == domain]
    did = Labelled()
    thresholds = _thresholds(models, features, manifest, reject)

    def pieces() -> Iterator[tuple[pd.DataFrame, int]]:
        for start in range(0, len(manifest), CHUNK):
            rows = manifest.iloc[start : start + CHUNK]
            table = _describe(models, features, rows)
            did.unknown += leave_unknown(table, thresholds)
            if count:
                _count(models, rows, table, did.accuracy, bool(thresholds))
            did.images += len(table)
            did.failed += int((rows["status"] != "ok").sum())
            did.far += int((table[[n for n in table if n.split(" ")[-1] == "far"]] == 1).any(axis=1).sum())
            for name, each in models.items():
                each.tally(table[name or "label"], name, did)
            yield table, start
            progress(len(table))

    out = place(out)
    with writing(out):
        if kind == ".parquet":
            content = io.BytesIO()
            pd.concat([table for table, _ in pieces()]).to_parquet(content, index=False)
            write_whole(out, content.getvalue())
        else:
            text = {"index": False, "sep": "," if kind == ".csv" else "\t"}
            lines = (table.to_csv(header=start == 0, **text) for table, start in pieces())
            write_whole(out, (line.encode("utf-8", "backslashreplace") for line in lines))
    return did


def refuse_other_kinds(out: Any) -> str:
    """Return the kind of table that a name asks for; refuse one that cannot be written.

    Raises
    ------
    FtransferError
    """
    kind = place(out).suffix.lower()
    if kind not in KINDS:
        raise FtransferError(
            f"predictions are written as {', '.join(KINDS)}; {out} has the suffix {kind or 'none'}"
        )
    return kind


def _thresholds(
    models: dict[str, Any], features: Features, manifest: pd.DataFrame, reject: Reject | None
) -> dict[str, float]:
    """Find the lowest probability that is answered, by the column of labels; of a coverage, over all images."""
    if reject is None:
        return {}
    check_rejects(models)
    tables = []
    if reject.coverage is not None:
        starts = range(0, len(manifest), CHUNK)
        tables = [_describe(models, features, manifest.iloc[start : start + CHUNK]) for start in starts]
    columns = {name: f"{name} probability".strip() for name in models}
    empty = np.empty(0)
    return {
        name: reject.threshold(np.concatenate([empty, *(table[column].to_numpy(float) for table in tables)]))
        for name, column in columns.items()
    }


def _describe(models: Any, features: Features, rows: pd.DataFrame) -> pd.DataFrame:
    table = rows[["root", "path"]].reset_index(drop=True)
    known = np.flatnonzero(rows["status"] == "ok")
    X = features.load(rows.iloc[known]) if len(known) else None
    for name, model in models.items():
        told = pd.DataFrame(columns=list(model.COLUMNS), dtype=object)
        if X is not None:
            told = model.describe(X).set_index(known)
        told = told.astype({"far": "Int64"})
        table = table.join(told.rename(columns=lambda n, name=name: _column(name, n)))
    return table.assign(error=rows["error"].to_numpy())


def _count(models: Any, rows: pd.DataFrame, table: pd.DataFrame, accuracy: dict, rejects: bool) -> None:
    """Add how many labels of some rows are right, or how far off they are, to `accuracy`."""
    for name, model in models.items():
        column = LABELS + name if name and LABELS + name in rows else "label"
        given, found = rows[column].to_numpy(object), table[name or "label"].to_numpy(object)
        known = rows[column].notna().to_numpy() & (rows["status"] == "ok").to_numpy()
        known &= found != UNKNOWN if rejects else True
        for domain in rows["domain"][known].unique():
            here = known & (rows["domain"] == domain).to_numpy()
            counted = accuracy.setdefault(f"{domain}, {name}" if name else domain, {})
            for key, n in model.compare(given[here], found[here]).items():
                counted[key] = counted.get(key, 0) + n


def _column(name: str, told: str) -> str:
    return told if not name else name if told == "label" else f"{name} {told}"
