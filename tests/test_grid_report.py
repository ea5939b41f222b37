import re

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import ParameterGrid

from ftransfer.report.grid import draw_pairs, importance, search_report


def table_of(settings, score, pipeline="p"):
    """A ranked table of settings and their scores."""
    rows = [{"pipeline": pipeline, "params": p, "score": score(p), "target_accuracy": 0.5} for p in settings]
    return pd.DataFrame(rows).sort_values("score", ascending=False, ignore_index=True)


def test_a_full_grid_splits_the_variance_into_main_effects_and_interactions():
    grid = ParameterGrid({"a": [0, 1, 2], "b": [0, 1], "c": ["x", "y"]})
    [found] = search_report(table_of(grid, lambda p: 2 * p["a"] + p["b"] + p["a"] * p["b"]))
    shares = {each["parameter"]: each["share"] for each in found["parameters"]}
    # by hand: with b at its mean the slope of a is 2.5, that of b is 2, and a * b is left with 1 / 2
    variances = {"a": 2.5**2 * 2 / 3, "b": 2**2 / 4, "together": 2 / 3 / 4}
    total = sum(variances.values())
    assert shares["a"] == pytest.approx(variances["a"] / total)
    assert shares["b"] == pytest.approx(variances["b"] / total)
    assert shares["c"] == pytest.approx(0)
    assert found["interactions"] == pytest.approx(variances["together"] / total)


def test_settings_drawn_at_random_give_a_parameter_without_effect_no_share():
    rng = np.random.default_rng(0)
    values = {"C": rng.uniform(size=200).tolist(), "idle": rng.uniform(size=200).tolist()}
    scores = np.array(values["C"]) + 0.05 * rng.normal(size=200)
    shares, interactions = importance(values, scores)
    assert shares["C"] > 0.9
    assert shares["idle"] < 0.05
    assert interactions is None


def test_few_settings_say_that_they_are_too_few():
    assert importance({"C": [1, 2, 3]}, np.array([0.1, 0.2, 0.4])) == ({"C": 1.0}, 0.0)
    shares, _ = importance({"C": [1, 2, 3], "k": [1, 1, 2]}, np.array([0.1, 0.2, 0.4]))
    assert shares["C"] is None
    assert importance({"C": [1, 2]}, np.array([0.5, 0.5])) == ({"C": None}, None)


def test_there_is_a_heat_map_for_every_pair_and_a_cell_holds_the_best_over_the_others():
    grid = ParameterGrid({"s__a": [10, 2], "s__b": [0.1, 1.0], "s__c": [None, "x"]})
    score = lambda p: p["s__a"] / 100 + p["s__b"] / 10 + (p["s__c"] is None) / 5  # noqa: E731
    [found] = search_report(table_of(grid, score))
    assert [(p["rows"], p["columns"]) for p in found["pairs"]] == [
        ("s__a", "s__b"), ("s__a", "s__c"), ("s__b", "s__c"),
    ]  # fmt: skip
    first = found["pairs"][0]
    assert (first["row_values"], first["column_values"]) == ([2, 10], [0.1, 1.0])
    assert np.array(first["scores"]) == pytest.approx(np.array([[0.23, 0.32], [0.31, 0.4]]))
    drawn = draw_pairs([found])
    assert [map_["rows"] for map_ in drawn] == ["a", "a", "b"]
    assert [cell["best"] for line in drawn[0]["lines"] for cell in line["cells"]] == [
        False,
        False,
        False,
        True,
    ]


def test_many_values_are_points_and_a_missing_parameter_is_its_default():
    rng = np.random.default_rng(0)
    settings = [{"C": float(c), "gamma": float(g)} for c, g in 10 ** rng.uniform(-2, 2, size=(20, 2))]
    [found] = search_report(table_of([*settings, {"C": 1.0}], lambda p: p["C"] / 1000))
    picture = draw_pairs([found])[0]["picture"]
    assert picture.count("<circle") == 21
    assert picture.count('class="best"') == 1
    assert "21 settings of p over C and gamma" in picture
    assert not re.search(r"nan|inf", picture)


def test_a_recipe_of_one_setting_has_nothing_to_show():
    assert search_report(table_of([{"C": 1}], lambda p: 0.5)) == []
    assert search_report(table_of([{}], lambda p: 0.5)) == []
