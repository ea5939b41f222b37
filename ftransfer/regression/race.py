"""The race of regressors: every recipe and setting on one task, ranked without target labels, with a guard."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid

from ftransfer.errors import FtransferError
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe, list_recipes, load_recipe
from ftransfer.regression.candidate import Candidate
from ftransfer.regression.ground import SCORES, Ground, carry_back, check_ground
from ftransfer.regression.guard import Step, say_answer, walk
from ftransfer.regression.measure import Estimate, measure_errors
from ftransfer.regression.score import HeldOutSource
from ftransfer.regression.task import RegressionTask
from ftransfer.search.grids import with_grids
from ftransfer.search.steps import BASELINES, adaptation, step_of
from ftransfer.search.threads import in_threads

LABELS_DECIDE = " Labels of target images decided each step where their errors could tell the recipes apart."


@dataclass(frozen=True)
class RegressionRace:
    """What a race of regressors found.

    Attributes
    ----------
    task : RegressionTask
    table : DataFrame
        One row a candidate, best first: ``rank, pipeline, adaptation, step, params, score, low, high, source_r2,
        target_r2, target_rmse, seconds, error``. 95 % of the resampled scores lie between ``low`` and ``high``;
        ``source_r2`` is that on held-out source rows, the ``target_`` columns are measured after the choice, NaN
        without labels.
    pipeline : AdaptationPipeline
        The recommended one, fitted on the whole task.
    chosen : int
        Its row in `table`.
    sentence : str
        The answer.
    reason : str
        What it rests on.
    steps : list of Step
        What the guard looked at.
    ground : Ground
    score_name, score_meaning : str
    held_out : ndarray of shape (n_source,)
        Predictions of the recommended pipeline for held-out source rows.
    expected : Estimate or None
        RMSE to be expected on the target, by importance-weighted cross-validation; None where that does not apply.
    source_only : ndarray of shape (n_target,), or None
        Predictions by the best source-only candidate.
    """

    task: RegressionTask
    table: pd.DataFrame
    pipeline: AdaptationPipeline
    chosen: int
    sentence: str
    reason: str
    steps: list[Step]
    ground: Ground
    score_name: str
    score_meaning: str
    held_out: np.ndarray
    expected: Estimate | None = None
    source_only: np.ndarray | None = None

    @property
    def adapt(self) -> bool:
        """Whether an adaptation beyond per-domain scaling is recommended."""
        return self.table["adaptation"][self.chosen] not in BASELINES

    def __repr__(self) -> str:
        return f"<RegressionRace from {' + '.join(self.task.sources)} to {self.task.target}: {self.sentence}>"


def race_regression(
    task: RegressionTask,
    recipes: Sequence[str | Path | Recipe] | None = None,
    *,
    target_labels: np.ndarray | None = None,
    grids: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    random_state: int = 0,
    progress: Callable[[int], None] = lambda n: None,
    announce: Callable[[int], None] = lambda n: None,
) -> RegressionRace:
    """Fit and score every setting of every recipe on a task whose labels are numbers, and recommend one.

    Consistency and the other scores of `race` compare classes, and do not apply here. Where a classifier cannot tell
    the domains apart (AUC below 0.95), candidates are ranked by importance-weighted cross-validation; where they
    overlap only once each is standardised by itself, by reverse validation; else nothing is adapted.

    Parameters
    ----------
    task : RegressionTask
    recipes : list of str, path or Recipe, optional
        Default: all regressors that ship. The source-only and per-domain scaling recipes with ridge regression are
        added where there are none.
    target_labels : ndarray of shape (n_target,), float, optional
        Labels of a few target rows for the guard, NaN for the others. Nothing is fitted or ranked by them.
    grids : dict, optional
        Other values to search: a grid by the name of its recipe, or values by the name of a parameter.
    jobs : int, optional
        Candidates fitted at once. Default: the usable cores.
    random_state : int, default=0
        Of folds and resamples.
    progress, announce : callable
        Called with the number of candidates done since the last call; once, with their number.

    Returns
    -------
    RegressionRace

    Raises
    ------
    FtransferError
        If a recipe cannot be loaded or every candidate fails.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import RegressionTask, race_regression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 5))
    >>> y = X @ [1.0, 2.0, 0.0, -1.0, 0.5] + rng.normal(size=400)
    >>> task = RegressionTask.of(X[:200], y[:200], 3 * X[200:] + 5, y[200:])  # another unit, another zero
    >>> found = race_regression(task, ["source_only_ridge", "scaled_ridge"])
    >>> found.sentence
    'Only scale each domain separately: scaled_ridge.'
    >>> found.table.set_index("pipeline")["target_r2"].groupby("pipeline").max().round(1).to_dict()
    {'scaled_ridge': 0.9, 'source_only_ridge': -0.3}
    """
    candidates = _candidates(recipes, grids)
    announce(len(candidates))
    hidden = replace(task, answers=np.full(len(task.answers), np.nan))
    held_out = HeldOutSource(hidden, random_state=random_state)
    tried = []
    for each in in_threads(_try, ((held_out, candidate) for candidate in candidates), jobs, local=True):
        tried.append(each)
        progress(1)
    fine = [each for each in tried if not each.error]
    if not fine:
        raise FtransferError(f"every candidate failed; the first: {tried[0].pipeline}: {tried[0].error}")
    ground, Z = check_ground(held_out)
    for each in fine:
        each.score = _score(each, ground, held_out, Z)
    ranked = sorted(fine, key=lambda each: -each.score[0])
    losses = None
    if target_labels is not None:
        known = ~np.isnan(target_labels)
        losses = [np.square(each.predicted[known] - target_labels[known]) for each in ranked]
    steps = walk(ranked, ground, losses)
    best = ranked[next(step.row for step in reversed(steps) if step.taken)]
    plain = next((each for each in ranked if each.step == BASELINES[0]), None)
    kind = adaptation(best.recipe.pipeline)
    return RegressionRace(
        task=task,
        table=_table([*ranked, *(each for each in tried if each.error)], held_out, task.answers),
        pipeline=best.make().fit(task.X, task.y, sample_domain=task.sample_domain),
        chosen=ranked.index(best),
        sentence=say_answer(kind, best.pipeline, ground),
        reason=ground.describe() + (LABELS_DECIDE if losses is not None else ""),
        steps=steps,
        ground=ground,
        score_name=ground.score_name,
        score_meaning=SCORES[ground.score_name],
        held_out=best.as_source,
        expected=_expected(best, ground, held_out),
        source_only=None if plain is None else plain.predicted,
    )


def list_regressors() -> list[str]:
    """Name the recipes for regression that ship, in alphabetical order."""
    return list_recipes(regression=True)


def _candidates(
    recipes: Sequence[str | Path | Recipe] | None, grids: Mapping[str, Any] | None
) -> list[Candidate]:
    loaded = [
        each if isinstance(each, Recipe) else load_recipe(each, regression=True)
        for each in recipes or list_regressors()
    ]
    steps = {step_of(each.pipeline) for each in loaded}
    for step, name in zip(BASELINES, ("source_only_ridge", "scaled_ridge"), strict=True):
        if step not in steps:
            loaded.append(load_recipe(name, regression=True))
    return [
        Candidate(recipe, params)
        for recipe in with_grids(loaded, grids)
        for params in ParameterGrid(recipe.grid)
    ]


def _try(held_out: HeldOutSource, candidate: Candidate) -> Candidate:
    task, start = held_out.task, time.perf_counter()
    try:
        pipeline = candidate.make()
        as_target, as_source = held_out.predict(pipeline)
        fitted = pipeline.fit(task.X, task.y, sample_domain=task.sample_domain)
        predicted = np.asarray(fitted.predict(task.X_target), dtype=float)
        found = (predicted, as_target, as_source)
        if not all(np.isfinite(each).all() for each in found):
            raise FtransferError("it predicts NaN or infinity")
        candidate.predicted, candidate.as_target, candidate.as_source = found
    except Exception as error:  # a recipe of a user's own may fail in any way, and the others go on
        candidate.error = f"{type(error).__name__}: {error}"
    candidate.seconds = time.perf_counter() - start
    return candidate


def _score(candidate: Candidate, ground: Ground, held_out: HeldOutSource, Z: np.ndarray) -> np.ndarray:
    if ground.score_name == "importance-weighted R2":
        return held_out.score(candidate.as_target)
    if ground.score_name == "source R2":
        return held_out.score(candidate.as_source, weighted=False)
    is_source = held_out.task.is_source
    return held_out.score(carry_back(Z[is_source], Z[~is_source], candidate.predicted), weighted=False)


def _expected(candidate: Candidate, ground: Ground, held_out: HeldOutSource) -> Estimate | None:
    if ground.score_name != "importance-weighted R2":
        return None
    found = held_out.rmse(candidate.as_target)
    return Estimate(float(found[0]), *map(float, np.quantile(found[1:], [0.025, 0.975])))


def _table(candidates: Sequence[Candidate], held_out: HeldOutSource, answers: np.ndarray) -> pd.DataFrame:
    rows = []
    for rank, each in enumerate(candidates, start=1):
        low, high = np.quantile(each.score[1:], [0.025, 0.975])
        target = {} if each.error else measure_errors(answers, each.predicted, resamples=0)
        rows.append(
            {
                "rank": rank,
                "pipeline": each.pipeline,
                "adaptation": adaptation(each.recipe.pipeline),
                "step": each.step,
                "params": each.params,
                "score": each.score[0],
                "low": low,
                "high": high,
                "source_r2": np.nan if each.error else held_out.score(each.as_source, weighted=False)[0],
                **{f"target_{key}": target[key].value if target else np.nan for key in ("r2", "rmse")},
                "seconds": each.seconds,
                "error": each.error,
            }
        )
    return pd.DataFrame(rows)
