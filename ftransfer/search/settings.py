"""How a race is run. Nothing here takes long to import: the command line completes words from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ftransfer.scoring.names import DEFAULT_SCORER

if TYPE_CHECKING:
    import numpy as np

SEARCHES = ("auto", "grid", "random", "halving", "bayesian")
Search = Literal["auto", "grid", "random", "halving", "bayesian"]
MAX_ROWS = 100_000


@dataclass(frozen=True)
class RaceSettings:
    """Options of a race; `race` also takes each of them as a keyword.

    Parameters
    ----------
    scorer : str, default="consistency"
        Score that needs no target labels, one of `list_scorers`.
    search : {"auto", "grid", "random", "halving", "bayesian"}, default="auto"
        All settings (grid); random ones; all on few rows, then the best on more (halving); or those that Optuna
        proposes, also between the values of the grid (extra ``[bayesian]``). "auto": halving with more than 30,000
        rows, else grid.
    n_trials : int, optional
        Settings that a random or Bayesian search tries. Default: as many as the grid has.
    budget : float, optional
        Time limit in seconds, including the final fits: settings that are expected to take longer than the time left
        are skipped. The cheapest setting of each step always runs.
    journal : str or path, optional
        File of the results so far; an interrupted race resumes from it.
    target_labels : ndarray of shape (n_target,), int, optional
        Labels of a few target rows, -1 for the others, -2 for none of the classes: they decide between candidates,
        and are fitted on (`ftransfer.search.labelled`). Default: those of the task (`draw_target_labels`).
    choose_sources : bool, default=True
        Whether, with several sources, each one alone is tried as well as all together.
    jobs : int, optional
        Candidates fitted at once. Default: the usable cores.
    random_state : int, default=0
        Seed of the random and the Bayesian search.
    grids : mapping, optional
        Values to search in place of those of the recipes: ``{"coral_svm": {"coral__ridge": [1, 10]}}`` replaces the
        grid of a recipe, ``{"coral__ridge": [1, 10]}`` the values of a parameter in all recipes that have it, and
        ``{"coral_svm:coral__ridge": [1, 10]}`` in one.
    max_rows : int, default=100_000
        Rows of both domains that recipes are compared and fitted on, drawn at random where there are more. The labels
        of all target rows are predicted.
    """

    scorer: str = DEFAULT_SCORER
    search: Search = "auto"
    n_trials: int | None = None
    budget: float | None = None
    journal: str | Path | None = None
    target_labels: np.ndarray | None = None
    choose_sources: bool = True
    jobs: int | None = None
    random_state: int = 0
    grids: Mapping[str, Any] | None = None
    max_rows: int = MAX_ROWS


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
    max_rows: int
