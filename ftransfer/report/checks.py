"""Checks of the data of a task: what is wrong with it shows here, before any number is trusted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from ftransfer.features.protocol import Features
from ftransfer.report.thumbnails import Look
from ftransfer.task import Task

FEW = 10  # labelled images of a class
NAMED = 10  # examples of each finding
FEWEST_LOOKS = 20  # images of a side, to compare sizes and colours
TELLS_APART = 0.9  # balanced accuracy from which on size or colour is called a shortcut


def check_data(
    task: Task, features: Features, rows: np.ndarray, looks: Sequence[Look | None]
) -> list[dict[str, Any]]:
    """Check the images of a task.

    Parameters
    ----------
    task : Task
    features : FeatureSet
        What the task was taken from; it knows the images that could not be read.
    rows : ndarray of int
        Rows of the task of which `looks` are.
    looks : list
        `Look` of each of them, or None.

    Returns
    -------
    list of dict ``check, found, sentence, examples``: whether anything was found (None: not checked), what in one
    sentence, and at most ten examples.
    """
    images = _images(task)
    return [
        _unreadable(task, features),
        _copies_within(images),
        _copies_across(images),
        _two_classes(images),
        _few(task, images),
        *_shortcuts(task, rows, looks),
    ]


def _images(task: Task) -> pd.DataFrame:
    """One row an image, whatever its views: root, path, sha256, domain, label (a code) and whether it is source."""
    codes = task.answers.codes.copy()
    if task.answers.copies is not None:
        codes = np.where(task.answers.copies != -1, task.answers.copies, codes)
    labels = task.y.copy()
    n_source = int(task.is_source.sum())
    labels[n_source : n_source + len(codes)] = codes
    columns = task.rows[["root", "path", "sha256", "domain"]]
    return columns.assign(label=labels, source=task.is_source).drop_duplicates(["root", "path"])


def _groups(rows: pd.DataFrame, keys: list[str]) -> tuple[int, list[pd.DataFrame]]:
    """Count the groups of rows with the same keys, and take the first of them."""
    number = rows.groupby(keys, sort=False).ngroup()
    count = int(number.max()) + 1 if len(rows) else 0
    return count, [rows[number == each] for each in range(min(count, NAMED))]


def _paths(rows: pd.DataFrame) -> str:
    """Name the first few of some images."""
    names = [f"{domain}: {path}" for domain, path in zip(rows["domain"], rows["path"], strict=True)]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _finding(check: str, examples: Sequence[str], some: str, none: str) -> dict[str, Any]:
    return {
        "check": check,
        "found": bool(examples),
        "sentence": some if examples else none,
        "examples": list(examples[:NAMED]),
    }


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _unreadable(task: Task, features: Features) -> dict[str, Any]:
    table = features.complete
    bad = table[table["domain"].isin([*task.sources, task.target]) & (table["status"] != "ok")]
    examples = [f"{path}: {error}" for path, error in zip(bad["path"], bad["error"], strict=True)]
    return _finding(
        "unreadable files",
        examples,
        f"{_count(len(bad), 'file', 'files')} could not be read and {'is' if len(bad) == 1 else 'are'} left out.",
        "Every file could be read.",
    )


def _copies_within(images: pd.DataFrame) -> dict[str, Any]:
    again = images[images.duplicated(["domain", "sha256"], keep=False)]
    count, groups = _groups(again, ["domain", "sha256"])
    return _finding(
        "duplicates within a domain",
        [_paths(group) for group in groups],
        f"{_count(count, 'image occurs', 'images occur')} more than once, with "
        f"{_count(len(again) - count, 'extra copy', 'extra copies')} in all. They get more weight than other "
        f"images, and cross-validation on the source tests on training images.",
        "No file occurs twice within a domain.",
    )


def _copies_across(images: pd.DataFrame) -> dict[str, Any]:
    domains = images.groupby("sha256", sort=False)["domain"].nunique()
    shared = images[images["sha256"].isin(domains.index[domains > 1])]
    count, groups = _groups(shared, ["sha256"])
    return _finding(
        "duplicates across domains",
        [_paths(group) for group in groups],
        f"{_count(count, 'image is', 'images are')} in more than one domain. Copies of source images are "
        f"excluded from the target accuracy.",
        "No file is in two domains.",
    )


def _two_classes(images: pd.DataFrame) -> dict[str, Any]:
    labelled = images[images["label"] >= 0]
    classes = labelled.groupby("sha256", sort=False)["label"].nunique()
    count, groups = _groups(labelled[labelled["sha256"].isin(classes.index[classes > 1])], ["sha256"])
    return _finding(
        "one image with two labels",
        [_paths(group) for group in groups],
        f"{_count(count, 'image has', 'images have')} copies with different labels: at least one is wrong.",
        "No image has copies with different labels.",
    )


def _few(task: Task, images: pd.DataFrame) -> dict[str, Any]:
    counts = np.bincount(images.loc[images["source"], "label"], minlength=len(task.classes))
    few = np.flatnonzero(counts < FEW)
    few = few[np.argsort(counts[few], kind="stable")]
    return _finding(
        "classes with few images",
        [f"{task.classes[c]}: {_count(counts[c], 'image', 'images')}" for c in few],
        f"{_count(len(few), 'class has', 'classes have')} fewer than {FEW} labelled source images.",
        f"Each class has at least {FEW} labelled source images; the smallest has {counts.min()}.",
    )


def _shortcuts(task: Task, rows: np.ndarray, looks: Sequence[Look | None]) -> list[dict[str, Any]]:
    """Ask whether the size of the files, or their colours alone, tell source and target apart."""
    known = np.array([each is not None for each in looks], dtype=bool)
    is_source = task.is_source[rows[known]]
    seen = [each for each in looks if each is not None]
    n = int(min(is_source.sum(), (~is_source).sum()))
    names = ("size separates the domains", "colour separates the domains")
    if n < FEWEST_LOOKS:
        reason = f"Not checked: it takes at least {FEWEST_LOOKS} image files of source and target each; found: {n}."
        return [{"check": name, "found": None, "sentence": reason, "examples": []} for name in names]
    sizes = np.array([[w, h, w / h] for w, h in (each.size for each in seen)])
    colours = np.array([each.colour for each in seen])
    how = f"a small decision tree, cross-validated on {len(seen)} images; 50% is chance"
    found = []
    for name, what, X, examples in (
        (names[0], "Width and height of the files", sizes, _common_sizes(seen, is_source)),
        (
            names[1],
            "Mean and standard deviation of red, green and blue",
            colours,
            _mean_colours(colours, is_source),
        ),
    ):
        tree = DecisionTreeClassifier(max_depth=3, class_weight="balanced", random_state=0)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        accuracy = cross_val_score(tree, X, is_source, cv=folds, scoring="balanced_accuracy").mean()
        apart = bool(accuracy >= TELLS_APART)
        shortcut = " If the class proportions differ between the domains, a model can learn this instead of the class."
        sentence = (
            f"{what} alone separate source and target with a balanced accuracy of {accuracy:.0%} ({how})."
        )
        found.append(
            {
                "check": name,
                "found": apart,
                "sentence": sentence + (shortcut if apart else ""),
                "examples": examples if apart else [],
            }
        )
    return found


def _common_sizes(seen: Sequence[Look], is_source: np.ndarray) -> list[str]:
    table = pd.DataFrame({"size": [f"{w} x {h} pixels" for w, h in (each.size for each in seen)]})
    return [
        f"{side}: most often {most.index[0]}, {most.iloc[0]:.0%} of its images"
        for side, mask in (("source", is_source), ("target", ~is_source))
        for most in [table["size"][mask].value_counts(normalize=True)]
    ]


def _mean_colours(colours: np.ndarray, is_source: np.ndarray) -> list[str]:
    return [
        f"{side}: mean red {r:.0f}, green {g:.0f}, blue {b:.0f} of 255"
        for side, mask in (("source", is_source), ("target", ~is_source))
        for r, g, b in [colours[mask, :3].mean(axis=0)]
    ]
