"""What a choice without target labels can rest on, when labels are numbers; tested before anything is chosen."""

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge

from ftransfer.adapt.scaler import DomainScaler
from ftransfer.regression.score import HeldOutSource
from ftransfer.search.assumptions import FEWEST_ROWS, OVERLAP, separation

PENALTY = 0.2  # of the ridge regression that goes back, for each feature
SCORES = {
    "importance-weighted R2": "R2 on held-out source images, weighted by the density ratio of target to "
    "source (importance-weighted cross-validation); it assumes that labels depend on the features in the "
    "same way in both domains, and that the source covers the target",
    "reverse R2": "R2 on the source of a ridge regression fitted to the predictions for the target, each "
    "domain standardised separately (reverse validation); it assumes that the labels have the same "
    "distribution in both domains",
    "source R2": "R2 on held-out source images; no score without target labels can estimate the error on the "
    "target here",
}


@dataclass(frozen=True)
class Ground:
    """How far source and target are from what the scores assume.

    Attributes
    ----------
    n_target : int
    separation, separation_scaled : float
        Area under the ROC curve of a classifier that tells target from source rows: as they are, and with each domain
        standardised by itself. 0.5 where the domains are alike, 1 where they do not overlap; NaN with too few rows.
    """

    n_target: int
    separation: float
    separation_scaled: float

    @property
    def score_name(self) -> str:
        """Name of the score that can be trusted here, a key of `SCORES`."""
        if self.n_target >= FEWEST_ROWS:
            if self.separation < OVERLAP:
                return "importance-weighted R2"
            if self.separation_scaled < OVERLAP:
                return "reverse R2"
        return "source R2"

    @property
    def may_adapt(self) -> bool:
        """Whether a score can tell that an adaptation helps."""
        return self.score_name != "source R2"

    def describe(self) -> str:
        """Say in a sentence what the score rests on."""
        if self.n_target < FEWEST_ROWS:
            return f"{self.n_target} target images are too few to compare recipes; at least {FEWEST_ROWS} are needed."
        told = f"A classifier separates the domains with an AUC of {self.separation:.2f}"
        if self.score_name == "importance-weighted R2":
            return (
                f"{told}: they overlap, and held-out source images, weighted by their similarity to the "
                f"target, estimate the error on the target."
            )
        scaled = f"{self.separation_scaled:.2f} after standardising each separately"
        if self.score_name == "reverse R2":
            return (
                f"{told}, {scaled}: they overlap only after scaling, so importance weighting does not apply, "
                f"and reverse validation is used. It assumes that the labels have the same distribution in "
                f"both domains; if not, a few target labels should decide (--target-labels)."
            )
        return (
            f"{told}, {scaled}: they do not overlap, so no score without target labels can tell whether an "
            f"adaptation helps. A few target labels would (--target-labels)."
        )


def check_ground(held_out: HeldOutSource) -> tuple[Ground, np.ndarray]:
    """Test how far the domains overlap; also give the rows with each domain standardised by itself."""
    task = held_out.task
    Z = DomainScaler().fit_transform(
        task.X, np.where(task.is_source, 0, -1), sample_domain=task.sample_domain
    )
    if (~task.is_source).sum() < FEWEST_ROWS:
        return Ground(int((~task.is_source).sum()), np.nan, np.nan), Z
    apart = [separation(rows[task.is_source], rows[~task.is_source]) for rows in (task.X, Z)]
    return Ground(int((~task.is_source).sum()), *apart), Z


def carry_back(Z_source: np.ndarray, Z_target: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Predict the source by a ridge regression that is fitted to the predictions for the target.

    Reverse validation (Zhong, Fan, Yang, Verscheure, Ren, "Cross validation framework to choose amongst models and
    datasets for transfer learning", ECML PKDD 2010), with one regression for all candidates, in rows that each domain
    standardises by itself.

    Parameters
    ----------
    Z_source, Z_target : array of shape (n_rows, n_features)
    predicted : array of shape (n_target,)
        Labels that a candidate gives the target.

    Returns
    -------
    ndarray of shape (n_source,)
    """
    return Ridge(alpha=PENALTY * Z_target.shape[1]).fit(Z_target, predicted).predict(Z_source)
