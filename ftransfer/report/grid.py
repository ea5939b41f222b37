"""What a grid search shows beyond its best setting: curves and heat maps of the score, and which parameter matters."""

from collections.abc import Sequence
from itertools import combinations
from math import prod
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from ftransfer.report.scatter import draw_scatter

FEW_VALUES = 8  # of a number, of which more are put into bins of the same size to tell how much it matters
BINS = 5
MOST_VALUES = 12  # on a side of a heat map; with more, each setting is a point
DEFAULT = "default"  # where a setting does not name a parameter that others of the recipe do


def search_report(table: pd.DataFrame) -> list[dict]:
    """Say of each recipe how its score depends on its parameters.

    Parameters
    ----------
    table : DataFrame
        Ranked candidates, as `Race.table`.

    Returns
    -------
    list of dict, one for each recipe with a parameter of several values
        ``pipeline``; ``settings``, their number; ``low, high``, the ends of their scores; ``parameters``, a list of
        ``parameter, share``: the share of the variance of the score that it explains by itself, None where the
        settings are too few to tell; ``interactions``, the share that only several of them explain together, None
        where not every combination was tried; ``pairs``, see `pair`.
    """
    found = []
    scored = table[table["score"].notna()]
    for name, rows in scored.groupby("pipeline", sort=False):
        values = _values(rows["params"].tolist())
        if not values:
            continue
        scores = rows["score"].to_numpy(dtype=float)
        shares, interactions = importance(values, scores)
        found.append(
            {
                "pipeline": name,
                "settings": len(rows),
                "low": scores.min(),
                "high": scores.max(),
                "parameters": [{"parameter": p, "share": shares[p]} for p in values],
                "interactions": interactions,
                "pairs": [pair(a, b, values, scores) for a, b in combinations(values, 2)],
            }
        )
    return found


def _values(settings: Sequence[dict]) -> dict[str, list]:
    """List the value of each parameter in each setting; parameters of one value are left out."""
    names = dict.fromkeys(key for params in settings for key in params)
    values = {name: [params.get(name, DEFAULT) for params in settings] for name in names}
    return {name: each for name, each in values.items() if len({str(v) for v in each}) > 1}


def importance(values: dict[str, list], scores: np.ndarray) -> tuple[dict[str, float | None], float | None]:
    """Split the variance of the score among the parameters (analysis of variance).

    Where every combination of the values was tried once, the split is exact: the main effect of each parameter, and
    the rest, which are interactions. Else each main effect is estimated by itself (epsilon squared: Kelley, "An
    unbiased correlation ratio measure", PNAS 1935), numbers with many values in bins.

    Parameters
    ----------
    values : dict of {str: list}
        Value of each parameter in each setting.
    scores : array of shape (n_settings,)

    Returns
    -------
    shares : dict of {str: float or None}
    interactions : float or None

    Examples
    --------
    >>> values = {"a": [1, 1, 2, 2], "b": ["x", "y", "x", "y"]}
    >>> importance(values, np.array([0.0, 0.0, 1.0, 1.0]))
    ({'a': 1.0, 'b': 0.0}, 0.0)
    >>> importance(values, np.array([1.0, 0.0, 0.0, 1.0]))
    ({'a': 0.0, 'b': 0.0}, 1.0)
    """
    total = float(((scores - scores.mean()) ** 2).sum())
    if total < 1e-12:
        return dict.fromkeys(values, None), None
    codes = {name: np.unique([str(v) for v in each], return_inverse=True)[1] for name, each in values.items()}
    combined = len(np.unique(np.stack(list(codes.values())), axis=1).T)
    every = combined == len(scores) == prod(int(code.max()) + 1 for code in codes.values())
    if every:
        shares: dict[str, float | None] = {
            name: _between(code, scores) / total for name, code in codes.items()
        }
        return shares, max(0.0, 1 - sum(share for share in shares.values() if share is not None))
    return {name: _epsilon_squared(_binned(each), scores, total) for name, each in values.items()}, None


def _between(codes: np.ndarray, scores: np.ndarray) -> float:
    """Sum of squares between groups."""
    counts = np.bincount(codes)
    means = np.bincount(codes, scores) / counts
    return float((counts * (means - scores.mean()) ** 2).sum())


def _epsilon_squared(codes: np.ndarray, scores: np.ndarray, total: float) -> float | None:
    groups = len(np.unique(codes))
    if len(scores) <= groups:
        return None
    between = _between(codes, scores)
    within = (total - between) / (len(scores) - groups)
    return max(0.0, (between - (groups - 1) * within) / total)


def _binned(values: list) -> np.ndarray:
    texts = [str(v) for v in values]
    if len(set(texts)) > FEW_VALUES and all(is_number(v) for v in values):
        edges = np.quantile(np.array(values, dtype=float), np.linspace(0, 1, BINS + 1)[1:-1])
        return np.unique(np.digitize(np.array(values, dtype=float), edges), return_inverse=True)[1]
    return np.unique(texts, return_inverse=True)[1]


def pair(a: str, b: str, values: dict[str, list], scores: np.ndarray) -> dict:
    """Lay out the score over two parameters.

    Returns
    -------
    dict
        ``rows, columns``: the names of the parameters. ``row_values, column_values`` and ``scores``: the best score
        with each two values over the other parameters, None where there is none; or, where a parameter has many values,
        ``points``: two values and a score each.
    """
    sides = {name: _in_order(values[name]) for name in (a, b)}
    laid = {"rows": a, "columns": b}
    if max(len(side) for side in sides.values()) > MOST_VALUES:
        return {**laid, "points": [list(point) for point in zip(values[a], values[b], scores, strict=True)]}
    best: dict[tuple[str, str], float] = {}
    for one, other, score in zip(values[a], values[b], scores, strict=True):
        key = str(one), str(other)
        best[key] = max(best.get(key, -np.inf), float(score))
    cells = [[best.get((str(one), str(other))) for other in sides[b]] for one in sides[a]]
    return {**laid, "row_values": sides[a], "column_values": sides[b], "scores": cells}


def _in_order(values: list) -> list:
    return sorted({str(v): v for v in values}.values(), key=place_of)


def curves(table: pd.DataFrame) -> list[dict]:
    """Follow the score over each parameter of each recipe's grid, the other parameters at their best.

    Parameters
    ----------
    table : DataFrame
        Ranked candidates.

    Returns
    -------
    list of dict ``pipeline, parameter, points``; a point is ``value, score, target_accuracy`` of the best
    candidate with that value, and ``scores`` of all with it.
    """
    found = []
    scored = table[table["score"].notna()]
    for name, rows in scored.groupby("pipeline", sort=False):
        for parameter in dict.fromkeys(key for params in rows["params"] for key in params):
            points: dict[str, dict] = {}
            for row in rows.to_dict("records"):
                if parameter in row["params"]:
                    value = row["params"][parameter]
                    point = {k: row[k] for k in ("score", "target_accuracy")}
                    point = points.setdefault(str(value), {"value": value, **point, "scores": []})
                    point["scores"].append(row["score"])
            if len(points) > 1:
                in_order = sorted(points.values(), key=lambda p: place_of(p["value"]))
                found.append({"pipeline": name, "parameter": parameter, "points": in_order})
    return found


def is_number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def place_of(value: Any) -> tuple:
    """Key that sorts numbers by size, before all else by its text."""
    return (0, value, "") if is_number(value) else (1, 0, str(value))


def draw_pairs(found: list[dict]) -> list[dict]:
    """Prepare the heat maps of all recipes for the page: colours on one scale for each recipe, points as a picture."""
    drawn = []
    for recipe in found:
        low, high = recipe["low"], recipe["high"]
        room = (high - low) or 1.0
        for each in recipe["pairs"]:
            names = {side: each[side].rsplit("__", 1)[-1] for side in ("rows", "columns")}
            map_ = {"pipeline": recipe["pipeline"], **names, "picture": Markup(""), "lines": []}
            if "points" in each:
                said = f"settings of {recipe['pipeline']} over {names['rows']} and {names['columns']}"
                map_["picture"] = draw_scatter(
                    each["points"], names["rows"], names["columns"], said, (low, high)
                )
            else:
                map_["column_values"] = each["column_values"]
                map_["lines"] = [
                    {
                        "value": value,
                        "cells": [
                            {
                                "score": s,
                                "shade": None if s is None else round((s - low) / room, 2),
                                "best": s == high,
                            }
                            for s in line
                        ],
                    }
                    for value, line in zip(each["row_values"], each["scores"], strict=True)
                ]
            drawn.append(map_)
    return drawn
