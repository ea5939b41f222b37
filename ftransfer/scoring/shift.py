"""How frequent the classes are in the target, estimated without its labels."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from ftransfer.scoring.judge import Evidence

CLEAR = 0.2  # share of the target's rows that would have to change their class


@dataclass(frozen=True)
class LabelShift:
    """Class shares of source and target.

    Attributes
    ----------
    classes, source, target : ndarray of shape (n_classes,)
        Shares sum to one; the target's are estimated.
    low, high : ndarray of shape (n_classes,)
        Bounds of the target's shares: 95 % bootstrap interval.
    distance : float
        Half the sum of absolute differences (total variation): the share of rows that changes class.
    distance_low : float
        The distance exceeds it in 95 % of the bootstrap samples.
    """

    classes: np.ndarray
    source: np.ndarray
    target: np.ndarray
    low: np.ndarray
    high: np.ndarray
    distance: float
    distance_low: float

    @property
    def clear(self) -> bool:
        """Whether more than a fifth of the rows changes class, beyond sampling error."""
        return self.distance_low > CLEAR

    def describe(self, names) -> str:
        """Say what is clearly there, for people; nothing where it is not. `names` are those of the classes."""
        if not self.clear:
            return ""
        most = np.argsort(-np.abs(self.target - self.source))[:3]
        changes = ", ".join(f"{names[i]} {self.source[i]:.0%} -> about {self.target[i]:.0%}" for i in most)
        return (
            f"the classes seem to have other shares in the target ({changes}): about {self.distance:.0%} of the rows "
            f"differ; adaptations that align the domains as wholes can mislead then"
        )


def estimate_label_shift(evidence: Evidence) -> LabelShift:
    """Estimate the target's class shares from what a pipeline predicts there and how it errs on the source.

    Lipton, Wang, Smola, "Detecting and correcting for label shift with black box predictors", ICML 2018 (BBSE):
    the shares q with C q = (shares of the predicted labels on the target), where C[i, j] is the share of held-out
    source rows of class j that are predicted as i; non-negative least squares.

    See Also
    --------
    ftransfer.label_shift.estimate_class_shares : The same by a plain classifier, before any adaptation.

    Notes
    -----
    It believes that the pipeline errs on the target as it does on held-out source rows. Between domains that differ it
    errs more there, and some of that looks like label shift.
    """
    judge = evidence.judge
    k = len(judge.classes)
    truth, predicted, target = (
        np.eye(k)[judge.labels],
        np.eye(k)[evidence.source_labels],
        evidence.target_labels,
    )
    on_target = np.eye(k)[target]
    found = []
    for of_source, of_target in zip(judge.source_weights, judge.target_weights, strict=True):
        joint = (predicted * of_source[:, None]).T @ truth
        shares = joint.sum(axis=0)
        rates = np.divide(joint, shares, out=np.eye(k), where=shares > 0)
        q = nnls(rates, of_target @ on_target)[0]
        found.append(q / q.sum())
    found = np.array(found)
    source = np.bincount(judge.labels, minlength=k) / len(judge.labels)
    distances = np.abs(found - source).sum(axis=1) / 2
    return LabelShift(
        judge.classes,
        source,
        found[0],
        *np.percentile(found[1:], [2.5, 97.5], axis=0),
        float(distances[0]),
        float(np.percentile(distances[1:], 5)),
    )
