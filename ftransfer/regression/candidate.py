"""A candidate of a race of regressors."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.steps import step_of


@dataclass(eq=False)
class Candidate:
    """One setting of one recipe, and what was found of it.

    Attributes
    ----------
    recipe : Recipe
    params : dict
    predicted : ndarray of shape (n_target,)
        Empty where it failed, as the next two.
    as_target, as_source : ndarray of shape (n_source,)
        See `HeldOutSource.predict`.
    score : ndarray of shape (1 + n_resamples,)
        NaN where it failed.
    seconds : float
    error : str
        Why it failed; empty where it did not.
    """

    recipe: Recipe
    params: dict[str, Any]
    predicted: np.ndarray = field(default_factory=lambda: np.empty(0))
    as_target: np.ndarray = field(default_factory=lambda: np.empty(0))
    as_source: np.ndarray = field(default_factory=lambda: np.empty(0))
    score: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))
    seconds: float = 0.0
    error: str = ""

    @property
    def pipeline(self) -> str:
        """Name of the recipe."""
        return self.recipe.name

    @property
    def step(self) -> str:
        """Step of the guard."""
        return step_of(self.recipe.pipeline)

    def make(self) -> AdaptationPipeline:
        """Make the pipeline with its setting, not fitted."""
        return clone(self.recipe.pipeline).set_params(**self.params)
