"""How far apart all domains of a feature set are, pair by pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import joblib
import numpy as np
import pandas as pd

from ftransfer.compare.domains import compare_pair
from ftransfer.compare.halves import Domain, make_domain
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.protocol import Features

MANY = 8  # pairs from which processes repay the seconds that they take to start


@dataclass(frozen=True)
class Comparison:
    """Every pair of domains, compared.

    Attributes
    ----------
    domains : tuple of str
    tables : dict of {(str, str): DataFrame}
        What `compare_domains` says of each pair, the first being the source.
    notes : list of str
        What was left out, for people.
    """

    domains: tuple[str, ...]
    tables: dict[tuple[str, str], pd.DataFrame]
    notes: list[str] = field(default_factory=list)

    def matrix(self, measure: str) -> pd.DataFrame:
        """Return one measure of all pairs: symmetric, its diagonal empty (NaN)."""
        matrix = pd.DataFrame(np.nan, index=self.domains, columns=self.domains)
        for (a, b), table in self.tables.items():
            matrix.loc[a, b] = matrix.loc[b, a] = _value(table, measure)
        return matrix

    @property
    def nearest(self) -> tuple[str, str]:
        """The pair with the smallest MMD; A-distances are often all 2, and cannot tell."""
        return min(self.tables, key=lambda pair: _value(self.tables[pair], "MMD"))


def _value(table: pd.DataFrame, measure: str) -> float:
    values = table.set_index("measure")["value"]
    if measure not in values:
        raise unknown("measure", measure, values.index)
    return values[measure]


def compare_all(
    features: Features,
    domains: Sequence[str] | None = None,
    random_state: int = 0,
    *,
    source: str | None = None,
    target: str | None = None,
    max_rows: int = 1000,
    progress: Callable[[], object] | None = None,
) -> Comparison:
    """Compare every pair of domains of a feature set.

    A pair takes about a second of one core; `screen_domains` is for hundreds of domains.

    Parameters
    ----------
    features : FeatureSet
    domains : list of str, optional
        Which ones; of each pair the earlier is the source. Default: all, by name, those with labels first.
    random_state : int, default=0
    source, target : str, optional
        Only pairs from this domain, or to it.
    max_rows : int, default=1000
        Rows of a domain that are loaded, at random, where it has more.
    progress : callable, optional
        Called after each pair.

    Raises
    ------
    FtransferError
        If a domain does not exist or is named twice, or there are fewer than two.
    """
    rows = features.complete.query("status == 'ok'")
    found = sorted(rows["domain"].unique())
    if domains is None:
        labelled = set(rows.loc[rows["label"].notna(), "domain"])
        domains = sorted(found, key=lambda name: name not in labelled)
    for name in (*domains, *filter(None, (source, target))):
        if name not in found:
            raise unknown("domain", name, found)
    if len(set(domains)) != len(domains) or len(domains) < 2:
        raise FtransferError(
            f"at least two different domains are needed; given {', '.join(domains)}; found: {', '.join(found)}"
        )
    parts, notes = {}, []
    for name in domains:
        part = rows[rows["domain"] == name]
        if len(part) > max_rows:
            notes.append(f"{name}: {max_rows} of {len(part)} images were used, drawn at random")
            part = part.sample(max_rows, random_state=random_state)
        labels = part["label"].astype(object).where(part["label"].notna(), None).to_numpy()
        parts[name] = features.load(part), labels
    tables, pairs = {}, _pairs(domains, source, target)
    made = [make_domain(*parts[name], name, random_state) for name in domains]
    # what a domain shares among its pairs is measured once; of many pairs in processes, as most of it is Python
    jobs = min(joblib.cpu_count(), len(pairs)) if len(pairs) >= MANY else 1
    run = joblib.Parallel(n_jobs=jobs, return_as="generator")
    made = dict(zip(domains, run(joblib.delayed(Domain.measured)(each) for each in made), strict=True))
    found = run(joblib.delayed(compare_pair)(made[a], made[b]) for a, b in pairs)
    for pair, table in zip(pairs, found, strict=True):
        tables[pair] = table
        if progress:
            progress()
    return Comparison(tuple(domains), tables, notes)


def _pairs(domains: Sequence[str], source: str | None, target: str | None) -> list[tuple[str, str]]:
    if source is not None:
        return [(source, each) for each in domains if each != source]
    if target is not None:
        return [(each, target) for each in domains if each != target]
    return list(combinations(domains, 2))
