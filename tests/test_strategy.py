"""Which settings are tried, in what order, on how many rows."""

import numpy as np
import pytest
from scipy.stats import loguniform, randint
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from ftransfer import DomainScaler, FtransferError, make_pipeline
from ftransfer.recipes import Recipe
from ftransfer.search.strategy import FEWEST, make_strategy

SVM = Recipe("svm", make_pipeline(DomainScaler(), SVC()), {"svc__C": [0.1, 1.0, 10.0, 100.0]})
LOGISTIC = Recipe(
    "logistic",
    make_pipeline(DomainScaler(), LogisticRegression()),
    [{"logisticregression__C": [0.01, 1.0]}, {"domainscaler__scale": ["std", "iqr", None]}],
)
FREE = Recipe(
    "free",
    make_pipeline(DomainScaler(), SVC()),
    {"svc__C": loguniform(1e-3, 1e3), "svc__degree": randint(2, 5)},
)
RECIPES = [SVM, LOGISTIC]


def played(strategy, score=lambda trial: 0.0):
    """Ask and tell until the end; return the rounds."""
    rounds = []
    while trials := strategy.ask():
        rounds.append(trials)
        strategy.tell(trials, [score(trial) for trial in trials])
    return rounds


def named(trials):
    return [(t.recipe.name, tuple(t.params.items())) for t in trials]


def test_a_grid_tries_every_setting_once_and_the_recipes_in_turns():
    (trials,) = played(make_strategy("grid", RECIPES))
    assert len(trials) == len(set(named(trials))) == 4 + 2 + 3
    assert [t.recipe.name for t in trials[:4]] == ["svm", "logistic", "svm", "logistic"]


def test_a_random_search_draws_no_setting_of_a_list_twice():
    (trials,) = played(make_strategy("random", RECIPES, n_trials=6))
    assert len(trials) == len(set(named(trials))) == 6
    assert {t.recipe.name for t in trials} == {"svm", "logistic"}


def test_a_random_search_draws_from_distributions_and_repeats_itself():
    first, again, other = (
        played(make_strategy("random", [FREE], n_trials=30, random_state=seed))[0] for seed in (0, 0, 1)
    )
    assert named(first) == named(again) != named(other)
    drawn = np.array([t.params["svc__C"] for t in first])
    assert (drawn > 1e-3).all()
    assert (drawn < 1e3).all()
    assert (drawn < 1).any()


@pytest.mark.parametrize("name", ["random", "bayesian"])
def test_every_recipe_is_tried_though_few_trials_are_asked_for(name):
    if name == "bayesian":
        pytest.importorskip("optuna", reason="Optuna is not installed: the extra [bayesian]")
    rounds = played(make_strategy(name, RECIPES, n_trials=1))
    assert {t.recipe.name for t in rounds[0]} == {"svm", "logistic"}


def test_a_grid_search_refuses_a_distribution():
    with pytest.raises(FtransferError, match="grid of free gives a distribution for svc__C"):
        make_strategy("grid", [FREE])


def test_halving_keeps_the_best_third_and_triples_the_rows():
    recipe = Recipe("svm", SVM.pipeline, {"svc__C": [float(c) for c in range(1, 28)]})
    rounds = played(make_strategy("halving", [recipe], smallest=1000), lambda t: t.params["svc__C"])
    assert [len(trials) for trials in rounds] == [27, 9, 3]
    assert [trials[0].share for trials in rounds] == pytest.approx([1 / 9, 1 / 3, 1])
    assert {t.params["svc__C"] for t in rounds[-1]} == {25, 26, 27}


def test_halving_keeps_the_best_setting_of_the_recipes_that_must_stay():
    recipe = Recipe("other", SVM.pipeline, {"svc__C": [float(c) for c in range(1, 28)]})
    strategy = make_strategy("halving", [SVM, recipe], keep=["svm"], smallest=1000)
    last = played(strategy, lambda t: t.params["svc__C"] * (t.recipe.name == "other" or 1e-3))[-1]
    assert ("svm", (("svc__C", 100.0),)) in named(last)


def test_halving_drops_what_failed():
    recipe = Recipe("svm", SVM.pipeline, {"svc__C": [float(c) for c in range(1, 10)]})
    rounds = played(
        make_strategy("halving", [recipe], smallest=1000),
        lambda t: 1.0 if t.params["svc__C"] == 5 else np.nan,
    )
    assert 5 in [t.params["svc__C"] for t in rounds[-1]]


@pytest.mark.parametrize("smallest", [1, FEWEST, 3 * FEWEST - 1])
def test_halving_with_few_rows_of_a_class_is_a_grid(smallest):
    (trials,) = played(make_strategy("halving", RECIPES, smallest=smallest))
    assert len(trials) == 9
    assert {t.share for t in trials} == {1.0}


def test_a_bayesian_search_closes_in_on_the_best_recipe_and_value():
    pytest.importorskip("optuna", reason="Optuna is not installed: the extra [bayesian]")

    def score(trial):
        C = trial.params.get("svc__C")
        return -abs(np.log10(C) - 1.3) if trial.recipe.name == "svm" else -5.0

    rounds = played(make_strategy("bayesian", RECIPES, n_trials=60), score)
    trials = [t for trials in rounds for t in trials]
    assert len(trials) == 60
    late = trials[30:]
    assert np.mean([t.recipe.name == "svm" for t in late]) > 0.7
    best = max(score(t) for t in trials)
    assert best > max(-abs(np.log10(c) - 1.3) for c in (0.1, 1.0, 10.0, 100.0))  # between the grid's values


def test_a_bayesian_search_survives_failures_and_repeats_itself():
    pytest.importorskip("optuna", reason="Optuna is not installed: the extra [bayesian]")
    first, again = (
        played(
            make_strategy("bayesian", [*RECIPES, FREE], n_trials=20),
            lambda t: np.nan if t.recipe.name == "logistic" else t.params["svc__C"],
        )
        for _ in range(2)
    )
    assert [named(r) for r in first] == [named(r) for r in again]
    assert len(first) > 2


def test_a_bayesian_search_without_optuna_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(FtransferError, match=r'pip install "ftransfer\[bayesian\]"'):
        make_strategy("bayesian", RECIPES)


def test_an_unknown_search_is_refused_with_the_near_name():
    with pytest.raises(FtransferError, match="did you mean 'halving'"):
        make_strategy("halvin", RECIPES)
