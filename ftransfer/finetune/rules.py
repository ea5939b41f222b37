"""Learn on the source which augmentation rules help: a search over them that trains no network."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Generator

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.checkpoint import read_about
from ftransfer.backbone.decoded import Pixels, batches
from ftransfer.errors import FtransferError
from ftransfer.finetune.augment import vary

CANDIDATES = ("flip", "crop", "colour", "channels")
FOLDS = 5
BATCH = 64


def learn_rules(
    backbone: Backbone,
    pixels: Pixels,
    rows: np.ndarray,
    labels: np.ndarray,
    domains: np.ndarray,
    *,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Choose rules by greedy forward selection on the features of the backbone as it starts, frozen.

    Each image is embedded as it is and once varied by each rule. A classifier is fitted on the images as they are
    together with their views by the rules that are tried, all rows weighing as much together as the images alone would,
    and counted on held-out images as they are: another domain where several train, else one of five folds, an image
    always with all its views. The rule that raises the share of right ones most is taken, as long as it raises it by
    more than the standard error of the difference; then the next. Where none does, none is taken.

    What it finds is what helps a linear classifier on frozen features. No image of another domain than those that
    train is looked at, and none that validates or tests.

    Parameters
    ----------
    backbone : Backbone
    pixels : Pixels
    rows : ndarray of int
        Of `pixels`, those that train.
    labels : ndarray of shape (len(rows),), int
        -1 for an image without a label, which is left out.
    domains : ndarray of shape (len(rows),), str
    seed : int
    progress : callable

    Returns
    -------
    rules : tuple of str
    tried : list of dict
        ``rules, accuracy, gain, error`` (of the gain, over the best so far), in the order tried.

    Raises
    ------
    FtransferError
        If there are too few labelled images to hold some out.
    """
    known = labels >= 0
    rows, labels, domains = rows[known], labels[known], domains[known]
    if len(np.unique(domains)) > 1:
        folds = list(LeaveOneGroupOut().split(rows, labels, domains))
    else:
        counts = np.unique(labels, return_counts=True)[1]
        if len(counts) < 2 or counts.min() < 2:
            raise FtransferError(
                "--rules auto needs at least two classes with two labelled images each; name the "
                "augmentations instead"
            )
        folds = StratifiedKFold(min(FOLDS, counts.min()), shuffle=True, random_state=seed).split(rows, labels)
        folds = list(folds)
    views = {
        rule: _embed(backbone, pixels, rows, (rule,) if rule else (), seed, progress)
        for rule in ("", *CANDIDATES)
    }

    def right(rules: Sequence[str]) -> np.ndarray:
        found = np.zeros(len(rows), dtype=bool)
        for train, test in folds:
            X = np.concatenate([views[rule][train] for rule in ("", *rules)])
            y, weights = np.tile(labels[train], 1 + len(rules)), np.full(len(X), 1 / (1 + len(rules)))
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
            model.fit(X, y, logisticregression__sample_weight=weights)
            found[test] = model.predict(views[""][test]) == labels[test]
        return found

    with threadpool_limits(limits=1):  # of small matrices: threads wait for one another
        taken: tuple[str, ...] = ()
        best = right(())
        tried: list[dict[str, Any]] = [
            {"rules": [], "accuracy": float(best.mean()), "gain": 0.0, "error": 0.0}
        ]
        while left := [rule for rule in CANDIDATES if rule not in taken]:
            found = {rule: right((*taken, rule)) for rule in left}
            for rule, each in found.items():
                change = each.astype(float) - best
                error = change.std(ddof=1) / math.sqrt(len(change))
                said = {"accuracy": float(each.mean()), "gain": float(change.mean()), "error": float(error)}
                tried.append({"rules": [*taken, rule], **said})
            first = max(tried[-len(left) :], key=lambda row: row["gain"])
            if first["gain"] <= first["error"]:
                break
            taken, best = tuple(first["rules"]), found[first["rules"][-1]]
    return taken, tried


def describe_search(taken: Sequence[str], tried: list[dict[str, Any]]) -> str:
    """Say in a line which rules were learned."""
    plain, reached = (
        tried[0]["accuracy"],
        max(row["accuracy"] for row in tried if row["rules"] == list(taken)),
    )
    of = f"of {', '.join(CANDIDATES)}, on held-out images with the initial features"
    if not taken:
        return f"none {of}: no augmentation improves {plain:.1%} by more than its standard error"
    return f"{', '.join(taken)} {of}: accuracy {reached:.1%}, without augmentation {plain:.1%}"


def _embed(
    backbone: Backbone,
    pixels: Pixels,
    rows: np.ndarray,
    rules: Sequence[str],
    seed: int,
    progress: Callable[[str, int, int], None],
) -> np.ndarray:
    draw = Generator().manual_seed(seed)
    parts, found = batches(rows, BATCH), []
    for i, part in enumerate(parts):
        found.append(backbone.embed(pixels.batch(part, partial(vary, rules=rules, draw=draw))))
        progress(f"learning rules, {rules[0] if rules else 'none'}", i + 1, len(parts))
    return np.concatenate(found)


def read_rules(checkpoint: str | Path) -> tuple[str, ...]:
    """Read the augmentation rules that a checkpoint of `ftransfer finetune` was trained with.

    Raises
    ------
    FtransferError
        If it is none, or was trained without any.
    """
    if not Path(str(checkpoint)).expanduser().is_file():
        raise FtransferError(
            f"{checkpoint} does not exist; --rules-from needs a checkpoint of ftransfer finetune"
        )
    rules = read_about(checkpoint).get("rules")
    if not rules:
        raise FtransferError(f"{checkpoint} was trained without augmentations, so there is nothing to reuse")
    return tuple(map(str, rules))
