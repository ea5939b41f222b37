"""Precision, recall and F1 of each class, and their averages, on the labelled target images."""

import numpy as np
import pandas as pd


def score_classes(codes: np.ndarray, predicted: np.ndarray, n_classes: int) -> pd.DataFrame:
    """Score each class by itself.

    Parameters
    ----------
    codes : array of shape (n_target,), int
        Label of each target image; -1 where it has none, -2 for a class that no source has.
    predicted : array of shape (n_target,), int
    n_classes : int

    Returns
    -------
    DataFrame with a row a class: ``labelled`` (images), ``precision, recall, f1``. NaN where it is not defined: a
    precision where the class is never predicted, a recall where no image is labelled so.

    Examples
    --------
    >>> score_classes(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), 2).round(2)
       labelled  precision  recall    f1
    0         2        1.0     0.5  0.67
    1         1        0.5     1.0  0.67
    """
    known = codes != -1
    labelled = np.bincount(codes[codes >= 0], minlength=n_classes)
    taken = np.bincount(predicted[known], minlength=n_classes)
    right = np.bincount(codes[codes == predicted], minlength=n_classes)

    def share(of: np.ndarray, among: np.ndarray) -> np.ndarray:
        return np.divide(of, among, out=np.full(n_classes, np.nan), where=among > 0)

    table = pd.DataFrame({"labelled": labelled, "precision": share(right, taken)})
    return table.assign(recall=share(right, labelled), f1=share(2 * right, labelled + taken))


def average_classes(codes: np.ndarray, predicted: np.ndarray, n_classes: int) -> dict[str, float | int]:
    """Average over the classes that have labelled target images, each counting alike.

    Returns
    -------
    dict ``balanced_accuracy`` (the mean recall), ``macro_precision``, ``macro_f1`` and ``classes_averaged``. A class
    that is never predicted has a precision of 0, as in scikit-learn. Images of classes that no source has count
    against the precision, and are no class here.
    """
    scores = score_classes(codes, predicted, n_classes)
    scores = scores[scores["labelled"] > 0].fillna(0.0)
    means = {"balanced_accuracy": "recall", "macro_precision": "precision", "macro_f1": "f1"}
    return {name: float(scores[of].mean()) for name, of in means.items()} | {"classes_averaged": len(scores)}
