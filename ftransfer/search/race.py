"""The race: every recipe and setting on one task, ranked without target labels, with a guard."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from ftransfer.compare.label_shift import LabelShift
from ftransfer.errors import FtransferError
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe, load_recipe
from ftransfer.scoring import DEFAULT_SCORER, Evidence, Score, Scorer, estimate_label_shift, load_scorer
from ftransfer.search.guard import Recommendation, recommend
from ftransfer.search.outcome import Race, intervals
from ftransfer.search.sources import offer_sources
from ftransfer.search.steps import BASELINES, STEPS, step_of
from ftransfer.search.strategy import make_strategy
from ftransfer.search.trials import Trials, adaptation, fit_trial, in_threads
from ftransfer.search.unseen import SCORER, describe, eligible
from ftransfer.task import Task

CLASSIFIERS = ("svm", "forest", "logistic")


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
    trials = Trials(task, scorer, target_labels, jobs, budget, journal, steps, progress, bind)
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
            pipeline = table["fitted"][row] or fit_trial(part, trial)
            seen[id(trial)] = pipeline, _held_out(judge, pipeline)
        return seen[id(trial)]

    def label_shift(row) -> LabelShift | None:
        if task.unseen:
            return None
        [(_, evidence)] = in_threads(look, [(row,)], 1, require="sharedmem")
        return estimate_label_shift(evidence) if evidence else None

    answer = recommend(table, score_name=scorer.name, label_shift=label_shift)
    table, chosen = _reordered(table, answer)
    # what the guard weighed; holding out source rows of every recipe would take as long as the race itself
    step = table["adaptation"][table["score"].notna()].map(step_of)
    weighed = sorted({chosen, *step.drop_duplicates().index})
    looks = dict(
        zip(weighed, in_threads(look, ((row,) for row in weighed), jobs, require="sharedmem"), strict=True)
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
                looks[row][0]
                if row in looks
                else table["fitted"][row] or fit_trial(task, table["trial"][row])
            )
            return whole.answers.accuracy(pipeline.predict(whole.X_target))

        counted = in_threads(count, ((row,) for row in best if whole.answers), jobs, require="sharedmem")
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


def with_baselines(recipes) -> list[Recipe]:
    """Load recipes; add those for source only and per-domain scaling where none is among them."""
    from ftransfer.recipes import list_recipes

    given = [r if isinstance(r, Recipe) else load_recipe(r) for r in recipes or list_recipes()]
    kinds = {adaptation(r.pipeline) for r in given}
    for kind, prefix in zip(BASELINES, ("source_only", "scaled"), strict=True):
        if kind not in kinds:
            given += [load_recipe(f"{prefix}_{name}") for name in CLASSIFIERS]
    return list({r.name: r for r in given}.values())


def _held_out(judge, pipeline) -> Evidence | None:
    """Predict held-out source rows; None where that cannot be done."""
    evidence = judge.evidence(pipeline)
    try:
        evidence.source_labels  # noqa: B018 - computed here, in the thread
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    return evidence
