"""How a race is run. Nothing here takes long to import: the command line completes words from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ftransfer.scoring.names import DEFAULT_SCORER

if TYPE_CHECKING:
    import numpy as np

SEARCHES = ("grid", "random", "halving", "bayesian")
Search = Literal["grid", "random", "halving", "bayesian"]


@dataclass(frozen=True)
class RaceSettings:
    """How a race is run; `race` takes each of these as a keyword, too.

    Parameters
    ----------
    scorer : str, default="consistency"
        Score that needs no target labels, one of `list_scorers`.
    search : {"grid", "random", "halving", "bayesian"}, default="grid"
        Every setting; some drawn at random; all on few rows and the better ones on more; or those that
        Optuna proposes, between the ends of the grid too (extra ``[bayesian]``).
    n_trials : int, optional
        Settings that a random or Bayesian search tries. Default: as many as the grid has.
    budget : float, optional
        Seconds in which the race should end, what the guard fits at the end included: a setting that is expected to
        take longer than is left is passed over. The cheapest setting of source only, of per-domain scaling and of
        either kind of adaptation is always tried.
    journal : str or path, optional
        File of the results so far; an interrupted race resumes from it.
    target_labels : ndarray of shape (n_target,), int, optional
        Labels of a few target rows for the guard, -1 for the others: `draw_target_labels`. Nothing is fitted or
        ranked by them.
    choose_sources : bool, default=True
        Whether, of several sources, each alone races against all together.
    jobs : int, optional
        Candidates fitted at once. Default: the usable cores.
    random_state : int, default=0
        Of the random and the Bayesian search.
    grids : mapping, optional
        Values to search in place of those of the recipes: ``{"coral_svm": {"coral__ridge": [1, 10]}}`` replaces the
        grid of a recipe, ``{"coral__ridge": [1, 10]}`` the values of a parameter in all recipes that have it, and
        ``{"coral_svm:coral__ridge": [1, 10]}`` in one.
    """

    scorer: str = DEFAULT_SCORER
    search: Search = "grid"
    n_trials: int | None = None
    budget: float | None = None
    journal: str | Path | None = None
    target_labels: np.ndarray | None = None
    choose_sources: bool = True
    jobs: int | None = None
    random_state: int = 0
    grids: Mapping[str, Any] | None = None


class RaceOptions(TypedDict, total=False):
    """The fields of `RaceSettings` as keywords, for type checkers."""

    scorer: str
    search: Search
    n_trials: int | None
    budget: float | None
    journal: str | Path | None
    target_labels: np.ndarray | None
    choose_sources: bool
    jobs: int | None
    random_state: int
    grids: Mapping[str, Any] | None
