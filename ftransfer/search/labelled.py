"""A few labels of the target: what is fitted on them, what they decide, and what accuracy they promise.

The race itself stays blind. After it the best candidate of each step is fitted once more, on the source and on labelled
target rows, with a weight for these that cross-validation chooses; two classifiers that are fitted on the labelled
target rows alone join them. In this first pass the labels that were drawn at random are held back: they decide between
the candidates. Then all labels are fitted on, and the accuracy is estimated by cross-validation over those drawn at
random alone.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import Normalizer, StandardScaler

from ftransfer.features.label_file import TargetLabels
from ftransfer.pipeline import AdaptationPipeline, make_pipeline
from ftransfer.recipes import Recipe
from ftransfer.scoring.judge import PipelineJudge
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.candidate import Candidate, TrialResult
from ftransfer.search.expected import OF_LABELS
from ftransfer.search.guard import by_hits, wilson
from ftransfer.search.sources import without_sources
from ftransfer.search.steps import BASELINES, STEPS
from ftransfer.search.strategy import Trial
from ftransfer.search.threads import in_threads
from ftransfer.search.weighed import WeighedStep
from ftransfer.task import Task

WEIGHT = "target_weight"  # of a pipeline: rows that a labelled target row counts as
WEIGHTS = (1, 3, 10)
OF_SELF_LABELLED = (3,)  # what fits labels of its own outweighs the source anyway, and takes longest
FOLDS = 3  # of the cross-validation over the labels that are fitted on in the first pass
ESTIMATE_FOLDS = 5  # over those that were held back, for the accuracy
FEWEST = 10  # labelled rows to fit on
STEP = "target labels"  # in place of a step of the guard
TARGET_ONLY = "target only"
MARGIN = 0.5  # standard errors of the difference in accuracy by which another candidate must be better


def _target_only() -> list[Recipe]:
    """Make the recipes that are fitted on labelled target rows alone."""
    means = make_pipeline(StandardScaler(), Normalizer(), NearestCentroid())
    logistic = make_pipeline(StandardScaler(), Normalizer(), LogisticRegression(C=100.0, max_iter=1000))
    return [
        Recipe("target_only_means", means, summary="Nearest class mean of the labelled target images."),
        Recipe(
            "target_only_logistic", logistic, summary="Logistic regression on the labelled target images."
        ),
    ]


@dataclass(eq=False)
class LabelledCandidate(Candidate):
    """A candidate that is fitted on labelled target rows, too.

    Attributes
    ----------
    base : Candidate or None
        The same without labels; None where the source is not used.
    hits : ndarray of bool
        Labelled rows that it predicts right without having been fitted on them: those of the first pass by
        cross-validation, then those held back.
    n_held_back : int
        How many of `hits`, at the end, are of rows that were held back.
    """

    base: Candidate | None = None
    hits: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    n_held_back: int = 0

    @property
    def pipeline(self) -> str:
        """Name of the recipe, and that labels of the target were fitted on."""
        return self.trial.recipe.name if self.base is None else f"{self.trial.recipe.name} + labels"

    @property
    def adaptation(self) -> str:
        """Name of what it does about the target."""
        return TARGET_ONLY if self.base is None else self.base.adaptation

    @property
    def step(self) -> str:
        """It is no step of the guard."""
        return STEP

    @property
    def held_back(self) -> np.ndarray:
        """Which of the rows that were held back it predicts right."""
        return self.hits[len(self.hits) - self.n_held_back :]


@dataclass(frozen=True)
class LabelUse:
    """What the labels of a target were used for.

    Attributes
    ----------
    useful, held_back : ndarray of int
        Target rows whose label was fitted on in the first pass; those held back to decide and to measure. The final
        fit takes both.
    none : ndarray of int
        Labelled target rows of none of the source's classes, which nothing is fitted on.
    drawn : bool
        Whether those held back were drawn at random, as far as is known; else they are half of what was given.
    weight : int
        Rows that a labelled target row counts as, in the chosen pipeline.
    shares : ndarray of shape (n_classes, 3), or None
        Share of each class by the labels drawn at random, and its 95 % interval.
    source_needed : bool
        False where the chosen pipeline is fitted on target labels alone.
    """

    useful: np.ndarray
    held_back: np.ndarray
    none: np.ndarray
    drawn: bool
    weight: int
    shares: np.ndarray | None
    source_needed: bool

    @property
    def fitted(self) -> np.ndarray:
        """Target rows whose labels the final model is fitted on."""
        return np.setdiff1d(np.r_[self.useful, self.held_back], self.none)

    @property
    def n_fitted(self) -> int:
        """How many these are."""
        return len(self.fitted)

    @property
    def ground(self) -> str:
        """Say what was used for what."""
        who = "which were drawn at random" if self.drawn else "a random half of those given"
        return (
            f"Then target labels were fitted on: the best recipe of each step, and two classifiers without the source, "
            f"were fitted on {len(self.useful)} of them, and {len(self.held_back)} others, {who}, were held back to "
            f"compare them. These decide where the interval of the difference in accuracy excludes zero; else all "
            f"labels do, by cross-validation, if the gain is larger than half its standard error. The final model is "
            f"fitted on all of them, each counting as {self.weight} source image{'s' * (self.weight > 1)}."
        )

    def sentence(self, chosen: LabelledCandidate) -> str:
        """Say the answer."""
        n = f"{self.n_fitted} target labels"
        if chosen.base is None:
            return f"Fit on the {n} alone: {chosen.pipeline}. The source is not needed."
        kind = {BASELINES[0]: "without adaptation", BASELINES[1]: "each domain scaled separately"}
        how = kind.get(chosen.adaptation, f"adapted with {chosen.adaptation}")
        return f"Fit on the source and {n}, {how}: {chosen.trial.recipe.name}."


class LabelFits:
    """Fits candidates on labelled target rows, and counts what they predict right of others.

    Parameters
    ----------
    labels : TargetLabels
    judge_of : callable
        Gives the judge of a trial, which holds the rows that it is fitted on.
    task : Task
        Whose groups, if it has any, are never on both sides.
    random_state : int, default=0

    Attributes
    ----------
    useful, held_back : ndarray of int
        As `LabelUse` has them.
    drawn : bool
    """

    def __init__(
        self,
        labels: TargetLabels,
        judge_of: Callable[[Trial], PipelineJudge],
        task: Task,
        random_state: int = 0,
    ) -> None:
        self.codes, self.judge_of = labels.codes, judge_of
        groups = task.groups
        self.groups = np.arange(len(self.codes)) if groups is None else groups[~task.is_source]
        self.rng = np.random.default_rng(random_state)
        given, random = np.flatnonzero(labels.codes != -1), labels.random
        self.drawn = not random[given].all()
        self.useful, self.held_back = given[~random[given]], given[random[given]]
        if not self.drawn:
            half = self._deal(given, 2)
            self.useful, self.held_back = given[half == 0], given[half == 1]
        self._folds = self._deal(self.useful, FOLDS), self._deal(self.held_back, ESTIMATE_FOLDS)

    @cached_property
    def fitted(self) -> np.ndarray:
        """Rows that the final fit takes: all that name a class."""
        return np.flatnonzero(self.codes >= 0)

    @property
    def enough(self) -> bool:
        """Whether there are labels enough to fit on."""
        known = self.codes[self.useful]
        return len(self.fitted) >= FEWEST and len(np.unique(known[known >= 0])) > 1

    def _deal(self, rows: np.ndarray, n: int) -> np.ndarray:
        """Deal rows out to `n` parts of equal class shares, groups whole; return the part of each row."""
        order = self.rng.permutation(len(rows))
        order = order[np.argsort(self.codes[rows[order]], kind="stable")]
        names, first, which = np.unique(self.groups[rows[order]], return_index=True, return_inverse=True)
        part = np.empty(len(rows), dtype=int)
        part[order] = (np.argsort(np.argsort(first)) % n)[which] if len(names) else 0
        return part

    def fit(self, candidate: LabelledCandidate, rows: np.ndarray) -> AdaptationPipeline:
        """Fit a candidate on the source and these labelled target rows; or on these alone."""
        judge = self.judge_of(candidate.trial)
        rows = rows[self.codes[rows] >= 0]
        target = np.flatnonzero(judge.domain < 0)
        y = judge.y.copy()
        y[target[rows]] = self.codes[rows]
        pipeline = clone(candidate.trial.recipe.pipeline)
        pipeline.set_params(**without_sources(candidate.trial.params))
        if candidate.base is None:  # those with a label are the source of the others
            return pipeline.fit(judge.X[target], y[target])
        return pipeline.fit(judge.X, y, sample_domain=judge.domain)

    def hits(self, pipeline: AdaptationPipeline, candidate: Candidate, rows: np.ndarray) -> np.ndarray:
        """Tell which of the labelled rows a fitted pipeline predicts right."""
        judge = self.judge_of(candidate.trial)
        X = judge.X[np.flatnonzero(judge.domain < 0)[rows]]
        return np.asarray(pipeline.predict(X) == self.codes[rows])

    def first_pass(self, candidate: LabelledCandidate) -> np.ndarray:
        """Predict the labelled rows without those held back being fitted on; see `LabelledCandidate.hits`."""
        try:
            cross = self._cross_validate(candidate, np.empty(0, dtype=int), self.useful, self._folds[0])
            return np.r_[cross, self.hits(self.fit(candidate, self.useful), candidate, self.held_back)]
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            return np.zeros(len(self.useful) + len(self.held_back), dtype=bool)

    def fit_all(self, candidates: Sequence[LabelledCandidate], scorer: Scorer, jobs: int | None) -> None:
        """Fit candidates on all labels, and score what they predict as the blind race does."""

        def fit_one(candidate: LabelledCandidate) -> TrialResult:
            started = time.monotonic()
            fitted = self.fit(candidate, self.fitted)
            evidence = self.judge_of(candidate.trial).evidence(fitted)
            found = scorer.judge(evidence)
            return TrialResult(found, evidence.predicted, time.monotonic() - started, "", fitted)

        found = in_threads(fit_one, ((each,) for each in candidates), jobs, local=True)
        for candidate, result in zip(candidates, found, strict=True):
            candidate.result = result

    def use(self, chosen: LabelledCandidate, n_classes: int) -> LabelUse:
        """Sum up what the labels were used for."""
        return LabelUse(
            self.useful,
            self.held_back,
            np.flatnonzero(self.codes == -2),
            self.drawn,
            chosen.trial.params.get(WEIGHT, 1),
            class_shares(self.codes[self.held_back], n_classes) if len(self.held_back) else None,
            chosen.base is not None,
        )

    def estimate(self, candidate: LabelledCandidate) -> np.ndarray:
        """Predict the rows that were held back, each by a fit on all labels but those of its fold."""
        return self._cross_validate(candidate, self.useful, self.held_back, self._folds[1])

    def _cross_validate(
        self, candidate: LabelledCandidate, always: np.ndarray, rows: np.ndarray, folds: np.ndarray
    ) -> np.ndarray:
        found = np.zeros(len(rows), dtype=bool)
        for fold in np.unique(folds):
            fitted = self.fit(candidate, np.r_[always, rows[folds != fold]])
            found[folds == fold] = self.hits(fitted, candidate, rows[folds == fold])
        return found


def fit_candidates(
    fits: LabelFits, finalists: Sequence[Candidate], jobs: int | None
) -> list[LabelledCandidate]:
    """Fit finalists of the blind race on labels, each with the weight that cross-validation prefers.

    Parameters
    ----------
    fits : LabelFits
    finalists : sequence of Candidate
    jobs : int or None
        Fits at once.

    Returns
    -------
    list of LabelledCandidate, those of the target alone at the end; not fitted on all labels yet
    """
    tried = []
    for each in finalists:
        for weight in OF_SELF_LABELLED if each.step == STEPS[-1] else WEIGHTS:
            trial = replace(each.trial, params={**each.trial.params, WEIGHT: weight})
            tried.append(LabelledCandidate(trial, _nothing(), base=each))
    like = finalists[0].trial
    sources = {key: value for key, value in like.params.items() if key not in without_sources(like.params)}
    tried += [LabelledCandidate(Trial(recipe, sources), _nothing()) for recipe in _target_only()]
    for candidate, hits in zip(
        tried, in_threads(fits.first_pass, ((c,) for c in tried), jobs, local=True), strict=True
    ):
        candidate.hits, candidate.n_held_back = hits, len(fits.held_back)
    best: dict[str, LabelledCandidate] = {}
    for candidate in tried:
        first = best.setdefault(candidate.pipeline, candidate)
        if _crossed(candidate) > _crossed(first):
            best[candidate.pipeline] = candidate
    return list(best.values())


def _nothing() -> TrialResult:
    return TrialResult(None, None, 0.0, "")


def _crossed(candidate: LabelledCandidate) -> float:
    """Share of the rows of the first pass that are predicted right by cross-validation."""
    return float(candidate.hits[: len(candidate.hits) - candidate.n_held_back].mean())


def decide(
    candidates: Sequence[LabelledCandidate], start: LabelledCandidate
) -> tuple[LabelledCandidate, tuple[WeighedStep, ...]]:
    """Go from what the blind race chose to another candidate where the labels say so.

    The rows that were held back decide wherever the interval of the difference excludes zero; else all labels, those
    of the first pass by cross-validation, if the accuracy rises by more than half the standard error of the difference.
    """
    chosen, steps = start, [_weighed(start, None)]
    for each in candidates:
        if each is not start:
            steps.append(_weighed(each, chosen))
            chosen = each if steps[-1].taken else chosen
    return chosen, tuple(steps)


def _weighed(new: LabelledCandidate, old: LabelledCandidate | None) -> WeighedStep:
    found = WeighedStep(STEP, new.pipeline, new.adaptation, float(new.hits.mean()))
    if old is None:
        return found
    difference = new.hits.astype(float) - old.hits
    gain, error = float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))
    found = replace(found, against=old.pipeline, gain=gain, error=error, taken=gain > MARGIN * error)
    return by_hits(found, new.held_back, old.held_back) if new.n_held_back else found


def class_shares(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Share of each class among labels drawn at random, with its interval: array of shape (n_classes, 3)."""
    shares = [np.mean(codes == k) for k in range(n_classes)]
    return np.array([(share, *wilson(share, len(codes), OF_LABELS)) for share in shares])
