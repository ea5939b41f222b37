"""Recipes: ready-made pipelines with their grids, and a user's own."""

import inspect
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from ftransfer.errors import FtransferError, unknown
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.shipped import shipped_folder

# ---------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Recipe:
    """A ready-made pipeline and the grid to search it over.

    Attributes
    ----------
    name : str
    pipeline : AdaptationPipeline, not fitted
    grid : dict or list of dict, as `sklearn.model_selection.ParameterGrid` takes it
        In place of a list of values there may be a distribution of ``scipy.stats``, for the random and Bayesian search.
    summary : str
        First line of the file's docstring.
    """

    name: str
    pipeline: AdaptationPipeline
    grid: dict | list = field(default_factory=dict)
    summary: str = ""


def list_recipes(*, regression: bool = False) -> list[str]:
    """List the built-in recipes in alphabetical order: those for classes, or for labels that are numbers."""
    return sorted(f.stem for f in _folder(regression).glob("*.py") if not f.stem.startswith("_"))


def _folder(regression: bool) -> Path:
    return shipped_folder("pipelines") / "regression" if regression else shipped_folder("pipelines")


def load_recipe(name: str | Path, *, regression: bool = False) -> Recipe:
    """Load a recipe by name, such as ``"coral_svm"``, or by the path of a Python file.

    The file defines two names: ``pipeline``, an `AdaptationPipeline` or any other estimator (then it is
    fitted on the source only), and ``grid``, a dict or a list of dicts of parameter values. The file is
    run as code: load only what you trust.

    Parameters
    ----------
    name : str or path
    regression : bool, default=False
        Whether a name is one of the recipes for labels that are numbers.

    Raises
    ------
    FtransferError
        If there is no such recipe or file, the file fails, or the two names are not in it.
    """
    text = str(name)
    path = Path(text).expanduser()
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        raise FtransferError(
            f"{text} is a grid, not a recipe: a recipe is a .py file that defines pipeline and grid. To search other "
            f"values with the recipes that ship, give it as --grid {text} (in Python race(..., grids=...))"
        )
    if not text.endswith(".py") and len(path.parts) == 1:
        if text not in (known := list_recipes(regression=regression)):
            raise unknown("pipeline", text, known, plural="pipelines that ship")
        path = _folder(regression) / f"{text}.py"
    if not path.is_file():
        raise FtransferError(f"no recipe at {path}; a recipe is a .py file that defines pipeline and grid")
    try:
        found = runpy.run_path(str(path))
    except Exception as error:
        raise FtransferError(f"the recipe {path} fails: {type(error).__name__}: {error}") from error
    missing = [key for key in ("pipeline", "grid") if key not in found]
    if missing or not hasattr(found["pipeline"], "fit"):
        what = f"lacks {' and '.join(missing)}" if missing else "has a pipeline that is no estimator"
        raise FtransferError(f"the recipe {path} {what}; it defines pipeline and grid")
    pipeline, grid = found["pipeline"], found["grid"]
    check_grid(f"in {path}", pipeline, grid)
    if type(pipeline) is Pipeline and AdaptationPipeline(pipeline.steps).readers:
        pipeline = AdaptationPipeline(pipeline.steps, memory=pipeline.memory, verbose=pipeline.verbose)
    elif not isinstance(pipeline, AdaptationPipeline):
        # whatever reads no target rows is the last step: all of it is fitted on the source only
        pipeline = AdaptationPipeline([("source_only", pipeline)])
        grids = grid if isinstance(grid, list) else [grid]
        grid = [{f"source_only__{key}": values for key, values in part.items()} for part in grids]
    summary = (inspect.cleandoc(found.get("__doc__") or "").splitlines() or [""])[0]
    return Recipe(path.stem, pipeline, grid, summary)


def load_pipeline(name: str) -> AdaptationPipeline:
    """Load the pipeline of a recipe by name or path, not fitted. See `load_recipe`.

    Examples
    --------
    >>> from ftransfer import load_pipeline
    >>> list(load_pipeline("coral_svm").named_steps)
    ['domainscaler', 'coral', 'normalizer', 'svc']
    """
    return load_recipe(name).pipeline


def check_grid(where: str, pipeline: BaseEstimator, grid: Any) -> None:
    """Check that a grid gives parameters of a pipeline lists of values.

    Parameters
    ----------
    where : str
        Where the grid was found, for the message: "in my_recipe.py".
    pipeline : estimator
    grid : dict or list of dict

    Raises
    ------
    FtransferError
        If it does not.
    """
    known = pipeline.get_params()
    for part in grid if isinstance(grid, list) else [grid]:
        if not isinstance(part, Mapping):
            raise FtransferError(
                f"the grid {where} must be a dict or a list of dicts; given {type(part).__name__}"
            )
        for key, values in part.items():
            if key not in known:
                raise unknown(
                    f"parameter of the pipeline {where}", key, [k for k in known if "__" in k], "parameters"
                )
            if hasattr(values, "rvs"):
                continue  # a distribution, for a random or Bayesian search
            if not hasattr(values, "__len__") or isinstance(values, str) or len(values) == 0:
                raise FtransferError(
                    f"the grid {where} must give {key} a list of values, such as {key}: [1, 10]; given {values!r}"
                )
