"""Which rows train, which stop the training, which only count; and their pixels, on disk."""

import hashlib
from pathlib import Path

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


def choose_rows(
    images: pd.DataFrame, training: Training
) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]]]:
    """Say of each row what it is for and its classes as numbers (-1: unknown), and name the classes."""
    for column in training.labels:
        if column not in images:
            raise unknown("label column", column, [c for c in images if c not in ("root", "path", "domain")])
    domains = list(images["domain"].unique())
    for domain in training.domains:
        if domain not in domains:
            raise unknown("domain", domain, domains)
    trains = images["domain"].isin(training.domains or domains).to_numpy()
    labels = images[list(training.labels)].astype(object)
    usable = labels.notna().any(axis=1).to_numpy() | (trains & (training.teacher is not None))
    use = np.full(len(images), "", dtype=object)
    counts = _in_split(images, training.test_split)
    split = usable & ~counts
    use[split] = split_rows(
        images[split],
        training.labels[0],
        validation=training.validation,
        test=training.test,
        labels_per_class=training.labels_per_class,
        seed=training.seed,
    )
    # a domain that does not train only counts: its test share, or all of it where there is none
    use[~trains & (use != "test")] = "" if training.test or training.test_split else "test"
    use[counts] = "test"
    use[~usable] = ""
    classes = {c: sorted(labels.loc[use == "train", c].dropna().unique()) for c in training.labels}
    if not (use == "train").any() or not (any(classes.values()) or training.teacher):
        raise FtransferError(
            f"no labelled training images in {', '.join(map(str, training.domains or domains))}; labels come "
            f"from class folders or from the column {', '.join(training.labels)} of a table"
        )
    answers = np.stack([pd.Categorical(labels[c], classes[c]).codes for c in training.labels], axis=1)
    use[(use == "test") & (answers == -1).all(axis=1)] = ""
    return use, answers.astype(np.int64), classes


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
