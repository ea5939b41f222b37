"""The page: one HTML file that asks nothing of the network, complete without its few lines of JavaScript."""

import base64
import hashlib
import json
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from ftransfer.finetune.curves import draw_curve
from ftransfer.report import pictures
from ftransfer.report.numbers import Findings, best_source_only, setting
from ftransfer.report.plane import draw_plane
from ftransfer.report.thumbnails import choose, thumbnail

HERE = Path(__file__).parent
MOST_IN_MATRIX = 40  # classes; of more, those with the most mistakes are shown


def draw_or_tell(draw: Callable[..., str], *args: Any) -> str:
    """Draw a page; of a fault in drawing make a page that tells it, and warn: a run is worth more than its page."""
    try:
        return draw(*args)
    except Exception:
        told = traceback.format_exc()
        warnings.warn(
            "the page could not be drawn, which is a fault of ftransfer; everything else is written, and report.html "
            f"tells what happened: {told.splitlines()[-1]}",
            RuntimeWarning,
            stacklevel=3,
        )
        return pictures.fill(
            '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>not drawn</title>\n'
            "<p>This page could not be drawn, which is a fault of ftransfer. Model, predictions and tables lie beside "
            "it.</p>\n<pre>{}</pre></html>",
            told,
        )


def draw_page(found: Findings, results: dict) -> str:
    """Draw the page from what was found and its numbers, as `Findings.results` gives them."""
    candidates = [
        {**row, "chosen": i == found.race.chosen, "setting": setting(row["params"])}
        for i, row in enumerate(results["candidates"])
    ]
    first = set(found.race.best_of_each.index)
    best = [row for i, row in enumerate(candidates) if i in first or row["chosen"]]
    script = (HERE / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return load_template("page.html").render(
        **results,
        title=f"{' + '.join(results['task']['sources'])} to {results['task']['target']}"
        + (f", {results['task']['label']}" if results["task"]["label"] else ""),
        style=read_style(),
        hues=pictures.HUES,
        script=Markup(script),
        script_hash=digest,
        score_name=results["score"]["name"].replace("_", " "),
        best=best,
        all_candidates=candidates,
        source_only=best_source_only(found.race),
        race_picture=pictures.draw_race(best),
        reliability_picture=_reliability(results["counted"]),
        curve_pictures=_curves(results["curves"]),
        matrix=_matrix(results),
        class_changes=_class_changes(results["classes"]),
        plane=_plane(found, results),
        thumbnails=_thumbnails(found),
        training_picture=Markup(draw_curve(results["training"]) if results["training"] else ""),
        fingerprint_text=json.dumps(results["fingerprint"], indent=1),
    )


def load_template(name: str) -> jinja2.Template:
    """Load a page of this folder, with the filters that write numbers."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda v: "" if v is None else f"{v:.1%}",
        "points": lambda v: "" if v is None else f"{100 * v:+.1f}".replace("+0.0", "0.0"),
        "number": lambda v: "" if v is None else f"{v:.3f}",
        "figure": lambda v: "" if v is None else f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.3g}",
        "setting": setting,
        "change": lambda pair: pictures.draw_change(*pair),
    }
    return environment.get_template(name)


def read_style() -> Markup:
    """Read the style sheet that all pages share."""
    return Markup((HERE / "page.css").read_text("utf-8"))


def _reliability(counted: dict | None) -> Markup:
    found = counted and counted["calibration"]
    return pictures.draw_reliability(found) if found else Markup("")


def _curves(curves: list[dict]) -> list[dict]:
    """Draw all curves on one scale, so that they can be compared."""
    points = [p for curve in curves for p in curve["points"]]
    scores = [p["score"] for p in points]
    if not scores:
        return []
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
    return drawn


def _matrix(results: dict) -> dict | None:
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
    return {"names": [names[i] for i in shown], "rows": rows, "whole": len(shown) == len(names)}


def _most_mistaken(confusion: np.ndarray) -> np.ndarray:
    """Order the classes by the mistakes that they take part in."""
    right = np.diag(confusion)
    return np.argsort(-(confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * right), kind="stable")


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


def _plane(found: Findings, results: dict) -> dict | None:
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
        "legend": list(enumerate(shown.values())),
        "grey": len(names) - len(shown),
    }
    if not same or not np.array_equal(before, after):
        drawn["after"] = picture(plane.points[-1], after, "Features after adaptation, in two dimensions.")
    return drawn


def _thumbnails(found: Findings) -> dict:
    """The images that the model is most and least sure of; those that are no longer there are counted."""
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
            label = None if code == -1 else task.classes[code] if code >= 0 else "a class that no source has"
            predicted = task.classes[found.predicted[i]]
            picture = {"uri": uri, "path": row["path"], "predicted": predicted, "label": label}
            shown[which].append({**picture, "right": label == predicted, "sure": float(sure[i])})
    return shown
