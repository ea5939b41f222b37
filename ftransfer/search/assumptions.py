"""What a choice without target labels rests on, tested before anything is chosen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ftransfer.scoring.judge import Judge

FEWEST_ROWS = 25  # of the target to choose by
OVERLAP = 0.95  # area under the curve below which the target is taken to lie within the source
MOST_ROWS = 500  # of each domain to tell them apart by
NEIGHBOURS = 10
MISSING = 0.25  # of its share in the source, below which a class seems to be missing
NAMED = 10  # classes in a note, at most


@dataclass(frozen=True)
class Assumptions:
    """How far source and target are from what the scores assume.

    Attributes
    ----------
    n_target : int
    source, target : ndarray of shape (n_classes,)
        Shares of the classes; the target's are estimated.
    alike : bool
        Whether they are about the same, as far as can be told.
    separation : float
        Area under the ROC curve of a classifier that tells target from source, the better of a linear one and of
        nearest neighbours: from about 0.5, where the domains are alike, to 1.
    filling : bool
        Whether methods that fill every class are trusted all the same, although the shares differ.
    """

    n_target: int
    source: np.ndarray
    target: np.ndarray
    alike: bool
    separation: float
    filling: bool = False

    @property
    def enough_rows(self) -> bool:
        """Whether the target has rows enough to choose by."""
        return self.n_target >= FEWEST_ROWS

    @property
    def overlap(self) -> bool:
        """Whether the target lies within the source, so that held-out source rows speak for it."""
        return self.separation < OVERLAP

    @property
    def distance(self) -> float:
        """Share of the target's rows that would have to change class to have the source's shares."""
        return float(np.abs(self.target - self.source).sum() / 2)

    def describe(self, classes: ArrayLike) -> list[str]:
        """Say what does not hold, for people; `classes` are the names."""
        names, said = np.asarray(classes), []
        if not self.enough_rows:
            said.append(
                f"{self.n_target} target images are too few to compare recipes; at least {FEWEST_ROWS} are needed"
            )
        elif not self.alike:
            most = np.argsort(-np.abs(self.target - self.source))[:3]
            changes = ", ".join(
                f"{names[i]} {self.source[i]:.0%} -> about {self.target[i]:.0%}" for i in most
            )
            said.append(
                f"the class proportions seem to differ in the target ({changes}), by about {self.distance:.0%} of "
                f"the "
                f"rows in total{'' if self.filling else '; methods that fill every class get no weight'}"
            )
            rare = names[(self.target < MISSING * self.source)]
            if len(rare):
                more = f" and {len(rare) - NAMED} more" if len(rare) > NAMED else ""
                said.append(
                    f"classes that may be missing in the target: {', '.join(rare[:NAMED].tolist())}{more}"
                )
        return said


def check_assumptions(judge: Judge) -> Assumptions:
    """Test what the choice rests on, by the rows of a task and the source's labels.

    Parameters
    ----------
    judge : Judge
    """
    source = np.bincount(judge.labels, minlength=len(judge.classes)) / len(judge.labels)
    n = len(judge.target)
    if n < FEWEST_ROWS:
        return Assumptions(n, source, source, True, float("nan"))
    panel = judge.panel
    apart = separation(judge.X_source, judge.X_target)
    return Assumptions(n, source, panel.shares, panel.alike, apart, panel.filling)


def separation(X_source: ArrayLike, X_target: ArrayLike, random_state: int = 0) -> float:
    """Area under the ROC curve of a classifier that tells two sets of rows apart.

    The better of a ridge classifier, in three folds, and of the ten nearest neighbours of each row.

    Parameters
    ----------
    X_source, X_target : array of shape (n_rows, n_features)
        As many of each are drawn, at most 500.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> rows = rng.normal(size=(3, 200, 4))
    >>> round(separation(rows[0], rows[1]), 1), round(separation(rows[0], rows[2] + 3), 1)
    (0.5, 1.0)
    """
    rng = np.random.default_rng(random_state)
    sides = [np.asarray(X_source), np.asarray(X_target)]
    n = min(MOST_ROWS, *(len(rows) for rows in sides))
    drawn = [rows[rng.permutation(len(rows))[:n]] for rows in sides]
    rows, is_target = StandardScaler().fit_transform(np.concatenate(drawn)), np.repeat([0, 1], n)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    ridge = RidgeClassifier(alpha=float(rows.shape[1]))
    linear = cross_val_predict(ridge, rows, is_target, cv=folds, method="decision_function")
    finder = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(rows)
    near = is_target[finder.kneighbors(return_distance=False)].mean(axis=1)
    return float(max(roc_auc_score(is_target, linear), roc_auc_score(is_target, near)))
