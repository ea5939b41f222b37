"""A checkpoint of ``ftransfer finetune`` as a model: its own head labels what its own backbone embeds."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin

from ftransfer.errors import FtransferError
from ftransfer.model.model import Model

SUFFIX = ".safetensors"
LARGEST = 4096  # side of the images that a checkpoint may ask for


class Head(ClassifierMixin, BaseEstimator):
    """A linear layer that was trained already.

    Parameters
    ----------
    weight : ndarray of shape (n_classes, n_features), float32
    bias : ndarray of shape (n_classes,), float32
    """

    def __init__(self, weight: np.ndarray, bias: np.ndarray) -> None:
        self.weight, self.bias = weight, bias

    @property
    def classes_(self) -> np.ndarray:
        """The codes of the classes."""
        return np.arange(len(self.bias))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Say how likely each class is: (n_samples, n_classes)."""
        return softmax(np.asarray(X, np.float32) @ self.weight.T + self.bias, axis=1)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Name the code of the likeliest class of each row."""
        return self.predict_proba(X).argmax(axis=1)


def models_of_checkpoint(file: str | Path, device: str = "auto") -> dict[str, Model]:
    """Make a model of each head of a checkpoint, by the column of labels that it was trained on.

    Parameters
    ----------
    file : str or path
        Written by ``ftransfer finetune``: it says which network it is of, and the names of its classes.
    device : str

    Returns
    -------
    dict of str to Model; the only one of a checkpoint with one head has the name "".

    Raises
    ------
    FtransferError
        If it is another checkpoint, whose classes have no names, or is damaged.
    """
    from ftransfer.backbone.backbone import Backbone
    from ftransfer.backbone.checkpoint import read_about, read_checkpoint

    about = read_about(file)
    classes = about.get("classes")
    if not isinstance(about.get("backbone"), str) or not isinstance(classes, dict) or not classes:
        raise FtransferError(
            f"{file} has no class names, so it cannot label images (checkpoints of ftransfer finetune have "
            f"them); to use it for features: ftransfer extract --weights {Path(file).name}"
        )
    if about["backbone"].startswith("module:"):
        raise FtransferError(
            f"{file} is of a network that a file of yours makes, and a checkpoint cannot name code to run; "
            f"extract features with --backbone FILE.py --weights {Path(file).name}, then run ftransfer fit"
        )
    side = about.get("image_size")
    if side is not None and (type(side) is not int or not 8 <= side <= LARGEST):
        raise FtransferError(f"{file} is damaged: an image size of {str(side)[:20]} pixels")
    backbone = Backbone(about["backbone"], file, device=device, image_size=side)
    state, found = read_checkpoint(Path(file).expanduser()), {}
    for task, names in classes.items():
        key = backbone.classifier if len(classes) == 1 else f"{backbone.classifier}.{task}"
        head = [
            state[f"{key}.{part}"].float().numpy() for part in ("weight", "bias") if f"{key}.{part}" in state
        ]
        names = np.array(names if isinstance(names, list) else [])
        if names.dtype.kind != "U" or [h.shape for h in head] != [
            (len(names), backbone.width),
            (len(names),),
        ]:
            raise FtransferError(f"{file} is damaged: its head {key} does not fit the names of its classes")
        found[task if len(classes) > 1 else ""] = Model(
            Head(*head), backbone.fingerprint, names, origin=backbone.origin
        )
    return found


def is_checkpoint(run: str | Path) -> bool:
    """Whether a run is a checkpoint, by its name."""
    return str(run).endswith(SUFFIX)
