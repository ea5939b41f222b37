"""What labels of the target were used for, what they say of its classes, and whether it has one of its own."""

from typing import Any

import numpy as np
from markupsafe import Markup
from sklearn.preprocessing import StandardScaler, normalize

from ftransfer.report.pictures import fill
from ftransfer.report.thumbnails import EACH, thumbnail
from ftransfer.search.expected import OF_LABELS
from ftransfer.search.guard import wilson
from ftransfer.search.outcome import Race
from ftransfer.task import Task

POINTS = 20  # of the curve of accuracy over coverage


def describe_labels(race: Race) -> dict[str, Any] | None:
    """Sum up the labels of the target: what for, shares of the classes, and images of none of them.

    Returns
    -------
    dict or None
        None without labels. ``given, fitted, first_pass, held_back, weight, source_needed, drawn``; ``shares``, a row
        a class with its share of the images that were held back and the 95 % interval; ``new_class``, where images
        are of none of the classes: ``labelled, share, low, high``, and ``rows, like_them``, target rows with that
        label and unlabelled ones that are nearer to one of these than to any other labelled image.
    """
    codes, use = race.target_labels, race.label_use
    if codes is None:
        return None
    told: dict[str, Any] = {"given": (codes != -1).sum(), "fitted": 0, "shares": [], "new_class": None}
    if use is not None:
        told |= {
            "fitted": use.n_fitted,
            "first_pass": len(use.useful),
            "held_back": len(use.held_back),
            "weight": use.weight,
            "source_needed": use.source_needed,
            "drawn": use.drawn,
        }
        if use.shares is not None:
            names = race.task.classes
            told["shares"] = [
                {"class": name, "share": share, "low": low, "high": high}
                for name, (share, low, high) in zip(names, use.shares, strict=True)
            ]
    if (codes == -2).any():
        told["new_class"] = _new_class(race.task, codes, codes if use is None else codes[use.held_back])
    return told


def _new_class(task: Task, codes: np.ndarray, sample: np.ndarray) -> dict[str, Any]:
    rows = np.flatnonzero(codes == -2)
    share = float(np.mean(sample[sample != -1] == -2)) if (sample != -1).any() else None
    low, high = (None, None) if share is None else wilson(share, (sample != -1).sum(), OF_LABELS)
    like = like_none_of_the_classes(np.asarray(task.X_target), codes)
    return {"labelled": len(rows), "share": share, "low": low, "high": high, "rows": rows, "like_them": like}


def like_none_of_the_classes(X: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Find unlabelled rows that are nearest to a labelled row of none of the classes, the nearest first.

    Parameters
    ----------
    X : array of shape (n_target, n_features)
    codes : array of shape (n_target,), int
        Index into the classes; -1 where there is no label, -2 for none of them.
    """
    Z = normalize(StandardScaler().fit_transform(X))
    labelled, rest = np.flatnonzero(codes != -1), np.flatnonzero(codes == -1)
    if not len(rest):
        return rest
    alike = Z[rest] @ Z[labelled].T
    nearest = alike.argmax(axis=1)
    new = codes[labelled][nearest] == -2
    return rest[new][np.argsort(-alike.max(axis=1)[new], kind="stable")]


def draw_labels(found: Any, results: dict) -> dict | None:
    """What the labels were used for, with pictures of images that may be of a new class."""
    told = results["labels"]
    if told is None:
        return None
    new = told["new_class"] or {"rows": [], "like_them": []}
    return {
        "labelled_pictures": _pictures(found.task, new["rows"]),
        "alike": _pictures(found.task, new["like_them"]),
    }


def _pictures(task: Task, rows: list[int]) -> list[dict]:
    table = task.rows[~task.is_source].iloc[list(rows[:EACH])]
    shown = [(thumbnail(r["root"], r["path"], r["sha256"]), r["path"]) for _, r in table.iterrows()]
    return [{"uri": uri, "path": path} for uri, path in shown if uri is not None]


# ---------------------------------------------------------------- how many images to answer for


def cover(probability: np.ndarray, right: np.ndarray | None = None) -> list[dict[str, float | None]]:
    """Tell what accuracy remains when only the surest images are labelled and the others are left unknown.

    Parameters
    ----------
    probability : array of shape (n_target,)
        Of the predicted class.
    right : array of shape (n_target,), optional
        1 where the prediction is right, 0 where it is wrong, NaN where that is not known.

    Returns
    -------
    list of dict
        ``coverage``, the share of the images that are labelled; ``probability``, the lowest among them; ``expected``,
        their mean probability; ``accuracy`` among those whose label is known, None where none is.
    """
    order = np.argsort(-probability, kind="stable")
    right = np.full(len(order), np.nan) if right is None else np.asarray(right, dtype=float)
    counts = np.unique(np.ceil(np.arange(1, POINTS + 1) / POINTS * len(order)).astype(int))
    curve = []
    for count in counts:
        taken = order[:count]
        known = right[taken][~np.isnan(right[taken])]
        curve.append(
            {
                "coverage": count / len(order),
                "probability": float(probability[taken[-1]]),
                "expected": float(probability[taken].mean()),
                "accuracy": float(known.mean()) if len(known) else None,
            }
        )
    return curve


def draw_cover(curve: list[dict[str, Any]]) -> Markup:
    """Draw accuracy over coverage: as expected by the probabilities, and as counted where labels are known."""
    side, left, base = 260, 40, 270

    def line(key: str, kind: str) -> Markup:
        points = [(left + side * p["coverage"], base - side * p[key]) for p in curve if p[key] is not None]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        return fill('<polyline class="{}" fill="none" points="{}"/>', kind, text) if points else Markup("")

    parts = [
        fill(
            '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="soft" x="{label}" y="{beside:.1f}" text-anchor="end">{tick:.1f}</text>'
            '<text class="soft" x="{x:.1f}" y="{below}" text-anchor="middle">{tick:.1f}</text>',
            left=left, right=left + side, y=base - side * tick, label=left - 6, beside=base - side * tick + 4,
            tick=tick, x=left + side * tick, below=base + 18,
        )
        for tick in np.linspace(0, 1, 6)
    ]  # fmt: skip
    parts += [line("expected", "cover expected"), line("accuracy", "cover counted")]
    parts.append(
        fill('<text class="soft" x="{}" y="{}" text-anchor="middle">share of the images that are labelled</text>',
             left + side / 2, base + 38)
    )  # fmt: skip
    return fill(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Accuracy over the share of images that are labelled">{}</svg>',
        left + side + 20, base + 48, Markup("".join(parts)),
    )  # fmt: skip
