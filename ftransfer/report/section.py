"""The sections of the page: what each of them shows, in the page's order.

A section is a template, ``sections/NAME.html``, and a function here that gives it its values. A new section is a new
template, a function and a line in `SECTIONS`; the list of contents at the top of the page is made from them.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ftransfer.finetune.curves import draw_curve
from ftransfer.report import pictures
from ftransfer.report.grid import draw_pairs
from ftransfer.report.labels import draw_cover, draw_labels
from ftransfer.report.numbers import Findings, setting
from ftransfer.report.plane import Plane, draw_plane
from ftransfer.report.thumbnails import choose, thumbnail

MOST_IN_MATRIX = 80  # classes; of more, those with the most mistakes are shown
DENSE = 40  # classes; of more the cells have no room for a number, and are coloured alone
LONGEST_NAME = 22  # letters of a class beside the matrix


class Section(NamedTuple):
    """One section of the page.

    Attributes
    ----------
    name : str
        Of its template, and the id of its heading.
    title : str
        In the list of contents.
    draw : callable
        Takes the findings and the results and returns the values of the template, beside all of the results;
        None leaves the section out.
    """

    name: str
    title: str
    draw: Callable[[Findings, dict], dict | None]


def draw_checks(found: Findings, results: dict) -> dict:
    """What is wrong with the data, if anything."""
    return {"to_look_at": sum(bool(check["found"]) for check in results["checks"])}


def draw_race(found: Findings, results: dict) -> dict:
    """The race: the best of each recipe as a picture and a table, and all settings."""
    candidates = [
        {**row, "chosen": i == found.race.chosen, "setting": setting(row["params"])}
        for i, row in enumerate(results["candidates"])
    ]
    first = set(found.race.best_of_each.index)
    best = [row for i, row in enumerate(candidates) if i in first or row["chosen"]]
    return {"best": best, "all_candidates": candidates, "race_picture": pictures.draw_race(best)}


def draw_calibration(found: Findings, results: dict) -> dict:
    """How sure the model is against how often it is right, where that was counted."""
    counted = results["counted"] and results["counted"]["calibration"]
    curve = results["coverage"]
    return {
        "reliability_picture": pictures.draw_reliability(counted) if counted else Markup(""),
        "cover_picture": draw_cover(curve) if curve else Markup(""),
    }


def draw_grid(found: Findings, results: dict) -> dict | None:
    """The score over each parameter; all curves on one scale, so that they can be compared."""
    curves = results["curves"]
    points = [p for curve in curves for p in curve["points"]]
    scores = [p["score"] for p in points]
    if not scores:
        return None
    counted = [p["target_accuracy"] for p in points if p["target_accuracy"] is not None]
    ends = pictures.scale(scores)
    if ends == (0.0, 1.0):
        ends = pictures.tenths(scores + counted)
    drawn = []
    for c in curves:
        if not 0 <= min(ends) <= max(ends) <= 1:  # what was counted has no place on such a scale
            c = {**c, "points": [{**p, "target_accuracy": None} for p in c["points"]]}
        name = c["parameter"].rsplit("__", 1)[-1]
        drawn.append({"pipeline": c["pipeline"], "parameter": name, "picture": pictures.draw_curve(c, ends)})
    return {"curve_pictures": drawn, "heat_maps": draw_pairs(results["search"])}


def draw_matrix(found: Findings, results: dict) -> dict | None:
    """The confusion matrix as the page shows it; of many classes those with the most mistakes."""
    if not results["counted"]:
        return None
    confusion = np.array(results["counted"]["confusion"])
    names = results["task"]["classes"]
    shown = np.arange(len(names))
    if len(names) > MOST_IN_MATRIX:
        shown = np.sort(_most_mistaken(confusion)[:MOST_IN_MATRIX])
    rows = []
    for i in shown:
        total = max(1, int(confusion[i].sum()))
        cells = [
            {"count": int(confusion[i, j]), "share": round(confusion[i, j] / total, 2), "right": i == j}
            for j in shown
        ]
        rows.append({"name": names[i], "cells": cells})
    texts = pictures.shorten([names[i] for i in shown], LONGEST_NAME)
    for row, text in zip(rows, texts, strict=True):
        row["short"] = text
    matrix = {
        "rows": rows,
        "codes": shown,
        "whole": len(shown) == len(names),
        "upright": max(map(len, texts)) > 4,  # names of columns
        "head": 0.5 * max(map(len, texts)) + 1.2,  # width of the names, in letters' heights
        "digits": len(str(confusion.max())),
        "dense": len(shown) > DENSE,
    }
    return {"matrix": matrix}


def _most_mistaken(confusion: np.ndarray) -> np.ndarray:
    """Order the classes by the mistakes that they take part in."""
    right = np.diag(confusion)
    return np.argsort(-(confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * right), kind="stable")


def draw_classes(found: Findings, results: dict) -> dict:
    """What is predicted of each class, and how it changed against source only."""
    return {"class_changes": _class_changes(results["classes"])}


def _class_changes(classes: list[dict]) -> dict | None:
    """Which classes gained and which lost most against source only, by the counted labels."""
    changes = [
        (row["right"] - row["source_only_right"], row["class"])
        for row in classes
        if row.get("right") is not None and row.get("source_only_right") is not None
    ]
    if not changes:
        return None
    changes.sort()
    return {
        "better": sum(c > 0 for c, _ in changes),
        "worse": sum(c < 0 for c, _ in changes),
        "lost": [(name, c) for c, name in changes[:3] if c < 0],
        "gained": [(name, c) for c, name in changes[:-4:-1] if c > 0],
    }


def draw_map(found: Findings, results: dict) -> dict | None:
    """The pictures in two dimensions, with what has to be said about them."""
    plane = draw_plane(found.race)
    if plane is None:
        return None
    task = found.task
    is_source = task.is_source[plane.rows]
    of_target = plane.rows[~is_source] - int(task.is_source.sum())
    labels = task.y[plane.rows].copy()
    names = task.classes.tolist()
    order = np.arange(len(names))
    if len(names) > len(pictures.HUES):
        order = np.argsort(-np.bincount(found.predicted, minlength=len(names)), kind="stable")
        if results["counted"]:
            order = _most_mistaken(np.array(results["counted"]["confusion"]))
        order = np.sort(order[: len(pictures.HUES)])
    shown = {int(code): names[code] for code in order}

    def picture(points: np.ndarray, predicted: np.ndarray, said: str) -> str:
        labels[~is_source] = predicted[of_target]
        wrong = np.zeros(len(labels), dtype=bool)
        if task.answers:
            codes = task.answers.codes[of_target]
            wrong[~is_source] = (codes != -1) & (codes != predicted[of_target])
        return pictures.draw_points(points, is_source, labels, shown, wrong, said)

    after = found.predicted
    before = after if found.before is None else found.before
    same = len(plane.points) == 1
    drawn = {
        "before": picture(plane.points[0], before, "Features before adaptation, in two dimensions."),
        "after": None,
        "same_points": same,
        "before_by": "recommended" if found.before is None else "source only",
        "mixing": plane.mixing,
        "mixing_expected": plane.mixing_expected,
        "n": len(plane.rows),
        "all": len(task.y),
        "data": _map_data(found, plane, shown),
        "legend": list(enumerate(shown.values())),
        "grey": len(names) - len(shown),
    }
    if not same or not np.array_equal(before, after):
        drawn["after"] = picture(plane.points[-1], after, "Features after adaptation, in two dimensions.")
    return {"plane": drawn}


def _map_data(found: Findings, plane: Plane, shown: dict[int, str]) -> dict:
    """What the script needs of the pictures: where each image of the page's sample lies in them, and its colour."""
    at = {int(row): i for i, row in enumerate(found.shown.rows)}
    maps = [
        {"points": pictures.fit(points).tolist(), "by": by}
        for points, by in ((plane.points[0], "before"), (plane.points[-1], "predicted"))
    ]
    hues = {code: i for i, code in enumerate(shown)}
    return {"images": [at[int(row)] for row in plane.rows], "maps": maps, "hues": hues}


def draw_images(found: Findings, results: dict) -> dict:
    """The images that the model is most and least sure of; those that are no longer there are counted."""
    return {"thumbnails": _thumbnails(found)}


def _thumbnails(found: Findings) -> dict:
    sure = found.probability
    shown: dict[str, Any] = {"known": sure is not None, "most": [], "least": [], "missing": 0}
    if sure is None:
        return shown
    task = found.task
    rows = task.rows[~task.is_source]
    for which, chosen in choose(sure, found.predicted).items():
        for i in chosen:
            row = rows.iloc[i]
            uri = thumbnail(row["root"], row["path"], row["sha256"])
            if uri is None:
                shown["missing"] += 1
                continue
            code = task.answers.codes[i]
            label = (
                None if code == -1 else task.classes[code] if code >= 0 else "a class that is in no source"
            )
            predicted = task.classes[found.predicted[i]]
            picture = {"uri": uri, "path": row["path"], "predicted": predicted, "label": label}
            shown[which].append({**picture, "right": label == predicted, "sure": float(sure[i])})
    return shown


def draw_similarity(found: Findings, results: dict) -> dict:
    """How far apart the domains are; all of it is among the results."""
    return {}


def draw_training(found: Findings, results: dict) -> dict | None:
    """How the backbone was trained, where it was tuned here."""
    if not results["training"]:
        return None
    return {"training_picture": Markup(draw_curve(results["training"]))}


def draw_again(found: Findings, results: dict) -> dict:
    """What it takes to reproduce the run."""
    files = (
        "results.csv (all settings), classes.csv (per class), results.json (every number of this page), "
        "predictions.csv (a label for each target image)"
    )
    return {"files": files, "fingerprint_text": json.dumps(results["fingerprint"], indent=1)}


SECTIONS = [
    Section("checks", "Data checks", draw_checks),
    Section("race", "The race", draw_race),
    Section("labels", "Target labels", draw_labels),
    Section("confusion", "Confusion matrix", draw_matrix),
    Section("classes", "Classes", draw_classes),
    Section("calibration", "Calibration", draw_calibration),
    Section("plane", "Map", draw_map),
    Section("images", "Images", draw_images),
    Section("grid", "Grid search", draw_grid),
    Section("similarity", "Similarity", draw_similarity),
    Section("training", "How the backbone was trained", draw_training),
    Section("again", "Reproduce this run", draw_again),
]
