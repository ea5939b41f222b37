"""The results of a race in the form of scikit-learn's `cv_results_`: a column a parameter, a column a resample."""

from typing import Any

import numpy as np
import pandas as pd

KEPT = (
    "pipeline",
    "adaptation",
    "step",
    "source_accuracy",
    "target_accuracy",
    "beats_source_only",
    "seconds",
    "error",
)


def cv_results(table: pd.DataFrame, resampled: np.ndarray) -> dict[str, Any]:
    """Arrange the candidates of a race as `sklearn.model_selection.GridSearchCV` does in ``cv_results_``.

    Parameters
    ----------
    table : DataFrame
        As `Race.table`.
    resampled : array of shape (n_candidates, n_resamples)
        Score of each candidate on each bootstrap resample; NaN for one that failed.

    Returns
    -------
    dict of arrays of shape (n_candidates,), in the order of `table`; see `Race.cv_results_` for the keys

    Examples
    --------
    >>> table = pd.DataFrame({"pipeline": ["a", "a"], "params": [{"svc__C": 10}, {"svc__C": 1}], "score": [0.9, 0.8]})
    >>> found = cv_results(table, np.array([[0.88, 0.92], [0.79, 0.81]]))
    >>> sorted(found)[:5]
    ['mean_test_score', 'param_svc__C', 'params', 'pipeline', 'rank_test_score']
    >>> found["rank_test_score"].tolist(), found["param_svc__C"].tolist()
    ([1, 2], [10, 1])
    """
    found: dict[str, Any] = {name: table[name].to_numpy() for name in KEPT if name in table}
    found |= parameter_columns(table["params"].tolist())
    found["params"] = table["params"].tolist()
    for i, column in enumerate(np.asarray(resampled, dtype=float).T):
        found[f"split{i}_test_score"] = column
    found["mean_test_score"] = np.asarray(resampled, dtype=float).mean(axis=1)
    found["std_test_score"] = np.asarray(resampled, dtype=float).std(axis=1)
    found["test_score"] = table["score"].to_numpy(dtype=float)
    found["rank_test_score"] = ranks(table["score"])
    return found


def parameter_columns(settings: list[dict[str, Any]]) -> dict[str, np.ma.MaskedArray]:
    """Make a masked array of each parameter, masked where a candidate does not have it.

    Parameters
    ----------
    settings : list of dict
        The ``params`` of each candidate.
    """
    columns: dict[str, np.ma.MaskedArray] = {}
    for name in dict.fromkeys(key for params in settings for key in params):
        column = np.ma.masked_all(len(settings), dtype=object)
        for i, params in enumerate(settings):
            if name in params:
                column[i] = params[name]
        columns[f"param_{name}"] = column
    return columns


def ranks(scores: pd.Series) -> np.ndarray:
    """Rank scores from 1, the best; equal ones share the smallest rank, and those that failed come last, as one."""
    return (
        scores.astype(float).rank(ascending=False, method="min", na_option="bottom").to_numpy(dtype=np.int32)
    )
