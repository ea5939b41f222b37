"""Which settings of which recipes are tried, in what order and on how many rows: grid, random, halving, Bayesian.

All recipes share one race. A strategy is asked for rounds of trials until there are none, and told the score of
each trial in between, higher is better.
"""

import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any, Protocol

import numpy as np
from sklearn.model_selection import ParameterGrid, ParameterSampler

from ftransfer.errors import FtransferError, unknown
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.settings import SEARCHES

Grid = dict[str, Any] | list[dict[str, Any]]
FACTOR = (
    3  # of successive halving, as in scikit-learn: a third of the trials go on, with three times the rows
)
FEWEST = 10  # rows of a class with which a round of halving begins
BATCH = 8  # trials that the Bayesian search proposes before it looks at scores again


@dataclass(frozen=True)
class Trial:
    """One setting of one recipe, to be fitted on a share of each domain's rows.

    Attributes
    ----------
    recipe : Recipe
    params : dict
    share : float
    trees : int or None
        That a forest is begun with; None: all.
    begun : AdaptationPipeline or None
        With a forest that was begun, to be grown on.
    """

    recipe: Recipe
    params: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    trees: int | None = None
    begun: AdaptationPipeline | None = field(default=None, repr=False)


class Strategy(Protocol):
    """Says what is tried next.

    Attributes
    ----------
    n_trials : int
        How many there will be, at most.
    """

    n_trials: int

    def ask(self) -> list[Trial]:
        """Give the trials of the next round; none at the end."""

    def tell(self, trials: Sequence[Trial], scores: Sequence[float]) -> None:
        """Take the score of each trial, NaN for one that failed."""


def make_strategy(
    name: str,
    recipes: Sequence[Recipe],
    *,
    n_trials: int | None = None,
    keep: Collection[str] = (),
    smallest: int = 0,
    random_state: int = 0,
) -> Strategy:
    """Make a strategy by name.

    Parameters
    ----------
    name : {"grid", "random", "halving", "bayesian"}
    recipes : list of Recipe
        The first come first, so that a budget never cuts them off.
    n_trials : int, optional
        Trials of a random or a Bayesian search. Default: as many as the grid has. Each recipe is tried once
        at least.
    keep : collection of str
        Names of recipes of which halving keeps the best setting to the end.
    smallest : int
        Rows of the smallest class of a source, by which halving knows with how few rows it can begin.
    random_state : int

    Returns
    -------
    Strategy

    Raises
    ------
    FtransferError
        If there is no such strategy, it needs Optuna, or a grid holds what the strategy cannot take.
    """
    if name not in SEARCHES or name == "auto":
        raise unknown("search", name, SEARCHES[1:], plural="searches")
    if name == "bayesian":
        return _Bayesian(recipes, n_trials, random_state)
    if name == "random":
        return _Rounds(_sampled(recipes, n_trials or len(_grid(recipes)), random_state))
    if name == "halving":
        return _Halving(_grid(recipes), keep, smallest)
    return _Rounds(_grid(recipes))


def _grid(recipes: Sequence[Recipe]) -> list[Trial]:
    """List every setting; the first of each recipe, then the second of each, and so on."""
    for recipe in recipes:
        for key, values in _entries(recipe.grid):
            if hasattr(values, "rvs"):
                raise FtransferError(
                    f"the grid of {recipe.name} gives a distribution for {key}: a grid search needs a list "
                    f"of values; distributions need --search random or bayesian"
                )
    return _in_turns([[Trial(r, params) for params in ParameterGrid(r.grid)] for r in recipes])


def _sampled(recipes: Sequence[Recipe], n_trials: int, random_state: int) -> list[Trial]:
    """Draw settings, about as many of each recipe; none twice where the grid is a list."""
    each = -(-n_trials // len(recipes))
    turns = []
    for i, recipe in enumerate(recipes):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The total space of parameters")  # a small grid is all tried
            drawn = list(ParameterSampler(recipe.grid, each, random_state=random_state + i))
        turns.append([Trial(recipe, params) for params in drawn])
    return _in_turns(turns)[: max(n_trials, len(recipes))]


def _in_turns(lists: Iterable[list[Trial]]) -> list[Trial]:
    return [trial for trial in chain.from_iterable(zip_longest(*lists)) if trial is not None]


def _entries(grid: Grid) -> list[tuple[str, Any]]:
    return [entry for part in (grid if isinstance(grid, list) else [grid]) for entry in part.items()]


class _Rounds:
    """All trials in one round."""

    def __init__(self, trials: list[Trial]) -> None:
        self.trials = trials
        self.n_trials = len(trials)

    def ask(self) -> list[Trial]:
        trials, self.trials = self.trials, []
        return trials

    def tell(self, trials: Sequence[Trial], scores: Sequence[float]) -> None:
        pass


class _Halving:
    """All on few rows, the best third of them on three times as many, until the rows are all there are.

    Jamieson, Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS
    2016, as scikit-learn's ``HalvingGridSearchCV``, over all recipes at once.
    """

    def __init__(self, trials: list[Trial], keep: Collection[str], smallest: int) -> None:
        rungs = 0
        while len(trials) > FACTOR ** (rungs + 1) and smallest / FACTOR ** (rungs + 1) >= FEWEST:
            rungs += 1
        self.shares = [FACTOR**-r for r in range(rungs, -1, -1)]
        self.keep, self.trials = keep, trials
        sizes = [len(trials)]
        for _ in range(rungs):
            sizes.append(min(sizes[-1], max(1, round(sizes[-1] / FACTOR)) + len(keep)))
        self.n_trials = sum(sizes)  # at most

    def ask(self) -> list[Trial]:
        if not self.shares:
            return []
        share = self.shares.pop(0)
        return [Trial(t.recipe, t.params, share) for t in self.trials]

    def tell(self, trials: Sequence[Trial], scores: Sequence[float]) -> None:
        values = np.nan_to_num(np.asarray(scores, dtype=float), nan=-np.inf)
        ranked = np.argsort(-values, kind="stable").tolist()
        chosen = set(ranked[: max(1, round(len(trials) / FACTOR))])
        for name in self.keep:
            chosen |= set([i for i in ranked if trials[i].recipe.name == name][:1])
        tried = {trial.recipe.name for trial in trials}
        late = {t.recipe.name: t for t in reversed(self.trials) if t.recipe.name in {*self.keep} - tried}
        self.trials = [trial for i, trial in enumerate(trials) if i in chosen] + [*late.values()]


class _Bayesian:
    """Optuna's tree-structured Parzen estimator over recipes and, between the grid's ends, their parameters.

    Bergstra, Bardenet, Bengio, Kegl, "Algorithms for hyper-parameter optimization", NeurIPS 2011.
    """

    def __init__(self, recipes: Sequence[Recipe], n_trials: int | None, random_state: int) -> None:
        try:
            import optuna
        except ImportError as error:
            raise FtransferError(
                'the Bayesian search needs Optuna, which is not installed: pip install "ftransfer[bayesian]"'
            ) from error
        self.recipes = {recipe.name: recipe for recipe in recipes}
        self.n_trials = max(
            n_trials or sum(len(ParameterGrid(_lists(r.grid))) for r in recipes), len(recipes)
        )
        self.left, self.failed = self.n_trials, optuna.trial.TrialState.FAIL
        self.open: dict[int, tuple[Trial, Any]] = {}  # by the trial's id, what Optuna knows it by
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            seed=random_state, constant_liar=True, n_startup_trials=2 * len(recipes)
        )
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        optuna.logging.set_verbosity(before)
        for name in self.recipes:
            self.study.enqueue_trial({"recipe": name})  # each once at least

    def ask(self) -> list[Trial]:
        # as many as there are recipes at first, so that all of them have been seen before one is preferred
        size = min(self.left, len(self.recipes) if self.left == self.n_trials else BATCH)
        self.left -= size
        return [self._propose() for _ in range(size)]

    def _propose(self) -> Trial:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*constant_liar.*")
            asked = self.study.ask()
        recipe = self.recipes[asked.suggest_categorical("recipe", list(self.recipes))]
        parts = recipe.grid if isinstance(recipe.grid, list) else [recipe.grid]
        which = asked.suggest_categorical(f"{recipe.name}:part", range(len(parts))) if len(parts) > 1 else 0
        params = {
            key: _suggest(asked, f"{recipe.name}:{which}:{key}", values)
            for key, values in parts[which].items()
        }
        trial = Trial(recipe, params)
        self.open[id(trial)] = (trial, asked)
        return trial

    def tell(self, trials: Sequence[Trial], scores: Sequence[float]) -> None:
        for trial, score in zip(trials, scores, strict=True):
            _, asked = self.open.pop(id(trial))
            if np.isnan(score):
                self.study.tell(asked, state=self.failed)
            else:
                self.study.tell(asked, float(score))


def _lists(grid: Grid) -> list[dict[str, Any]]:
    """Stand in for distributions with ten values each, to count settings by."""
    parts = grid if isinstance(grid, list) else [grid]
    return [{k: range(10) if hasattr(v, "rvs") else v for k, v in part.items()} for part in parts]


def _suggest(asked: Any, name: str, values: Any) -> Any:
    """Suggest a number between the smallest and the largest of `values`, or one of them."""
    if hasattr(values, "rvs"):
        values = values.ppf([0.01, 0.99]).tolist()
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or len(set(numbers)) < 2:
        return values[asked.suggest_categorical(name, range(len(values)))]
    low, high = min(numbers), max(numbers)
    log = low > 0 and high >= 10 * low
    if all(isinstance(v, int) for v in numbers):
        return asked.suggest_int(name, low, high, log=log)
    return float(f"{asked.suggest_float(name, low, high, log=log):.3g}")  # as people write them
