"""The guard against negative transfer: an adaptation is recommended only where the evidence says that it helps.

It tests first what the evidence rests on (`ftransfer.search.assumptions`):

* With too few target rows nothing is chosen: the answer is the model of the source.
* Where the target lies within the source (a classifier can hardly tell them apart), held-out source rows speak for it.
  Source only is chosen by these, weighted by how target-like they are; where it is right on four of five, a score that
  needs no labels says less than they do. Then nothing is adapted, unless other class shares explain the target better
  than anything else: then it is corrected for these (`ftransfer.search.explanations`). Where classes that moved explain
  it as well, nothing is adapted, and the answer names both.
* Else it goes step by step from the mildest to the strongest: source only, per-domain scaling, adaptations that align
  the domains, adaptations that learn from labels they predict for the target. A step is taken only where the score
  rises by more than the standard error of the difference.

A few labels of the target, where there are any to spare, decide a step wherever they can tell; they fit nothing and
rank nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ftransfer.search.assumptions import Assumptions
from ftransfer.search.explanations import Explanations
from ftransfer.search.steps import BASELINES, STEPS
from ftransfer.search.weighed import WeighedStep, describe_steps

TRUSTED = 0.8  # share of held-out source rows that source only must get right to be left as it is
APART = 0.1  # share of the target's rows on which two answers must differ to be two
SHARES = "PriorCorrected"  # the adaptation that other class shares ask for
CONFIDENCE = 0.9  # of the interval from target labels: an error of 5 % on either side


@dataclass(frozen=True)
class Recommendation:
    """What the guard says of a ranked table.

    Attributes
    ----------
    chosen : int
        A row of the table.
    sentence : str
        The answer.
    ground : str
        What the choice is made by.
    steps : tuple of WeighedStep
        Each step that was weighed; empty where nothing was compared.
    source_only : int or None
        The row of the best source-only candidate; None if there is none.
    assumptions : Assumptions or None
        What was tested before.
    rivals : tuple of (int, int), or None
        Rows of two answers that ask for each other's opposite, where what was looked at cannot decide between them:
        the one if the classes have other shares in the target, the one if they moved.
    labels_of_rivals : bool
        Whether labels of the target seem to be only of rows on which the two disagree: no sample to measure an
        accuracy on.
    """

    chosen: int
    sentence: str
    ground: str
    steps: tuple[WeighedStep, ...] = ()
    source_only: int | None = None
    assumptions: Assumptions | None = None
    rivals: tuple[int, int] | None = None
    labels_of_rivals: bool = False

    @property
    def reason(self) -> str:
        """The ground and all steps as one text."""
        return describe_steps(self.ground, self.steps)


def recommend(
    table: pd.DataFrame,
    *,
    score_name: str = "consistency",
    assumptions: Assumptions | None = None,
    source_accuracy: Callable[[list[int]], list[float]] = lambda rows: [float("nan")] * len(rows),
    explain: Callable[[], Explanations] | None = None,
) -> Recommendation:
    """Choose a row of the ranked table, step by step from the mildest adaptation to the strongest.

    Parameters
    ----------
    table : DataFrame
        Ranked candidates, best first, with the columns ``pipeline, adaptation, step, score, resampled`` and
        ``predicted`` (labels of the target rows); and ``hits``, where the guard may look at some target labels: which
        of these rows a candidate predicts right, None where it may not.
    score_name : str
    assumptions : Assumptions, optional
        Of the task; None where its target is not looked at.
    source_accuracy : callable
        Counts the held-out source rows that rows of the table predict right, weighted by how target-like they are;
        asked for source only, where the target lies within the source.
    explain : callable, optional
        Weighs what explains the target; asked where it lies within the source.

    Returns
    -------
    Recommendation
    """
    ranked = table[table["score"].notna()]
    first = next(step for step in STEPS if (ranked["step"] == step).any())
    mildest = ranked.index[ranked["step"] == first].tolist()
    start, by_score = mildest[0], True
    name = score_name.replace("_", " ")
    ground = (
        f"Chosen step by step by {name}, a score that needs no target labels: a step is taken if the score rises by "
        f"more than the standard error (±) of the difference."
    )
    if assumptions is not None and not assumptions.enough_rows:
        start, by_score = _most_agreed(ranked.loc[mildest]), False
        ground = f"{assumptions.n_target} target images are too few to compare scores."
    elif assumptions is not None and assumptions.overlap and first == BASELINES[0]:
        accuracy = np.nan_to_num(source_accuracy(mildest), nan=-1.0)
        best = int(accuracy.argmax())
        if accuracy[best] >= TRUSTED:
            start, by_score = mildest[best], False
            ground = (
                f"Source and target features overlap (AUC {assumptions.separation:.2f} for telling them apart), and "
                f"{table['pipeline'][start]} reaches {accuracy[best]:.0%} on held-out source images, weighted by "
                f"their similarity to the target: without target labels there is no better evidence."
            )
            if explain and (found := _by_explanation(ranked, start, ground, assumptions, explain())):
                return found
    chosen, steps = start, [_begin(table.loc[start])]
    for step in STEPS[STEPS.index(first) + 1 :]:
        candidates = ranked.index[ranked["step"] == step]
        if candidates.empty or (not by_score and table["hits"][start] is None):
            continue
        row = int(candidates[0])
        steps.append(_weigh(table.loc[row], table.loc[chosen], by_score))
        chosen = row if steps[-1].taken else chosen
    if len(steps) > 1 and steps[1].labelled:
        ground += (
            f" Labelled target images decide a step if the {CONFIDENCE:.0%} interval of the difference in accuracy "
            f"excludes zero."
        )
    sentence = _sentence(table.loc[chosen], assumptions, by_score)
    plain = start if first == BASELINES[0] else None
    weighed = tuple(steps) if by_score or len(steps) > 1 else ()
    return Recommendation(int(chosen), sentence, ground, weighed, plain, assumptions)


def _sentence(chosen: pd.Series, assumptions: Assumptions | None, by_score: bool) -> str:
    name, kind = chosen["pipeline"], chosen["adaptation"]
    if kind == BASELINES[0]:
        why = "no adaptation is clearly better"
        if assumptions is not None and not by_score:
            why = (
                "the target overlaps with the source"
                if assumptions.enough_rows
                else f"with only {assumptions.n_target} target images this is the safest choice"
            )
        return f"Do not adapt: {name}, trained on the source only ({why})."
    if kind == BASELINES[1]:
        return f"Only scale each domain separately: {name}."
    return f"Adapt with {kind}: {name}."


def _by_explanation(
    ranked: pd.DataFrame, plain: int, ground: str, assumptions: Assumptions, told: Explanations
) -> Recommendation | None:
    """Choose by what explains a target that lies within the source; None where nothing does."""
    corrected = ranked.index[ranked["adaptation"] == SHARES]
    scaled = ranked.index[ranked["step"] == BASELINES[1]]
    if corrected.empty or scaled.empty or not (told.shares_win or told.open):
        return None
    one, other = ranked.loc[corrected[0]], ranked.loc[scaled[0]]
    if told.open and np.mean(one["predicted"] != other["predicted"]) < APART:
        return None
    chosen = one if told.shares_win else ranked.loc[plain]
    ground += (
        f" Different class proportions raise the log-likelihood of a target image by {told.shares:.2f}, shifted "
        f"features by {told.moved:.2f}" + ("." if told.shares_win else ": too close to tell which it is.")
    )
    sentence = _sentence(chosen, assumptions, by_score=False)
    answer = Recommendation(int(chosen.name), sentence, ground, (), plain, assumptions)
    rivals = (int(one.name), int(other.name))
    if one["hits"] is None:
        return replace(answer, rivals=rivals) if told.open else answer
    decided = _by_labels(answer, one, other)
    return decided if told.open else replace(decided, rivals=None)


def between_groups(answer: Recommendation, table: pd.DataFrame, groups: tuple[int, int]) -> Recommendation:
    """Let labels decide between the best candidates by either group of the panel; name them as rivals until then.

    Parameters
    ----------
    answer : Recommendation
    table : DataFrame
        As `recommend` has it.
    groups : tuple of (int, int)
        Rows: the best by the methods that leave classes empty, and by those that fill every class.
    """
    one, other = (table.loc[row] for row in groups)
    if np.mean(one["predicted"] != other["predicted"]) < APART:
        return answer
    if one["hits"] is None:
        return replace(answer, rivals=groups) if answer.chosen in groups else answer
    found = _by_labels(answer, one, other)
    if answer.chosen in groups:
        return found
    # the labels may have turned down the one that the score prefers, and the other is better than what was left
    better = np.sum(table.loc[found.chosen]["hits"]) > np.sum(table.loc[answer.chosen]["hits"])
    return found if better else replace(answer, labels_of_rivals=found.labels_of_rivals)


def _by_labels(answer: Recommendation, one: pd.Series, other: pd.Series) -> Recommendation:
    """Let labelled target images decide between two candidates, where they can tell."""
    difference, low, high = paired_interval(one["hits"], other["hits"])
    ground = (
        f"{answer.ground} On {len(one['hits'])} labelled target images the accuracy of {one['pipeline']} differs from "
        f"that of {other['pipeline']} by {100 * difference:+.1f} points ({CONFIDENCE:.0%} interval {100 * low:+.1f} to "
        f"{100 * high:+.1f})."
    )
    # where they agree both are right on many: with none of these, only rows on which they differ were labelled
    apart = not np.any(np.asarray(one["hits"]) & np.asarray(other["hits"]))
    answer = replace(answer, ground=ground, labels_of_rivals=apart)
    if not (low > 0 or high < 0):
        return replace(answer, rivals=(int(one.name), int(other.name)))
    winner = one if low > 0 else other
    by_score = bool(answer.steps)
    sentence = _sentence(winner, answer.assumptions, by_score)
    return replace(answer, chosen=int(winner.name), sentence=sentence)


def _most_agreed(rows: pd.DataFrame) -> int:
    """Take the row whose labels agree most with those of the others."""
    everyone = np.stack(rows["predicted"].tolist())
    return int(rows.index[int(np.argmax([np.mean(everyone == each) for each in everyone]))])


def _begin(row: pd.Series) -> WeighedStep:
    """Begin with the mildest candidate."""
    return WeighedStep(row["step"], row["pipeline"], row["adaptation"], float(row["score"]))


def _weigh(new: pd.Series, old: pd.Series, by_score: bool) -> WeighedStep:
    """Decide whether a step is worth it."""
    found = replace(_begin(new), against=old["pipeline"])
    enough = False
    if by_score:
        gain = float(new["score"] - old["score"])
        error = float(np.std(new["resampled"] - old["resampled"], ddof=1))
        enough = gain > error
        found = replace(found, gain=gain, error=error)
    found = replace(found, taken=enough)
    return found if new["hits"] is None else by_hits(found, new["hits"], old["hits"])


def by_hits(step: WeighedStep, new: np.ndarray, old: np.ndarray) -> WeighedStep:
    """Let labelled rows decide whether a step is taken, where the interval of the difference in accuracy can tell.

    Parameters
    ----------
    step : WeighedStep
        Taken or not by what there is without these rows.
    new, old : array of shape (n_rows,), bool
        Which rows each candidate gets right.
    """
    difference, low, high = paired_interval(new, old)
    taken = low > 0 if low > 0 or high < 0 else step.taken
    return replace(step, labelled=len(new), accuracy_gain=difference, low=low, high=high, taken=bool(taken))


def paired_interval(
    new: ArrayLike, old: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Difference of two accuracies on the same rows, with an interval that allows for their being paired.

    Newcombe's hybrid score interval: the intervals of Wilson of the two accuracies, put together with their
    correlation. Unlike one of the rows alone that tell the two apart, it does not shrink where few rows do.

    Parameters
    ----------
    new, old : array of shape (n_rows,), bool
        Which rows each gets right.
    confidence : float

    Returns
    -------
    difference, low, high : float
        In shares of the rows.

    References
    ----------
    Newcombe, "Improved confidence intervals for the difference between binomial proportions based on paired data",
    Statistics in Medicine 1998, method 10.

    Examples
    --------
    >>> import numpy as np
    >>> new = np.repeat([True, True, False, False], [40, 9, 1, 10])
    >>> old = np.repeat([True, False, True, False], [40, 9, 1, 10])
    >>> print("{:+.3f}, {:+.3f} to {:+.3f}".format(*paired_interval(new, old)))
    +0.133, +0.046 to +0.221
    """
    now, before = np.asarray(new, dtype=bool), np.asarray(old, dtype=bool)
    n = len(now)
    both, better = int((now & before).sum()), int((now & ~before).sum())
    worse, neither = int((~now & before).sum()), int((~now & ~before).sum())
    p, q = (both + better) / n, (both + worse) / n
    margins = (both + better) * (worse + neither) * (both + worse) * (better + neither)
    covariance = both * neither - better * worse
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)  # the continuity correction of method 10
    correlation = covariance / np.sqrt(margins) if margins else 0.0
    (p_low, p_high), (q_low, q_high) = wilson(p, n, confidence), wilson(q, n, confidence)

    def reach(one: float, other: float) -> float:
        return float(np.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0)))

    return p - q, p - q - reach(p - p_low, q_high - q), p - q + reach(p_high - p, q - q_low)


def wilson(share: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a share of `n` rows (Wilson, 1927).

    Examples
    --------
    >>> print("{:.3f} to {:.3f}".format(*wilson(0.9, 50)))
    0.808 to 0.950
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, reach = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float((centre - reach) / (1 + z**2 / n)), float((centre + reach) / (1 + z**2 / n))
