"""What a race found: the ranked table and the choice."""

from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.scorer import Scorer
from ftransfer.search.cv_results import cv_results
from ftransfer.search.expected import Expected
from ftransfer.search.labelled import LabelUse
from ftransfer.search.weighed import WeighedStep
from ftransfer.task import Task


@dataclass
class Race:
    """What a race found.

    Attributes
    ----------
    task : Task
        Of several sources, with the chosen ones.
    table : DataFrame
        One row a candidate, best first: ``rank, pipeline, adaptation, step, params, score, low, high,
        beats_source_only, source_accuracy, target_accuracy, seconds, error``, and what the score is made of.
        ``step`` is that of the guard, one of `ftransfer.search.steps.STEPS`. 95 % of the resampled scores lie between
        ``low`` and ``high``; ``beats_source_only`` is the share of the resamples in which the score is above that of
        the best source-only candidate. ``source_accuracy`` (cross-validated) is there for the best of each step.
        ``target_accuracy`` is measured with the target's labels, if there are any, after the choice.
    pipeline : AdaptationPipeline
        The recommended candidate, fitted on the whole task.
    chosen : int
        Its row in `table`.
    adapt : bool
        Whether an adaptation beyond per-domain scaling is recommended.
    sentence, reason : str
        The answer, and why: `ground` and all `steps` as one text.
    ground : str
        What the choice is made by.
    steps : tuple of WeighedStep
        Each step from no adaptation to the strongest, with its score and its gain over what was chosen before.
    scorer : Scorer
        The score that ranks.
    target_labels : ndarray of shape (n_target,), int, or None
        Labels that were given, -1 for the other rows, -2 for none of the classes.
    label_use : LabelUse or None
        What they were used for; None where there were none, or too few to fit on.
    source_only : AdaptationPipeline or None
        The best source-only candidate, fitted; None if all of them failed.
    source_only_row : int or None
        Its row in `table`.
    expected : Expected or None
        An estimate of its accuracy on the target; None where nothing can be said.
    decide : DataFrame or None
        If two answers are equally likely: target rows whose labels would decide between them.
        ``path``, an empty ``label``, and the class by each.
    resampled : ndarray of shape (n_candidates, n_resamples)
        Score of each row of `table` on each bootstrap resample of the images, the same resamples for all; NaN for a
        candidate that failed.
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
    label_use: LabelUse | None = None
    source_only: AdaptationPipeline | None = None
    source_only_row: int | None = None
    expected: Expected | None = None
    decide: pd.DataFrame | None = None
    ground: str = ""
    steps: tuple[WeighedStep, ...] = ()
    resampled: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def __repr__(self) -> str:
        return f"<Race from {' + '.join(self.task.sources)} to {self.task.target}: {self.sentence}>"

    def _repr_html_(self) -> str:
        shown = ["rank", "pipeline", "adaptation", "params", "score", "low", "high", "source_accuracy"]
        shown += ["target_accuracy"] if self.task.answers else []
        table = self.best_of_each[shown].to_html(index=False, float_format="{:.3f}".format)
        note = "<p>target_accuracy was measured after the choice; it was not used to fit or to choose.</p>"
        return (
            f"<p><strong>{escape(self.sentence)}</strong></p><p>{escape(self.reason)}</p>"
            f"<p>{escape(self.expected.sentence) if self.expected else ''}</p>{table}"
            f"{note if self.task.answers else ''}"
        )

    @property
    def best_of_each(self) -> pd.DataFrame:
        """The best setting of each recipe, best first."""
        return self.table.drop_duplicates("pipeline")

    @cached_property
    def cv_results_(self) -> dict[str, Any]:
        """All candidates as in scikit-learn's ``cv_results_``: ``pandas.DataFrame(race.cv_results_)``.

        Arrays of shape (n_candidates,), in the order of `table`:

        - ``params``, and ``param_<name>`` for each parameter, masked where a recipe does not have it;
        - ``split<i>_test_score``: the score on bootstrap resample `i` of the images (a resample takes the place of a
          fold: a candidate is fitted on all rows, since no label of the target is used), their mean and standard
          deviation, ``mean_test_score`` and ``std_test_score``;
        - ``test_score``: the score on all images, and ``rank_test_score`` by it, 1 for the best;
        - ``pipeline`` and ``adaptation``: the recipe and its method; ``step``, ``source_accuracy``,
          ``target_accuracy``, ``beats_source_only``, ``seconds`` and ``error`` as in `table`.
        """
        return cv_results(self.table, self.resampled)
