"""Several scores as one, by rank."""

from typing import Any

import numpy as np
from scipy.stats import rankdata

from ftransfer.scoring.judge import Score


def combine_by_rank(scores: list[dict[str, Score] | None]) -> list[Score | None]:
    """Rank the candidates by each score, and average the ranks.

    Parameters
    ----------
    scores : list of {name: Score}
        One entry a candidate, None for one that failed.

    Returns
    -------
    list of Score, None where the candidate failed
        The mean over the scores of the share of the other candidates that it beats (ties count half): from 0 to 1.
        Each bootstrap sample is ranked by itself, so that differences stay paired.
    """
    there = {i: each for i, each in enumerate(scores) if each is not None}
    combined: list[Score | None] = [None] * len(scores)
    if not there:
        return combined
    shares = []
    for name in next(iter(there.values())):
        values = np.array([np.r_[each[name].value, each[name].resampled] for each in there.values()])
        shares.append((rankdata(values, axis=0) - 1) / max(1, len(there) - 1))
    for (i, each), row in zip(there.items(), np.mean(shares, axis=0), strict=True):
        combined[i] = Score(float(row[0]), row[1:], {name: score.value for name, score in each.items()})
    return combined


def best_by_rank(cv_results: dict[str, Any]) -> int:
    """Choose by rank over several scorers, as the ``refit`` of a `GridSearchCV` with as many.

    Parameters
    ----------
    cv_results : dict
        ``cv_results_`` with a ``mean_test_<name>`` for each scorer; higher is better.

    Returns
    -------
    int, the index of the candidate with the best mean rank
    """
    names = [key for key in cv_results if key.startswith("mean_test_")]
    ranks = [rankdata(np.nan_to_num(cv_results[key], nan=-np.inf)) for key in names]
    return int(np.mean(ranks, axis=0).argmax())
