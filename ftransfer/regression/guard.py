"""The guard: source only, unless an adaptation gains more than its error.

It goes from the mildest step to the strongest, as for classes: source only, per-domain scaling, alignment. A step is
taken if the score rises by more than the standard error of the difference on bootstrap resamples, or if labels of a
few target images show a smaller squared error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from ftransfer.regression.candidate import Candidate
from ftransfer.regression.ground import Ground
from ftransfer.search.steps import BASELINES, STEPS

CONFIDENCE = 0.9  # of the interval from target labels: an error of 5 % on either side


@dataclass(frozen=True)
class Step:
    """One step that the guard looked at, against the one that it had.

    Attributes
    ----------
    step, pipeline : str
    row : int
        Of the ranked candidates.
    score : float
    gain, error : float
        Of the score against the step before, and the standard error of that; NaN for the first.
    told : str
        What labels of target images said; empty where there are none.
    taken : bool
    """

    step: str
    pipeline: str
    row: int
    score: float
    gain: float
    error: float
    told: str
    taken: bool


def walk(
    ranked: Sequence[Candidate], ground: Ground, losses: Sequence[np.ndarray] | None = None
) -> list[Step]:
    """Go through the steps; the last one that was taken is the answer.

    Parameters
    ----------
    ranked : list of Candidate
        Best first, those that failed left out.
    ground : Ground
    losses : list of ndarray of shape (n_labels,), optional
        Squared error of each candidate on the target rows whose labels the guard may see.
    """
    steps: list[Step] = []
    chosen = -1
    for name in STEPS:
        row = next((i for i, each in enumerate(ranked) if each.step == name), None)
        if row is None:
            continue
        new = ranked[row]
        if chosen < 0:
            steps.append(Step(name, new.pipeline, row, new.score[0], np.nan, np.nan, "", True))
            chosen = row
            continue
        old = ranked[chosen]
        gain, error = float(new.score[0] - old.score[0]), float(np.std(new.score[1:] - old.score[1:], ddof=1))
        taken, told = ground.may_adapt and gain > error, ""
        if losses is not None and len(losses[row]) > 1:
            low, high = _interval(losses[chosen] - losses[row])
            rmse = [float(np.sqrt(losses[i].mean())) for i in (chosen, row)]
            told = f"RMSE {rmse[0]:.3g} to {rmse[1]:.3g} on {len(losses[row])} labelled target images"
            if low > 0 or high < 0:
                taken = low > 0
            else:
                told += ", within noise"
        steps.append(Step(name, new.pipeline, row, new.score[0], gain, error, told, bool(taken)))
        chosen = row if taken else chosen
    return steps


def _interval(differences: np.ndarray) -> tuple[float, float]:
    """Interval of a mean, by Student's t."""
    n = len(differences)
    reach = student.ppf((1 + CONFIDENCE) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return float(differences.mean() - reach), float(differences.mean() + reach)


def say_answer(adaptation: str, pipeline: str, ground: Ground) -> str:
    """Say the recommendation in a sentence."""
    if adaptation == BASELINES[0]:
        why = "no adaptation gains more than its standard error"
        if not ground.may_adapt:
            why = "without target labels nothing shows whether an adaptation helps"
        return f"Do not adapt: {pipeline}, fitted on the source only; {why}."
    if adaptation == BASELINES[1]:
        return f"Only scale each domain separately: {pipeline}."
    return f"Adapt with {adaptation}: {pipeline}."
