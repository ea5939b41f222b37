"""What accuracy is to be expected on the target, and how far that was off where the labels were known."""

from dataclasses import dataclass

import numpy as np

from ftransfer.scoring.panel import LEAST, MOST, Panel
from ftransfer.search.assumptions import Assumptions
from ftransfer.search.guard import wilson

REACH = 0.2  # nine in ten errors on the even-numbered tasks of benchmarks/proving_ground.py were smaller
OF_LABELS = 0.95  # confidence of the interval by labels that were held back
# of a vote, by its mean probability and by how often neighbours in the target have one label: on the same tasks
BY_PROBABILITY, BY_NEIGHBOURS, OF_VOTE = 0.73, 0.42, -0.08
SURE, FAIRLY_SURE = 0.9, 0.75  # of the expected accuracy


@dataclass(frozen=True)
class Expected:
    """An estimate of the accuracy on the target.

    Attributes
    ----------
    value, low, high : float
        From 0 to 1; an interval that held nine in ten of the accuracies on the proving ground, or that of the labels.
    basis : {"panel", "vote", "source", "labels"}
        What it rests on: the agreement of several methods on the target's rows, the probabilities of a vote, held-out
        source rows, or labels of the target.
    words : {"high", "medium", "low"}
        How much confidence the answer deserves.
    sentence : str
        The same with what it rests on.
    """

    value: float
    low: float
    high: float
    basis: str
    words: str
    sentence: str


def expect_accuracy(
    panel: Panel,
    assumptions: Assumptions,
    predicted: np.ndarray,
    *,
    source_accuracy: float | None = None,
    vote_accuracy: float | None = None,
    hits: np.ndarray | None = None,
) -> Expected | None:
    """Estimate the accuracy of a candidate on the target.

    Parameters
    ----------
    panel : Panel
    assumptions : Assumptions
    predicted : array of shape (n_target,)
        Labels of the target rows.
    source_accuracy : float, optional
        Where the target lies within the source: share of held-out source rows predicted right, weighted by how
        target-like they are.
    vote_accuracy : float, optional
        Of a vote, see `accuracy_of_vote`.
    hits : array of shape (n_labelled,), bool, optional
        Which labelled target rows are predicted right.

    Returns
    -------
    Expected, or None where the target has too few rows to say anything.
    """
    if hits is not None and len(hits):
        value, (low, high) = float(np.mean(hits)), wilson(float(np.mean(hits)), len(hits))
        rests = f"measured on {len(hits)} labelled target images"
        return _said(value, low, high, "labels", rests, holds=True)
    if not assumptions.enough_rows:
        return None
    if source_accuracy is not None and not np.isnan(source_accuracy):
        rests = (
            "estimated on held-out source images, weighted by their similarity to the target; it assumes that the "
            "classes look the same in both domains"
        )
        value, basis = source_accuracy, "source"
    elif vote_accuracy is not None:
        value, basis = vote_accuracy, "vote"
        rests = (
            "estimated from how far the recipes that vote agree on the target images, and neighbours among these; it "
            "assumes that they do not all make the same mistakes"
        )
    else:
        value, basis = panel.expected_accuracy(predicted), "panel"
        rests = (
            f"estimated from the agreement of {len(panel.labels)} methods on the target images "
            f"({panel.agreement:.0%}); it assumes that they do not all make the same mistakes"
        )
    low, high = max(0.0, value - REACH), min(1.0, value + REACH)
    return _said(value, low, high, basis, rests, holds=assumptions.alike)


def expect_by_labels(hits: np.ndarray, drawn: bool) -> Expected:
    """Estimate the accuracy by labelled target rows that a candidate was not fitted on.

    Parameters
    ----------
    hits : array of shape (n_labelled,), bool
        Which of them are predicted right.
    drawn : bool
        Whether the rows were drawn at random, as far as is known.
    """
    value = float(np.mean(hits))
    low, high = wilson(value, len(hits), OF_LABELS)
    rests = "images drawn at random" if drawn else "images; it takes these for a random sample of the target"
    words = _confidence(value)
    sentence = (
        f"Accuracy on the target: between {low:.0%} and {high:.0%} ({OF_LABELS:.0%} interval), about {value:.0%}, "
        f"cross-validated on {len(hits)} labelled target {rests}. Confidence: {words}."
    )
    return Expected(value, low, high, "labels", words, sentence)


def accuracy_of_vote(
    probability: np.ndarray, predicted: np.ndarray, asked: np.ndarray, neighbours: np.ndarray
) -> float:
    """Estimate the share of the target rows that a vote has right.

    Parameters
    ----------
    probability, predicted : array of shape (n_target,)
        Of each target row: the probability of its label, and the label.
    asked : array of shape (n_asked,), int
        Rows whose neighbours are known,
    neighbours : array of shape (n_asked, n_neighbours), int
        and these.
    """
    alike = float(np.mean(predicted[neighbours] == predicted[asked][:, None]))
    value = BY_PROBABILITY * float(np.mean(probability)) + BY_NEIGHBOURS * alike + OF_VOTE
    return float(np.clip(value, LEAST, MOST))


def _confidence(value: float) -> str:
    return "high" if value >= SURE else "medium" if value >= FAIRLY_SURE else "low"


def _said(value: float, low: float, high: float, basis: str, rests: str, *, holds: bool) -> Expected:
    words = _confidence(value)
    if not holds and words == "high":
        words = "medium"
    sentence = (
        f"Expected accuracy on the target: about {value:.0%} (90% interval {low:.0%} to {high:.0%}), {rests}. "
        f"Confidence: {words}."
    )
    if not holds:
        sentence += " The class proportions seem to differ in the target, so this estimate is less reliable."
    return Expected(value, low, high, basis, words, sentence)
