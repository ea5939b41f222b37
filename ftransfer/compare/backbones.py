"""Which backbone and layer suits a task best, from features and source labels alone.

LogME and the H-score ask how well features explain labels; LEEP and NCE, how well the classes that the backbone
was trained on explain them. None of them sees the target: they rank features, not the way to the target.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.covariance import ledoit_wolf_shrinkage

from ftransfer.errors import FtransferError, unknown
from ftransfer.features.protocol import Features

LOGITS = ("fc", "classifier", "head", "heads")  # the last module of torchvision's models, by its whole name
MOST_ROWS = 5000


def logme(X: ArrayLike, y: ArrayLike) -> float:
    """Measure how well a Bayesian linear model of the features explains the labels (LogME).

    The largest log evidence of ``t = X w + noise``, with ``w ~ N(0, 1/alpha)`` and noise of variance
    ``1/beta``, over alpha and beta; divided by the number of rows, and averaged over the classes, t being 1
    for the rows of a class and 0 for the others. More is better; only values on the same rows can be compared.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)

    References
    ----------
    You, Liu, Wang, Long, "LogME: Practical assessment of pre-trained models for transfer learning", ICML 2021,
    equation 2 and algorithm 1. For a given alpha / beta the best beta is known, so that one number is searched
    for, on a grid first, instead of iterating on two.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(100, 20)), np.arange(100) % 4
    >>> noise = logme(X, y)
    >>> X[:, 0] += 5 * (y == 2)
    >>> logme(X, y) > noise
    True
    """
    X, onehot = _check(X, y)
    n = len(X)
    w, scores = _spectrum(
        X, onehot
    )  # eigenvalues of X X^T, and (eigenvectors)^T t, squared: (rank, n_classes)
    outside = np.maximum(onehot.sum(axis=0) - scores.sum(axis=0), 0.0)  # what of t no w can reach

    def evidence(log_ratio: np.ndarray) -> np.ndarray:
        """Log evidence a row of each class, at alpha / beta = exp(log_ratio) and the best beta."""
        shrunk = w / np.exp(log_ratio)
        residual = (scores / (1 + shrunk)[:, None]).sum(axis=0) + outside
        return -0.5 * (np.log(2 * np.pi * residual / n) + 1 + np.log1p(shrunk).sum() / n)

    if not len(w):
        return float(-0.5 * np.mean(np.log(2 * np.pi * outside / n) + 1))
    grid = np.log(w.max()) + np.linspace(-25, 25, 101)
    rough = np.array([evidence(each) for each in grid])
    best = []
    for k, start in enumerate(rough.argmax(axis=0)):
        bounds = grid[max(start - 1, 0)], grid[min(start + 1, len(grid) - 1)]
        fine = minimize_scalar(lambda r, k=k: -evidence(r)[k], bounds=bounds, method="bounded")
        best.append(max(-fine.fun, rough[start, k]))
    return float(np.mean(best))


def h_score(X: ArrayLike, y: ArrayLike) -> float:
    """Measure how much of the features' variance lies between the classes, with a shrunk covariance (H-score).

    ``tr(C_a^-1 (1 - a) cov(E[x|y]))`` with ``C_a = (1 - a) C + a tr(C)/n_features I`` and Ledoit and Wolf's
    share a: between 0 and the number of classes less one. More is better.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)

    References
    ----------
    Ibrahim, Ponomareva, Mazumder, "Newer is not always better: Rethinking transferability metrics, their
    peculiarities, stability and performance", ECML PKDD 2022, section 4 (after Bao et al., ICIP 2019).
    Worked out in the n x n Gram matrix where that is the smaller.
    """
    X, onehot = _check(X, y)
    X = X - X.mean(axis=0)
    variance = np.sum(X**2) / X.size
    if variance == 0:
        return 0.0
    a = float(ledoit_wolf_shrinkage(X, assume_centered=True))
    w, scores = _spectrum(X, onehot / np.sqrt(onehot.sum(axis=0)))
    return float(np.sum((1 - a) * w[:, None] * scores / ((1 - a) * w + len(X) * a * variance)[:, None]))


def nce(y_model: ArrayLike, y: ArrayLike) -> float:
    """Measure how well the class that a model predicts tells the label: ``-H(y | y_model)``, in nats; at most 0.

    Tran, Nguyen, Hassner, "Transferability and hardness of supervised classification tasks", ICCV 2019 (negative
    conditional entropy).

    Parameters
    ----------
    y_model : array of shape (n_samples,)
        For example the ImageNet class of the largest logit.
    y : array of shape (n_samples,)
    """
    joint = pd.crosstab(np.asarray(y_model), np.asarray(y)).to_numpy() / len(np.asarray(y))
    given = joint.sum(axis=1, keepdims=True)
    return float(np.sum(joint * np.log(np.where(joint > 0, joint / given, 1.0))))


def leep(probabilities: ArrayLike, y: ArrayLike) -> float:
    """Measure how well a model's class probabilities predict the label (LEEP), in nats; at most 0.

    Nguyen, Hassner, Seeger, Archambeau, "LEEP: A new measure to evaluate transferability of learned
    representations", ICML 2020, equation 2.

    Parameters
    ----------
    probabilities : array of shape (n_samples, n_model_classes)
        Of the classes that the model was trained on; rows sum to one.
    y : array of shape (n_samples,)
    """
    probabilities, onehot = _check(probabilities, y)
    joint = onehot.T @ probabilities / len(probabilities)
    total = joint.sum(axis=0)
    given = np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)
    return float(np.mean(np.log(np.sum(onehot * (probabilities @ given.T), axis=1))))


def _check(X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return X in double precision and the labels as columns of zeros and ones, or say what is wrong."""
    X = np.asarray(X, dtype=np.float64)
    labels, codes = np.unique(np.asarray(y), return_inverse=True)
    if X.ndim != 2 or len(X) != len(codes) or not np.isfinite(X).all():
        raise FtransferError(
            f"every row needs finite features and one label; shapes {X.shape} and {codes.shape}"
        )
    if len(labels) < 2:
        raise FtransferError(f"at least two classes are needed; found: {labels.tolist()}")
    return X, np.eye(len(labels))[codes]


def _spectrum(X: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the eigenvalues w > 0 of X X^T and the squares of U^T T, by the smaller Gram matrix."""
    wide = len(X) < X.shape[1]
    w, vectors = eigh(X @ X.T if wide else X.T @ X, driver="evd")
    kept = w > max(w[-1], 0.0) * max(X.shape) * np.finfo(np.float64).eps
    w, vectors = w[kept], vectors[:, kept]
    return w, (vectors.T @ (T if wide else X.T @ T)) ** 2 / (1.0 if wide else w[:, None])


# ---------------------------------------------------------------- feature sets


def rank_features(
    feature_sets: Sequence[Features],
    source: str | None = None,
    random_state: int = 0,
    *,
    progress: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """Rank feature sets of the same images by how well they suit the source's labels.

    Parameters
    ----------
    feature_sets : list of FeatureSet
        A set of several layers gives a row for each, and one for all of them together.
    source : str, optional
        Domain whose labels count; may be left out where only one has labels.
    random_state : int, default=0
        Of the choice of 5000 images, where there are more.
    progress : callable, optional
        Called after each row.

    Returns
    -------
    DataFrame
        Best first, by LogME: rank, features (folder), backbone, layer, width, logme, h_score, leep, nce. LEEP and
        NCE need logits and are NaN elsewhere; a layer named fc, classifier, head or heads holds them.
        ``attrs["notes"]`` says what was left out, ``attrs["rows"]`` how many images were counted.

    Raises
    ------
    FtransferError
        If the source is not named though several domains have labels, does not exist, has fewer than two
        classes, or the sets share none of its images.
    """
    tables = [_labelled(features, source) for features in feature_sets]
    domains = {table["domain"].iloc[0] for table in tables}
    if len(domains) > 1:
        raise FtransferError(
            f"the feature sets have different labelled domains: {', '.join(sorted(domains))}; choose one "
            f"with --source"
        )
    common = set.intersection(*(set(table["sha256"]) for table in tables))
    if not common:
        raise FtransferError(f"the feature sets have no image of '{domains.pop()}' in common")
    notes = []
    if any(len(set(table["sha256"])) > len(common) for table in tables):
        notes.append(f"only the {len(common)} images in all feature sets were used")
    chosen = sorted(common)
    if len(chosen) > MOST_ROWS:
        notes.append(f"{MOST_ROWS} of {len(chosen)} images were used, drawn at random")
        chosen = np.random.default_rng(random_state).choice(chosen, MOST_ROWS, replace=False)
    rows = []
    for features, table in zip(feature_sets, tables, strict=True):
        table = table.drop_duplicates("sha256").set_index("sha256", drop=False).loc[chosen]
        X, y = features.load(table), table["label"].to_numpy(dtype=str)
        if len(np.unique(y)) < 2:
            raise FtransferError(
                f"'{table['domain'].iloc[0]}' has only one class in {features.folder}; at least two are needed"
            )
        for layer, columns in list_layers(features):
            measured = _measure(X[:, columns], y, is_logits=layer in LOGITS)
            place = str(features.folder), features.fingerprint["backbone"], layer, measured.pop("width")
            rows.append(dict(zip(("features", "backbone", "layer", "width"), place, strict=True)) | measured)
            if progress:
                progress()
    ranked = pd.DataFrame(rows).sort_values("logme", ascending=False, kind="stable", ignore_index=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    ranked.attrs.update(notes=notes, rows=len(chosen), source=domains.pop())
    return ranked


def _measure(X: np.ndarray, y: np.ndarray, is_logits: bool) -> dict[str, float]:
    return {
        "width": X.shape[1],
        "logme": logme(X, y),
        "h_score": h_score(X, y),
        "leep": leep(softmax(X.astype(np.float64), axis=1), y) if is_logits else np.nan,
        "nce": nce(X.argmax(axis=1), y) if is_logits else np.nan,
    }


def list_layers(features: Features) -> list[tuple[str, slice]]:
    """List the layers of a feature set with their columns, and all together where there are several."""
    layers = features.fingerprint["layers"]
    ends = np.cumsum([0, *(layer["width"] for layer in layers)])
    parts = [(layer["name"], slice(*ends[i : i + 2])) for i, layer in enumerate(layers)]
    return parts if len(parts) == 1 else [*parts, ("+".join(name for name, _ in parts), slice(None))]


def _labelled(features: Features, source: str | None) -> pd.DataFrame:
    rows = features.complete.query("status == 'ok'")
    found = sorted(rows["domain"].unique())
    if source is not None and source not in found:
        raise unknown("domain", source, found)
    labelled = rows[rows["label"].notna()]
    if source is None and labelled["domain"].nunique() != 1:
        raise FtransferError(
            f"ranking needs the labels of one domain, the source; labelled domains in {features.folder}: "
            f"{', '.join(sorted(labelled['domain'].unique())) or 'none'}; choose one with --source"
        )
    labelled = labelled if source is None else labelled[labelled["domain"] == source]
    if labelled.empty:
        raise FtransferError(f"no image of source '{source}' in {features.folder} has a label")
    return labelled
