"""Run trials: fit each, judge it without target labels, go on with what a former run has found."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from joblib import cpu_count

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.judge import PipelineJudge
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.candidate import Candidate, TrialResult, compare
from ftransfer.search.cost import MANY_ROWS, Clock
from ftransfer.search.forests import FEW, begin_forest, few_trees, grow_on, more_trees, set_up, worth_growing
from ftransfer.search.journal import Journal
from ftransfer.search.maps import shared_maps
from ftransfer.search.sample import thin
from ftransfer.search.settings import RaceSettings
from ftransfer.search.sources import SOURCES, learned_from
from ftransfer.search.strategy import Trial
from ftransfer.search.threads import in_threads
from ftransfer.task import Task

FOLDS = 3  # in which the guard holds out source rows of the best trial of each step
Work = Callable[[Trial], TrialResult]
Bind = Callable[..., Work]
Part = tuple[str | None, float]  # the sources that are learned from, and the share of the rows


class Trials:
    """Runs trials, each once, within the budget; keeps what was found and the best pipeline of each recipe.

    Parameters
    ----------
    task : Task
        As fits may see it.
    scorer : Scorer
    settings : RaceSettings
    steps : dict of {str: str}
        Step of the guard of each recipe, by its name: one of each is tried whatever the budget.
    make_judge : callable
        Makes the judge of a task.
    bind : callable, default=functools.partial
        Binds the work to what all trials share.
    progress : callable
        Called with the number of trials done since the last call.

    Attributes
    ----------
    candidates : list of Candidate
        Those that were tried on all rows.
    n_tried : int
        Trials, those on a share of the rows included.
    """

    def __init__(
        self,
        task: Task,
        scorer: Scorer,
        settings: RaceSettings,
        steps: dict[str, str],
        *,
        make_judge: Callable[[Task], PipelineJudge],
        bind: Bind = partial,
        progress: Callable[[int], None] = lambda n: None,
    ) -> None:
        self.task, self.scorer, self.jobs, self.steps = task, scorer, settings.jobs, steps
        self.make_judge, self.bind, self.progress = make_judge, bind, progress
        self.journal = Journal(settings.journal, task, scorer.name, settings.target_labels)
        self.deadline = time.monotonic() + (math.inf if settings.budget is None else settings.budget)
        self.clock = Clock(*task.X.shape)
        self.candidates: list[Candidate] = []
        self.rounds: list[tuple[int, float]] = []  # trials, and their share of the rows
        self.late = 0
        self._judges: dict[Part, PipelineJudge] = {}
        self._works: dict[Part, Work] = {}
        self._leaders: dict[str, TrialResult] = {}
        self._best_stopped: dict[str, TrialResult] = {}  # forests that may be asked to vote
        self._begun: set[str] = set()  # steps of the guard
        self._timed: set[str] = (
            set()
        )  # of which a trial ran on a share of the rows, to know how long one takes
        self._best: dict[str, float] = {}  # score of the best trial of each step
        self._seconds: dict[str, float] = {}  # and its seconds
        self._due: dict[str, list[Trial]] = {}  # cheapest trial of each recipe of a step, on all rows

    @property
    def stopped(self) -> list[Candidate]:
        """Forests that were not grown to all their trees."""
        return [each for each in self.candidates if each.result.hope is not None]

    @property
    def n_tried(self) -> int:
        return sum(n for n, _ in self.rounds)

    def run(self, trials: Sequence[Trial]) -> list[Candidate]:
        """Run the trials of one round; return those for which there was time, in their order.

        Forests are begun with a few trees, and on all rows those are grown on that may be the best of their step.
        """
        share = trials[0].share
        results = {id(trial): known for trial in trials if (known := self.journal.find(trial))}
        self._begun |= {self.step(trial) for trial in trials if id(trial) in results and share == 1}
        self.progress(len(results))
        first = {id(trial): few_trees(trial, self.scorer) for trial in trials if id(trial) not in results}
        for trial, result in self._run(list(first.values())):
            results[next(key for key, each in first.items() if each is trial)] = result
            self.progress(1)
        if share == 1:
            self._grow(trials, results)
        candidates = [Candidate(trial, results[id(trial)]) for trial in trials if id(trial) in results]
        compare(candidates, self.scorer)
        self.rounds.append((len(candidates), share))
        if share == 1:
            self.candidates += candidates
        return candidates

    def _run(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, TrialResult]]:
        """Run those for which there is time."""
        sent: list[Trial] = []
        works = {_part(trial): self._work(trial) for trial in trials}

        def todo() -> Iterator[tuple[Work, Trial]]:
            for trial in self._in_time(trials):
                sent.append(trial)
                yield works[_part(trial)], trial

        for i, result in enumerate(in_threads(_apply, todo(), self.jobs)):
            self._learn(sent[i], result)
            yield sent[i], result

    def _grow(self, trials: Sequence[Trial], results: dict[int, TrialResult]) -> None:
        """Grow the forests on that may be the best of their step, and let go of the others."""
        trees = {id(trial): FEW for trial in trials}
        while asked := {
            id(t): more_trees(t, trees[id(t)], results[id(t)].fitted)
            for t in worth_growing(trials, results, self.steps)
        }:
            grown = False
            for trial, result in self._run(list(asked.values())):
                key = next(key for key, each in asked.items() if each is trial)
                result.seconds += results[key].seconds
                results[key], trees[key], grown = result, 2 * trees[key], True
            if not grown:  # no time is left
                break
        for trial in trials:
            if (result := results.get(id(trial))) is not None and result.hope is not None:
                _keep_better(self._best_stopped, trial, result)

    def grow_out(self, candidates: Sequence[Candidate]) -> None:
        """Give forests that were stopped all their trees, whatever the budget; `compare` is left to the caller."""
        works = [(self._work(each.trial), each.trial) for each in candidates]
        for candidate, result in zip(candidates, in_threads(_apply, works, self.jobs), strict=True):
            self._learn(candidate.trial, result)
            candidate.result = result

    def judge(self, trial: Trial) -> PipelineJudge:
        """Make the judge of a trial, by the sources it learns from and its share of the rows."""
        key = _part(trial)
        if key not in self._judges:
            task = learned_from(self.task, trial.params)
            self._judges[key] = self.make_judge(task if trial.share == 1 else thin(task, trial.share))
        return self._judges[key]

    def notes(self) -> list[str]:
        """Say what was not tried on all rows."""
        notes = []
        if len(self.rounds) > 1 and any(share < 1 for _, share in self.rounds):
            steps = ", then ".join(f"{n} settings on {share:.0%} of the rows" for n, share in self.rounds)
            notes.append(f"successive halving: {steps}")
        if self.stopped:
            names = ", ".join(sorted({each.pipeline for each in self.stopped}))
            notes.append(
                f"{len(self.stopped)} forests that fell behind were stopped before all their trees: {names}"
            )
        if self.late:
            notes.append(f"the time budget was used up: {self.late} settings were not tried")
        return notes

    def _work(self, trial: Trial) -> Work:
        """Bind the work to what all trials of these sources and this share of the rows have in common."""
        key = _part(trial)
        if key not in self._works:
            self._works[key] = self.bind(fit_and_score, self.judge(trial), self.scorer)
        return self._works[key]

    def _in_time(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        """Yield those for which there is time: the cheapest of each step of the guard, then all others by cost.

        One of each step is tried in the first round and on all rows, whatever the budget.
        """
        cheap = sorted(trials, key=self.clock.expect)
        whole = {each.recipe.name: replace(each, share=1.0) for each in reversed(cheap)}
        self._due = {
            step: [t for t in whole.values() if self.step(t) == step] for step in self.steps.values()
        }
        first = {self.steps[trial.recipe.name]: trial for trial in reversed(cheap)}
        for trial in [*first.values(), *(each for each in cheap if first[self.step(each)] is not each)]:
            step = self.step(trial)
            begun = self._begun if trial.share == 1 else self._timed
            if step not in begun or self._ends_in_time(trial):
                begun.add(step)
                yield trial
            elif trial.trees in (None, FEW) and trial.begun is None:
                self.late += 1

    def step(self, trial: Trial) -> str:
        """Tell which step of the guard a trial is."""
        return self.steps[trial.recipe.name]

    def _ends_in_time(self, trial: Trial) -> bool:
        """Whether a trial, and what is fitted after it in any case, are expected to end within the budget."""
        if self.deadline == math.inf:
            return True
        return time.monotonic() + self.clock.expect(trial) + self._at_last(trial.share) <= self.deadline

    def _at_last(self, share: float) -> float:
        """Expect the seconds of what the guard holds out at the end, and before that of a trial of each step."""
        seconds = dict(self._seconds)
        due = 0.0
        for step, trials in self._due.items() if share < 1 else ():
            if step not in self._begun and trials:
                seconds[step] = min(map(self.clock.expect, trials))
                due += seconds[step]
        looks = FOLDS * min(1.0, MANY_ROWS / len(self.task.y)) * sum(seconds.values())
        return (due + looks) / min(self.jobs or cpu_count(), max(1, len(seconds)))

    def _learn(self, trial: Trial, result: TrialResult) -> None:
        """Take what came of a trial: write it down, keep the best pipelines, and know how long such trials take."""
        if trial.trees is None:
            self.journal.add(trial, result)
            self._keep_best(trial, result)
        self.clock.took(trial, result.seconds)
        if trial.share == 1 and result.found is not None:
            step, whole = self.step(trial), replace(trial, trees=None)
            if not result.value <= self._best.get(step, -math.inf):
                at_last = self.clock.guess(whole) / self.clock.guess(trial)  # a forest that is grown on
                self._best[step], self._seconds[step] = result.value, at_last * result.seconds

    def _keep_best(self, trial: Trial, result: TrialResult) -> None:
        """Keep the fitted pipeline of the best trial of each recipe alone."""
        if trial.share < 1:
            result.fitted = None
            return
        _keep_better(self._leaders, trial, result)


def fit_and_score(judge: PipelineJudge, scorer: Scorer, trial: Trial) -> TrialResult:
    """Fit and score one trial; a failure is a result with its error, and does not end the race."""
    started = time.monotonic()
    result = TrialResult(None, None, 0.0, "")
    try:
        if trial.trees is None:
            fitted = fit_trial(judge, trial)
            evidence = judge.evidence(fitted)
            result = TrialResult(scorer.judge(evidence), evidence.predicted, 0.0, "", fitted)
        else:
            result = begin_forest(judge, scorer, trial)
    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as problem:
        result.error = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
    result.seconds = time.monotonic() - started
    return result


def fit_trial(judge: PipelineJudge, trial: Trial) -> AdaptationPipeline:
    """Fit a trial on the rows of its judge."""
    if trial.begun is not None or trial.trees is not None:
        return grow_on(judge, trial)
    pipeline = set_up(trial)
    with shared_maps(pipeline, judge):
        return pipeline.fit(judge.X, judge.y, sample_domain=judge.domain)


def _keep_better(leaders: dict[str, TrialResult], trial: Trial, result: TrialResult) -> None:
    """Keep what was fitted with the better score alone, of those of one recipe."""
    leader = leaders.setdefault(trial.recipe.name, result)
    if leader is not result:
        better = result.found is not None and not result.value <= leader.value
        leaders[trial.recipe.name] = result if better else leader
        (leader if better else result).fitted = None


def _apply(work: Work, trial: Trial) -> TrialResult:
    return work(trial)


def _part(trial: Trial) -> Part:
    """Name the part of the task that a trial is fitted on."""
    return trial.params.get(SOURCES), trial.share
