"""Which rows train, which stop the training, which only count; and their pixels, on disk."""

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError, unknown
from ftransfer.finetune.settings import Training


def split_rows(
    table: pd.DataFrame,
    label: str,
    *,
    validation: float,
    test: float,
    labels_per_class: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Say of each row what it is for, the same for an image whatever others there are.

    The rows of a domain and a class are put into an order that their paths and the seed give: the first are
    for testing, the next for validation, the others for training.

    Parameters
    ----------
    table : DataFrame with the columns ``path``, ``domain`` and `label`
    label : str
        Column that classes are taken from.
    validation, test : float
        Share of the rows of each domain and class; validation is a share of what testing leaves.
    labels_per_class : int, optional
        Rows of each domain and class that train and validate; the rest is for nothing.

    Returns
    -------
    ndarray of str: "train", "validation", "test" or "".
    """
    use = np.full(len(table), "", dtype=object)
    key = [
        hashlib.sha256(f"{seed} {d} {p}".encode()).hexdigest() for d, p in table[["domain", "path"]].values
    ]
    order = np.argsort(np.array(key))
    shuffled = table.iloc[order].reset_index(drop=True)
    for rows in shuffled.groupby(["domain", label], dropna=False).indices.values():
        rows = order[np.sort(rows)]
        n_test = round(test * len(rows))
        use[rows[:n_test]] = "test"
        rows = rows[n_test:][:labels_per_class]
        n_validation = min(round(validation * len(rows)), len(rows) - 1)
        use[rows[: max(0, n_validation)]] = "validation"
        use[rows[max(0, n_validation) :]] = "train"
    return use


class Chosen(NamedTuple):
    """What the rows of a table are for, and their classes.

    Attributes
    ----------
    use : ndarray of str
        "train", "validation", "target" (trains without labels), "test" or "" (nothing).
    answers : ndarray of shape (n, tasks), int
        What training knows: classes as numbers, -1 where there is no label, and for all rows of the target.
    truth : ndarray of the same shape
        The same with the target's labels: for counting afterwards alone.
    counted : ndarray of bool
        The rows that are counted afterwards: for testing, and where none of them is the target's, those of the target.
    classes : dict of str to list of str
        By task.
    """

    use: np.ndarray
    answers: np.ndarray
    truth: np.ndarray
    counted: np.ndarray
    classes: dict[str, list[str]]

    def take(self, rows: np.ndarray) -> "Chosen":
        """Keep some rows."""
        use, answers, truth, counted = (each[rows] for each in self[:4])
        return Chosen(use, answers, truth, counted, self.classes)


def choose_rows(
    images: pd.DataFrame, training: Training, known: dict[str, list[str]] | None = None
) -> Chosen:
    """Say of each row what it is for and its classes as numbers, and name the classes.

    Parameters
    ----------
    images : DataFrame
    training : Training
    known : dict of str to list of str, optional
        Classes of a teacher, by task; they stand for those of the rows if none of the rows has another.
    """
    if training.self_supervised:
        return _choose_without_labels(images, training)
    for column in training.labels:
        if column not in images:
            raise unknown("label column", column, [c for c in images if c not in ("root", "path", "domain")])
    domains = _domains(images, training)
    sources = training.domains or [d for d in domains if d != training.target]
    trains = images["domain"].isin(sources).to_numpy()
    is_target = (images["domain"] == training.target).to_numpy()
    labels = images[list(training.labels)].astype(object)
    usable = (labels.notna().any(axis=1).to_numpy() & ~is_target) | (trains & training.has_teacher)
    use, split_by = (
        np.full(len(images), "", dtype=object),
        partial(split_rows, test=training.test, seed=training.seed),
    )
    in_split = _in_split(images, training.test_split)
    split = usable & ~in_split
    use[split] = split_by(
        images[split],
        training.labels[0],
        validation=training.validation,
        labels_per_class=training.labels_per_class,
    )
    # a domain that does not train only counts: its test share, or all of it where there is none
    use[~trains & (use != "test")] = "" if training.test or training.test_split else "test"
    use[in_split] = "test"
    use[~usable] = ""
    # divided without a look at its labels
    unlabelled = images[is_target & ~in_split].assign(**{training.labels[0]: None})
    use[is_target & ~in_split] = split_by(unlabelled, training.labels[0], validation=0.0)
    use[is_target & in_split], use[is_target & (use == "train")] = "test", "target"
    classes = {c: sorted(labels.loc[use == "train", c].dropna().unique()) for c in training.labels}
    classes = {
        c: list(known[c]) if known and set(names) <= set(known.get(c, [])) else names
        for c, names in classes.items()
    }
    if not (use == "train").any() or not (any(classes.values()) or training.has_teacher):
        raise FtransferError(
            f"no labelled training images in {', '.join(map(str, sources))}; labels come "
            f"from class folders or from the column {', '.join(training.labels)} of a table"
        )
    codes = [pd.Index(classes[c], dtype=object).get_indexer(labels[c]) for c in training.labels]
    truth = np.stack(codes, axis=1).astype(np.int64)
    use[(use == "test") & (truth == -1).all(axis=1) & ~is_target] = ""
    counted = use == "test"
    if not (counted & is_target).any():
        counted |= use == "target"
    return Chosen(use, np.where(is_target[:, None], -1, truth), truth, counted, classes)


def _domains(images: pd.DataFrame, training: Training) -> list[str]:
    """List the domains of the images, after a look whether those that are asked for are among them."""
    domains = list(images["domain"].unique())
    for domain in (*training.domains, *([training.target] if training.target else [])):
        if domain not in domains:
            raise unknown("domain", domain, domains)
    return domains


def _choose_without_labels(images: pd.DataFrame, training: Training) -> Chosen:
    """Choose all images of the domains, and some of them to stop by."""
    domains = _domains(images, training)
    use = np.full(len(images), "", dtype=object)
    trains = images["domain"].isin(training.domains or domains).to_numpy()
    rows = images[trains].assign(label=None)
    use[trains] = split_rows(rows, "label", validation=training.validation, test=0.0, seed=training.seed)
    none = np.empty((len(images), 0), np.int64)
    return Chosen(use, none, none, np.zeros(len(images), dtype=bool), {})


def _in_split(images: pd.DataFrame, name: str | None) -> np.ndarray:
    """Mark the images in a folder of this name, or of this split of a torchvision data set.

    Raises
    ------
    FtransferError
        If there are none.
    """
    if name is None:
        return np.zeros(len(images), dtype=bool)
    splits = {
        r: r.split(":")[2] if r.startswith("torchvision:") else Path(r).name for r in images["root"].unique()
    }
    folders = images["path"].map(lambda path: Path(path).parts[:-1])
    found = np.array([name in (splits[r], *f) for r, f in zip(images["root"], folders, strict=True)])
    if not found.any():
        raise FtransferError(
            f"no image is in a folder {name!r}, or of a torchvision split of this name; give the test images as well, "
            f"such as torchvision:CIFAR10:train torchvision:CIFAR10:test --test-split test"
        )
    return found
