"""Domain generalisation: choose for a target that nothing has seen, by leaving out one source domain after another.

Recipes are fitted on source rows alone. An adapter that is given no target rows takes the sources, all together, for
the target: each source is aligned to the pool of them, and a new row is taken for one of the pool. What needs rows of
the target itself, to label them, has nothing to do here and does not race.

A setting is worth the share it reads rightly of a source domain that it was fitted without, averaged over the sources:
leave-one-domain-out cross-validation (Gulrajani, Lopez-Paz, "In search of lost domain generalization", ICLR 2021,
section 3). With one source there is none to leave out: stratified folds then say how well classes can be told apart
within that source, and nothing about another domain. With two, a fit sees one source, which alignment to the pool
leaves as it is, so that the score can hardly tell alignments apart.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold, cross_val_predict

from ftransfer.errors import FtransferError
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.judge import RESAMPLES, bootstrap_weights
from ftransfer.scoring.names import DEFAULT_SCORER
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.candidate import Candidate, best_of_each
from ftransfer.search.contest import Contest
from ftransfer.search.finalists import Finalists
from ftransfer.search.guard import Recommendation
from ftransfer.search.steps import BASELINES, STEPS
from ftransfer.search.strategy import Trial
from ftransfer.search.threads import in_threads
from ftransfer.task import Task

FOLDS = 3  # within a single source


class HeldOutJudge:
    """The source rows of one task, for scoring any number of pipelines on domains they were not fitted on.

    Parameters
    ----------
    task : Task
        Without target rows, see `Task.visible`.
    groups : ndarray of shape (n_source,), optional
        Held out together where folds are taken within a single source.

    Attributes
    ----------
    source_weights : ndarray of shape (1 + RESAMPLES, n_source)
        Weights that sum to one, the same for each domain: first equal ones within a domain, then those of bootstrap
        samples.
    """

    def __init__(self, task: Task, groups: np.ndarray | None = None) -> None:
        self._task = replace(task, rows=task.rows[[]])
        self.X, self.y, self.domain, self.groups = np.asarray(task.X), task.y, task.sample_domain, groups
        rng = np.random.default_rng(0)
        self.source_weights = np.zeros((1 + RESAMPLES, len(self.y)), dtype=np.float32)
        codes = np.unique(self.domain)
        for code in codes:
            rows = np.flatnonzero(self.domain == code)
            self.source_weights[:, rows] = bootstrap_weights(rng, len(rows)) / len(codes)

    def __reduce__(self) -> tuple:
        """Pickle what it is made of: rows of a feature set by where they lie."""
        return HeldOutJudge, (self._task, self.groups)

    def evidence(self, pipeline: AdaptationPipeline) -> "HeldOutEvidence":
        """Look at what a pipeline says of domains that it is not fitted on."""
        return HeldOutEvidence(self, pipeline)

    def folds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to fit on and those to hold out."""
        if len(np.unique(self.domain)) > 1:
            yield from LeaveOneGroupOut().split(self.X, self.y, self.domain)
            return
        kind = StratifiedKFold if self.groups is None else StratifiedGroupKFold
        yield from kind(FOLDS, shuffle=True, random_state=0).split(self.X, self.y, self.groups)


class HeldOutEvidence:
    """What one pipeline, fitted without a domain, predicts for that domain's rows as if they were the target's."""

    def __init__(self, judge: HeldOutJudge, pipeline: AdaptationPipeline) -> None:
        self.judge, self.pipeline = judge, pipeline

    @cached_property
    def predicted(self) -> np.ndarray:
        """Label of each source row, by the fit without its domain: array of shape (n_source,)."""
        judge = self.judge
        params = {"sample_domain": judge.domain}
        folds = list(judge.folds())
        X, y = judge.X, judge.y
        return np.asarray(cross_val_predict(clone(self.pipeline), X, y, cv=folds, params=params))

    @property
    def source_labels(self) -> np.ndarray:
        """The same as `predicted`."""
        return self.predicted

    @property
    def right(self) -> np.ndarray:
        """Which of them are right: array of shape (n_source,), bool."""
        return np.equal(self.predicted, self.judge.y)


def held_out_accuracy(evidence: HeldOutEvidence) -> np.ndarray:
    """Share of a domain predicted right by a fit without it, averaged over the source domains."""
    return np.asarray(evidence.judge.source_weights @ evidence.right)


SCORER = Scorer(
    "held_out_accuracy",
    "accuracy on a source domain of the same pipeline fitted on the other sources only, averaged over the "
    "sources. The target is not used. With a single source: cross-validated within it.",
    {"held_out_accuracy": held_out_accuracy},
)


class UnseenContest(Contest):
    """A race to a target that is left out: source domains stand in for it."""

    def _admit(self) -> None:
        settings, n = self.settings, len(self.task.sources)
        if settings.scorer != DEFAULT_SCORER or self.labels is not None:
            raise FtransferError(
                "with --leave-target-out the target is not used to choose: give no --scorer and no target labels"
            )
        self.scorer = SCORER
        allowed = STEPS[:3] if n > 1 else BASELINES[:1]
        out = ", ".join(r.name for r in self.recipes if self.steps[r.name] not in allowed)
        self.recipes = [r for r in self.recipes if self.steps[r.name] in allowed]
        how = (
            "the choice is by leaving out each source in turn; alignments map each source to the pool of all sources"
            if n > 1
            else "with a single source no domain can be left out: the choice is by cross-validation within "
            "it, which says nothing about another domain"
        )
        self.notes.append(f"{self.task.target} was not used to fit, adapt or choose; {how}")
        if n == 2:
            self.notes.append(
                "with two sources, only one is left to fit on and alignment has no effect; three or more "
                "give a better comparison"
            )
        if out:
            why = "it predicts labels for target rows" if n > 1 else "it needs a target or a second source"
            self.notes.append(f"not run, because {why}: {out}")

    def judge(self, task: Task) -> "HeldOutJudge":
        """Make the judge of a part of the task, which holds domains out."""
        return HeldOutJudge(task, task.groups)

    @property
    def assumptions(self) -> None:
        """Test none: the target's rows are not looked at."""

    def learned(self, trial: Trial) -> Task:
        """Take the whole task: all sources were learned from."""
        return self.whole

    def sentence(self, answer: Recommendation, chosen: Candidate) -> str:
        """Say the answer."""
        if len(self.task.sources) == 1:
            return f"Train on the source without adaptation: {chosen.pipeline}."
        if chosen.adaptation == BASELINES[0]:
            return (
                f"Do not align the sources: {chosen.pipeline}, trained on all of them without alignment "
                f"(nothing is clearly better)."
            )
        return f"Align each source to the pool of all sources with {chosen.adaptation}: {chosen.pipeline}."

    def count(self, ranked: list[Candidate], chosen: Candidate, finalists: Finalists) -> None:
        """Count the best of each recipe; only now is anything asked of the target's rows."""
        if not self.whole.answers:
            return
        best = [each for each in best_of_each(ranked) if each.scored]
        best += [] if chosen in best else [chosen]

        def count_one(candidate: Candidate) -> None:
            predicted = finalists.pipeline(candidate).predict(self.whole.X_target)
            candidate.target_accuracy = self.whole.answers.accuracy(predicted)

        for _ in in_threads(count_one, ((each,) for each in best), self.settings.jobs, local=True):
            pass
