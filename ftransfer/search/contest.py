"""What is raced: the task as fits may see it, the recipes that can be fitted on it, and the score."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ftransfer.errors import FtransferError
from ftransfer.features.label_file import TargetLabels
from ftransfer.recipes import Recipe, list_recipes, load_recipe
from ftransfer.scoring.judge import Judge, PipelineJudge
from ftransfer.scoring.names import DEFAULT_SCORER
from ftransfer.scoring.panel import FILLING, LEAVING_EMPTY
from ftransfer.scoring.scorer import Scorer, load_scorer
from ftransfer.scoring.source import importance_weighted
from ftransfer.search.assumptions import Assumptions, check_assumptions
from ftransfer.search.candidate import Candidate
from ftransfer.search.cost import MANY_ROWS, fit_to_size
from ftransfer.search.data_level import gradual_recipe
from ftransfer.search.expected import Expected, accuracy_of_vote, expect_accuracy
from ftransfer.search.explanations import Explanations, explain
from ftransfer.search.finalists import Finalists
from ftransfer.search.grids import with_grids
from ftransfer.search.guard import SHARES, Recommendation
from ftransfer.search.settings import RaceSettings
from ftransfer.search.sources import learned_from, offer_sources
from ftransfer.search.steps import BASELINES, STEPS, adaptation, step_of
from ftransfer.search.strategy import Strategy, Trial, make_strategy
from ftransfer.task import Task

CLASSIFIERS = ("svm", "forest", "logistic")
Recipes = Sequence[str | Path | Recipe]


class Contest:
    """A race to one target, before it is run. `UnseenContest` is the one for a target that is left out.

    Parameters
    ----------
    task : Task
    recipes : sequence of str, path or Recipe, optional
    settings : RaceSettings

    Attributes
    ----------
    whole : Task
        With the answers, for counting after the choice.
    task : Task
        As what fits and chooses may see it, see `Task.visible`.
    labels : TargetLabels or None
        Labels of a few target rows, for what comes after the blind race.
    recipes : list of Recipe
        Those that can be fitted, the mildest adaptation first.
    steps : dict of {str: str}
        Step of the guard of each recipe, by its name.
    scorer : Scorer
    notes : list of str
        What was left out, for people.

    Raises
    ------
    FtransferError
        If a recipe cannot be loaded, or there is no such score.
    """

    def __init__(self, task: Task, recipes: Recipes | None, settings: RaceSettings) -> None:
        self.whole, self.task, self.settings = task, task.visible, settings
        self.labels = _labels(task, settings.target_labels)
        loaded, self.notes = _for_rows(
            with_grids(with_baselines(recipes), settings.grids), recipes, self.task
        )
        if added := _baselines_added(loaded, recipes):
            self.notes.append(f"baselines that always race: {', '.join(added)}")
        if task.via:
            loaded.append(gradual_recipe(task))
        self.steps = {recipe.name: step_of(recipe.pipeline) for recipe in loaded}
        self.recipes = sorted(loaded, key=lambda recipe: STEPS.index(self.steps[recipe.name]))
        self.scorer: Scorer = load_scorer(settings.scorer)
        self._admit()

    def _admit(self) -> None:
        """Settle which recipes race, and by what score."""
        if self.settings.choose_sources:
            self.recipes = offer_sources(self.recipes, self.task)

    def strategy(self) -> Strategy:
        """Make the strategy that says which settings are tried.

        Raises
        ------
        FtransferError
            If the search is not known, lacks its library, or cannot be guided by the score.
        """
        settings, task = self.settings, self.task
        if settings.search == "bayesian" and self.scorer.ranks_all:
            raise FtransferError(
                f"the score {self.scorer.name} only ranks a complete set of candidates, so it cannot guide a "
                f"Bayesian search; choose another --scorer or --search"
            )
        strata = np.c_[task.sample_domain, task.y][task.is_source]
        search = settings.search
        if search == "auto":
            search = "halving" if len(task.y) > MANY_ROWS else "grid"
        return make_strategy(
            search,
            self.recipes,
            n_trials=settings.n_trials,
            keep=[name for name, step in self.steps.items() if step in BASELINES],
            smallest=int(np.unique(strata, axis=0, return_counts=True)[1].min()),
            random_state=settings.random_state,
        )

    def judge(self, task: Task) -> PipelineJudge:
        """Make the judge of a part of the task; it holds all that a candidate is fitted on, and no answer.

        What learns from one source of several, or from a share of the rows, is compared with the panel of all.
        """
        if task is self.task:
            return self._judge
        panel = self._judge.panel
        if task is self.task:
            return self._judge
        if len(task.X_target) < len(self.task.X_target):
            at = {row.tobytes(): i for i, row in enumerate(self._judge.X_target)}
            same = [at[row.tobytes()] for row in np.asarray(task.X_target)]
            panel = replace(panel, labels=panel.labels[:, same])
        return Judge(task.X, task.y, task.sample_domain, groups=task.groups, panel=panel)

    @cached_property
    def _judge(self) -> Judge:
        task = self.task
        return Judge(task.X, task.y, task.sample_domain, groups=task.groups)

    @cached_property
    def assumptions(self) -> Assumptions | None:
        """What the choice rests on, tested; None where the target's rows are not looked at."""
        return check_assumptions(self._judge)

    def explain(self) -> Explanations:
        """Weigh what may explain the target, where it lies within the source."""
        judge = self._judge
        return explain(judge.X_source, judge.labels, judge.X_target)

    def groups(self, ranked: Sequence[Candidate], answer: Recommendation) -> tuple[int, int] | None:
        """Find the best candidates by the panel's methods that leave classes empty, and by those that fill all.

        None where the class shares seem alike, or another score ranks.
        """
        told = answer.assumptions
        if told is None or told.alike or not told.enough_rows or self.scorer.name != DEFAULT_SCORER:
            return None
        scored = [row for row, each in enumerate(ranked) if each.scored]
        labels = [np.asarray(ranked[row].result.predicted) for row in scored]
        empty, filled = (
            scored[int(np.argmax([self._judge.panel.agreement_with(each, group) for each in labels]))]
            for group in (LEAVING_EMPTY, FILLING)
        )
        return empty, filled

    def expected(
        self,
        candidate: Candidate,
        answer: Recommendation,
        finalists: Finalists,
        rivals: Sequence[Candidate] = (),
    ) -> Expected | None:
        """Estimate the accuracy of a candidate on the target; None where that cannot be done."""
        assumptions, labels = answer.assumptions, self.known
        predicted = candidate.result.predicted
        if assumptions is None or predicted is None:
            return None
        accuracy = None
        if assumptions.overlap and (candidate.step == BASELINES[0] or candidate.adaptation == SHARES):
            accuracy = self.source_accuracy([candidate], finalists)[0]
            if (
                rivals and candidate not in rivals
            ):  # if one of them is right, it is where it agrees with that one
                accuracy *= float(
                    np.mean(
                        [np.equal(predicted, np.asarray(each.result.predicted)).mean() for each in rivals]
                    )
                )
        of_vote = None
        if candidate.result.probability is not None:
            sure, judge = candidate.result.probability.max(axis=1), self._judge
            of_vote = accuracy_of_vote(sure, predicted, judge.asked, judge.neighbours)
        hits = None
        if labels is not None and not answer.labels_of_rivals:
            hits = np.equal(predicted, labels)[labels != -1]
        return expect_accuracy(
            self._judge.panel,
            assumptions,
            predicted,
            source_accuracy=accuracy,
            vote_accuracy=of_vote,
            hits=hits,
        )

    def source_accuracy(self, candidates: Sequence[Candidate], finalists: Finalists) -> list[float]:
        """Count held-out source rows that candidates predict right, weighted by how target-like each row is."""
        return [
            float("nan") if each.evidence is None else float(importance_weighted(each.evidence)[0])
            for each in finalists.look_at(candidates)
        ]

    @property
    def known(self) -> np.ndarray | None:
        """Labels that may decide between candidates that none was fitted on: those drawn at random, if any was."""
        if self.labels is None:
            return None
        random = self.labels.random
        return np.where(random, self.labels.codes, -1) if random.any() else self.labels.codes

    def learned(self, trial: Trial) -> Task:
        """Take what a trial learned from, with the answers: of several sources those that it names."""
        return learned_from(self.whole, trial.params)

    def sentence(self, answer: Recommendation, chosen: Candidate) -> str:
        """Say the answer."""
        return answer.sentence

    def count(self, ranked: list[Candidate], chosen: Candidate, finalists: Finalists) -> None:
        """Count the target's labels that each candidate predicts right; called once, after the choice."""
        for candidate in ranked:
            if candidate.result.predicted is not None:
                candidate.target_accuracy = self.whole.answers.accuracy(candidate.result.predicted)


def _labels(task: Task, given: np.ndarray | None) -> TargetLabels | None:
    """Take the labels that are given, and why they were asked for where the task knows."""
    if given is None or (task.labels is not None and np.array_equal(task.labels.codes, given)):
        return task.labels
    return TargetLabels(np.asarray(given), np.asarray(given) != -1)


def _for_rows(loaded: list[Recipe], named: Recipes | None, task: Task) -> tuple[list[Recipe], list[str]]:
    """Leave out or thin, of what was not named, what takes too long on the rows of a task; and notes that say so."""
    given = _names(named)
    n_source = int(task.is_source.sum())
    unnamed = [r for r in loaded if r.name not in given]
    free, notes = fit_to_size(unnamed, len(task.y), n_source, len(task.classes))
    return [r for r in loaded if r.name in given] + free, notes


def _names(named: Recipes | None) -> set[str]:
    return {each.name if isinstance(each, Recipe) else Path(each).stem for each in named or ()}


def _baselines_added(loaded: list[Recipe], named: Recipes | None) -> list[str]:
    """Name the recipes that race beside those that were named; none where all do."""
    return [recipe.name for recipe in loaded if recipe.name not in _names(named)] if named else []


def with_baselines(recipes: Recipes | None) -> list[Recipe]:
    """Load recipes; add those for source only and per-domain scaling where none is among them."""
    given = [r if isinstance(r, Recipe) else load_recipe(str(r)) for r in recipes or list_recipes()]
    kinds = {adaptation(r.pipeline) for r in given}
    for kind, prefix in zip(BASELINES, ("source_only", "scaled"), strict=True):
        if kind not in kinds:
            given += [load_recipe(f"{prefix}_{name}") for name in CLASSIFIERS]
    return list({r.name: r for r in given}.values())
