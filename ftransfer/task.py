"""Source and target from a feature set: the target's labels are kept apart, for counting only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ftransfer.adapt.base import domain_codes
from ftransfer.cells import read_label
from ftransfer.errors import FtransferError, unknown
from ftransfer.features.label_file import Files, TargetLabels, read_labels
from ftransfer.features.label_map import guess_pair, name_labels
from ftransfer.features.manifest import LABELS
from ftransfer.features.protocol import Features
from ftransfer.features.stored import StoredRows

IN_MEMORY = 100_000  # rows of a task; more are read when they are taken


@dataclass(frozen=True)
class Task:
    """One transfer task, ready for ``pipeline.fit(task.X, task.y, sample_domain=task.sample_domain)``.

    Attributes
    ----------
    X : ndarray or StoredRows of shape (n_samples, n_features), float32
        Source rows first, then target rows. More than 100,000 rows stay in their files until they are taken;
        ``np.asarray`` reads all of them.
    y : ndarray of shape (n_samples,), int
        Index into `classes` for source rows, -1 for target rows, whether they have a label or not.
    sample_domain : ndarray of shape (n_samples,), int
        1, 2, ... for the sources in alphabetical order, -1 for the target.
    classes : ndarray of str
    rows : DataFrame
        Manifest rows of the samples, without any column of labels.
    sources : tuple of str
    target : str
    notes : list of str
        What was skipped.
    answers : Answers
        The target labels, if there are any. They are not used to fit or to choose.
    unseen : bool
        Whether the target's rows, too, are for counting only: a domain never seen, see `ftransfer.search.unseen`.
    label : str or None
        Column that the labels are of, where one was named.
    via : tuple of (str, ndarray of shape (n_rows, n_features))
        Domains on the way from source to target, unlabelled, in this order; see `ftransfer.search.data_level`.
    labels : TargetLabels or None
        Labels of a few target rows that may be used to fit and to choose; they are not among the answers.
    """

    X: np.ndarray | StoredRows
    y: np.ndarray
    sample_domain: np.ndarray
    classes: np.ndarray
    rows: pd.DataFrame
    sources: tuple[str, ...]
    target: str
    answers: "Answers"
    notes: list[str] = field(default_factory=list)
    unseen: bool = False
    label: str | None = None
    via: tuple[tuple[str, np.ndarray], ...] = ()
    labels: TargetLabels | None = None

    @property
    def visible(self) -> "Task":
        """The task as what fits and chooses may see it: without answers, and without target rows that are left out."""
        if not self.unseen:
            return replace(self, answers=Answers(np.full(len(self.answers.codes), -1)), labels=None)
        n = int(self.is_source.sum())
        return replace(
            self,
            X=self.X[:n],
            y=self.y[:n],
            sample_domain=self.sample_domain[:n],
            rows=self.rows[:n],
            answers=Answers(self.answers.codes[:0]),
        )

    @property
    def groups(self) -> np.ndarray | None:
        """Number of each row's group, where the manifest has any; a row without one is a group of its own."""
        return group_codes(self.rows)

    @property
    def is_source(self) -> np.ndarray:
        """Mask of the source rows."""
        return self.sample_domain > 0

    @property
    def X_source(self) -> np.ndarray | StoredRows:
        """The source rows of `X`, which come first: not copied."""
        return self.X[: int(self.is_source.sum())]

    @property
    def X_target(self) -> np.ndarray | StoredRows:
        """The target rows of `X`, which come last: not copied."""
        return self.X[int(self.is_source.sum()) :]


def group_codes(rows: pd.DataFrame) -> np.ndarray | None:
    """Number the groups of rows, each row without one as a group of its own; None where there are none."""
    if "group" not in rows or rows["group"].isna().all():
        return None
    codes, names = pd.factorize(rows["group"])
    return np.where(codes < 0, len(names) + np.arange(len(codes)), codes)


class Answers:
    """The target's true labels, for counting at the end.

    Parameters
    ----------
    codes : ndarray of shape (n_target,), int
        Index into the classes; -1 where the label is not known, -2 for a class that no source has.
    copies : ndarray of shape (n_target,), int, optional
        The same for copies of source images, which are not among `codes`: to be right on them is no transfer.
    """

    def __init__(self, codes: np.ndarray, copies: np.ndarray | None = None) -> None:
        self.codes, self.copies = codes, copies

    def __bool__(self) -> bool:
        return bool((self.codes != -1).any())

    def accuracy(self, predicted: np.ndarray) -> float:
        """Share of the labelled target rows that were predicted right; NaN where none has a label."""
        return _accuracy(self.codes, predicted)

    @property
    def describes_copies(self) -> bool:
        """Whether copies of source images have labels."""
        return self.copies is not None and bool((self.copies != -1).any())

    def describe_copies(self, predicted: np.ndarray) -> list[str]:
        """Say in a note how the accuracy on copies of source images differs from that on the others."""
        if self.copies is None or not self.describes_copies:
            return []
        count = int((self.copies != -1).sum())
        rest = f"; {self.accuracy(predicted):.1%} of the others, as reported" if self else ""
        return [
            f"copies of source images among the target's: {_accuracy(self.copies, predicted):.1%} correct of "
            f"{count}{rest}"
        ]


def _accuracy(codes: np.ndarray, predicted: np.ndarray) -> float:
    known = codes != -1
    return float(np.mean(predicted[known] == codes[known])) if known.any() else float("nan")


def load_task(
    features: Features,
    source: str | Sequence[str],
    target: str,
    *,
    classes: str | Sequence[str] = "strict",
    label: str | None = None,
    leave_target_out: bool = False,
    label_map: dict[str, str] | str | Path | None = None,
) -> Task:
    """Take source and target rows from a feature set.

    Parameters
    ----------
    features : FeatureSet or JoinedFeatures
    source : str or list of str
        Source domains; rows without a label are skipped, with a note.
    target : str
        Target domain.
    classes : "strict", "shared", "all" or list of str, default="strict"
        What to do with classes that are only in the sources or only in the (labelled) target: raise an error; keep
        the shared classes; keep all, with those of the target counted as errors; or keep the given ones.
    label : str, optional
        Label column, if the feature set has several (``ftransfer extract --label-column``).
    leave_target_out : bool, default=False
        Whether the target is treated as unseen: its rows are only used to measure the accuracy.
    label_map : dict, str or path, optional
        New names of classes, or a table with the columns from and to, if the domains name classes differently.

    Target rows that are copies of source images are excluded from the accuracy; see `Answers.describe_copies`.

    Raises
    ------
    FtransferError
        If a domain, class or column of labels does not exist, a domain is on both sides, fewer than two classes are
        left, or (``"strict"``) a class is on one side only.
    """
    if leave_target_out:
        _refuse_seen(features, target, classes)
    sources = tuple(dict.fromkeys([source] if isinstance(source, str) else source))
    rows, notes = find_rows(features, sources, target, label, label_map)
    is_target = rows["domain"] == target
    bare = ~is_target & rows["label"].isna()
    if bare.any():
        notes.append(f"{int(bare.sum())} source images without a label were skipped")
    source_rows, target_rows = rows[~is_target & ~bare], rows[is_target]
    for side, part in (("source", source_rows), ("target", target_rows)):
        if part.empty:
            names = ", ".join(sources) if side == "source" else target
            raise FtransferError(
                f"no {'labelled ' if side == 'source' else ''}image of {side} '{names}' could be read"
            )
    chosen = _choose_classes(source_rows, target_rows, classes)
    source_rows = source_rows[source_rows["label"].isin(chosen)]
    if classes != "all":
        other = target_rows["label"].notna() & ~target_rows["label"].isin(chosen)
        if other.any():
            notes.append(f"{int(other.sum())} target images with labels of other classes were skipped")
            target_rows = target_rows[~other]
    if target_rows.empty:
        raise FtransferError(f"no image of target '{target}' has one of the classes {', '.join(chosen)}")
    rows = stack_rows(source_rows, target_rows, features.n_views, notes)
    n_source = len(rows) - len(target_rows)
    codes = pd.Index(chosen).get_indexer(rows["label"].astype(object))
    answers = codes[n_source:].copy()
    answers[(answers == -1) & target_rows["label"].notna().to_numpy()] = -2
    codes[n_source:] = -1
    is_copy = target_rows["sha256"].isin(source_rows["sha256"]).to_numpy()
    copies = np.where(is_copy, answers, -1)
    answers[is_copy] = -1
    if n_copies := int(is_copy.sum()):
        notes.append(f"{n_copies} images of '{target}' are also in a source: excluded from the accuracy")
    return Task(
        X=load_rows(features, source_rows, rows[n_source:]),
        y=codes,
        sample_domain=domain_codes(rows["domain"], target),
        classes=np.array(chosen, dtype=str),
        rows=rows.drop(columns=[name for name in rows if name == "label" or name.startswith(LABELS)]),
        sources=tuple(sorted(sources)),
        target=target,
        answers=Answers(answers, copies),
        notes=notes,
        unseen=leave_target_out,
        label=label,
    )


def find_rows(
    features: Features,
    sources: Sequence[str],
    target: str,
    label: str | None,
    label_map: dict[str, str] | str | Path | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Find the readable rows of both sides, with their labels, and note what was skipped."""
    manifest = features.complete
    check_domains(sources, target, sorted(manifest["domain"].unique()))
    notes = list(features.notes)
    rows = name_labels(manifest[manifest["domain"].isin([*sources, target])], label, label_map)
    unreadable = rows["status"] != "ok"
    if unreadable.any():
        notes.append(f"{int(unreadable.sum())} unreadable images were skipped")
        rows = rows[~unreadable]
    return rows, notes


def stack_rows(
    source_rows: pd.DataFrame, target_rows: pd.DataFrame, views: int, notes: list[str]
) -> pd.DataFrame:
    """Stack source rows, once a view, and target rows, in the order of `load_rows`; add a note about the views."""
    rows = pd.concat([*[source_rows] * views, target_rows], ignore_index=True)
    if views > 1:  # one image's views stay together, whatever is held out
        rows["group"] = rows["group"].fillna(rows["sha256"])
        notes.append(f"{views} views of each source image; target images unchanged")
    return rows


def load_rows(
    features: Features, source_rows: pd.DataFrame, target_rows: pd.DataFrame
) -> np.ndarray | StoredRows:
    """Load the embeddings of source rows, all views of them, then target rows as they are; many: when taken."""
    if features.n_views == 1:
        rows = StoredRows(features, pd.concat([source_rows, target_rows]))
        return rows if len(rows) > IN_MEMORY else np.asarray(rows)
    views = [features.load(source_rows, view=view) for view in range(features.n_views)]
    return np.concatenate([*views, features.load(target_rows)])


def check_domains(sources: Sequence[str], target: str, domains: Sequence[str]) -> None:
    """Refuse a domain that is not there, or on both sides."""
    for name in (*sources, target):
        if name not in domains:
            raise unknown("domain", name, domains)
    if target in sources:
        raise FtransferError(f"'{target}' is both source and target; domains found: {', '.join(domains)}")


def _refuse_seen(features: Features, target: str, classes: str | Sequence[str]) -> None:
    """Refuse to call a domain never seen if its images or labels have a say."""
    if target in features.fingerprint.get("batch_norm", {}):
        raise FtransferError(
            f"'{target}' was embedded with batch-norm statistics of its own images, so it is not unseen; do not "
            f"use --adapt-bn for it"
        )
    if classes == "shared":
        raise FtransferError(
            "--classes shared would use the labels of the target, which is left out; name the classes (--classes "
            "mug,bike) or use --classes all"
        )


def _choose_classes(
    source_rows: pd.DataFrame, target_rows: pd.DataFrame, classes: str | Sequence[str]
) -> list[str]:
    of_source, of_target = set(source_rows["label"]), set(target_rows["label"].dropna())
    if isinstance(classes, str):
        only_source, only_target = of_source - of_target, of_target - of_source
        if classes == "strict" and of_target and (only_source or only_target):
            sides = [("source", only_source), ("target", only_target)]
            pair = guess_pair(only_source, only_target)
            hint = f". {pair[0]!r} may be {pair[1]!r}: rename one with --label-map FILE" if pair else ""
            found = "; ".join(f"only the {side} has {_some(names)}" for side, names in sides if names)
            raise FtransferError(
                f"source and target should have the same classes, but {found}. --classes shared keeps what both "
                f"have, --classes all keeps everything (classes that are only in the target can then never be "
                f"predicted)"
                f"{hint}"
            )
        chosen = of_source & of_target if classes == "shared" and of_target else of_source
    else:
        classes = [str(read_label(name)) for name in classes]
        for name in classes:
            if name not in of_source:
                raise unknown("class", str(name), sorted(of_source), plural="classes")
        chosen = of_source & set(classes)
    if len(chosen) < 2:
        raise FtransferError(f"at least two classes are needed; there are: {_some(chosen) or 'none'}")
    return sorted(chosen)


def _some(given: Iterable[str]) -> str:
    names = sorted(given)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# ---------------------------------------------------------------- a few labels of the target


def draw_target_labels(task: Task, n: int, *, random_state: int = 0) -> tuple[Task, np.ndarray]:
    """Draw labels of `n` target rows to fit and to choose; the returned task measures the accuracy on the others.

    Drawn at random among the labelled rows: which class a row has is not known before.

    Returns
    -------
    task : Task
        The same but for its `labels`, its `answers` and a note; ``race(task)`` uses the labels.
    labels : ndarray of shape (n_target,), int
        Index into the classes, -1 for a row whose label is not used.

    Raises
    ------
    FtransferError
        If fewer than `n` rows have a label.
    """
    known = np.flatnonzero(task.answers.codes != -1)
    if not 1 <= n <= len(known):
        raise FtransferError(
            f"{n} labelled images of '{task.target}' were requested, but only {len(known)} have a label in the "
            f"feature set"
        )
    rows = np.random.default_rng(random_state).choice(known, n, replace=False)
    labels = np.full(len(task.answers.codes), -1)
    labels[rows] = task.answers.codes[rows]
    return _set_aside(task, TargetLabels(labels, labels != -1, drawn=True)), labels


def read_target_labels(task: Task, files: Files) -> tuple[Task, np.ndarray]:
    """Read labels of a few target images, from CSV files with the columns path and label.

    See `draw_target_labels` for what comes back, and `ftransfer.features.label_file.read_labels`, which also tells
    which images were drawn at random. An image of none of the source's classes counts as wrong for every candidate.

    Raises
    ------
    FtransferError
        If a file cannot be read, names an image that the target has not, or a class that the source has not.
    """
    given = read_labels(files, task.rows[~task.is_source], task.target, task.classes.tolist())
    task = replace(task, notes=[*task.notes, *given.notes])
    return _set_aside(task, given), given.codes


def _set_aside(task: Task, labels: TargetLabels) -> Task:
    """Count neither by rows whose label is used, nor by copies of their image."""
    used = labels.codes != -1
    contents = task.rows.loc[~task.is_source, "sha256"].to_numpy()
    codes = np.where(np.isin(contents, contents[used]), -1, task.answers.codes)
    note = (
        f"{int(used.sum())} target labels were used to choose and, if enough, to fit; these images are excluded "
        f"from the reported accuracy"
    )
    answers = Answers(codes, task.answers.copies)
    return replace(task, labels=labels, answers=answers, notes=[*task.notes, note])
