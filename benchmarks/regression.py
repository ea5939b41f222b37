"""Does choosing a regressor without target labels work? Made shifts of made and of bundled data.

    python benchmarks/regression.py [--seeds 3] [--cache FOLDER]

Each task has 200 source and 200 target rows or so. Printed for each: the score that was trusted, what was recommended,
and R2 on the target of the best source-only recipe (by the same score), of always scaling, of always CORAL, of the
recommendation, of the recommendation with 20 target labels for the guard, and of the best candidate there is.
"""

import argparse
import pickle
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_digits

from ftransfer import RegressionTask, race_regression
from ftransfer.regression.task import draw_target_numbers

ROWS, LABELS = 200, 20
RECIPES = [
    *("source_only_ridge", "source_only_svr", "scaled_ridge", "scaled_svr", "coral_ridge", "coral_svr"),
    *("subspace_ridge", "weighted_ridge"),
]
GRIDS = {"source_only__ridge__alpha": [1.0, 100.0]}


class Made:
    """Sixty features of eight hidden causes, and a number that depends on these; each seed is another world."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.mix = self.rng.normal(size=(8, 60)) / np.sqrt(8)
        self.weights = self.rng.normal(size=8)

    def rows(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw features, labels and causes."""
        Z = self.rng.normal(size=(n, 8))
        y = Z @ self.weights + np.sin(2 * Z[:, 0]) + 0.3 * self.rng.normal(size=n)
        return np.tanh(Z @ self.mix) + 0.1 * self.rng.normal(size=(n, 60)), y, Z

    def tilted(self, by: str, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows with high labels, or high values of a cause, more often."""
        X, y, Z = self.rows(4 * ROWS)
        value = y / y.std() if by == "label" else Z[:, 0]
        odds = np.exp(strength * value)
        kept = self.rng.choice(len(X), ROWS, replace=False, p=odds / odds.sum())
        return X[kept], y[kept]


def made_tasks(seed: int) -> Iterator[tuple[str, RegressionTask]]:
    """Make tasks of one world."""
    made = Made(seed)
    rng = made.rng
    X, y, _ = made.rows(ROWS)
    Xt, yt, _ = made.rows(ROWS)
    gain, offset, small = np.exp(rng.normal(0, 0.5, 60)), rng.normal(0, 1, 60), rng.normal(0, 0.3, 60)
    mixing = np.eye(60) + 0.5 * rng.normal(size=(60, 60)) / np.sqrt(60)
    yield "no shift", RegressionTask.of(X, y, Xt, yt)
    yield "other inputs", RegressionTask.of(X, y, *made.tilted("cause", 1.5))
    yield "other labels", RegressionTask.of(X, y, *made.tilted("label", 1.0))
    yield "gain and offset", RegressionTask.of(X, y, Xt * gain + offset, yt)
    yield "small offset", RegressionTask.of(X, y, Xt + small, yt)
    yield "mixing", RegressionTask.of(X, y, Xt @ mixing, yt)
    yield "mixing and offset", RegressionTask.of(X, y, Xt @ mixing + offset, yt)
    tilted, labels = made.tilted("label", 1.0)
    yield "other labels, offset", RegressionTask.of(X, y, tilted + offset, labels)


def bundled_tasks(seed: int) -> Iterator[tuple[str, RegressionTask]]:
    """Make tasks of data that come with scikit-learn."""
    rng = np.random.default_rng(seed)
    X, y = load_diabetes(return_X_y=True)
    for name, column in (("age", 0), ("bmi", 2), ("blood pressure", 3)):
        value = X[:, column] / X[:, column].std() + rng.normal(size=len(X))
        low = value < np.median(value)
        yield f"diabetes by {name}", RegressionTask.of(X[low], y[low], X[~low], y[~low])
    order = rng.permutation(len(X))
    half, rest = order[: len(X) // 2], order[len(X) // 2 :]
    moved = X[rest] * np.exp(rng.normal(0, 0.4, 10)) + 0.05 * rng.normal(size=10)
    yield "diabetes, other units", RegressionTask.of(X[half], y[half], moved, y[rest])
    images = load_digits().data[rng.permutation(1797)[: 2 * ROWS]]
    middle = (images * np.arange(64)).sum(axis=1) / images.sum(axis=1)  # where the ink lies
    faded = np.clip(0.5 * images[ROWS:] + 3, 0, 16)
    yield "digits, faded", RegressionTask.of(images[:ROWS], middle[:ROWS], faded, middle[ROWS:])


def measure(name: str, task: RegressionTask, seed: int) -> dict:
    """Race on a task, and look at what would have been."""
    task = replace(task, X=task.X.astype(np.float32))
    race = race_regression(task, RECIPES, grids=GRIDS)
    few, labels = draw_target_numbers(task, LABELS, random_state=seed)
    helped = race_regression(few, RECIPES, grids=GRIDS, target_labels=labels)
    table = race.table

    def first(mask: pd.Series) -> float:
        return float(table["target_r2"][mask].iloc[0])

    return {
        "task": name,
        "score": race.score_name.removesuffix(" R2"),
        "recommended": table["pipeline"][race.chosen],
        "source only": first(table["step"] == "source only"),
        "always scale": first(table["step"] == "per-domain scaling"),
        "always CORAL": first(table["adaptation"] == "CORAL"),
        "chosen": float(table["target_r2"][race.chosen]),
        "with 20 labels": float(helped.table["target_r2"][helped.chosen]),
        "best": float(table["target_r2"].max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="the one task to race on")
    parser.add_argument("--cache", type=Path, help="folder to keep results in")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for seed in range(given.seeds):
        for name, task in (*made_tasks(seed), *bundled_tasks(seed)):
            if given.only not in (None, name):
                continue
            file = given.cache and given.cache / f"{seed} {name}.pkl"
            row = pickle.loads(file.read_bytes()) if file and file.is_file() else measure(name, task, seed)
            if file:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(pickle.dumps(row))
            rows.append(row)
    table = pd.DataFrame(rows)
    numbers = table.columns[3:]
    means = table.groupby("task", sort=False)[list(numbers)].mean()
    scores = table.groupby("task", sort=False)[["score", "recommended"]].agg(
        lambda x: ", ".join(dict.fromkeys(x))
    )
    print(scores.join(means).round(2).to_string())
    print("\nmean over tasks\n" + means.mean().round(2).to_string())
    lost = table["source only"] - table["chosen"]
    print(
        f"\n{len(table)} races: against source only better by more than 0.02 in {(lost < -0.02).sum()}, worse in "
        f"{(lost > 0.02).sum()}, at worst by {lost.max():.2f}"
    )


if __name__ == "__main__":
    main()
