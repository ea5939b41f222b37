"""Which rows train, which stop the training, which only count; and their pixels, on disk."""

import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import torch
from torchvision.transforms import functional as F

from ftransfer.errors import FtransferError, unknown
from ftransfer.finetune.augment import vary
from ftransfer.finetune.settings import Training
from ftransfer.images import full_path, read_bytes
from ftransfer.pixels import UNREADABLE, decode
from ftransfer.storage import Unreachable


def split_rows(table: pd.DataFrame, label: str, *, validation, test, labels_per_class=None, seed=0):
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


def choose_rows(images: pd.DataFrame, training: Training):
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
    use[usable] = split_rows(
        images[usable],
        training.labels[0],
        validation=training.validation,
        test=training.test,
        labels_per_class=training.labels_per_class,
        seed=training.seed,
    )
    # a domain that does not train only counts: its test share, or all of it where there is none
    use[~trains & (use != "test")] = "" if training.test else "test"
    use[~usable] = ""
    classes = {c: sorted(labels.loc[use == "train", c].dropna().unique()) for c in training.labels}
    if not (use == "train").any() or not (any(classes.values()) or training.teacher):
        raise FtransferError(
            f"no labelled images to train on in {', '.join(map(str, training.domains or domains))}; labels are "
            f"the names of class folders or the column {', '.join(training.labels)} of a table"
        )
    answers = np.stack([pd.Categorical(labels[c], classes[c]).codes for c in training.labels], axis=1)
    use[(use == "test") & (answers == -1).all(axis=1)] = ""
    return use, answers.astype(np.int64), classes


class Pixels:
    """Images as the network sees them, decoded once into a file that vanishes with the object.

    Parameters
    ----------
    table : DataFrame with the columns ``root`` and ``path``
    backbone : Backbone
        Its preprocessing is applied.
    folder : Path
        Where the file lies: side x side x 3 bytes an image.
    progress : callable
        Called with the number of images decoded since the last call.

    Attributes
    ----------
    values : tensor of shape (n, 3, side, side), uint8
    readable : ndarray of bool
    unreadable : list of (path, reason)
    """

    def __init__(self, table, backbone, folder, progress=lambda n: None):
        self.backbone = backbone
        side = backbone.image_size
        self.values = on_disk((len(table), 3, side, side), torch.uint8, folder)
        self.readable, self.unreadable = np.ones(len(table), dtype=bool), []
        with ThreadPoolExecutor(joblib.cpu_count()) as pool:
            for row, error in enumerate(
                pool.map(self._read, range(len(table)), table["root"], table["path"])
            ):
                if error is not None:
                    self.readable[row] = False
                    self.unreadable.append(
                        (full_path(table["root"].iloc[row], table["path"].iloc[row]), error)
                    )
                progress(1)

    def _read(self, row, root, path):
        try:
            image = decode(read_bytes(root, path))
        except Unreachable:
            raise
        except UNREADABLE as error:
            return str(error) or type(error).__name__
        self.values.numpy()[row] = self.backbone.pixels(image).transpose(2, 0, 1)
        return None

    def batch(self, rows, rules=(), draw=None) -> torch.Tensor:
        """Vary and normalise some images: float32 (n, 3, side, side)."""
        images = F.convert_image_dtype(self.values[rows], torch.float32)
        preset = self.backbone.preset
        return F.normalize(vary(images, rules, draw), list(preset.mean), list(preset.std))


def on_disk(shape, dtype, folder) -> torch.Tensor:
    """Make a tensor in a file without a name: the system keeps it in memory while there is room."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            name = torch.empty(0, dtype=dtype).numpy().dtype
            return torch.from_numpy(np.memmap(file, name, mode="w+", shape=tuple(shape)))
    except OSError as error:
        raise FtransferError(
            f"cannot write the images of the training to {folder}: {error.strerror}"
        ) from error
