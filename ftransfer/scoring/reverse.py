"""Reverse validation: labels predicted for the target are carried back to the source, where labels are known."""

import numpy as np

from ftransfer.scoring.judge import Evidence, Judge, refit


def carried_back(judge: Judge, labels: np.ndarray) -> np.ndarray:
    """Share of the source, averaged over its classes, that a ridge classifier trained on the target recognises.

    Parameters
    ----------
    judge : Judge
    labels : array of shape (n_target,), int
        Predicted for the target rows, as indices into the judge's classes.

    Returns
    -------
    ndarray of shape (1 + RESAMPLES,): on all rows, then on bootstrap samples
    """
    signs = np.where(np.arange(len(judge.classes)) == labels[:, None], 1.0, -1.0)
    mean = signs.mean(axis=0)
    right = (judge.ridge_from_target(signs - mean) + mean).argmax(axis=1) == judge.labels
    return judge.over_classes(right)


def circular(evidence: Evidence) -> np.ndarray:
    """Share of source rows that the same pipeline gets right, fitted the other way round: from target to source.

    Bruzzone, Marconcini, "Domain adaptation problems: a DASVM classification technique and a circular validation
    strategy", TPAMI 2010: the target rows with their predicted labels are the source, the source rows unlabelled.
    Several sources are each taken for a target by itself.
    """
    judge, predicted = evidence.judge, evidence.predicted
    domain = judge.domain[judge.source]
    back = np.full(len(domain), predicted[0])
    several_labels = len(np.unique(predicted)) > 1  # one label for all rows is carried back as it is
    for source in np.unique(domain) if several_labels else []:
        X = np.vstack([judge.X_target, judge.X_source[domain == source]])
        y = np.r_[predicted, np.full((domain == source).sum(), -1)]
        turned = refit(evidence.pipeline, X, y, np.where(np.arange(len(X)) < len(predicted), 1, -1))
        back[domain == source] = turned.predict(judge.X_source[domain == source])
    return judge.source_weights @ (evidence.code(back) == judge.labels)
