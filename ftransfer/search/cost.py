"""How long trials take, and what takes too long on many rows."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer.adapt.pseudo import PseudoLabelled
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.steps import labels_target
from ftransfer.search.strategy import Trial

MANY_ROWS = 30_000  # of both domains, above which settings are compared on fewer rows first
KERNEL_ROWS = 30_000  # of both domains, above which no support vector machine races unless it is named
COMPONENTS = 500  # of the kernel, which take its place above so many rows
PSEUDO_ROWS = 20_000  # of either domain that pseudo-labelling learns from, at most
VOTES = 5e9  # products that a support vector machine sums up for one prediction, one for each pair of classes
FOREST_BYTES = 8e9  # that a forest takes at most, with the shares of all classes in every node
TREE_ROWS = 20_000  # that a tree of a forest is grown on, at most
ITERATIONS = 100  # of a linear classifier
TREE = 200  # operations at a node of a tree for each row and feature looked at, with what it predicts
ROUNDS = 10  # of a method that labels the target itself
OPERATIONS = 1e9  # a second, until a trial was timed


class Clock:
    """Expects how long trials take: by rows and features, and by those that were timed.

    Parameters
    ----------
    n_rows, n_features : int
    """

    def __init__(self, n_rows: int, n_features: int) -> None:
        self.n_rows, self.n_features = n_rows, n_features
        self._timed: dict[tuple[str, float, int | None], float] = {}  # longest, by recipe, rows and trees
        self._ratios: list[float] = []

    def guess(self, trial: Trial) -> float:
        """Guess the seconds of a trial before any was timed; for comparing trials with one another."""
        pipeline, rows = trial.recipe.pipeline, self.n_rows * trial.share
        return operations(pipeline, rows, self.n_features, trial.trees) / OPERATIONS

    def took(self, trial: Trial, seconds: float) -> None:
        """Learn from a trial."""
        key = trial.recipe.name, trial.share, trial.trees
        self._timed[key] = max(seconds, self._timed.get(key, 0.0))
        self._ratios.append(seconds / self.guess(trial))

    def expect(self, trial: Trial) -> float:
        """Expect the seconds of a trial: those of the longest of its recipe, or a guess by those on other rows."""
        name, share, trees = trial.recipe.name, trial.share, trial.trees
        if timed := self._timed.get((name, share, trees)):
            return timed
        if fewer := [key for key in self._timed if key[0] == name and key[2] == trees]:
            like = max(fewer, key=lambda key: key[1])
            return self.guess(trial) / self.guess(replace(trial, share=like[1])) * self._timed[like]
        return self.guess(trial) * (median(self._ratios) if self._ratios else 1.0)


def operations(
    pipeline: AdaptationPipeline, n_rows: float, n_features: int, trees: int | None = None
) -> float:
    """Guess how many operations fitting a pipeline takes, from its last step; right to an order of magnitude.

    `trees` are those that a forest is begun with, where it is not grown at once.
    """
    last = pipeline.steps[-1][1]
    rounds = ROUNDS if labels_target(last) else 1
    inner = _classifier(last)
    if hasattr(inner, "n_estimators"):
        share = getattr(inner, "max_samples", None)
        rows = n_rows * share if isinstance(share, float) else n_rows
        each = TREE * rows * math.log2(max(rows, 2)) * math.sqrt(n_features)
        return float(rounds * (trees or inner.n_estimators) * each)
    if hasattr(inner, "kernel"):
        return float(rounds * n_rows**2 * n_features)
    return float(rounds * ITERATIONS * n_rows * n_features)


def fit_to_size(
    recipes: Sequence[Recipe], n_rows: int, n_source: int, n_classes: int = 2
) -> tuple[list[Recipe], list[str]]:
    """Leave out or thin what takes too long, or too much memory, on many rows or classes.

    Parameters
    ----------
    recipes : sequence of Recipe
        Those that nobody named.
    n_rows, n_source : int
        Rows of both domains, and of the sources.
    n_classes : int, default=2

    Returns
    -------
    The recipes, and notes for people.
    """
    kept: list[Recipe] = []
    out: dict[str, list[str]] = {}
    thinned: list[str] = []
    drawn: list[str] = []
    approximated: list[str] = []
    for recipe in recipes:
        if n_rows > KERNEL_ROWS and (by_components := approximate_svm(recipe)):
            approximated.append(recipe.name)
            recipe = by_components
        if reason := _too_much(_classifier(recipe.pipeline.steps[-1][1]), n_rows, n_source, n_classes):
            out.setdefault(reason, []).append(recipe.name)
            continue
        if n_source > TREE_ROWS and _is_forest(recipe):
            thinned.append(recipe.name)
            recipe = replace(recipe, pipeline=_changed(recipe.pipeline, "max_samples", TREE_ROWS / n_source))
        if max(n_source, n_rows - n_source) > PSEUDO_ROWS and isinstance(
            recipe.pipeline.steps[-1][1], PseudoLabelled
        ):
            drawn.append(recipe.name)
            recipe = replace(recipe, pipeline=_changed(recipe.pipeline, "max_rows", PSEUDO_ROWS))
        kept.append(recipe)
    notes = [
        f"not run, because {reason}: {', '.join(names)}; to run them anyway, name them with --pipeline"
        for reason, names in out.items()
    ]
    if approximated:
        notes.append(
            f"in place of a support vector machine, logistic regression on {COMPONENTS} components that approximate "
            f"its kernel (Nystroem): {', '.join(approximated)}; to run the machine itself, name it with --pipeline"
        )
    if thinned:
        notes.append(
            f"each tree of a forest is grown on a random sample of {TREE_ROWS:,} source rows: {', '.join(thinned)}"
        )
    if drawn:
        notes.append(
            f"pseudo-labelling learns from a random sample of {PSEUDO_ROWS:,} rows of each domain: {', '.join(drawn)}"
        )
    return kept, notes


def approximate_svm(recipe: Recipe) -> Recipe | None:
    """Put logistic regression on components of the kernel in place of a support vector machine; None if there is none.

    Only of one with the default kernel on rows of unit length, and with a grid of C at most.

    References
    ----------
    Williams, Seeger, "Using the Nystrom method to speed up kernel machines", NIPS 2000.
    """
    params = recipe.pipeline.get_params()
    path = next((key for key, value in params.items() if type(value) is SVC), None)
    outer, _, name = (path or "").rpartition("__")
    steps = getattr(params[outer] if outer else recipe.pipeline, "steps", [])
    at = [each for each, _ in steps].index(name) if name in dict(steps) else 0
    if path is None or not at or not isinstance(steps[at - 1][1], Normalizer) or params[path].kernel != "rbf":
        return None
    parts = recipe.grid if isinstance(recipe.grid, list) else [recipe.grid]
    if any(key.startswith(f"{path}__") and key != f"{path}__C" for part in parts for key in part):
        return None
    kernel = Nystroem(gamma=1.0, n_components=COMPONENTS, random_state=0)
    logistic = make_plain_pipeline(kernel, LogisticRegression(C=params[path].C, max_iter=1000))
    grid = [
        {key.replace(f"{path}__C", f"{path}__logisticregression__C"): values for key, values in part.items()}
        for part in parts
    ]
    return replace(recipe, pipeline=clone(recipe.pipeline).set_params(**{path: logistic}), grid=grid)


def _too_much(classifier: Any, n_rows: int, n_source: int, n_classes: int) -> str:
    """Say why a classifier cannot be fitted in reasonable time and memory; nothing if it can."""
    if isinstance(classifier, SVC):
        if n_rows > KERNEL_ROWS:
            return f"support vector machines scale with the square of the number of rows ({n_rows:,})"
        # each support vector has a coefficient against every other class
        if n_classes * n_source * (n_rows - n_source) > VOTES:
            return f"a support vector machine compares all pairs of the {n_classes:,} classes for each row"
    if isinstance(classifier, RandomForestClassifier):
        nodes = 2 * min(n_source, TREE_ROWS) * classifier.n_estimators
        if 8 * n_classes * nodes > FOREST_BYTES:
            return (
                f"each node of a forest stores the proportions of all {n_classes:,} classes, "
                f"up to {8e-9 * n_classes * nodes:.0f} GB"
            )
    return ""


def _is_forest(recipe: Recipe) -> bool:
    return isinstance(_classifier(recipe.pipeline.steps[-1][1]), RandomForestClassifier)


def _changed(pipeline: AdaptationPipeline, name: str, value: Any) -> AdaptationPipeline:
    """Set a parameter of a step, or of what it wraps."""
    key = next(key for key in pipeline.get_params() if key.rpartition("__")[2] == name)
    return clone(pipeline).set_params(**{key: value})


def _classifier(step: Any) -> Any:
    """Take the classifier out of what wraps it."""
    inner = step.get_params(deep=False).get("estimator") if hasattr(step, "get_params") else None
    if hasattr(inner, "fit"):
        return _classifier(inner)
    if hasattr(step, "steps"):
        return _classifier(step.steps[-1][1])
    return step
