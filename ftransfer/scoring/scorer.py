"""Scores that need no target labels, as scorers by name.

Each is a scikit-learn scorer, ``scorer(estimator, X, y)``, that reads the domain from `y` and is higher for the better
estimator. Held-out source rows go through ``predict_source``, target rows through ``predict``.

What not to do: leave `scoring` out of a `GridSearchCV`, or give it ``"accuracy"``. scikit-learn would then count the
target rows, whose `y` is -1, as wrong, and predict held-out source rows as if they were target rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metadata_routing import MetadataRequest

from ftransfer.errors import FtransferError, unknown
from ftransfer.scoring.consistency import consistency
from ftransfer.scoring.ensemble import combine_by_rank
from ftransfer.scoring.judge import Evidence, Judge, Score
from ftransfer.scoring.names import ENSEMBLE, MEANINGS, SCORERS
from ftransfer.scoring.reverse import circular
from ftransfer.scoring.source import deep_embedded, importance_weighted, source_accuracy
from ftransfer.scoring.target import entropy, information, mixed, neighbourhood_density

# of what a judge's evidence holds: the score on all rows and on each resample, and what it is made of
Measure = Callable[[Any], np.ndarray | tuple[np.ndarray, dict[str, float]]]


@dataclass(frozen=True)
class Scorer:
    """A score by name: called by scikit-learn on held-out rows, by a race on fitted pipelines.

    Attributes
    ----------
    name : str
    meaning : str
        One or two sentences for the report.
    measures : mapping of {str: callable}
        One, or those of an ensemble.
    """

    name: str
    meaning: str
    measures: Mapping[str, Measure]

    @property
    def ranks_all(self) -> bool:
        """Whether a score is a rank among all candidates."""
        return self.name == ENSEMBLE

    def __call__(
        self, estimator: object, X: ArrayLike, y: ArrayLike, sample_domain: ArrayLike | None = None
    ) -> float:
        """Score a fitted estimator on rows that it was not fitted on.

        Parameters
        ----------
        estimator : fitted AdaptationPipeline, or one that reads no target rows
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels of the source rows, -1 on target rows.
        sample_domain : array of shape (n_samples,), int, optional
            Needed where there are several sources. A `GridSearchCV` passes it on if metadata routing is switched on.

        Returns
        -------
        float, higher is better

        Raises
        ------
        FtransferError
            If there is no target row, a plain scikit-learn pipeline holds an adapter, or this is the ensemble, which
            has to see all candidates.
        """
        if self.name == ENSEMBLE:
            raise FtransferError(
                "the ensemble ranks a complete set of candidates and cannot score a single one: give "
                "GridSearchCV the scorers by name, "
                "scoring={n: load_scorer(n) for n in list_scorers() if n != 'ensemble'}, and refit=best_by_rank"
            )
        judge = Judge(X, y, sample_domain, remember=True)
        return self._measure(Evidence(judge, estimator, held_out=True))[self.name].value

    def get_metadata_routing(self) -> MetadataRequest:
        """Ask for `sample_domain`, where metadata routing is switched on: it tells several sources apart."""
        request = MetadataRequest(owner=type(self).__name__)
        request.score.add_request(param="sample_domain", alias=True)
        return request

    def judge(self, evidence: Any) -> Score | dict[str, Score]:
        """Score what a pipeline fitted on all rows says of them; the parts, where it is an ensemble."""
        scores = self._measure(evidence)
        return scores if self.name == ENSEMBLE else scores[self.name]

    def compare(self, found: list[Any]) -> list[Score | None]:
        """Turn what `judge` gave for all candidates (None for one that failed) into scores."""
        return combine_by_rank(found) if self.name == ENSEMBLE else found

    def _measure(self, evidence: Any) -> dict[str, Score]:
        scores = {}
        for name, measure in self.measures.items():
            found = measure(evidence)
            values, parts = found if isinstance(found, tuple) else (found, {})
            scores[name] = Score(float(values[0]), np.asarray(values[1:], dtype=np.float64), parts)
        return scores


_MEASURES: dict[str, Measure] = {
    "consistency": consistency,
    "circular": circular,
    "source_accuracy": source_accuracy,
    "importance_weighted": importance_weighted,
    "deep_embedded": deep_embedded,
    "entropy": entropy,
    "information": information,
    "neighbourhood_density": neighbourhood_density,
    "mixval": mixed,
}


def list_scorers() -> list[str]:
    """Name the scores that need no target labels."""
    return list(SCORERS)


def load_scorer(name: str) -> Scorer:
    """Give a score that needs no target labels by name, for `GridSearchCV` and the like.

    Parameters
    ----------
    name : str
        One of `list_scorers`.

    Returns
    -------
    Scorer

    See Also
    --------
    DomainKFold : Folds that hold both domains, the classes and whole groups.
    best_by_rank : An ensemble of several scorers.

    Notes
    -----
    Give ``scoring=load_scorer(...)`` and ``cv=DomainKFold()``. The default scoring of a `GridSearchCV` is wrong here:
    it counts the target rows, whose `y` is -1, as errors, and scores held-out source rows as if they were target rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.svm import SVC
    >>> from ftransfer import CORAL, DomainKFold, DomainScaler, load_scorer, make_pipeline
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(120) % 3
    >>> X = rng.normal(size=(120, 5)) + 3 * np.eye(3, 5)[labels]
    >>> X[60:] = 2 * X[60:] + 1
    >>> y = np.where(np.arange(120) < 60, labels, -1)
    >>> pipeline = make_pipeline(DomainScaler(), CORAL(), SVC())
    >>> search = GridSearchCV(
    ...     pipeline, {"coral__ridge": [0.1, 10.0]}, scoring=load_scorer("consistency"), cv=DomainKFold(3)
    ... ).fit(X, y)
    >>> bool(np.mean(search.predict(X[60:]) == labels[60:]) > 0.9)
    True
    """
    if name not in SCORERS:
        raise unknown("scorer", name, SCORERS)
    measures = _MEASURES if name == ENSEMBLE else {name: _MEASURES[name]}
    return Scorer(name, MEANINGS[name], measures)
