"""Two reference classifiers that assume nothing about the target's class shares, to compare labellings of it."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from ftransfer.adapt.coral import CORAL
from ftransfer.adapt.rows import nearest
from ftransfer.adapt.scaler import DomainScaler
from ftransfer.pipeline import make_pipeline

NEIGHBOURS = 5
LEAST = 1e-9


def kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two labellings beyond chance (Cohen's).

    Examples
    --------
    >>> import numpy as np
    >>> kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    0.5
    """
    chance = sum(float(np.mean(one == k)) * float(np.mean(other == k)) for k in np.unique(one))
    return float((np.mean(one == other) - chance) / max(1.0 - chance, LEAST))


@dataclass(frozen=True)
class Reference:
    """How well labels of the target agree with two reference classifiers, from about 0 to 1: call it with labels.

    Attributes
    ----------
    rows : ndarray of shape (n,), int
        The target rows that are looked at.
    near : ndarray of shape (2, n, n_neighbours), int
        Classes of the nearest source rows of each, as indices: rows standardised by domain, and centred.
    aligned : ndarray of shape (n,)
        Label of each by logistic regression after CORAL.
    classes : ndarray of shape (n_classes,)
    shares : ndarray of shape (n_classes,)
        Of the classes in the source.
    """

    rows: np.ndarray
    near: np.ndarray
    aligned: np.ndarray
    classes: np.ndarray
    shares: np.ndarray

    def __call__(self, labels: np.ndarray) -> float:
        """Average two numbers.

        The share of rows labelled as their five nearest source rows are, where a source row counts as its class does
        in the labels; and the agreement beyond chance with logistic regression after CORAL.

        Parameters
        ----------
        labels : array of shape (n_target,)
        """
        labels = np.asarray(labels)[self.rows]
        weight = np.mean(labels[:, None] == self.classes, axis=0) / self.shares
        carried = [self.classes[_vote(found, weight)] for found in self.near]
        return 0.5 * float(np.mean([each == labels for each in carried])) + 0.5 * kappa(labels, self.aligned)


def make_reference(
    X: np.ndarray, y: np.ndarray, domain: np.ndarray, rows: np.ndarray | None = None
) -> Reference:
    """Fit the reference classifiers, and label the target rows.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,), int
        Labels of the source rows, -1 on target rows.
    domain : array of shape (n_samples,), int
        Positive for a source, negative for the target.
    rows : array of shape (n_samples of the target,), int, optional
        Which rows of a larger target they are.
    """
    source, target = domain > 0, domain < 0
    classes, codes = np.unique(y[source], return_inverse=True)
    near = []
    for scale in ("std", None):
        Z = normalize(DomainScaler(scale).fit_transform(X, y, sample_domain=domain))
        likeness = Z[target] @ Z[source].T
        k = min(NEIGHBOURS, likeness.shape[1])
        near.append(codes[nearest(likeness, k)])
    aligned = make_pipeline(DomainScaler(), CORAL(10.0), LogisticRegression(C=0.01, max_iter=1000))
    return Reference(
        np.arange(target.sum()) if rows is None else rows,
        np.stack(near),
        aligned.fit(X, y, sample_domain=domain).predict(X[target]),
        classes,
        np.bincount(codes) / len(codes),
    )


def _vote(found: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Take the class with the most weight among the neighbours of each row."""
    votes = np.zeros((len(found), len(weight)))
    for column in found.T:
        votes[np.arange(len(found)), column] += weight[column]
    return votes.argmax(axis=1)
