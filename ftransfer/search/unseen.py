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

from functools import cached_property

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold, cross_val_predict

from ftransfer.scoring import Scorer
from ftransfer.scoring.judge import RESAMPLES, bootstrap_weights
from ftransfer.search.steps import BASELINES, STEPS
from ftransfer.task import Task

FOLDS = 3  # within a single source


def eligible(recipes: list, steps: dict[str, str], task: Task) -> tuple[list, list[str]]:
    """Keep the recipes that can be fitted without a target; say what was left out, and why.

    Parameters
    ----------
    recipes : list of Recipe
    steps : dict of str to str
        Step of the guard of each recipe, by its name.
    task : Task

    Returns
    -------
    The recipes, and notes for people.
    """
    n = len(task.sources)
    allowed = STEPS[:3] if n > 1 else BASELINES[:1]
    kept = [r for r in recipes if steps[r.name] in allowed]
    out = ", ".join(r.name for r in recipes if steps[r.name] not in allowed)
    how = (
        "each source in turn was left out to choose by, and alignments bring each source to all of them"
        if n > 1
        else "with one source no domain can be left out to choose by: folds within it were, which say nothing about "
        "another domain"
    )
    notes = [f"{task.target} took no part in fitting, adapting or choosing; {how}"]
    if n == 2:
        notes.append("of two sources one is left to fit on, and alone needs no alignment: three judge better")
    why = "labels rows of the target" if n > 1 else "needs a target or a second source"
    return kept, [*notes, *([f"left out, since it {why}: {out}"] if out else [])]


def describe(adaptation: str, pipeline: str, n_sources: int) -> str:
    """Say the answer of the guard for a domain never seen."""
    if n_sources == 1:
        return f"Train on the source as it is: {pipeline}."
    if adaptation == BASELINES[0]:
        return f"Do not align the sources: {pipeline}, trained on all of them as they are, is not clearly beaten."
    return f"Align each source to all of them with {adaptation}: {pipeline}."


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

    def __init__(self, task: Task, groups=None):
        self.X, self.y, self.domain, self.groups = task.X, task.y, task.sample_domain, groups
        rng = np.random.default_rng(0)
        self.source_weights = np.zeros((1 + RESAMPLES, len(self.y)), dtype=np.float32)
        codes = np.unique(self.domain)
        for code in codes:
            rows = np.flatnonzero(self.domain == code)
            self.source_weights[:, rows] = bootstrap_weights(rng, len(rows)) / len(codes)

    def evidence(self, pipeline) -> "HeldOutEvidence":
        """Look at what a pipeline says of domains that it is not fitted on."""
        return HeldOutEvidence(self, pipeline)

    def folds(self):
        """Yield the rows to fit on and those to hold out."""
        if len(np.unique(self.domain)) > 1:
            return LeaveOneGroupOut().split(self.X, self.y, self.domain)
        kind = StratifiedKFold if self.groups is None else StratifiedGroupKFold
        return kind(FOLDS, shuffle=True, random_state=0).split(self.X, self.y, self.groups)


class HeldOutEvidence:
    """What one pipeline, fitted without a domain, predicts for that domain's rows as if they were the target's."""

    def __init__(self, judge: HeldOutJudge, pipeline):
        self.judge, self.pipeline = judge, pipeline

    @cached_property
    def predicted(self):
        """Label of each source row, by the fit without its domain: array of shape (n_source,)."""
        judge = self.judge
        params = {"sample_domain": judge.domain}
        folds = list(judge.folds())
        return cross_val_predict(clone(self.pipeline), judge.X, judge.y, cv=folds, params=params)

    @property
    def source_labels(self):
        """The same as `predicted`."""
        return self.predicted

    @property
    def right(self):
        """Which of them are right: array of shape (n_source,), bool."""
        return self.predicted == self.judge.y


def held_out_accuracy(evidence: HeldOutEvidence):
    """Share of a domain predicted right by a fit without it, averaged over the source domains."""
    return evidence.judge.source_weights @ evidence.right


SCORER = Scorer(
    "held_out_accuracy",
    "share of a source domain that is predicted right by the same pipeline fitted on the other sources alone, averaged "
    "over the sources. No row of the target takes part. With one source: cross-validated within it.",
    1,
    {"held_out_accuracy": held_out_accuracy},
)
