"""A panel of plain methods: their labels of the target are what candidates are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from threading import Lock
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer

from ftransfer.adapt.mixture import TargetMixture
from ftransfer.adapt.pseudo import PseudoLabelled
from ftransfer.adapt.scaler import DomainScaler
from ftransfer.adapt.share_scaler import ShareWeightedScaler
from ftransfer.pipeline import make_pipeline
from ftransfer.scoring.reference import Reference, kappa, make_reference

MOST_ROWS = 1000  # of each side that the panel is fitted on; or more, where there are many classes:
ROWS_A_CLASS = 3  # on average, lest classes seem to be missing of which no row was drawn
ALIKE = 0.15  # largest distance of the class shares that is taken for none, by the mixture
DIFFERENT = 0.35  # distance by the mixture that is beyond doubt
ALIKE_CLUSTERS = (
    0.115  # in between, the same by pseudo-labelling with a cluster a class, which evens shares out
)
NOISE = 0.4  # times sqrt(classes / rows): what sampling adds to a distance, about
MANY = 0.05  # classes / rows, up to which that is in the two limits
# weights of the members: where all classes are there in about the source's shares, and where they may not be
FILLING, LEAVING_EMPTY = (1.0, 1.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 2.0, 1.0)
CLUSTERS = 1  # the member that evens shares out
MARGIN = 0.05  # by which the reference classifiers must favour one of the two to overrule the class shares
# expected accuracy, by the agreement with the members and with the reference classifiers: least squares on the
# even-numbered tasks of benchmarks/proving_ground.py
BY_PANEL, BY_REFERENCES, INTERCEPT = 0.95, 0.53, -0.44
LEAST, MOST = 0.02, 0.98  # that is ever expected
seating = Lock()  # candidates are scored in threads, and the panel of a judge is fitted once


@dataclass(frozen=True)
class Panel:
    """Labels of the target by several methods that fail for different reasons.

    Attributes
    ----------
    labels : ndarray of shape (n_members, n_target)
        As `y` has them.
    weights : ndarray of shape (n_members,)
        Sum to one; 0 for a method that does not suit this target.
    shares : ndarray of shape (n_classes,)
        Estimated shares of the classes in the target.
    distance : float
        Half the sum of the absolute differences of source's and target's shares: from 0 to 1.
    alike : bool
        Whether the target seems to have all classes in about the source's shares.
    filling : bool
        Whether the methods that fill every class are trusted: where the shares are alike, unless the reference
        classifiers clearly favour the other methods; or the other way round.
    reference : Reference
    """

    labels: np.ndarray
    weights: np.ndarray
    shares: np.ndarray
    distance: float
    alike: bool
    filling: bool
    reference: Reference

    def expected_accuracy(self, predicted: np.ndarray) -> float:
        """Estimate the share of the target rows that `predicted` has right.

        A linear function of how far it agrees with the members of the panel, on average, and of the
        reference classifiers.

        Parameters
        ----------
        predicted : array of shape (n_target,)
        """
        by_panel = float(np.mean(self.labels == np.asarray(predicted)))
        value = BY_PANEL * by_panel + BY_REFERENCES * self.reference(predicted) + INTERCEPT
        return float(np.clip(value, LEAST, MOST))

    def agreement_with(self, predicted: np.ndarray, weights: Sequence[float]) -> float:
        """Agreement of labels with the members beyond chance, with these weights in place of the panel's own.

        Parameters
        ----------
        predicted : array of shape (n_target,)
        weights : sequence of float, one a member
        """
        pairs = zip(weights, self.labels, strict=True)
        return sum(weight * kappa(member, predicted) for weight, member in pairs if weight) / sum(weights)

    @property
    def agreement(self) -> float:
        """Share of the target rows on which two of the methods agree, averaged over the pairs."""
        return float(np.mean([np.mean(a == b) for a, b in combinations(self.labels, 2)]))


def seat_panel(X: np.ndarray, y: np.ndarray, domain: np.ndarray, random_state: int = 0) -> Panel:
    """Estimate the class shares of the target, and let the methods that suit them label it.

    The shares are those of a mixture of the classes (`TargetMixture`), each domain centred by itself and rows of unit
    length. They count as those of the source where they are about these; or, where that is in doubt, where those by
    pseudo-labelling with a cluster a class are. Then methods that fill every class are trusted: the mixture with
    standardised features, and pseudo-labelling with clusters. Else those that leave a class empty: pseudo-labelling
    without clusters and a firmer mixture, the source weighted by the estimated shares. An estimate of shares can be
    far off, so two reference classifiers compare what either group says, and overrule it where they clearly favour
    the other.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,), int
        Labels of the source rows, -1 on target rows.
    domain : array of shape (n_samples,), int
        Positive for a source, negative for the target.
    """
    rng = np.random.default_rng(random_state)
    source, target = np.flatnonzero(domain > 0), np.flatnonzero(domain < 0)
    classes, codes = np.unique(y[source], return_inverse=True)
    most = max(MOST_ROWS, ROWS_A_CLASS * len(classes))
    rows = np.sort(np.r_[rng.permutation(source)[:most], rng.permutation(target)[:most]])
    own = np.bincount(codes) / len(source)

    def fit(steps: tuple[Any, ...]) -> Any:
        return make_pipeline(*steps).fit(X[rows], y[rows], sample_domain=domain[rows])

    first = fit((DomainScaler(None), Normalizer(), TargetMixture()))[-1]
    shares = np.zeros(len(classes))
    shares[np.searchsorted(classes, first.classes_)] = first.target_shares_
    steps = _members()
    labels = np.stack([fit(each).predict(X[target]) for each in steps])
    by_clusters = np.mean(labels[CLUSTERS][:, None] == classes, axis=0)
    distance, of_clusters = (float(np.abs(each - own).sum() / 2) for each in (shares, by_clusters))
    noise = max(0.0, NOISE * (np.sqrt(len(classes) / len(target)) - np.sqrt(MANY)))
    alike = distance <= ALIKE + noise or (
        distance <= DIFFERENT + noise and of_clusters <= ALIKE_CLUSTERS + noise
    )
    filling = bool(alike)
    reference = make_reference(X[rows], y[rows], domain[rows], np.flatnonzero(np.isin(target, rows)))
    ahead = reference(_vote(labels, FILLING)) - reference(_vote(labels, LEAVING_EMPTY))
    if abs(ahead) > MARGIN:
        filling = bool(ahead > 0)
    weights = np.array(FILLING if filling else LEAVING_EMPTY)
    return Panel(labels, weights / weights.sum(), shares, distance, bool(alike), filling, reference)


def _vote(labels: np.ndarray, weights: tuple[float, ...]) -> np.ndarray:
    """Take the label with the most weight for each row; of equals the one of the first member."""
    classes = np.unique(labels)
    votes = sum(weight * (each[:, None] == classes) for weight, each in zip(weights, labels, strict=True))
    votes = votes + 1e-3 * (labels[int(np.argmax(weights))][:, None] == classes)
    return np.asarray(classes[np.argmax(votes, axis=1)])


def _members() -> list[tuple[Any, ...]]:
    """List the steps of the methods on the panel."""
    logistic = LogisticRegression(C=10.0, max_iter=1000)
    weighted = ShareWeightedScaler(None, estimator="mixture")
    return [
        (DomainScaler(), Normalizer(), TargetMixture()),
        (DomainScaler(None), Normalizer(), PseudoLabelled(logistic)),
        (DomainScaler(), Normalizer(), PseudoLabelled(logistic)),
        (weighted, Normalizer(), PseudoLabelled(logistic, structured=False)),
        (weighted, Normalizer(), TargetMixture(prior_rows=20.0)),
    ]
