"""Source and target with numbers for labels; the target's are kept apart, for measuring only."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ftransfer.adapt.base import domain_codes
from ftransfer.errors import FtransferError
from ftransfer.features.label_file import Files, read_label_file
from ftransfer.features.label_map import name_labels
from ftransfer.features.manifest import LABELS
from ftransfer.features.protocol import Features
from ftransfer.task import find_rows, group_codes, load_rows, stack_rows

MANY = 20  # distinct values, above which labels may be numbers
EACH = 3  # rows of each distinct whole number, on average, from which they are taken for classes
FEWEST = 10  # labelled source rows to fit and hold out


@dataclass(frozen=True)
class RegressionTask:
    """One transfer task whose labels are numbers.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Source rows first, then target rows.
    y : ndarray of shape (n_samples,), float64
        The labels of the source rows; NaN on target rows.
    sample_domain : ndarray of shape (n_samples,), int
        1, 2, ... for the sources in alphabetical order, -1 for the target.
    answers : ndarray of shape (n_target,), float64
        Labels of the target rows, NaN where there is none. Nothing that fits or chooses takes them.
    rows : DataFrame
        Manifest rows of the samples, without any column of labels.
    sources : tuple of str
    target : str
    label : str or None
        Column of the labels, where one was named.
    notes : list of str
        What was left out, for people.
    """

    X: np.ndarray
    y: np.ndarray
    sample_domain: np.ndarray
    answers: np.ndarray
    rows: pd.DataFrame
    sources: tuple[str, ...] = ("source",)
    target: str = "target"
    label: str | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        X_source: np.ndarray,
        y_source: np.ndarray,
        X_target: np.ndarray,
        y_target: np.ndarray | None = None,
    ) -> "RegressionTask":
        """Make a task of arrays; `y_target` is only measured with.

        Examples
        --------
        >>> import numpy as np
        >>> RegressionTask.of(np.ones((4, 2)), [0.5, 1.0, 1.5, 2.0], np.ones((3, 2))).X.shape
        (7, 2)
        """
        n, m = len(X_source), len(X_target)
        return cls(
            X=np.concatenate([X_source, X_target]),
            y=np.r_[np.asarray(y_source, dtype=float), np.full(m, np.nan)],
            sample_domain=np.repeat([1, -1], [n, m]),
            answers=np.full(m, np.nan) if y_target is None else np.asarray(y_target, dtype=float),
            rows=pd.DataFrame({"root": "", "path": [f"row {i}" for i in range(n + m)]}),
        )

    @property
    def is_source(self) -> np.ndarray:
        """Mask of the source rows."""
        return self.sample_domain > 0

    @property
    def X_target(self) -> np.ndarray:
        """The target rows of `X`."""
        return self.X[~self.is_source]

    @property
    def groups(self) -> np.ndarray | None:
        """Number of each row's group, where the manifest has any."""
        return group_codes(self.rows)


def are_numbers(features: Features, source: Sequence[str], label: str | None = None) -> bool:
    """Whether the labels of the sources look like measured numbers rather than classes.

    They do if all are numbers with more than 20 different values, and either some are no whole numbers or there are
    fewer than three rows for each value.

    Parameters
    ----------
    features : Features
    source : list of str
    label : str, optional
        Column of labels.
    """
    manifest = features.complete
    rows = manifest[manifest["domain"].isin(source)]
    labels = name_labels(rows, label, None)["label"].dropna()
    values = pd.to_numeric(labels, errors="coerce")
    if values.isna().any() or not np.isfinite(values).all() or values.nunique() <= MANY:
        return False
    return bool((values % 1 != 0).any() or len(values) < EACH * values.nunique())


def load_regression_task(
    features: Features, source: str | Sequence[str], target: str, *, label: str | None = None
) -> RegressionTask:
    """Take source and target rows with numbers for labels from a feature set.

    Parameters
    ----------
    features : FeatureSet or JoinedFeatures
    source : str or list of str
        Source domains; their rows without a label are left out, which a note says.
    target : str
    label : str, optional
        Column of labels, where the feature set has several.

    Raises
    ------
    FtransferError
        If a domain does not exist or is on both sides, a label is not a finite number, all labels of the source are
        the same, or fewer than 10 source rows have one.
    """
    sources = tuple(sorted({source} if isinstance(source, str) else set(source)))
    rows, notes = find_rows(features, sources, target, label)
    rows = rows.assign(value=_to_numbers(rows))
    is_target = rows["domain"] == target
    bare = ~is_target & rows["value"].isna()
    if bare.any():
        notes.append(f"{int(bare.sum())} source images without a label were skipped")
    source_rows, target_rows = rows[~is_target & ~bare], rows[is_target]
    if target_rows.empty:
        raise FtransferError(f"no image of target '{target}' could be read")
    if len(source_rows) < FEWEST or source_rows["value"].nunique() < 2:
        raise FtransferError(
            f"a regression needs {FEWEST} source images with a number, and two different numbers; "
            f"{', '.join(sources)} has {len(source_rows)} with {source_rows['value'].nunique()} different ones"
        )
    copies = target_rows["sha256"].isin(source_rows["sha256"]).to_numpy()
    if copies.any():
        notes.append(
            f"{int(copies.sum())} images of '{target}' are also in a source, and are excluded from the "
            f"reported errors"
        )
    both = stack_rows(source_rows, target_rows, features.n_views, notes)
    n_source = len(both) - len(target_rows)
    y = both["value"].to_numpy(float).copy()
    answers = np.where(copies, np.nan, y[n_source:])
    y[n_source:] = np.nan
    hidden = [name for name in both if name in ("label", "value") or name.startswith(LABELS)]
    return RegressionTask(
        X=np.asarray(load_rows(features, source_rows, both[n_source:])),
        y=y,
        sample_domain=domain_codes(both["domain"], target),
        answers=answers,
        rows=both.drop(columns=hidden),
        sources=sources,
        target=target,
        label=label,
        notes=notes,
    )


def _to_numbers(rows: pd.DataFrame) -> pd.Series:
    """Turn labels into numbers; an empty label is NaN."""
    values = pd.to_numeric(rows["label"], errors="coerce").astype(float)
    wrong = rows["label"].notna() & ~np.isfinite(values)
    if wrong.any():
        first = rows[wrong].iloc[0]
        raise FtransferError(
            f"a regression needs numbers as labels, and {int(wrong.sum())} of {len(rows)} are not: "
            f"'{first['label']}' of {Path(str(first['path']))} in {first['domain']}. For classes, omit --regression"
        )
    return values


def draw_target_numbers(
    task: RegressionTask, n: int, *, random_state: int = 0
) -> tuple[RegressionTask, np.ndarray]:
    """Set labels of `n` target rows, drawn at random, aside for the guard; the task's answers lose them.

    Returns
    -------
    task : RegressionTask
    labels : ndarray of shape (n_target,), float
        NaN for a row whose label is not used.

    Raises
    ------
    FtransferError
        If fewer than `n` rows have a label.
    """
    known = np.flatnonzero(~np.isnan(task.answers))
    if not 2 <= n <= len(known):
        raise FtransferError(
            f"at least 2 target labels are needed; {n} were requested, and {len(known)} images of '{task.target}' "
            f"have one in the feature set"
        )
    labels = np.full(len(task.answers), np.nan)
    rows = np.random.default_rng(random_state).choice(known, n, replace=False)
    labels[rows] = task.answers[rows]
    return _set_aside(task, labels), labels


def read_target_numbers(task: RegressionTask, files: Files) -> tuple[RegressionTask, np.ndarray]:
    """Read labels of a few target images for the guard, from CSV files with the columns path and label.

    See `draw_target_numbers` for what comes back.

    Raises
    ------
    FtransferError
        If a file cannot be read, a label is not a number, or it names an image that the target has not.
    """
    table = read_label_file(files, task.rows[~task.is_source], task.target)
    given = table["label"]
    values = pd.to_numeric(given, errors="coerce").to_numpy(float)
    if not np.isfinite(values).all():
        raise FtransferError(
            f"target labels of a regression should be numbers; '{given[~np.isfinite(values)].iloc[0]}' is not one"
        )
    labels = np.full(len(task.answers), np.nan)
    labels[table["at"]] = values
    return _set_aside(task, labels), labels


def _set_aside(task: RegressionTask, labels: np.ndarray) -> RegressionTask:
    """Measure neither on rows whose label is used, nor on copies of their image."""
    used = ~np.isnan(labels)
    answers = np.where(used, np.nan, task.answers)
    if "sha256" in task.rows:
        contents = task.rows.loc[~task.is_source, "sha256"].to_numpy()
        answers[np.isin(contents, contents[used])] = np.nan
    note = f"{int(used.sum())} target labels were used to choose; these images are excluded from the reported errors"
    return replace(task, answers=answers, notes=[*task.notes, note])
