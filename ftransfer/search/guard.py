"""The guard against negative transfer: an adaptation is recommended only where the evidence says that it helps.

It goes step by step from the mildest to the strongest: source only, per-domain scaling, adaptations that align the
domains, adaptations that learn from the labels they predict for the target. A step is taken only where the score rises
by more than the standard error of the difference. A few labels of the target, where there are any to spare, decide a
step wherever they can tell; they fit nothing and rank nothing.

Where the classes clearly have other shares in the target than in the source (label shift), adaptations and scores alike
mistake the difference in shares for one in features. The score must then rise by half of itself, too.

Two things that no score of target rows alone can see are looked at besides:

* An adaptation may move the borders between classes, but not swap their names. A candidate is ruled out where the
  best one-to-one matching of its labels with those of the step before is not that of each class with itself: clusters
  that are matched with the wrong classes are as smooth as those matched with the right ones.
* Among the recipes whose best setting lies within a standard error of the best of its step, the one is taken whose
  labels agree most with those of all these settings: what goes astray, mostly goes astray alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from scipy.stats import beta

from ftransfer.compare.label_shift import LabelShift
from ftransfer.search.steps import BASELINES, STEPS

SHIFT_MARGIN = 0.5  # by which a score must rise where label shift is clear, as a share of itself
CONFIDENCE = 0.9  # of the interval from target labels: an error of 5 % on either side


@dataclass(frozen=True)
class Recommendation:
    """What the guard says of a ranked table.

    Attributes
    ----------
    chosen : int
        A row of the table: the best of its pipeline that is not ruled out.
    sentence : str
        The answer.
    reason : str
        The scores that it rests on, and what was not worth it.
    ruled_out : list of int
        Rows that swap the names of classes.
    shift : LabelShift or None
        The label shift that was estimated.
    """

    chosen: int
    sentence: str
    reason: str
    ruled_out: list[int]
    shift: LabelShift | None = None


def recommend(
    table: pd.DataFrame,
    *,
    score_name: str = "consistency",
    label_shift: Callable[[int], LabelShift | None] = lambda row: None,
) -> Recommendation:
    """Choose a row of the ranked table, step by step from the mildest adaptation to the strongest.

    Parameters
    ----------
    table : DataFrame
        Ranked candidates, best first, with the columns ``pipeline, adaptation, step, score, resampled`` and
        ``predicted`` (labels of the target rows); and ``hits``, where the guard may look at some target labels: which
        of these rows a candidate predicts right, None where it may not.
    score_name : str
    label_shift : callable
        Estimates the label shift by a row of the table; asked for the row that would be chosen without any.

    Returns
    -------
    Recommendation
    """
    answer = _climb(table, score_name)
    shift = label_shift(answer.chosen)
    if shift is not None and shift.clear:
        answer = _climb(table, score_name, margin=SHIFT_MARGIN)
    return replace(answer, shift=shift)


def _climb(table: pd.DataFrame, score_name: str, margin: float = 0.0) -> Recommendation:
    """Take the steps; one is worth it only if the score rises by a share of itself, the margin, too."""
    ranked = table[table["score"].notna()]
    strength = ranked["step"]
    first, *stronger = [step for step in STEPS if (strength == step).any()]
    chosen = _leader(ranked[strength == first])
    ruled_out = []
    story = [
        f"The {score_name.replace('_', ' ')} of {first} ({table['pipeline'][chosen]}) is {table['score'][chosen]:.3f}"
    ]
    if margin:
        story.append(
            f"as the classes seem to have other shares in the target, a step must raise it by {margin:.0%}"
        )
    for step in stronger:
        candidates = ranked[strength == step]
        if step not in BASELINES:
            before = table["predicted"][chosen]
            swaps = np.array([swaps_names(before, each) for each in candidates["predicted"]])
            ruled_out += candidates.index[swaps].tolist()
            candidates = candidates[~swaps]
        if candidates.empty:
            story.append(f"with {step}, every candidate swaps the names of classes")
            continue
        row = _leader(candidates)
        kept, why = _worth_it(table.loc[row], table.loc[chosen], margin)
        story.append(
            f"{table['adaptation'][row]} ({table['pipeline'][row]}) {why}{'' if kept else ', which is not worth it'}"
        )
        chosen = row if kept else chosen
    name, kind = table["pipeline"][chosen], table["adaptation"][chosen]
    if kind == BASELINES[0]:
        sentence = (
            f"Do not adapt: {name}, trained on the source only, is not clearly beaten by any adaptation."
        )
    elif kind == BASELINES[1]:
        sentence = f"Scale each domain by itself and leave it at that: {name}."
    else:
        sentence = f"Adapt with {kind}: {name}."
    return Recommendation(int(chosen), sentence, "; ".join(story) + ".", ruled_out)


def swaps_names(before: ArrayLike, after: ArrayLike) -> bool:
    """Whether labels match others of the same rows best where classes trade their names.

    Parameters
    ----------
    before, after : array of shape (n_rows,), int

    Examples
    --------
    >>> swaps_names([0, 0, 1, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 2])
    False
    >>> swaps_names([0, 0, 1, 1, 1, 2, 2], [0, 0, 2, 2, 1, 1, 1])
    True
    """
    classes, codes = np.unique(np.stack([before, after]), return_inverse=True)
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counts, tuple(codes.reshape(2, -1)), 1)
    return bool(counts[linear_sum_assignment(counts, maximize=True)].sum() > np.trace(counts))


def _leader(ranked: pd.DataFrame) -> int:
    """Choose among the recipes whose best setting is within a standard error of the best of all."""
    top = ranked.iloc[0]
    errors = np.array([np.std(top["resampled"] - each, ddof=1) for each in ranked["resampled"]])
    tied = ranked[top["score"] - ranked["score"] <= errors]
    leaders = tied[tied.index.isin(ranked.drop_duplicates("pipeline").index)]
    everyone = np.stack(tied["predicted"].tolist())
    agreement = [np.mean(everyone == each) for each in leaders["predicted"]]
    return int(leaders.index[int(np.argmax(agreement))])


def _worth_it(new: pd.Series, old: pd.Series, margin: float) -> tuple[bool, str]:
    """Decide whether a step is worth it, and say why."""
    gain = new["score"] - old["score"]
    error = float(np.std(new["resampled"] - old["resampled"], ddof=1))
    enough = gain > max(error, margin * abs(old["score"]))
    why = f"changes it by {gain:+.3f} with a standard error of {error:.3f}"
    if new["hits"] is None:
        return enough, why
    difference, low, high = paired_interval(new["hits"], old["hits"])
    why += (
        f" and the share right on {len(new['hits'])} labelled target images by {100 * difference:+.1f} points "
        f"({CONFIDENCE:.0%} interval {100 * low:+.1f} to {100 * high:+.1f})"
    )
    told = low > 0 or high < 0
    return (low > 0 if told else enough), why


def paired_interval(
    new: ArrayLike, old: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Difference of two accuracies on the same rows, with an exact interval.

    Only rows that one gets right and the other wrong tell the two apart. The share of these that the new one gets
    right has the interval of Clopper and Pearson, which leaves out one half exactly where McNemar's exact test rejects.

    Parameters
    ----------
    new, old : array of shape (n_rows,), bool
        Which rows each gets right.
    confidence : float

    Returns
    -------
    difference, low, high : float
        In shares of the rows.

    Examples
    --------
    >>> import numpy as np
    >>> new = np.repeat([True, True, False, False], [40, 9, 1, 10])
    >>> old = np.repeat([True, False, True, False], [40, 9, 1, 10])
    >>> print("{:+.3f}, {:+.3f} to {:+.3f}".format(*paired_interval(new, old)))
    +0.133, +0.035 to +0.165
    """
    now, before = np.asarray(new, dtype=bool), np.asarray(old, dtype=bool)
    better, worse = int((now & ~before).sum()), int((before & ~now).sum())
    told = better + worse
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, better, worse + 1) if better else 0.0
    high = beta.ppf(1 - tail, better + 1, worse) if worse else 1.0
    share = told / len(now)
    return (better - worse) / len(now), float((2 * low - 1) * share), float((2 * high - 1) * share)
