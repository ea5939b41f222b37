"""Run candidates: fit each, judge it without target labels, go on with what a former run has found."""

import math
import time
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from ftransfer.adapt import DomainScaler
from ftransfer.pipeline import AdaptationPipeline, reads_unlabelled
from ftransfer.scoring import Judge, Scorer
from ftransfer.search.journal import Journal
from ftransfer.search.sources import SOURCES, learned_from, without_sources
from ftransfer.search.strategy import Trial
from ftransfer.search.unseen import HeldOutJudge
from ftransfer.task import Answers, Task


class Trials:
    """Runs trials, each once, within the budget; keeps what was found and the best pipeline of each recipe."""

    def __init__(self, task, scorer, target_labels, jobs, budget, journal, steps, progress, bind):
        self.task, self.scorer, self.target_labels, self.jobs = task, scorer, target_labels, jobs
        self.steps, self.progress, self.bind = steps, progress, bind
        self.journal = Journal(journal, task, scorer.name, target_labels)
        self.deadline = time.monotonic() + (math.inf if budget is None else budget)
        self.judges, self.works = {}, {}
        self.rows, self.leaders = [], {}  # of the trials on all rows
        self.rounds, self.late, self.begun = [], 0, set()

    def run(self, trials: list[Trial]) -> list[dict]:
        """Run the trials of one round; return the rows of those for which there was time."""
        share = trials[0].share
        rows, asked = [], []
        works = {self._key(trial): self._work(trial) for trial in trials}

        def in_time():
            for trial in self._in_time(trials):
                asked.append(trial)
                yield works[self._key(trial)], trial

        for row in in_threads(_apply, in_time(), self.jobs):
            row["trial"] = asked[len(rows)]  # a worker elsewhere had a copy
            if "known" not in row:
                self.journal.add(row["trial"], row)
            rows.append(row)
            self.progress(1)
            if share == 1:
                self._lead(row)
        self.rounds.append((len(rows), share))
        if share == 1:
            self.rows += rows
        elif rows:  # an ensemble scores a round by comparing its trials
            for row, score in zip(rows, self.scorer.compare([row["found"] for row in rows]), strict=True):
                row["score"] = getattr(score, "value", math.nan)
        return rows

    def judge(self, trial):
        """Make the task and the judge of a trial, by the sources it learns from and its share of the rows."""
        key = self._key(trial)
        if key not in self.judges:
            task = learned_from(self.task, trial.params)
            task = task if trial.share == 1 else _thinned(task, trial.share)
            groups = _groups(task)
            unseen = task.unseen and HeldOutJudge(task, groups)
            self.judges[key] = (task, unseen or Judge(task.X, task.y, task.sample_domain, groups=groups))
        return self.judges[key]

    @staticmethod
    def _key(trial):
        return trial.params.get(SOURCES), trial.share

    def _work(self, trial):
        """Bind the work to what all trials of these sources and this share of the rows have in common."""
        key = self._key(trial)
        if key not in self.works:
            shared = self.scorer, self.target_labels, self.journal
            self.works[key] = self.bind(_fit_and_score, self.judge(trial), *shared)
        return self.works[key]

    def notes(self) -> list[str]:
        """Say what was not tried on all rows."""
        notes = []
        if len(self.rounds) > 1 and any(share < 1 for _, share in self.rounds):
            steps = ", then ".join(f"{n} settings on {share:.0%} of the rows" for n, share in self.rounds)
            notes.append(f"successive halving: {steps}")
        if self.late:
            notes.append(f"the budget of time was used up: {self.late} settings were not tried")
        return notes

    def _in_time(self, trials):
        for trial in trials:
            step = self.steps[trial.recipe.name]
            must = trial.share == 1 and step not in self.begun
            if must or time.monotonic() < self.deadline or self.journal.find(trial):
                if trial.share == 1:
                    self.begun.add(step)
                yield trial
            else:
                self.late += 1

    def _lead(self, row):
        # only the best of each recipe stays in memory: a forest can be larger than the data
        leader = self.leaders.setdefault(row["pipeline"], row)
        if leader is not row:
            better = not row["score"] <= leader["score"] and row["found"] is not None
            self.leaders[row["pipeline"]] = row if better else leader
            (leader if better else row)["fitted"] = None


def in_threads(work, arguments, jobs, **options):
    """Yield `work` of each tuple of arguments; threads share X as it is, and the fits leave the interpreter.

    Where joblib was told of another backend, such as Dask's, that does the work, unless memory has to be shared.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel = Parallel(
            n_jobs=jobs or -1, prefer="threads", return_as="generator", batch_size=1, **options
        )
        yield from parallel(delayed(work)(*each) for each in arguments)


def adaptation(pipeline: AdaptationPipeline) -> str:
    """Name what a pipeline does about the target: the classes of its steps that read target rows."""
    steps = [step for _, step in pipeline.steps if step is not None and reads_unlabelled(step)]
    if not steps:
        return "source only"
    if len(steps) == 1 and isinstance(steps[0], DomainScaler):
        return "per-domain scaling"
    return " + ".join(
        type(step).__name__ for step in steps if not isinstance(step, DomainScaler) or len(steps) == 1
    )


def _apply(work, trial):
    return work(trial)


def _fit_and_score(judged, scorer: Scorer, target_labels, journal: Journal, trial: Trial) -> dict:
    """Fit and score one candidate; a failure is a row with its error, and does not end the race."""
    started = time.monotonic()
    (task, judge), recipe = judged, trial.recipe
    row = {
        "trial": trial,
        "pipeline": recipe.name,
        "adaptation": adaptation(recipe.pipeline),
        "params": trial.params,
    }
    row |= {"fitted": None, "error": ""}
    if known := journal.find(trial):
        row |= known | {"known": True}
    else:
        row |= {"found": None, "predicted": None}
        try:
            fitted = fit_trial(task, trial)
            evidence = judge.evidence(fitted)
            row |= {"found": scorer.judge(evidence), "predicted": evidence.predicted, "fitted": fitted}
        except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as problem:
            row["error"] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        row |= {"seconds": time.monotonic() - started}
    row |= {"target_accuracy": math.nan, "hits": None}
    if (predicted := row["predicted"]) is not None:
        row["target_accuracy"] = task.answers.accuracy(predicted)
        if target_labels is not None and trial.share == 1:
            row["hits"] = (predicted == target_labels)[target_labels != -1]
    return row | {"score": getattr(row["found"], "value", math.nan)}


def fit_trial(task: Task, trial: Trial) -> AdaptationPipeline:
    pipeline = clone(trial.recipe.pipeline).set_params(**without_sources(trial.params))
    return pipeline.fit(task.X, task.y, sample_domain=task.sample_domain)


def _thinned(task: Task, share: float) -> Task:
    """Take a share of the rows, each domain and class in proportion, groups whole."""
    rng, taken = np.random.default_rng(0), np.zeros(len(task.y), dtype=bool)
    groups = _groups(task)
    unit = np.arange(len(task.y)) if groups is None else groups
    first = np.unique(unit, return_index=True)[1]
    turn = rng.permutation(len(first))  # the same for every share, so that the smaller ones are in the larger
    stratum = np.unique(np.c_[task.sample_domain, task.y][first], axis=0, return_inverse=True)[1].ravel()
    for each in np.unique(stratum):
        members = np.flatnonzero(stratum == each)
        members = members[np.argsort(turn[members])][: math.ceil(share * len(members))]
        taken |= np.isin(unit, unit[first[members]])
    answers = Answers(task.answers.codes[taken[~task.is_source]])
    parts = {"X": task.X[taken], "y": task.y[taken], "sample_domain": task.sample_domain[taken]}
    return replace(task, **parts, rows=task.rows[taken], answers=answers)


def _groups(task: Task) -> np.ndarray | None:
    """Number the groups of the manifest, where it has any; a row without one is a group of its own."""
    if "group" not in task.rows or task.rows["group"].isna().all():
        return None
    codes, names = pd.factorize(task.rows["group"])
    return np.where(codes < 0, len(names) + np.arange(len(codes)), codes)
