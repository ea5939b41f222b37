"""The race: every recipe and setting on one task, ranked without target labels, with a guard.

The guard against negative transfer: source only and per-domain scaling always race. It goes step by step
from the mildest to the strongest - source only, per-domain scaling, the adaptations - and takes a step
only where the score rises by more than the standard error of the difference.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid
from threadpoolctl import threadpool_limits

from ftransfer.adapt import DomainScaler
from ftransfer.errors import FtransferError
from ftransfer.pipeline import AdaptationPipeline, Recipe, load_recipe, reads_unlabelled
from ftransfer.scoring import SCORE_NAME, Judge, source_accuracy
from ftransfer.task import Task

BASELINES = ("source only", "per-domain scaling")
CLASSIFIERS = ("svm", "forest", "logistic")


@dataclass
class Race:
    """What a race found.

    Attributes
    ----------
    task : Task
    table : DataFrame
        One row a candidate, best first: ``rank, pipeline, adaptation, params, score, carried_back,
        neighbours, source_accuracy, target_accuracy, seconds, error``. ``source_accuracy`` (cross-validated)
        is there for the best of each recipe. ``target_accuracy`` is counted with the target's labels,
        where it has any; nothing is fitted or chosen by it.
    pipeline : AdaptationPipeline
        The recommended candidate, fitted on the whole task.
    chosen : int
        Its row in `table`.
    adapt : bool
        Whether an adaptation beyond per-domain scaling is recommended.
    sentence, reason : str
        The answer, and why.
    """

    task: Task
    table: pd.DataFrame
    pipeline: AdaptationPipeline
    chosen: int
    adapt: bool
    sentence: str
    reason: str

    @property
    def best_of_each(self) -> pd.DataFrame:
        """The best setting of each recipe, best first."""
        return self.table.drop_duplicates("pipeline")


def race(
    task: Task,
    recipes: list | None = None,
    *,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda n: None,
    announce: Callable[[int], None] = lambda n: None,
) -> Race:
    """Fit and score every setting of every recipe on the task, and recommend one.

    Parameters
    ----------
    task : Task
    recipes : list of str, path or Recipe, optional
        Default: all that ship. Baselines are added where there are none: source only and per-domain
        scaling are always in the race.
    jobs : int, optional
        Candidates fitted at once. Default: the usable cores.
    progress, announce : callable
        Called with the number of candidates done since the last call; once, with their number.

    Returns
    -------
    Race

    Raises
    ------
    FtransferError
        If a recipe cannot be loaded, or every candidate fails.
    """
    candidates = [
        (recipe, params) for recipe in with_baselines(recipes) for params in ParameterGrid(recipe.grid)
    ]
    announce(len(candidates))
    judge = Judge(task.X, task.y, task.sample_domain)
    rows, leaders = [], {}
    for row in _in_threads(_fit_and_score, [(task, judge, *c) for c in candidates], jobs):
        rows.append(row)
        progress(1)
        # only the best of each recipe stays in memory: a forest can be larger than the data
        leader = leaders.setdefault(row["pipeline"], row)
        if leader is not row:
            better = not row["score"] <= leader["score"] and row["fitted"] is not None
            leaders[row["pipeline"]] = row if better else leader
            (leader if better else row)["fitted"] = None
    table = pd.DataFrame(rows).sort_values("score", ascending=False, kind="stable", na_position="last")
    table = table.reset_index(drop=True)
    table.insert(0, "rank", range(1, len(table) + 1))
    if table["score"].isna().all():
        raise FtransferError(
            f"every candidate failed; the first: {table['pipeline'][0]}: {table['error'][0]}"
        )
    best = table[table["score"].notna()].drop_duplicates("pipeline").index
    checks = [(f, task.X, task.y, task.sample_domain) for f in table.loc[best, "fitted"]]
    table["source_accuracy"] = pd.Series(list(_in_threads(_source_accuracy, checks, jobs)), index=best)
    chosen, sentence, reason = recommend(table)
    pipeline = table["fitted"][chosen]
    adapt = table["adaptation"][chosen] not in BASELINES
    return Race(task, table.drop(columns=["fitted", "resampled"]), pipeline, chosen, adapt, sentence, reason)


def recommend(table: pd.DataFrame) -> tuple[int, str, str]:
    """Choose a row of the ranked table, step by step from the mildest adaptation to the strongest.

    Parameters
    ----------
    table : DataFrame
        Ranked candidates with the columns ``pipeline, adaptation, score, resampled``.

    Returns
    -------
    chosen : int
    sentence : str
        The answer.
    reason : str
        The scores that it rests on, and what was not worth it.
    """
    kinds = table["adaptation"].where(table["adaptation"].isin(BASELINES), "adaptation")
    best = {kind: rows.index[0] for kind, rows in table[table["score"].notna()].groupby(kinds)}
    steps = [kind for kind in (*BASELINES, "adaptation") if kind in best]
    chosen, story = best[steps[0]], []
    for kind in steps[1:]:
        row = best[kind]
        gain = table["score"][row] - table["score"][chosen]
        error = float(np.std(table["resampled"][row] - table["resampled"][chosen], ddof=1))
        kept = gain > error
        what = table["adaptation"][row] if kind == "adaptation" else kind
        story.append(
            f"{what} ({table['pipeline'][row]}) changes it by {gain:+.3f} with a standard error of {error:.3f}"
            f"{'' if kept else ', which is not worth it'}"
        )
        if kept:
            chosen = row
    name, kind = table["pipeline"][chosen], table["adaptation"][chosen]
    if kind == BASELINES[0]:
        sentence = (
            f"Do not adapt: {name}, trained on the source only, is as consistent with the target as any."
        )
    elif kind == BASELINES[1]:
        sentence = f"Scale each domain by itself and leave it at that: {name}."
    else:
        sentence = f"Adapt with {kind}: {name}."
    first = table["pipeline"][best[steps[0]]]
    reason = f"The {SCORE_NAME} of {steps[0]} ({first}) is {table['score'][best[steps[0]]]:.3f}"
    return int(chosen), sentence, "; ".join([reason, *story]) + "."


def _in_threads(work, arguments, jobs):
    """Yield `work` of each tuple of arguments; threads share X as it is, and the fits leave the interpreter."""
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel = Parallel(n_jobs=jobs or -1, prefer="threads", return_as="generator")
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


def _fit_and_score(task: Task, judge: Judge, recipe: Recipe, params: dict) -> dict:
    """Fit and score one candidate; a failure is a row with its error, and does not end the race."""
    started = time.monotonic()
    row = {"pipeline": recipe.name, "adaptation": adaptation(recipe.pipeline), "params": params, "error": ""}
    try:
        fitted = clone(recipe.pipeline).set_params(**params)
        fitted.fit(task.X, task.y, sample_domain=task.sample_domain)
        predicted = fitted.predict(task.X_target)
        score = judge.score(predicted)
        row |= {"fitted": fitted, "score": score.value, "resampled": score.resampled}
        row |= {"carried_back": score.carried_back, "neighbours": score.neighbours}
        row |= {"target_accuracy": task.answers.accuracy(predicted)}
    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as problem:
        row["error"] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
        row |= dict.fromkeys(("score", "carried_back", "neighbours", "target_accuracy"), float("nan"))
        row |= {"fitted": None, "resampled": None}
    return row | {"seconds": time.monotonic() - started}


def _source_accuracy(pipeline, X, y, sample_domain) -> float:
    try:
        return source_accuracy(pipeline, X, y, sample_domain)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return float("nan")
