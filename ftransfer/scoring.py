"""A score that needs no target labels: are the predicted labels consistent with both domains?

This is the simple score of the first release: two questions about the labels that a pipeline predicts for the
target, as one number, ``carried back * neighbours ** 2``.

*Carried back*: a ridge classifier is trained on the target rows with the predicted labels; how much of the
source does it recognise (accuracy, averaged over the classes)? This is reverse validation (Bruzzone &
Marconcini, "Domain adaptation problems", TPAMI 2010) with one fixed judge for all candidates.

*Neighbours*: how often do a target row and its five nearest target rows get the same label, beyond chance
(as in Cohen's kappa)? Labels that cut through a cluster are unlikely to be right. It counts twice: that
ranked the candidates better on the pairs of ``benchmarks/pairs.py``, whose target labels were looked at to
choose among a dozen forms of this score. What it reaches on those pairs is therefore a little flattered.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors

from ftransfer.adapt import DomainScaler

SCORE_NAME = "consistency"
SCORE_MEANING = (
    "from 0 to 1, without target labels. The labels predicted for the target are carried back to the source "
    "by a plain classifier (the share it gets right, over classes), times the square of how far neighbours on the "
    "target agree on a label beyond chance."
)
NEIGHBOURS = 5
RESAMPLES = 200
MOST_ROWS = 5000  # of the target, for the neighbours


@dataclass(frozen=True)
class Score:
    """How consistent predicted labels are.

    Attributes
    ----------
    value : float
        Between 0 and 1: ``carried_back * neighbours ** 2``.
    carried_back : float
        Share of the source recognised, averaged over the classes.
    neighbours : float
        Agreement of neighbours on the target beyond chance; at most 1.
    resampled : ndarray of shape (RESAMPLES,)
        The value on bootstrap samples of source and target rows; the same samples for all candidates of
        one `Judge`, so that differences are paired.
    """

    value: float
    carried_back: float
    neighbours: float
    resampled: np.ndarray


class Judge:
    """Score predicted target labels on one task; what all candidates share is computed once.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)
        Labels of the source rows, -1 on target rows.
    sample_domain : array of shape (n_samples,), int
        Positive for a source, negative for the target.
    """

    def __init__(self, X, y, sample_domain, random_state=0):
        rng = np.random.default_rng(random_state)
        source, target = sample_domain > 0, sample_domain < 0
        self.labels = y[source]
        self.n_classes = int(self.labels.max()) + 1
        # each domain standardised by itself, so that the judge sees neither domain as shifted
        Z = DomainScaler().fit_transform(X, y, sample_domain=sample_domain)
        Z_source, Z_target = Z[source], Z[target]
        self.readout = _ridge_readout(Z_source, Z_target, alpha=0.2 * Z.shape[1])
        n_target = len(Z_target)
        self.asked = np.sort(rng.permutation(n_target)[:MOST_ROWS])
        k = min(NEIGHBOURS, n_target - 1)
        finder = NearestNeighbors(n_neighbors=k + 1, metric="cosine", algorithm="brute").fit(Z_target)
        self.neighbours = finder.kneighbors(Z_target[self.asked], return_distance=False)[:, 1:]
        self.source_weights = _bootstrap_weights(rng, len(self.labels))
        self.target_weights = _bootstrap_weights(rng, len(self.asked))

    def score(self, predicted) -> Score:
        """Score the labels that a candidate predicts for the target rows, in their order."""
        share = np.bincount(predicted[self.asked], minlength=self.n_classes) / len(self.asked)
        chance = float(np.sum(share**2))
        if chance == 1.0 or self.neighbours.shape[1] == 0:
            return Score(0.0, 0.0, 0.0, np.zeros(RESAMPLES))  # one label for all rows says nothing
        agree = (predicted[self.neighbours] == predicted[self.asked, None]).mean(axis=1)
        signs = np.where(np.arange(self.n_classes) == predicted[:, None], 1.0, -1.0)
        mean = signs.mean(axis=0)
        right = (self.readout(signs - mean) + mean).argmax(axis=1) == self.labels
        carried_back = self._over_classes(right, np.ones((1, len(right))))[0]
        beyond = (agree.mean() - chance) / (1 - chance)
        beyond_resampled = np.maximum(0.0, (self.target_weights @ agree - chance) / (1 - chance))
        resampled = self._over_classes(right, self.source_weights) * beyond_resampled**2
        return Score(
            float(carried_back * max(beyond, 0.0) ** 2), float(carried_back), float(beyond), resampled
        )

    def _over_classes(self, right, weights):
        """Average the share of right rows over the classes; weights (m, n_source) -> (m,)."""
        member = np.eye(self.n_classes)[self.labels]
        total = weights @ member
        hits = weights @ (member * right[:, None])
        there = total > 0
        return (np.divide(hits, total, out=np.zeros_like(hits), where=there)).sum(axis=1) / there.sum(axis=1)


def _bootstrap_weights(rng, n):
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n


def _ridge_readout(Z_source, Z_target, alpha):
    """Return a function: targets on target rows -> ridge predictions on source rows, factorised once."""
    n, d = Z_target.shape
    if n <= d:
        gram = cho_factor(Z_target @ Z_target.T + alpha * np.eye(n, dtype=Z_target.dtype))
        cross = Z_source @ Z_target.T
        return lambda Y: cross @ cho_solve(gram, Y)
    scatter = cho_factor(Z_target.T @ Z_target + alpha * np.eye(d, dtype=Z_target.dtype))
    return lambda Y: Z_source @ cho_solve(scatter, Z_target.T @ Y)


def source_accuracy(pipeline, X, y, sample_domain, folds=3, random_state=0) -> float:
    """Cross-validated accuracy on the source, held-out source rows mapped by the source's own map.

    The target rows, which have no label, take part in every fit. NaN if a class has fewer rows than folds.
    It says whether the classes can be told apart at all, not whether the labels carry over.
    """
    source = np.flatnonzero(sample_domain > 0)
    target = np.flatnonzero(sample_domain < 0)
    if np.bincount(y[source])[np.unique(y[source])].min() < folds:
        return float("nan")
    right = 0
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=random_state).split(
        source, y[source]
    ):
        rows = np.r_[source[train], target]
        fitted = clone(pipeline).fit(X[rows], y[rows], sample_domain=sample_domain[rows])
        held_out = source[test]
        right += np.sum(
            fitted.predict_source(X[held_out], sample_domain=sample_domain[held_out]) == y[held_out]
        )
    return float(right / len(source))
