"""Grids in place of those of the recipes, from Python, a YAML or JSON file, or ``--set`` on the command line."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ftransfer.errors import FtransferError, unknown
from ftransfer.recipes import Recipe, check_grid
from ftransfer.storage.reading import read_text

WORDS = {"none": None, "null": None, "true": True, "false": False}


def with_grids(recipes: Sequence[Recipe], grids: Mapping[str, Any] | None) -> list[Recipe]:
    """Change the grids of recipes.

    Parameters
    ----------
    recipes : sequence of Recipe
    grids : mapping, or None
        By the name of a recipe a grid (dict or list of dicts) in place of its own; by the name of a parameter, such as
        ``"coral__ridge"``, a list of values for each recipe whose pipeline has it; by ``"coral_svm:coral__ridge"`` for
        one recipe. Other parameters of a grid stay as they are.

    Returns
    -------
    list of Recipe

    Raises
    ------
    FtransferError
        If a name is neither a recipe that races nor a parameter of one, or a grid holds no list of values.

    Examples
    --------
    >>> from ftransfer import load_recipe
    >>> [changed] = with_grids([load_recipe("coral_svm")], {"coral__ridge": [1, 100]})
    >>> changed.grid
    {'coral__ridge': [1, 100], 'svc__C': [1.0, 10.0]}
    >>> [replaced] = with_grids([load_recipe("coral_svm")], {"coral_svm": {"svc__gamma": [0.1]}})
    >>> replaced.grid
    {'svc__gamma': [0.1]}
    """
    changed = {recipe.name: recipe for recipe in recipes}
    for key, values in (grids or {}).items():
        name, colon, parameter = str(key).rpartition(":")
        if key in changed:
            changed[key] = _replaced(changed[key], values)
            continue
        if colon and name not in changed:
            raise unknown("recipe in this race", name, changed, "recipes in this race")
        matching = [r for r in changed.values() if r.name == name or not colon]
        having = [r for r in matching if _full_name(r, parameter) in r.pipeline.get_params()]
        if not having:
            raise _nowhere(str(key), matching)
        for recipe in having:
            changed[recipe.name] = _replaced(
                recipe, _with_values(recipe.grid, _full_name(recipe, parameter), values)
            )
    return list(changed.values())


def _replaced(recipe: Recipe, grid: Any) -> Recipe:
    """Give a recipe another grid, with the names as its file has them."""
    if isinstance(grid, Mapping):
        grid = {_full_name(recipe, key): values for key, values in grid.items()}
    elif isinstance(grid, list) and all(isinstance(part, Mapping) for part in grid):
        grid = [{_full_name(recipe, key): values for key, values in part.items()} for part in grid]
    check_grid(f"given for {recipe.name}", recipe.pipeline, grid)
    return replace(recipe, grid=grid)


def _full_name(recipe: Recipe, parameter: str) -> str:
    """Name a parameter as the pipeline does: what reads no target rows lies whole in a step called source_only."""
    known, inside = recipe.pipeline.get_params(), f"source_only__{parameter}"
    return inside if parameter not in known and inside in known else parameter


def _with_values(grid: dict | list, parameter: str, values: Any) -> dict | list:
    """Set the values of one parameter: in the parts of a grid that name it, or in all where none does."""
    if not isinstance(grid, list):
        return {**grid, parameter: values}
    named = any(parameter in part for part in grid)
    return [{**part, parameter: values} if parameter in part or not named else part for part in grid]


def _nowhere(key: str, recipes: Sequence[Recipe]) -> FtransferError:
    """Make the error for a name that is neither a recipe nor a parameter."""
    in_grids = {
        name for r in recipes for part in (r.grid if isinstance(r.grid, list) else [r.grid]) for name in part
    }
    known = [*sorted(in_grids), *(r.name for r in recipes if ":" not in key)]
    return unknown("recipe or parameter in this race", key.rpartition(":")[2], known, "names")


def read_grids(file: str | Path) -> dict[str, Any]:
    """Read grids from a YAML or JSON file.

    Parameters
    ----------
    file : str or path
        A mapping from the name of a recipe to its grid, or from the name of a parameter to its values.

    Raises
    ------
    FtransferError
        If the file cannot be read, or does not hold a mapping.
    """
    path = Path(file).expanduser()
    kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        text = read_text(path)
        found = json.loads(text) if kind == "JSON" else yaml.safe_load(text)
    except OSError as error:
        raise FtransferError(f"cannot read the grid file {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise FtransferError(f"the grid file {path} is not valid {kind}: {error}") from error
    if not isinstance(found, dict) or not found:
        raise FtransferError(
            f"the grid file {path} must map recipes to grids, or parameters to lists of values, such as "
            f"'coral__ridge: [1, 10, 100]'; it holds {type(found).__name__}"
        )
    return {str(key): _numbers(values) for key, values in found.items()}


def _numbers(values: Any) -> Any:
    """Turn numbers that YAML reads as text, such as 1e-3, into numbers."""
    if isinstance(values, dict):
        return {str(key): _numbers(each) for key, each in values.items()}
    if isinstance(values, list):
        return [_numbers(each) for each in values]
    return read_value(values) if isinstance(values, str) else values


def read_setting(text: str) -> tuple[str, list[Any]]:
    """Read ``coral__ridge=1,10,100``, as ``--set`` takes it, into a name and a list of values.

    Examples
    --------
    >>> read_setting("coral__ridge=1,1e2,none")
    ('coral__ridge', [1, 100.0, None])
    >>> read_setting("coral_svm:svc__kernel=rbf,linear")
    ('coral_svm:svc__kernel', ['rbf', 'linear'])
    """
    name, equals, values = text.partition("=")
    found = [read_value(value) for value in values.split(",") if value.strip()]
    if not equals or not name.strip() or not found:
        raise FtransferError(
            f"--set takes PARAMETER=VALUE,VALUE,..., such as coral__ridge=1,10,100; given '{text}'"
        )
    return name.strip(), found


def read_value(text: str) -> Any:
    """Read a number, true, false, none or a text.

    Examples
    --------
    >>> [read_value(text) for text in ("3", "0.5", "1e-3", "True", "none", "rbf")]
    [3, 0.5, 0.001, True, None, 'rbf']
    """
    text = text.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float | str) else text
