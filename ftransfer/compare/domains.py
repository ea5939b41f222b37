"""How far apart domains are, before any transfer: a table of distances, each with what it means.

A distance alone says little: each is shown beside its yardstick, the same distance between random halves of one
domain. The labels of a target take part only in the rows that say so.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ftransfer.compare import distances
from ftransfer.compare.halves import (
    CLASSIFIERS,
    FEWEST_ROWS,
    Domain,
    all_distances,
    check_labels,
    check_rows,
    divide,
)
from ftransfer.compare.label_shift import estimate_class_shares
from ftransfer.errors import FtransferError

T_95 = 2.262  # of Student's distribution with HALVES - 1 degrees of freedom
COLUMNS = ["measure", "value", "low", "high", "yardstick", "meaning"]
LISTED = 5  # classes with too few rows that have a line each


def compare_domains(
    X_a: ArrayLike,
    X_b: ArrayLike,
    y_a: ArrayLike | None = None,
    y_b: ArrayLike | None = None,
    random_state: int = 0,
    *,
    max_rows: int = 1000,
) -> pd.DataFrame:
    """Measure how far apart two domains are, and what each value means for a transfer from A to B.

    Parameters
    ----------
    X_a : array of shape (n_a, n_features)
        Rows of the source.
    X_b : array of shape (n_b, n_features)
        Rows of the target.
    y_a : array of shape (n_a,), optional
        Labels of the source; missing ones (None, NaN, -1) are allowed. They add the target's class shares.
    y_b : array of shape (n_b,), optional
        Labels of the target, where there are any. They add one row a class, marked "by target labels"; no other
        row looks at them.
    random_state : int, default=0
    max_rows : int, default=1000
        Larger domains are represented by so many rows at random; ``table.attrs["notes"]`` says so.

    Returns
    -------
    DataFrame
        One row per measure. measure; value; low and high, a 95 % interval; yardstick; meaning, a sentence.

        - mean shift, spread ratio, shape: of single features (`distances.mean_shift` and following).
        - CORAL distance, Frechet distance: of covariances, and of means and covariances.
        - principal angles: mean angle in degrees between the ten leading principal directions.
        - MMD, MMD p-value, MMD in linear time: squared maximum mean discrepancy; RBF kernel with the median
          distance as bandwidth, 499 permutations.
        - A-distance: from 0, where a classifier of the domains does no better than chance, to 2. Linear, by a
          forest, and by a forest once each domain is standardised by itself ("scaled").
        - label shift, share of each class: estimated by BBSE; the yardstick of a share is the source's share.
        - class ... (by target labels): MMD between the rows of one class, and the class of the source whose mean
          lies nearest to that of the class's target rows, once each domain is standardised. Many classes with too
          few rows share one line.

        Elsewhere the yardstick is the mean over random halves of A and of B. Noise enlarges the first six
        distances, most in halves, which have fewer rows; their yardstick is therefore lowered by as much as
        halves of A and B lie farther apart than all of A and B.
        Intervals come from halves too (the delete-half jackknife), those of A-distance, linear-time MMD and
        label shift from their own theory; they tell how far another sample would move the number.

    Raises
    ------
    FtransferError
        If a domain has fewer than 8 different rows, widths differ, or something is not finite.

    Notes
    -----
    Sentences follow fixed thresholds. Where the interval reaches down to the yardstick and a tenth more, it is "no
    more than random halves of one domain do, within error"; else "somewhat more than" up to twice the yardstick,
    "... times as much as" up to a hundred times, "far more than" beyond. The lower bound of an A-distance:
    above 1.6 (right in 90 % of cases) "adapt", above 0.4 (60 %) "adaptation is worth a try", above its yardstick
    "they differ a little". A p-value below 0.05 is a difference. An estimate of the class shares is doubted where
    an A-distance proves more difference than class shares could make: they alone let no classifier of the
    domains be right more often than in ``(1 + total variation) / 2`` of all cases.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import compare_domains
    >>> rng = np.random.default_rng(0)
    >>> table = compare_domains(rng.normal(size=(80, 6)), rng.normal(size=(60, 6)) + 5)
    >>> print(table.set_index("measure").loc["A-distance, linear", "meaning"])
    A linear classifier tells the domains apart in 100 % of cases (50 % is chance): adapt.
    """
    A, B = check_rows(X_a, "X_a"), check_rows(X_b, "X_b")
    if A.shape[1] != B.shape[1]:
        raise FtransferError(
            f"both domains need the same features; X_a has {A.shape[1]}, X_b has {B.shape[1]}"
        )
    labels_a, labels_b = check_labels(y_a, A, "y_a"), check_labels(y_b, B, "y_b")
    rng, notes = np.random.default_rng(random_state), []
    if (most := max(len(A), len(B))) > max_rows:
        notes.append(f"at most {max_rows} rows per domain were used, drawn at random from up to {most}")
    a, b = (
        Domain(X[chosen], y[chosen], random_state)
        for X, y in ((A, labels_a), (B, labels_b))
        for chosen in [np.sort(rng.permutation(len(X))[:max_rows])]
    )
    table = compare_pair(a, b)
    table.attrs["notes"] = notes
    return table


def compare_pair(a: Domain, b: Domain) -> pd.DataFrame:
    """Compare two domains, as `compare_domains` does."""
    A, B, random_state = a.X, b.X, a.random_state
    rng = np.random.default_rng(random_state)
    bandwidth = distances.median_bandwidth(np.concatenate([A, B]), random_state)
    kernel = distances.rbf_kernel(np.concatenate([A, B]), bandwidth)
    rows = [*_distance_rows(a, b, rng), *_mmd_rows(a, b, kernel, bandwidth, rng), *_classifier_rows(a, b)]
    if len(set(a.labels) - {None}) > 1:
        # not "scaled": that map is another one for each domain, so it may tell apart what a classifier could not
        unscaled = ("A-distance, linear", "A-distance, forest")
        proven = max((row["low"] for row in rows if row["measure"] in unscaled), default=0.0)
        rows += _label_shift_rows(A, a.labels, B, proven / 2, rng, random_state)
        rows += _class_rows(A, a.labels, B, b.labels, kernel, rng)
    return pd.DataFrame(rows, columns=COLUMNS)


# ---------------------------------------------------------------- the rows of the table


def _distance_rows(a: Domain, b: Domain, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    A, B = a.X, b.X
    values = all_distances(A, B)
    across = [all_distances(A[i], B[j]) for i, j in _halves_of_both(len(A), len(B), rng)]
    within = [*a.within, *b.within]
    means, covariances = distances.frechet_parts(A, B)
    share = means / (means + covariances) if means + covariances > 0 else 0.0
    removed = "standardising each domain separately removes that"
    say = {
        "mean shift": "The means of a feature differ by {v:.2f} standard deviations, {against}; "
            "" + removed + ".",
        "spread ratio": "Standard deviations of a feature differ by a factor of {v:.2f}, {against}; "
            "" + removed + ".",
        "shape": "With each domain standardised separately, the distribution of a feature still differs by "
            "{v:.2f} "
        "standard deviations, {against}.",
        "CORAL distance": "The covariances differ {against}; CORAL aligns them.",
        "Frechet distance": "Normal distributions differ {against}; " + f"{share:.0%} of it lies in the "
            f"means, the "
        "rest in the covariances.",
        "principal angles": "The principal components of the domains differ by {v:.0f} degrees on average "
            "(90: unrelated), {against}; subspace alignment rotates them.",
    }  # fmt: skip
    for name, value in values.items():
        floor = 1.0 if name == "spread ratio" else 0.0
        of_halves = [each[name] for each in across]
        margin = T_95 * float(np.std(of_halves, ddof=1))
        low = max(value - margin, floor)
        # noise adds to these distances, in halves twice as much: by so much halves of A and B exceed all of A and B
        added = float(np.mean(of_halves)) - value
        yardstick = max(float(np.mean([each[name] for each in within]) - added), floor)
        against = _against(value - floor, low - floor, yardstick - floor)
        yield _row(name, (value, low, value + margin), yardstick, say[name].format(v=value, against=against))


def _mmd_rows(
    a: Domain, b: Domain, kernel: np.ndarray, bandwidth: float, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    A, B, random_state = a.X, b.X, a.random_state
    is_a = np.arange(len(kernel)) < len(A)
    estimate, yardstick = _kernel_estimate(kernel, is_a, rng)
    yield _row("MMD", estimate, yardstick, f"The distributions differ {_against(*estimate[:2], yardstick)}.")
    p = distances.mmd_p_value(kernel, is_a, random_state=random_state)
    verdict = "the domains differ" if p < 0.05 else "no difference is proven"
    meaning = f"Random splits of the rows differ as much in {100 * p:.1f} % of cases: {verdict}."
    yield _row("MMD p-value", (p, np.nan, np.nan), np.nan, meaning)
    quick = distances.linear_mmd(A, B, bandwidth, random_state)
    halves = [(each.X[i], each.X[j]) for each in (a, b) for i, j in each.halves]
    yardstick = float(np.mean([distances.linear_mmd(X, Y, bandwidth).value for X, Y in halves]))
    meaning = f"The quick estimate, from pairs of rows, shows {'a' if quick.low > 0 else 'no'} difference."
    yield _row("MMD, linear time", quick, yardstick, meaning)


def _classifier_rows(a: Domain, b: Domain) -> Iterator[dict[str, Any]]:
    for name, who, classifier, standardise in CLASSIFIERS:
        accuracy = distances.domain_accuracy(a.X, b.X, classifier, standardise, a.random_state)
        chance = float(np.mean([each.a_distances[classifier, standardise] for each in (a, b)]))
        estimate = [distances.a_distance(each) for each in accuracy]
        percent = 100.0 if accuracy.value == 1 else min(100 * accuracy.value, 99.9)
        meaning = f"{who} tells the domains apart in {percent:.3g} % of cases (50 % is chance)"
        yield _row(name, estimate, chance, f"{meaning}: {_advice(estimate[1], chance, standardise)}.")


def _advice(low: float, chance: float, standardised: bool) -> str:
    """Say what the lower bound of an A-distance means; `chance` is its yardstick."""
    if low <= chance:
        return f"{'after scaling there is' if standardised else 'there is'} no difference to adapt to"
    if low <= 0.4:  # right in 60 % of cases
        return "they differ a little"
    if standardised:
        return "they differ in more than means and variances"
    return "adapt" if low > 1.6 else "adaptation is worth a try"


def _label_shift_rows(
    A: np.ndarray,
    labels: np.ndarray,
    B: np.ndarray,
    proven: float,
    rng: np.random.Generator,
    random_state: int,
) -> Iterator[dict[str, Any]]:
    known = np.array([label is not None for label in labels])
    A, labels = A[known], labels[known].astype(str)  # objects do not make classes for scikit-learn
    found = estimate_class_shares(A, labels, B, random_state)
    if found.problem:
        yield _row("label shift", found.distance, np.nan, f"Not available: {found.problem}.")
        return
    half = rng.permutation(len(A))
    first, second = half[: len(half) // 2], half[len(half) // 2 :]
    itself = np.nan
    if len(np.unique(labels[first])) > 1:
        itself = estimate_class_shares(A[first], labels[first], A[second], random_state).distance[0]
    value, _, high = found.distance
    doubt = proven > high
    but = "this is valid if each class looks the same in both domains"
    if doubt:
        but = "the domains differ by more than class proportions can explain, so do not rely on it"
    meaning = f"The class proportions differ by {value:.0%} of the rows; {but}."
    yield _row("label shift", found.distance, itself, meaning)
    columns = found.classes, found.source, found.target, found.low, found.high
    for label, source, target, low, high in zip(*columns, strict=True):
        apart = source < low or source > high
        more = "More often than" if target > source else "Less often than"
        verdict = more if apart else "As often as"
        meaning = f"{verdict} in the source{' (do not rely on it)' if doubt else ''}."
        yield _row(f"share of {label}", (target, low, high), source, meaning)


def _class_rows(
    A: np.ndarray,
    labels_a: np.ndarray,
    B: np.ndarray,
    labels_b: np.ndarray,
    kernel: np.ndarray,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    shared = sorted(set(labels_a) & set(labels_b) - {None})
    if not shared:
        return
    rows_a, rows_b = ({name: np.flatnonzero(y == name) for name in shared} for y in (labels_a, labels_b))
    Z_a, Z_b = ((X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0) for X in (A, B))
    means = np.array([Z_a[rows_a[name]].mean(axis=0) for name in shared])
    whole = float(distances.quadratic_mmd(kernel, np.arange(len(kernel)) < len(A)))
    rare = [name for name in shared if min(len(rows_a[name]), len(rows_b[name])) < FEWEST_ROWS]
    together = len(rare) > LISTED
    if together:
        fewest = f"Not available, with fewer than {FEWEST_ROWS} rows in a domain; such as '{rare[0]}'."
        yield _row(f"{len(rare)} classes (by target labels)", (np.nan,) * 3, np.nan, fewest)
    for name in shared:
        a, b = rows_a[name], rows_b[name]
        measure = f"class {name} (by target labels)"
        if name in rare:
            fewest = f"Not available: {len(a)} and {len(b)} rows, {FEWEST_ROWS} are needed."
            if not together:
                yield _row(measure, (np.nan,) * 3, np.nan, fewest)
            continue
        rows = np.r_[a, len(A) + b]
        estimate, yardstick = _kernel_estimate(kernel[np.ix_(rows, rows)], np.arange(len(rows)) < len(a), rng)
        nearest = shared[int(np.argmin(np.sum((means - Z_b[b].mean(axis=0)) ** 2, axis=1)))]
        side = "Above" if estimate[0] > whole else "Not above"
        where = "the same class" if nearest == name else f"another class, '{nearest}'"
        meaning = f"{side} that of all rows; nearest to {where}."
        yield _row(measure, estimate, yardstick, meaning)


def _row(measure: str, estimate: Sequence[float], yardstick: float, meaning: str) -> dict[str, Any]:
    return dict(zip(COLUMNS, (measure, *map(float, estimate), float(yardstick), meaning), strict=True))


def _against(value: float, low: float, yardstick: float) -> str:
    """Say how a distance, with its lower bound, compares with that between random halves of one domain."""
    if low <= 1.1 * max(yardstick, 0.0):
        return "no more than random halves of one domain do, within error"
    if not 0 < value < 100 * yardstick:
        return "far more than random halves of one domain do"
    if value < 2 * yardstick:
        return "somewhat more than random halves of one domain do"
    return f"{value / yardstick:.1f} times as much as random halves of one domain do"


# ---------------------------------------------------------------- halves, and what they give


def _halves_of_both(n_a: int, n_b: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw half of the rows of either domain, HALVES times; a division gives two such samples."""
    pairs = zip(divide(n_a, rng), divide(n_b, rng), strict=True)
    return [pair for halves in pairs for pair in zip(*halves, strict=True)]


def _kernel_estimate(
    kernel: np.ndarray, is_a: np.ndarray, rng: np.random.Generator
) -> tuple[tuple[float, float, float], float]:
    """Return the quadratic MMD with its interval, and its yardstick, from the kernel of all rows."""
    a, b = np.flatnonzero(is_a), np.flatnonzero(~is_a)

    def mmd(i: np.ndarray, j: np.ndarray) -> float:
        rows = np.r_[i, j]
        return float(distances.quadratic_mmd(kernel[np.ix_(rows, rows)], np.arange(len(rows)) < len(i)))

    value = mmd(a, b)
    across = [mmd(a[i], b[j]) for i, j in _halves_of_both(len(a), len(b), rng)]
    within = [mmd(rows[i], rows[j]) for rows in (a, b) for i, j in divide(len(rows), rng)]
    margin = T_95 * float(np.std(across, ddof=1))
    return (value, value - margin, value + margin), float(np.mean(within))
