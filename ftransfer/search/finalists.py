"""The few candidates that the guard weighs: fitted on all rows, and looked at on source rows that are held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.judge import PipelineJudge
from ftransfer.search.candidate import Candidate
from ftransfer.search.cost import MANY_ROWS
from ftransfer.search.strategy import Trial
from ftransfer.search.threads import in_threads
from ftransfer.search.trials import fit_trial


@dataclass(frozen=True)
class Finalist:
    """A candidate fitted on all rows.

    Attributes
    ----------
    pipeline : AdaptationPipeline
    evidence : Evidence, its like, or None
        With source rows held out; None where that cannot be done.
    """

    pipeline: AdaptationPipeline
    evidence: Any


class Finalists:
    """Fits and looks at candidates, each once; holding out source rows of all would take as long as the race.

    Parameters
    ----------
    judge_of : callable
        Gives the judge of a trial.
    jobs : int or None
        Candidates fitted at once.
    """

    def __init__(self, judge_of: Callable[[Trial], PipelineJudge], jobs: int | None) -> None:
        self.judge_of, self.jobs = judge_of, jobs
        self._seen: dict[int, Finalist] = {}  # by the trial: a candidate's place in the ranking changes

    def look_at(self, candidates: Sequence[Candidate]) -> list[Finalist]:
        """Look at several at once."""
        return list(in_threads(self.look, ((each,) for each in candidates), self.jobs, local=True))

    def look(self, candidate: Candidate) -> Finalist:
        """Fit a candidate, and hold out source rows."""
        key = id(candidate.trial)
        if key not in self._seen:
            pipeline, judge = self.pipeline(candidate), self.judge_of(candidate.trial)
            if (n := len(judge.y)) > MANY_ROWS:  # three more fits on as many rows would tell little more
                judge = self.judge_of(replace(candidate.trial, share=MANY_ROWS / n))
            self._seen[key] = Finalist(pipeline, _held_out(judge, pipeline))
        return self._seen[key]

    def pipeline(self, candidate: Candidate) -> AdaptationPipeline:
        """Fit a candidate on all rows, unless it is; a forest that was stopped gets all its trees."""
        if seen := self._seen.get(id(candidate.trial)):
            return seen.pipeline
        whole = candidate.result.fitted if candidate.result.trees is None else None
        return whole or fit_trial(self.judge_of(candidate.trial), candidate.trial)

    def as_scored(self, candidate: Candidate) -> AdaptationPipeline:
        """Fit a candidate on all rows, unless it is; a forest that was stopped stays as it was scored."""
        result, trial = candidate.result, candidate.trial
        if result.trees is None:
            return self.pipeline(candidate)
        return result.fitted or fit_trial(self.judge_of(trial), replace(trial, trees=result.trees))


def _held_out(judge: PipelineJudge, pipeline: AdaptationPipeline) -> Any:
    """Predict held-out source rows; None where that cannot be done."""
    evidence = judge.evidence(pipeline)
    try:
        evidence.source_labels  # noqa: B018 - computed here, in the thread
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    return evidence
