"""The race: every recipe and setting on one task, ranked without target labels, with a guard."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from html import escape

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from ftransfer.adapt import DomainScaler
from ftransfer.errors import FtransferError
from ftransfer.guard import BASELINES, STEPS, Recommendation, recommend, step_of
from ftransfer.journal import Journal
from ftransfer.label_shift import LabelShift
from ftransfer.pipeline import AdaptationPipeline, Recipe, load_recipe, reads_unlabelled
from ftransfer.scoring import (
    DEFAULT_SCORER,
    Evidence,
    Judge,
    Score,
    Scorer,
    estimate_label_shift,
    load_scorer,
)
from ftransfer.sources import SOURCES, learned_from, offer_sources, without_sources
from ftransfer.strategy import Trial, make_strategy
from ftransfer.task import Answers, Task
from ftransfer.unseen import SCORER, HeldOutJudge, describe, eligible

CLASSIFIERS = ("svm", "forest", "logistic")


@dataclass
class Race:
    """What a race found.

    Attributes
    ----------
    task : Task
        Of several sources, with the chosen ones.
    table : DataFrame
        One row a candidate, best first: ``rank, pipeline, adaptation, params, score, source_accuracy,
        target_accuracy, seconds, error, note``, and what the score is made of. ``source_accuracy`` (cross-validated)
        is there for the best of each step of the guard. ``target_accuracy`` is counted with the target's labels,
        where it has any; nothing is fitted or chosen by it. 95 % of the resampled scores lie between ``low`` and
        ``high``; ``beats_source_only`` is the share of the resamples in which the score is above that of the
        best source-only candidate.
    pipeline : AdaptationPipeline
        The recommended candidate, fitted on the whole task.
    chosen : int
        Its row in `table`.
    adapt : bool
        Whether an adaptation beyond per-domain scaling is recommended.
    sentence, reason : str
        The answer, and why.
    scorer : Scorer
        The score that ranks.
    target_labels : ndarray of shape (n_target,), int, or None
        Labels that the guard was given, -1 for the other rows.
    source_only : AdaptationPipeline or None
        The best source-only candidate, fitted; None if all of them failed.
    """

    task: Task
    table: pd.DataFrame
    pipeline: AdaptationPipeline
    chosen: int
    adapt: bool
    sentence: str
    reason: str
    scorer: Scorer
    target_labels: np.ndarray | None = None
    source_only: AdaptationPipeline | None = None

    def __repr__(self):
        return f"<Race from {' + '.join(self.task.sources)} to {self.task.target}: {self.sentence}>"

    def _repr_html_(self):
        shown = ["rank", "pipeline", "adaptation", "params", "score", "low", "high", "source_accuracy"]
        shown += ["target_accuracy"] if self.task.answers else []
        table = self.best_of_each[shown].to_html(index=False, float_format="{:.3f}".format)
        note = "<p>target_accuracy was counted afterwards; nothing was fitted or chosen by it.</p>"
        return (
            f"<p><strong>{escape(self.sentence)}</strong></p><p>{escape(self.reason)}</p>{table}"
            f"{note if self.task.answers else ''}"
        )

    @property
    def best_of_each(self) -> pd.DataFrame:
        """The best setting of each recipe, best first."""
        return self.table.drop_duplicates("pipeline")


def race(
    task: Task,
    recipes: list | None = None,
    *,
    scorer: str = DEFAULT_SCORER,
    search: str = "grid",
    n_trials: int | None = None,
    budget: float | None = None,
    journal=None,
    target_labels: np.ndarray | None = None,
    choose_sources: bool = True,
    jobs: int | None = None,
    random_state: int = 0,
    progress: Callable[[int], None] = lambda n: None,
    announce: Callable[[int], None] = lambda n: None,
    bind: Callable = partial,
) -> Race:
    """Fit and score settings of every recipe on the task, and recommend one.

    Parameters
    ----------
    task : Task
        If it leaves the target out (`load_task`), only what can be fitted without one races, and is chosen by source
        domains that are held out.
    recipes : list of str, path or Recipe, optional
        Default: all that ship. Baselines are added where there are none: source only and per-domain
        scaling are always in the race.
    scorer : str, default="consistency"
        Score that needs no target labels, one of `list_scorers`.
    search : {"grid", "random", "halving", "bayesian"}, default="grid"
        Every setting; some drawn at random; all on few rows and the better ones on more; or those that
        Optuna proposes, between the ends of the grid too (extra ``[bayesian]``).
    n_trials : int, optional
        Settings that a random or Bayesian search tries. Default: as many as the grid has.
    budget : float, optional
        Seconds after which no further setting is begun. Source only, per-domain scaling and an adaptation of
        either kind are always tried.
    journal : str or path, optional
        File of what was found so far; a race that was killed goes on from it.
    target_labels : ndarray of shape (n_target,), int, optional
        Labels of a few target rows for the guard, -1 for the others: `draw_target_labels`. Nothing is fitted or
        ranked by them.
    choose_sources : bool, default=True
        Whether, of several sources, each alone races against all together.
    jobs : int, optional
        Candidates fitted at once. Default: the usable cores.
    random_state : int, default=0
        Of the random and the Bayesian search.
    progress, announce : callable
        Called with the number of candidates done since the last call; once, with their number.
    bind : callable, default=functools.partial
        Binds the work to what all candidates share; `race_on_cluster` brings that to its workers once.

    Returns
    -------
    Race

    Raises
    ------
    FtransferError
        If a recipe cannot be loaded, the search is not known or lacks its library, every candidate fails, or the
        target is left out and a score of its rows, or its labels, are to choose.
    """
    recipes = with_baselines(recipes)
    steps = {recipe.name: step_of(adaptation(recipe.pipeline)) for recipe in recipes}
    recipes = sorted(recipes, key=lambda recipe: STEPS.index(steps[recipe.name]))
    if choose_sources and not task.unseen:
        recipes = offer_sources(recipes, task)
    scorer = load_scorer(scorer)
    (whole, task), said = (task, task.visible), []
    if task.unseen:
        if scorer.name != DEFAULT_SCORER or target_labels is not None:
            raise FtransferError(
                "a target that is left out has no part in the choice: name no score and give no target labels"
            )
        scorer = SCORER
        recipes, said = eligible(recipes, steps, task)
    if search == "bayesian" and scorer.ranks_all:
        raise FtransferError(
            f"the {scorer.name} ranks all candidates and scores none by itself, so it cannot guide a Bayesian search; "
            f"name another scorer or search"
        )
    strategy = make_strategy(
        search,
        recipes,
        n_trials=n_trials,
        keep=[name for name, step in steps.items() if step in BASELINES],
        smallest=int(
            np.unique(np.c_[task.sample_domain, task.y][task.is_source], axis=0, return_counts=True)[1].min()
        ),
        random_state=random_state,
    )
    announce(strategy.n_trials)
    trials = _Trials(task, scorer, target_labels, jobs, budget, journal, steps, progress, bind)
    try:
        while asked := strategy.ask():
            rows = trials.run(asked)
            if rows:
                strategy.tell([row["trial"] for row in rows], [row["score"] for row in rows])
    finally:
        trials.journal.close()
    progress(strategy.n_trials - sum(n for n, _ in trials.rounds))  # those left out
    table = _ranked(trials.rows, scorer)
    if table["score"].isna().all():
        raise FtransferError(
            f"every candidate failed; the first: {table['pipeline'][0]}: {table['error'][0]}"
        )
    seen = {}

    def look(row) -> tuple[AdaptationPipeline, Evidence | None]:
        """Fit the pipeline of a row, and hold out source rows; once for a trial, wherever its row stands."""
        trial = table["trial"][row]
        if id(trial) not in seen:
            part, judge = trials.judge(trial)
            pipeline = table["fitted"][row] or _fit(part, trial)
            seen[id(trial)] = pipeline, _held_out(judge, pipeline)
        return seen[id(trial)]

    def label_shift(row) -> LabelShift | None:
        if task.unseen:
            return None
        [(_, evidence)] = _in_threads(look, [(row,)], 1, require="sharedmem")
        return estimate_label_shift(evidence) if evidence else None

    answer = recommend(table, score_name=scorer.name, label_shift=label_shift)
    table, chosen = _reordered(table, answer)
    # what the guard weighed; holding out source rows of every recipe would take as long as the race itself
    step = table["adaptation"][table["score"].notna()].map(step_of)
    weighed = sorted({chosen, *step.drop_duplicates().index})
    looks = dict(
        zip(weighed, _in_threads(look, ((row,) for row in weighed), jobs, require="sharedmem"), strict=True)
    )
    known = {row: evidence.right.mean() for row, (_, evidence) in looks.items() if evidence}
    table["source_accuracy"] = pd.Series(known, dtype=float)
    adapt = table["adaptation"][chosen] not in BASELINES
    if not task.unseen:
        whole = trials.judge(table["trial"][chosen])[0]  # of several sources with those that were chosen
    notes = [*whole.notes, *said, *trials.notes()]
    if answer.shift and answer.shift.clear:
        notes.append(answer.shift.describe(task.classes))
    sentence = answer.sentence
    if task.unseen:  # only now is anything asked of the target's rows
        best = sorted({chosen, *table[table["score"].notna()].drop_duplicates("pipeline").index})

        def count(row) -> float:
            pipeline = (
                looks[row][0] if row in looks else table["fitted"][row] or _fit(task, table["trial"][row])
            )
            return whole.answers.accuracy(pipeline.predict(whole.X_target))

        counted = _in_threads(count, ((row,) for row in best if whole.answers), jobs, require="sharedmem")
        table["target_accuracy"] = pd.Series(dict(zip(best, counted, strict=False)), dtype=float)
        sentence = describe(table["adaptation"][chosen], table["pipeline"][chosen], len(task.sources))
    plain = table.index[(table["adaptation"] == BASELINES[0]) & table["score"].notna()][:1]
    table = table.join(intervals(table["resampled"], plain))
    table = table.drop(columns=["fitted", "resampled", "predicted", "hits", "trial"])
    return Race(
        replace(whole, notes=notes),
        table,
        looks[chosen][0],
        chosen,
        adapt,
        sentence,
        answer.reason,
        scorer,
        target_labels,
        next((looks[row][0] for row in plain), None),
    )


def intervals(resampled: pd.Series, source_only) -> pd.DataFrame:
    """Say how firm each score is: ``low, high, beats_source_only``, as in `Race.table`.

    Parameters
    ----------
    resampled : Series of ndarray or None
        Scores on bootstrap samples, the same samples for all candidates.
    source_only : Index
        The row of the best source-only candidate; empty if there is none.
    """
    found = pd.DataFrame(index=resampled.index, columns=["low", "high", "beats_source_only"], dtype=float)
    for row, scores in resampled[resampled.notna()].items():
        found.loc[row, ["low", "high"]] = np.quantile(scores, [0.025, 0.975])
        for plain in source_only:
            found.loc[row, "beats_source_only"] = np.mean(scores > resampled[plain])
    return found


class _Trials:
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

        for row in _in_threads(_apply, in_time(), self.jobs):
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


def _ranked(rows: list[dict], scorer: Scorer) -> pd.DataFrame:
    """Rank the candidates, best first."""
    for row, score in zip(rows, scorer.compare([row["found"] for row in rows]), strict=True):
        score = score or Score(math.nan, None)
        row |= {"score": score.value, "resampled": score.resampled, **score.parts}
    table = pd.DataFrame(rows).drop(columns=["found", "known"], errors="ignore")
    return table.sort_values("score", ascending=False, kind="stable", na_position="last", ignore_index=True)


def _reordered(table: pd.DataFrame, answer: Recommendation) -> tuple[pd.DataFrame, int]:
    """Put what the guard rules out behind the others: the best of each recipe is one that may be chosen."""
    ruled_out = table.index.isin(answer.ruled_out)
    table["note"] = np.where(ruled_out, "ruled out: it swaps the names of classes", "")
    order = np.lexsort((ruled_out, table["score"].isna()))
    chosen = int(np.flatnonzero(order == answer.chosen)[0])
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "rank", range(1, len(table) + 1))
    return table, chosen


def _in_threads(work, arguments, jobs, **options):
    """Yield `work` of each tuple of arguments; threads share X as it is, and the fits leave the interpreter.

    Where joblib was told of another backend, such as Dask's, that does the work, unless memory has to be shared.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel = Parallel(
            n_jobs=jobs or -1, prefer="threads", return_as="generator", batch_size=1, **options
        )
        yield from parallel(delayed(work)(*each) for each in arguments)


def with_baselines(recipes) -> list[Recipe]:
    """Load recipes; add those for source only and per-domain scaling where none is among them."""
    from ftransfer.pipeline import list_recipes

    given = [r if isinstance(r, Recipe) else load_recipe(r) for r in recipes or list_recipes()]
    kinds = {adaptation(r.pipeline) for r in given}
    for kind, prefix in zip(BASELINES, ("source_only", "scaled"), strict=True):
        if kind not in kinds:
            given += [load_recipe(f"{prefix}_{name}") for name in CLASSIFIERS]
    return list({r.name: r for r in given}.values())


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
            fitted = _fit(task, trial)
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


def _fit(task: Task, trial: Trial) -> AdaptationPipeline:
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


def _held_out(judge, pipeline) -> Evidence | None:
    """Predict held-out source rows; None where that cannot be done."""
    evidence = judge.evidence(pipeline)
    try:
        evidence.source_labels  # noqa: B018 - computed here, in the thread
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    return evidence


def _groups(task: Task) -> np.ndarray | None:
    """Number the groups of the manifest, where it has any; a row without one is a group of its own."""
    if "group" not in task.rows or task.rows["group"].isna().all():
        return None
    codes, names = pd.factorize(task.rows["group"])
    return np.where(codes < 0, len(names) + np.arange(len(codes)), codes)
