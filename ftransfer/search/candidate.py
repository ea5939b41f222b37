"""A candidate of a race: one setting of one recipe, and what was found of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.judge import Score
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.steps import BASELINES, adaptation, step_of
from ftransfer.search.strategy import Trial


@dataclass(eq=False)
class TrialResult:
    """What fitting and scoring one trial gave; no label of the target has a part in it.

    Attributes
    ----------
    found : Score, dict of {str: Score}, or None
        What `Scorer.judge` gave; None where the trial failed.
    predicted : ndarray of shape (n_target,), int, or None
        Labels of the target rows (of held-out source rows, where the target is left out).
    seconds : float
    error : str
        Why it failed; empty where it did not.
    fitted : AdaptationPipeline or None
        Kept for the best of each recipe alone: a forest can be larger than the data.
    hope : float or None
        Of a forest that was begun with a few trees: the score that all of them may reach.
    trees : int or None
        Of such a forest: how many it has.
    probability : ndarray of shape (n_target, n_classes) or None
        Of a vote: the probability of each class.
    """

    found: Score | dict[str, Score] | None
    predicted: np.ndarray | None
    seconds: float
    error: str
    fitted: AdaptationPipeline | None = None
    hope: float | None = None
    trees: int | None = None
    probability: np.ndarray | None = None

    @property
    def value(self) -> float:
        """The score, where it is one number; else NaN."""
        return getattr(self.found, "value", math.nan)


@dataclass(eq=False)
class Candidate:
    """One setting of one recipe in a race.

    Attributes
    ----------
    trial : Trial
    result : TrialResult
    score : Score or None
        Among the candidates that it was compared with; None where it failed.
    source_accuracy, target_accuracy : float
        From 0 to 1, NaN where not counted: on held-out source rows, and on the target's labels after the choice.
    """

    trial: Trial
    result: TrialResult
    score: Score | None = None
    source_accuracy: float = math.nan
    target_accuracy: float = math.nan

    @property
    def pipeline(self) -> str:
        """Name of the recipe."""
        return self.trial.recipe.name

    @property
    def adaptation(self) -> str:
        """Name of what it does about the target."""
        return adaptation(self.trial.recipe.pipeline)

    @property
    def step(self) -> str:
        """Step of the guard."""
        return step_of(self.trial.recipe.pipeline)

    @property
    def value(self) -> float:
        """The score; NaN where it failed."""
        return math.nan if self.score is None else self.score.value

    @property
    def scored(self) -> bool:
        """Whether it has a score."""
        return not math.isnan(self.value)

    @property
    def resampled(self) -> np.ndarray | None:
        """The score on bootstrap samples; None where it failed."""
        return None if self.score is None else self.score.resampled


def compare(candidates: Sequence[Candidate], scorer: Scorer) -> None:
    """Give each candidate its score among these."""
    found = [candidate.result.found for candidate in candidates]
    for candidate, score in zip(candidates, scorer.compare(found), strict=True):
        candidate.score = score


def rank(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Sort by score, the best first and those that failed last."""
    return sorted(candidates, key=lambda each: (not each.scored, -each.value))


def best_of_each(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Take the first of each recipe."""
    first: dict[str, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.pipeline, candidate)
    return list(first.values())


def guard_table(ranked: Sequence[Candidate], target_labels: np.ndarray | None = None) -> pd.DataFrame:
    """Put down what the guard looks at, a row a candidate; see `recommend` for the columns.

    Parameters
    ----------
    ranked : sequence of Candidate
    target_labels : ndarray of shape (n_target,), int, optional
        -1 for a row whose label is not given.
    """

    def hits(candidate: Candidate) -> np.ndarray | None:
        predicted = candidate.result.predicted
        if target_labels is None or predicted is None:
            return None
        return np.equal(predicted, target_labels)[target_labels != -1]

    return pd.DataFrame(
        {
            "pipeline": [each.pipeline for each in ranked],
            "adaptation": [each.adaptation for each in ranked],
            "step": [each.step for each in ranked],
            "score": [each.value for each in ranked],
            "resampled": pd.Series([each.resampled for each in ranked], dtype=object),
            "predicted": pd.Series([each.result.predicted for each in ranked], dtype=object),
            "hits": pd.Series([hits(each) for each in ranked], dtype=object),
        }
    )


def result_table(ranked: Sequence[Candidate]) -> pd.DataFrame:
    """Put down what a user reads of a race, a row a candidate; see `Race.table` for the columns."""
    plain = next((each.resampled for each in ranked if each.step == BASELINES[0] and each.scored), None)
    rows = []
    for i, each in enumerate(ranked, start=1):
        row = {
            "rank": i,
            "pipeline": each.pipeline,
            "adaptation": each.adaptation,
            "step": each.step,
            "params": each.trial.params,
            "score": each.value,
            "low": math.nan,
            "high": math.nan,
            "beats_source_only": math.nan,
            "source_accuracy": each.source_accuracy,
            "target_accuracy": each.target_accuracy,
            "seconds": each.result.seconds,
            "error": each.result.error,
        }
        if each.score is not None:
            row["low"], row["high"] = np.quantile(each.score.resampled, [0.025, 0.975])
            if plain is not None:
                row["beats_source_only"] = float(np.mean(each.score.resampled > plain))
            # a part of the ensemble has the name of a column
            row |= {name: value for name, value in each.score.parts.items() if name not in row}
        rows.append(row)
    return pd.DataFrame(rows)


def resampled_scores(ranked: Sequence[Candidate]) -> np.ndarray:
    """Stack the resampled scores: array of shape (n_candidates, n_resamples), NaN for a candidate that failed."""
    n = next((len(each.resampled) for each in ranked if each.resampled is not None), 0)
    failed = np.full(n, math.nan)
    return np.stack([failed if each.resampled is None else each.resampled for each in ranked])
