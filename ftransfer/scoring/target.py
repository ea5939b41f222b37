"""Scores that look only at what is predicted for the target rows.

All of them reward predictions that are sure or smooth, whether they are right or not. Probabilities of different
classifiers are hardly comparable: a forest's are votes, a support vector machine's a softmax over its decisions.
"""

import numpy as np
from scipy.special import softmax, xlogy

from ftransfer.adapt.base import content_order
from ftransfer.scoring.judge import Evidence

TEMPERATURE = 0.05  # of soft neighbourhood density, as published
MIX = 0.55  # MixVal's share of the dominant row, as published
BLOCK = 1000  # rows compared at once


def entropy(evidence: Evidence) -> np.ndarray:
    """Mean entropy of the predicted probabilities, negated: how sure the predictions are.

    Morerio, Cavazza, Murino, "Minimal-entropy correlation alignment for unsupervised deep domain adaptation",
    ICLR 2018.
    """
    return -evidence.judge.target_weights @ _entropy(evidence.probability)


def information(evidence: Evidence) -> np.ndarray:
    """Mutual information of rows and predicted classes: sure predictions, spread over the classes.

    Shi, Sha, "Information-theoretical learning of discriminative clusters for unsupervised domain adaptation",
    ICML 2012; as a score in Musgrave, Belongie, Lim, "Three new validators and a large-scale benchmark ranking for
    unsupervised domain adaptation", 2022. It believes that the classes are about equally frequent.
    """
    weights, probability = evidence.judge.target_weights, evidence.probability
    return _entropy(weights @ probability) - weights @ _entropy(probability)


def neighbourhood_density(evidence: Evidence) -> np.ndarray:
    """Entropy of each row's similarities to the others: whether like predictions come in dense clusters.

    Saito, Kim, Teterwak, Sclaroff, Darrell, Saenko, "Tune it the right way: unsupervised validation of domain
    adaptation via soft neighborhood density", ICCV 2021, equations 1 to 3, temperature 0.05. At most 5,000 rows.
    """
    judge = evidence.judge
    rows = evidence.probability[judge.asked]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        similarity = rows[start : start + BLOCK] @ rows.T / TEMPERATURE
        np.put_along_axis(similarity, np.arange(start, start + len(similarity))[:, None], -np.inf, axis=1)
        found[start : start + BLOCK] = _entropy(softmax(similarity, axis=1))
    return judge.asked_weights @ found


def mixed(evidence: Evidence) -> np.ndarray:
    """Share of mixtures of two target rows that get the label predicted for the dominant one.

    Hu, Liang, Liew, Xue, Bai, Wang, "Mixed samples as probes for unsupervised model selection in domain
    adaptation" (MixVal), NeurIPS 2023: the mean of the shares over pairs with the same predicted label and pairs
    with different ones. Features are mixed here, not images. The paper averages ranks over the candidates;
    a single score averages the shares, as skada does.
    """
    judge, labels = evidence.judge, evidence.target_labels
    rng = np.random.default_rng(judge.random_state)
    X, weights = judge.X_target[judge.asked], judge.asked_weights
    labels, order = labels[judge.asked], content_order(X)
    shares = []
    for same in (True, False):
        drawn = _partners(labels[order], same, rng)
        partner = np.empty_like(drawn)  # drawn by content, so that the order of the rows makes no difference
        partner[order] = np.where(drawn < 0, -1, order[drawn])
        rows = np.flatnonzero(partner >= 0)
        if not len(rows):
            shares.append(np.zeros(len(weights)))  # one label for all rows says nothing
            continue
        X_mixed = MIX * X[rows] + (1 - MIX) * X[partner[rows]]
        right = evidence.code(np.asarray(evidence.pipeline.predict(X_mixed))) == labels[rows]
        total = weights[:, rows].sum(axis=1)
        shares.append(np.divide(weights[:, rows] @ right, total, out=np.zeros_like(total), where=total > 0))
    return np.mean(shares, axis=0)


def _partners(labels: np.ndarray, same: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw for each row another of the same, or of a different, label; -1 where there is none."""
    partner = np.full(len(labels), -1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if same and len(rows) > 1:
            order = rng.permutation(rows)
            partner[order] = np.roll(order, 1)
        elif not same and len(rows) < len(labels):
            partner[rows] = rng.choice(np.flatnonzero(labels != label), len(rows))
    return partner


def _entropy(probability: np.ndarray) -> np.ndarray:
    return -xlogy(probability, probability).sum(axis=-1)
