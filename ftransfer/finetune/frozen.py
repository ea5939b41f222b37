"""What the backbone reaches before it is trained: a classifier on its frozen features, on the same test rows."""

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.decoded import Pixels, batches
from ftransfer.finetune.data import Chosen

BATCH = 64
MOST_ROWS = 10_000  # that the classifier is fitted on: of more, that many are drawn


def count_frozen(
    backbone: Backbone,
    pixels: Pixels,
    chosen: Chosen,
    domains: np.ndarray,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, dict[str, dict]]:
    """Fit a logistic regression on the frozen features of the rows that train, and count it on the test rows.

    Parameters
    ----------
    backbone : Backbone
        As it starts.
    pixels : Pixels
    chosen : Chosen
        Rows for validation are fitted on, too, for nothing is stopped by them here.
    domains : ndarray of shape (n,), str
    progress : callable

    Returns
    -------
    dict
        Of each domain with test rows, of each task: ``right``, ``of`` and ``accuracy``, as `fine_tune` counts them.
        A task with less than two classes to learn is left out.
    """
    use, answers, truth = chosen.use, chosen.answers, chosen.truth
    test = np.flatnonzero(chosen.counted & (use != ""))
    fitted = np.flatnonzero(np.isin(use, ["train", "validation"]) & (answers >= 0).any(axis=1))
    if not len(test) or not len(fitted):
        return {}
    if len(fitted) > MOST_ROWS:
        fitted = np.sort(np.random.default_rng(0).choice(fitted, MOST_ROWS, replace=False))
    X = _embed(backbone, pixels, np.r_[fitted, test], progress)
    X_fitted, X_test = X[: len(fitted)], X[len(fitted) :]
    counted: dict[str, dict[str, dict]] = {domain: {} for domain in dict.fromkeys(domains[test])}
    for task, y, asked in zip(chosen.classes, answers[fitted].T, truth[test].T, strict=True):
        if len(np.unique(y[y >= 0])) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        right = model.fit(X_fitted[y >= 0], y[y >= 0]).predict(X_test) == asked
        for domain, found in counted.items():
            hits = right[(domains[test] == domain) & (asked >= 0)]
            if len(hits):
                found[task] = {"right": int(hits.sum()), "of": len(hits), "accuracy": float(hits.mean())}
    return {domain: found for domain, found in counted.items() if found}


def _embed(
    backbone: Backbone, pixels: Pixels, rows: np.ndarray, progress: Callable[[str, int, int], None]
) -> np.ndarray:
    parts, found = batches(rows, BATCH), []
    for i, part in enumerate(parts):
        found.append(backbone.embed(pixels.batch(part)))
        progress("features before training", i + 1, len(parts))
    return np.concatenate(found)
