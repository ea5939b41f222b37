"""The default score: how far a candidate agrees with a panel of plain methods."""

import numpy as np

from ftransfer.scoring.judge import Evidence


def consistency(evidence: Evidence) -> tuple[np.ndarray, dict[str, float]]:
    """Agreement with the panel's labels of the target beyond chance (Cohen's kappa), averaged over its members.

    See `seat_panel` for the panel. That methods of different kinds agree on a label is the best sign that it is right
    which was found; the members and their weights were chosen with a look at half of the tasks of
    ``benchmarks/proving_ground.py``.
    """
    judge, labels = evidence.judge, evidence.predicted
    found = np.zeros(len(judge.target_weights))
    for member, weight in zip(judge.panel.labels, judge.panel.weights, strict=True):
        if weight == 0:
            continue
        by_chance = sum(np.mean(labels == each) * np.mean(member == each) for each in np.unique(member))
        if by_chance < 1:
            found += weight * (judge.target_weights @ (member == labels) - by_chance) / (1 - by_chance)
    agreement = judge.panel.weights @ (judge.panel.labels == labels).mean(axis=1)
    return found, {"agreement": float(agreement)}
