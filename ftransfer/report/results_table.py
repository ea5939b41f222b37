"""results.csv: every candidate of a race, with the columns of scikit-learn's `cv_results_`."""

import json

import pandas as pd

from ftransfer.report.numbers import plain
from ftransfer.search.outcome import Race

DECIMALS = 6  # of the score on a resample: 200 of them a row


def results_table(race: Race) -> pd.DataFrame:
    """Lay out every candidate for results.csv.

    First the columns of `Race.table`, ``params`` as JSON; then ``param_<name>`` for each parameter, empty where a
    recipe does not have it; ``rank_test_score``, ``mean_test_score``, ``std_test_score`` and the score on each
    bootstrap resample, ``split<i>_test_score``, as in `Race.cv_results_`.
    """
    table, found = race.table, race.cv_results_
    taken = set(table) | {"test_score"}
    columns = {
        name: pd.Series(values, index=table.index) for name, values in found.items() if name not in taken
    }
    order = sorted(columns, key=_place)  # stable: parameters and resamples stay in their order
    added = pd.DataFrame({name: columns[name] for name in order}, index=table.index)
    splits = [name for name in order if name.startswith("split")]
    added[splits] = added[splits].round(DECIMALS)
    return pd.concat(
        [table.assign(params=table["params"].map(lambda p: json.dumps(plain(p)))), added], axis=1
    )


def _place(name: str) -> int:
    kinds = ("param_", "rank_", "mean_", "std_", "split")
    return next(i for i, kind in enumerate(kinds) if name.startswith(kind))
