"""Forests that are begun with a few trees, and doubled only while they may still be the best of their step.

The error of a forest falls as 1 over the number of trees (Probst, Boulesteix, "To tune or not to tune the number of
trees in random forest", JMLR 2018), so that the scores with few trees and with fewer tell about what all would reach.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from ftransfer.adapt.rows import rows_for
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.judge import PipelineJudge, Score
from ftransfer.scoring.names import DEFAULT_SCORER
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.candidate import TrialResult
from ftransfer.search.maps import shared_maps
from ftransfer.search.sources import without_sources
from ftransfer.search.strategy import Trial

FEWER, FEW = 8, 25  # trees that are grown first, and then, before a forest is compared with others
WORTH = 4  # times FEW: a forest of fewer trees is grown at once
ERRORS = 2.0  # standard errors of the rise in score by which all trees may do better than the two scores tell


def few_trees(trial: Trial, scorer: Scorer) -> Trial:
    """Limit the trees of a forest for a first look; any other trial comes back as it is."""
    _, last = trial.recipe.pipeline.steps[-1]
    if scorer.name != DEFAULT_SCORER or type(last) not in (RandomForestClassifier, ExtraTreesClassifier):
        return trial
    forest = set_up(trial).steps[-1][1]
    return (
        replace(trial, trees=FEW) if forest.n_estimators >= WORTH * FEW and not forest.warm_start else trial
    )


def more_trees(trial: Trial, trees: int, begun: AdaptationPipeline | None) -> Trial:
    """Ask for twice as many trees of a forest that has so many, or for all."""
    most = set_up(trial).steps[-1][1].n_estimators
    return replace(trial, trees=2 * trees if 2 * trees < most else None, begun=begun)


def begin_forest(judge: PipelineJudge, scorer: Scorer, trial: Trial) -> TrialResult:
    """Grow some of the trees, and tell what all may reach from the scores of these and of fewer."""
    assert trial.trees is not None
    pipeline, fewer = set_up(trial), FEWER if trial.trees == FEW else trial.trees // 2
    mapped = _map_rows(pipeline, judge, trial.begun)
    scores = []
    for trees in (fewer, trial.trees):
        _grow(pipeline, mapped, trees)
        evidence = judge.evidence(pipeline)
        scores.append(scorer.judge(evidence))
    before, now = scores
    assert isinstance(before, Score)
    assert isinstance(now, Score)
    rise = fewer / (trial.trees - fewer) * max(now.value - before.value, 0.0)
    error = float(np.std(now.resampled - before.resampled, ddof=1))
    hope = now.value + rise + ERRORS * error
    return TrialResult(now, evidence.predicted, 0.0, "", pipeline, hope=hope, trees=trial.trees)


def grow_on(judge: PipelineJudge, trial: Trial) -> AdaptationPipeline:
    """Grow as many trees as a trial asks for, or all; the result is that of growing them at once."""
    pipeline = set_up(trial)
    trees = trial.trees or pipeline.steps[-1][1].n_estimators
    _grow(pipeline, _map_rows(pipeline, judge, trial.begun), trees)
    return pipeline


Mapped = tuple[list[tuple[str, Any]], Any, Any]


def _map_rows(pipeline: AdaptationPipeline, judge: PipelineJudge, begun: AdaptationPipeline | None) -> Mapped:
    """Fit all steps but the forest; return all steps, and the rows and labels that the forest is grown on."""
    with shared_maps(pipeline, judge):
        steps, X, y, params = pipeline._fit_transformers(judge.X, judge.y, judge.domain, {})
    X, y, _ = rows_for(steps[-1][1], X, y, params)
    return steps if begun is None else begun.steps_[:], X, y


def _grow(pipeline: AdaptationPipeline, mapped: Mapped, trees: int) -> None:
    """Let the forest of a pipeline have so many trees; those that it has stay as they are."""
    steps, X, y = mapped
    _, forest = steps[-1]
    if trees == len(getattr(forest, "estimators_", ())):
        pipeline.steps_ = steps
        return
    forest.set_params(warm_start=True, n_estimators=trees).fit(X, y)
    forest.set_params(warm_start=False)
    pipeline.steps_ = steps


def worth_growing(
    trials: Sequence[Trial], results: Mapping[int, TrialResult], steps: Mapping[str, str]
) -> list[Trial]:
    """List the forests that were begun and may, with all trees, be the best of their step of the guard.

    Parameters
    ----------
    trials : sequence of Trial
    results : mapping
        By the id of the trial.
    steps : mapping
        Step of the guard of each recipe, by its name.
    """
    best: dict[str, float] = {}
    for trial in trials:
        if result := results.get(id(trial)):
            step = steps[trial.recipe.name]
            best[step] = max(best.get(step, -math.inf), result.value)
    begun = ((trial, results[id(trial)].hope) for trial in trials if id(trial) in results)
    return [t for t, hope in begun if hope is not None and not hope < best[steps[t.recipe.name]]]


def set_up(trial: Trial) -> AdaptationPipeline:
    """Make the pipeline of a trial."""
    pipeline: AdaptationPipeline = clone(trial.recipe.pipeline)
    pipeline.set_params(**without_sources(trial.params))
    forest = pipeline.steps[-1][1]
    if trial.share < 1 and isinstance(share := getattr(forest, "max_samples", None), float):
        forest.set_params(max_samples=min(1.0, share / trial.share))  # as many rows a tree
    return pipeline
