"""Check what was built from a model file, before it is used: types, and the arrays that estimators believe.

Compiled code of scikit-learn indexes the arrays of trees and support vector machines without looking. Other
estimators are plain NumPy, where an array of another shape is an error, or spreads over all memory.
"""

from collections.abc import Collection
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.svm import SVC, SVR, NuSVC
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from ftransfer.model.plan import check_tree, trusted_objects

MAX_THREADS = 1024
FORESTS = (RandomForestClassifier, ExtraTreesClassifier, RandomForestRegressor, ExtraTreesRegressor)
PLAIN = (dict, list, tuple, set, str, int, float, bool, type(None), np.ndarray, np.random.RandomState, Tree)
# one number a feature
VECTORS = """
    center_ data_max_ data_min_ data_range_ lambdas_ max_abs_ mean_ min_ scale_ target_center_ target_mean_
    target_scale_ var_ variances_ xbar_
""".split()  # noqa: SIM905


def check_objects(content: Any, trusted: Collection[str]) -> None:
    """Walk over all that was read, and refuse what compiled code would stumble over.

    Parameters
    ----------
    content : dict
    trusted : collection of str
        Types that the user vouches for. With any, types that were not foreseen may come with them.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError
        If an array or a number does not fit the rest.
    """
    stack, seen = [content], set()
    while stack:
        each = stack.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        _require(trusted or _foreseen(each), f"an object of type {type(each).__name__}")
        if isinstance(each, dict):
            stack += each.values()
        elif isinstance(each, list | tuple | set):
            stack += each
        elif isinstance(each, np.ndarray):
            _require(each.size <= max(each.nbytes, 1), "an array of nothing")
            stack += each.ravel().tolist() if each.dtype == object else []
        elif issparse(each):
            _check_sparse(each)
        elif isinstance(each, np.random.RandomState):
            _require(
                0 <= each.get_state(legacy=False)["state"]["pos"] <= 624, "the state of a random generator"
            )
        elif isinstance(each, Tree):
            _check_built_tree(each)
        elif hasattr(each, "__dict__") and not isinstance(each, type | np.ufunc):
            _check_estimator(each)
            stack.append(vars(each))


def _foreseen(each: Any) -> bool:
    kind = type(each)
    if kind in PLAIN or isinstance(each, np.generic | np.dtype | np.ufunc):
        return True
    if kind is type:
        return each in (str, int, float, bool) or issubclass(each, np.generic)
    return f"{kind.__module__}.{kind.__qualname__}" in trusted_objects()


def _check_sparse(matrix: Any) -> None:
    """Only where a user trusts such a type: its indices are followed by compiled code."""
    if hasattr(matrix, "check_format"):
        matrix.check_format(full_check=True)
    elif hasattr(matrix, "coords"):
        for side, place in zip(matrix.shape, matrix.coords, strict=True):
            _require(np.all((place >= 0) & (place < side)), "an index in a sparse matrix")


def _check_built_tree(tree: Tree) -> None:
    _, (width, classes, outputs), state = tree.__reduce__()
    check_tree(
        width, outputs, state["max_depth"], state["node_count"], classes, state["nodes"], state["values"]
    )


def _check_estimator(each: Any) -> None:
    """Check the numbers and arrays of an estimator; those of a type that a user trusts are the user's trust."""
    kind, own, known = type(each).__name__, vars(each), _foreseen(each)
    for name, value in own.items():
        _require(not callable(getattr(type(each), name, None)), f"{kind}.{name}, in place of a method,")
        if known and isinstance(value, np.ndarray):
            _require(value.dtype.kind in "fiubUO", f"the type of {kind}.{name}")
            _require(value.dtype.kind != "f" or value.ndim <= 2, f"the shape of {kind}.{name}")
    if known:
        threads = own.get("n_jobs")
        _require(threads is None or (type(threads) is int and abs(threads) <= MAX_THREADS), f"{kind}.n_jobs")
        _require(own.get("n_outputs_", 1) == 1, f"{kind}.n_outputs_")
        if "verbose" in own:
            own["verbose"] = 0  # what is predicted goes to standard output, and nothing else
        _check_linear(own, kind)
    if isinstance(each, BaseDecisionTree) and "tree_" in own:
        width = own.get("n_features_in_")
        _require(type(own["tree_"]) is Tree and own["tree_"].n_features == width, f"the width of {kind}")
    elif isinstance(each, FORESTS) and "estimators_" in own:
        width = own.get("n_features_in_")
        _require(type(width) is int, f"{kind}.n_features_in_")
        for tree in own["estimators_"]:
            _require(isinstance(tree, BaseDecisionTree), f"a tree of {kind}")
            _require(getattr(tree, "n_features_in_", None) == width, f"the width of a tree of {kind}")
    elif isinstance(each, SVC | NuSVC | SVR) and "support_vectors_" in own:
        _check_support_vectors(own, kind)


def _check_linear(own: dict, kind: str) -> None:
    """See that no array spreads over rows that it has nothing to do with."""
    width = own.get("n_features_in_")
    if type(width) is not int:
        return
    for name in VECTORS:
        if isinstance(own.get(name), np.ndarray):
            _require(own[name].shape == (width,), f"the shape of {kind}.{name}")
    if isinstance(coefficients := own.get("coef_"), np.ndarray):
        _require(
            coefficients.ndim in (1, 2) and coefficients.shape[-1] == width, f"the shape of {kind}.coef_"
        )
        outputs = 1 if coefficients.ndim == 1 else len(coefficients)
        _require(
            np.shape(own.get("intercept_", 0.0)) in ((), (outputs,)),
            f"the shape of {kind}.intercept_",
        )
    if isinstance(components := own.get("components_"), np.ndarray):
        _require(components.ndim == 2 and components.shape[1] == width, f"the shape of {kind}.components_")


def _check_support_vectors(own: dict, kind: str) -> None:
    vectors, counts = own["support_vectors_"], own["_n_support"]
    n, k = len(vectors), len(counts)
    is_regressor = kind == "SVR"  # it keeps two counts, of which libsvm sets the first alone
    pairs = k * (k - 1) // 2
    _require("_impl" not in own and own["kernel"] in ("linear", "poly", "rbf", "sigmoid"), f"{kind}.kernel")
    _require(own["_sparse"] is False, f"{kind}._sparse")
    _require(vectors.ndim == 2 and own["n_features_in_"] == vectors.shape[1], f"the width of {kind}")
    whole = [own["support_"], counts]
    _require(all(each.dtype == np.int32 and each.ndim == 1 for each in whole), f"{kind}._n_support")
    total = counts[0] if is_regressor else counts.sum(dtype=np.int64)
    _require(
        k >= 2 and np.all(counts >= 0) and total == n and np.all(own["support_"] >= 0),
        f"{kind}._n_support",
    )
    _require(not is_regressor or k == 2, f"{kind}._n_support")
    shapes = {"_dual_coef_": (k - 1, n), "_intercept_": (pairs,), "support_": (n,)}
    shapes |= {} if is_regressor else {"classes_": (k,)}
    for name, shape in shapes.items():
        _require(own[name].shape == shape, f"{kind}.{name}")
    _require(own["_probA"].shape == own["_probB"].shape, f"{kind}._probA")
    for name in ("_probA", "_probB"):
        _require(own[name].shape in ((0,), (pairs,)), f"{kind}.{name}")
    for name in ("support_vectors_", "_dual_coef_", "_intercept_", "_probA", "_probB"):
        _require(own[name].dtype == np.float64 and np.isfinite(own[name]).all(), f"{kind}.{name}")


def _require(fine: Any, what: str) -> None:
    if not fine:
        raise ValueError(f"{what} does not fit the rest")
