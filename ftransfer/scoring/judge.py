"""What a score may look at: the rows of one task, the source's labels, and what a fitted pipeline says."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Protocol

import joblib
import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.preprocessing import normalize
from sklearn.utils.validation import has_fit_parameter

from ftransfer.adapt.base import content_order, distinct_rows, read_domain
from ftransfer.adapt.importance import ImportanceWeighted
from ftransfer.adapt.rows import consecutive, nearest
from ftransfer.adapt.scaler import DomainScaler
from ftransfer.errors import FtransferError
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.scoring.folds import DomainKFold
from ftransfer.scoring.panel import Panel, seat_panel, seating

RESAMPLES = 200
MOST_ROWS = 5000  # of the target, where rows are compared with one another
NEIGHBOURS = 5
SEATED: dict[str, Panel] = {}  # of the rows that were scored last, by their content
MOST_SEATED = 10  # more than a search has folds
BLOCK = 2048  # rows that are compared with all others at once


@dataclass(frozen=True)
class Score:
    """A score that needs no target labels; higher is better.

    Attributes
    ----------
    value : float
    resampled : ndarray of shape (RESAMPLES,)
        The value on bootstrap samples of source and target rows; the same samples for all candidates of
        one `Judge`, so that differences are paired.
    parts : dict of {str: float}
        What the value is made of, where it is made of several numbers.
    """

    value: float
    resampled: np.ndarray
    parts: dict[str, float] = field(default_factory=dict)


class PipelineJudge(Protocol):
    """What a race asks of a judge: the rows that candidates are fitted on, without any label of the target."""

    X: np.ndarray
    y: np.ndarray
    domain: np.ndarray

    def evidence(self, pipeline: AdaptationPipeline) -> Any:
        """Look at a fitted pipeline."""


class Judge:
    """The rows of one task, for scoring any number of pipelines; what these share is computed once.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    y : array of shape (n_samples,)
        Labels of the source rows, -1 on target rows. Labels of target rows are not looked at.
    sample_domain : array of shape (n_samples,), int, optional
        Positive for a source, negative for the target. Without it `y` tells.
    groups : array of shape (n_samples,), optional
        Rows of one group (a patient, a video) are held out together.
    folds : int, default=3
        Of the cross-validation on the source, for the scores that need held-out source rows.
    random_state : int, default=0
    panel : Panel, optional
        Labels of these target rows to compare with, where they were found before. Default: `seat_panel`.
    remember : bool, default=False
        Whether judges of the same rows share a panel: a grid search makes one for each candidate on each fold.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The source's.
    labels : ndarray of shape (n_source,), int
        Index into `classes`.
    source_weights, target_weights : ndarray of shape (1 + RESAMPLES, n), float32
        Weights that sum to one: first equal ones, then those of the bootstrap samples.

    Raises
    ------
    FtransferError
        If there is no target row, or `y` or `sample_domain` break the rule.
    """

    def __init__(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_domain: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
        folds: int = 3,
        random_state: int = 0,
        panel: Panel | None = None,
        remember: bool = False,
    ) -> None:
        self.X, self._rows = np.asarray(X), X
        self.y, self.domain = read_domain(y, sample_domain, len(self.X))
        self.y = np.where(self.domain < 0, -1, self.y)  # nothing here looks at a target label
        self.groups = None if groups is None else np.asarray(groups)
        self.folds = folds
        self.random_state = random_state
        self.source, self.target = np.flatnonzero(self.domain > 0), np.flatnonzero(self.domain < 0)
        if not len(self.target):
            raise FtransferError(
                "a score without target labels needs target rows, with y == -1; there are none"
            )
        labels = self.y[self.source]
        if labels.dtype.kind == "f" and (labels % 1 != 0).any():
            raise FtransferError(
                f"a score compares classes, and y holds numbers such as {labels[labels % 1 != 0][0]:.4g}: choose the "
                f"model of a regression by an error that is known, such as that on held-out source rows"
            )
        self.X_source, self.X_target = (self.X[consecutive(rows)] for rows in (self.source, self.target))
        self.classes, self.labels = np.unique(self.y[self.source], return_inverse=True)
        rng = np.random.default_rng(random_state)
        order = content_order(self.X_target)  # so that the order of the rows makes no difference
        self.asked = np.sort(order[rng.permutation(len(self.target))[:MOST_ROWS]])
        # the target first: judges of other sources resample it alike
        self.target_weights = bootstrap_weights(rng, len(self.target))
        self.source_weights = bootstrap_weights(rng, len(self.source))
        self.asked_weights = self.target_weights[:, self.asked]
        self.asked_weights /= self.asked_weights.sum(axis=1, keepdims=True)
        self._panel, self.remember = panel, remember

    def __reduce__(self) -> tuple:
        """Pickle what it is made of, rows of a feature set by where they lie; the rest is computed again."""
        made = partial(
            Judge, groups=self.groups, folds=self.folds, random_state=self.random_state, panel=self._panel
        )
        return made, (self._rows, self.y, self.domain)

    def evidence(self, pipeline: Any) -> "Evidence":
        """Look at a pipeline that was fitted on all rows: source rows are held out by cross-validation."""
        return Evidence(self, pipeline)

    @property
    def panel(self) -> Panel:
        """Labels of the target by plain methods: `seat_panel`."""
        with seating:
            if self._panel is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    self._panel = self._seat()
            return self._panel

    def _seat(self) -> Panel:
        given = self.X, self.y, self.domain, self.random_state
        if not self.remember:
            return seat_panel(*given)
        key = joblib.hash(given)
        panel = SEATED.pop(key, None) or seat_panel(*given)
        SEATED[key] = panel  # the last
        while len(SEATED) > MOST_SEATED:
            SEATED.pop(next(iter(SEATED)))
        return panel

    @cached_property
    def scaled(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target rows, each domain standardised by itself, so that neither looks shifted."""
        Z = DomainScaler().fit_transform(self.X, self.y, sample_domain=self.domain)
        source, target = (Z[consecutive(rows)] for rows in (self.source, self.target))
        return source, target

    @cached_property
    def neighbours(self) -> np.ndarray:
        """Nearest target rows (cosine) of the target rows `asked`: array of shape (n_asked, NEIGHBOURS).

        Copies of a row count as one, and none as its own neighbour.
        """
        first, copy_of = distinct_rows(self.X_target)
        Z, own = self.scaled[1], copy_of[self.asked]
        k = min(NEIGHBOURS, len(first) - 1)
        unit, others = normalize(Z[self.asked]), normalize(Z[first])
        parts = range(0, len(unit), BLOCK)
        found = np.concatenate([nearest(unit[at : at + BLOCK] @ others.T, k + 1) for at in parts])
        itself = found == own[:, None]
        itself[~itself.any(axis=1), -1] = True  # rows that differ in length alone may hide it
        return first[found[~itself].reshape(len(found), k)]

    @cached_property
    def ridge_from_target(self) -> Callable[[np.ndarray], np.ndarray]:
        """Function: values on the target rows -> ridge regression's predictions on the source rows."""
        Z_source, Z_target = self.scaled
        (n, d), alpha = Z_target.shape, 0.2 * Z_target.shape[1]
        if n <= d:
            gram = cho_factor(Z_target @ Z_target.T + alpha * np.eye(n, dtype=Z_target.dtype))
            cross = Z_source @ Z_target.T
            return lambda Y: cross @ cho_solve(gram, Y)
        scatter = cho_factor(Z_target.T @ Z_target + alpha * np.eye(d, dtype=Z_target.dtype))
        return lambda Y: Z_source @ cho_solve(scatter, Z_target.T @ Y)

    @cached_property
    def importance(self) -> np.ndarray:
        """Density ratio of target and source at each source row, in the features as they are."""
        return density_ratio(self.X_source, self.X_target)

    def over_classes(self, right: np.ndarray) -> np.ndarray:
        """Average the share of right source rows over the classes: (n_source,) -> (1 + RESAMPLES,)."""
        member = np.eye(len(self.classes), dtype=np.float32)[self.labels]
        total, hits = self.source_weights @ member, self.source_weights @ (member * right[:, None])
        there = total > 0
        return np.divide(hits, total, out=np.zeros_like(hits), where=there).sum(axis=1) / there.sum(axis=1)


class Evidence:
    """What one fitted pipeline says of the rows of a `Judge`, computed when a score asks for it.

    Parameters
    ----------
    judge : Judge
    pipeline : fitted AdaptationPipeline, or an estimator that reads no target rows
    held_out : bool, default=False
        Whether the judge's source rows are ones that `pipeline` was not fitted on.
    """

    def __init__(self, judge: Judge, pipeline: Any, *, held_out: bool = False) -> None:
        self.judge = judge
        self.pipeline = pipeline
        self.held_out = held_out
        if not hasattr(pipeline, "predict_source") and _maps_domains(pipeline):
            raise FtransferError(
                f"{type(pipeline).__name__} would transform source rows as if they were target rows; use an "
                f"AdaptationPipeline (ftransfer.make_pipeline)"
            )

    @cached_property
    def predicted(self) -> np.ndarray:
        """Labels of the target rows, as the pipeline gives them."""
        return np.asarray(self.pipeline.predict(self.judge.X_target))

    @cached_property
    def target_labels(self) -> np.ndarray:
        """Labels of the target rows, as indices into the judge's classes; -1 for another class."""
        return self.code(self.predicted)

    @cached_property
    def probability(self) -> np.ndarray:
        """Probability of each class on the target rows: array of shape (n_target, n_classes).

        Of a classifier without ``predict_proba``, the softmax of its decision function.
        """
        return probability_of(self.pipeline, self.judge.X_target)

    @cached_property
    def source_labels(self) -> np.ndarray:
        """Labels of held-out source rows, each mapped by the source's own map, as indices into the classes.

        The target rows take part in every fit.
        """
        judge = self.judge
        if self.held_out:
            return self.code(_predict_source(self.pipeline, judge.X_source, judge.domain[judge.source]))
        counts = np.bincount(judge.labels)
        if counts.min() < judge.folds:
            raise FtransferError(
                f"cross-validation on the source needs every class in {judge.folds} folds; class "
                f"{judge.classes[counts.argmin()]} has only {counts.min()} source rows"
            )
        found = np.empty(len(judge.source), dtype=int)
        groups = None if judge.groups is None else judge.groups[judge.source]
        folds = DomainKFold(judge.folds, random_state=judge.random_state)
        for train, test in folds.split(judge.X_source, judge.labels, groups):
            rows = np.r_[judge.source[train], judge.target]
            fitted = refit(self.pipeline, judge.X[rows], judge.y[rows], judge.domain[rows])
            held_out = judge.source[test]
            found[test] = self.code(_predict_source(fitted, judge.X[held_out], judge.domain[held_out]))
        return found

    @cached_property
    def right(self) -> np.ndarray:
        """Which held-out source rows are predicted right: array of shape (n_source,), bool."""
        return self.source_labels == self.judge.labels

    def code(self, labels: np.ndarray) -> np.ndarray:
        """Turn labels into indices into the judge's classes; -1 for another class."""
        classes = self.judge.classes
        at = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
        return np.where(classes[at] == labels, at, -1)


def refit(pipeline: Any, X: np.ndarray, y: np.ndarray, domain: np.ndarray) -> Any:
    """Fit a copy of a pipeline on other rows; the domain is passed where it is taken."""
    takes_domain = has_fit_parameter(pipeline, "sample_domain")
    if not takes_domain and not hasattr(pipeline, "predict_source"):
        X, y = X[domain > 0], y[domain > 0]  # an estimator that would take -1 for a class
    return clone(pipeline).fit(X, y, **({"sample_domain": domain} if takes_domain else {}))


def probability_of(pipeline: Any, X: np.ndarray) -> np.ndarray:
    """Probability of each class; without ``predict_proba``, the softmax of the decision function."""
    if hasattr(pipeline, "predict_proba"):
        return np.asarray(pipeline.predict_proba(X))
    if not hasattr(pipeline, "decision_function"):
        return (np.asarray(pipeline.predict(X))[:, None] == pipeline.classes_).astype(float)
    decision = np.asarray(pipeline.decision_function(X))
    return softmax(np.c_[-decision, decision] if decision.ndim == 1 else decision, axis=1)


def density_ratio(Z_source: np.ndarray, Z_target: np.ndarray) -> np.ndarray:
    """Estimate how much denser the target is than the source at each source row; mean one.

    The odds of a logistic regression that tells the domains apart, out of fold, calibrated and clipped at
    ten times the mean: `ImportanceWeighted`.
    """
    Z, y = np.vstack([Z_source, Z_target]), np.r_[np.zeros(len(Z_source)), np.full(len(Z_target), -1)]
    return ImportanceWeighted(DummyClassifier()).fit(Z, y.astype(int)).sample_weight_


def _predict_source(pipeline: Any, X: np.ndarray, domain: np.ndarray) -> np.ndarray:
    if not hasattr(pipeline, "predict_source"):
        return np.asarray(pipeline.predict(X))
    # codes matter to a pipeline only if it was fitted on several sources
    several = len(np.unique(domain)) > 1 or domain[0] != 1
    return np.asarray(pipeline.predict_source(X, sample_domain=domain if several else None))


def _maps_domains(pipeline: object) -> bool:
    return hasattr(pipeline, "transform_source") or any(
        hasattr(step, "transform_source") for _, step in getattr(pipeline, "steps", [])
    )


def bootstrap_weights(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw weights of `n` rows: equal ones, then those of bootstrap samples; (1 + RESAMPLES, n), each sums to one."""
    samples = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.vstack([np.full(n, 1 / n), samples / n]).astype(np.float32)
