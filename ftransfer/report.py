"""The run folder: a self-contained HTML page, and CSV, JSON and the model beside it."""

import json
import math
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError
from ftransfer.features import FeatureSet, write_whole, writing
from ftransfer.model import Model
from ftransfer.scoring import SCORE_MEANING, SCORE_NAME
from ftransfer.search import BASELINES, Race

PLOT_LEFT, PLOT_WIDTH = 190, 500


def start_run(folder) -> Path:
    """Make the run folder, before the work is done for it.

    Raises
    ------
    FtransferError
        If it holds something else than a run, or cannot be written.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {p.name for p in folder.iterdir()}
        if names and "results.json" not in names and not names <= {"running"}:
            raise FtransferError(
                f"{folder} is not empty and no run folder ({', '.join(sorted(names)[:3])}); name another: --out"
            )
        write_whole(folder / "running", b"a run that has not ended yet, or was stopped\n")
    return folder


def write_report(race: Race, features: FeatureSet, folder, *, command: str = "") -> dict:
    """Write results.csv, results.json, predictions.csv, model.skops and report.html into the run folder.

    Parameters
    ----------
    race : Race
    features : FeatureSet
        What the task was taken from.
    folder : str or path
        The run folder; a former run in it is replaced.
    command : str
        What would give this again, for the page.

    Returns
    -------
    dict, as in results.json
    """
    folder = start_run(folder)
    predicted = race.pipeline.predict(race.task.X_target)
    results = _results(race, predicted, features, command)
    predictions = _predictions(race, predicted)
    chosen = results["recommendation"]
    model = Model(race.pipeline, features.recipe, race.task.classes, {**chosen, "score_name": SCORE_NAME})
    table = race.table.assign(params=race.table["params"].map(json.dumps))
    with writing(folder):
        write_whole(folder / "results.csv", table.to_csv(index=False).encode())
        write_whole(folder / "predictions.csv", predictions.to_csv(index=False).encode())
        model.save(folder / "model.skops")
        write_whole(folder / "report.html", _page(race, predicted, results).encode())
        write_whole(folder / "results.json", json.dumps(results, indent=1).encode())
        (folder / "running").unlink()
    return results


def _results(race: Race, predicted, features: FeatureSet, command: str) -> dict:
    task, best = race.task, race.table.iloc[race.chosen]
    recipe = features.recipe
    counted = None
    if task.answers:
        sources = race.best_of_each.query("adaptation == 'source only'")
        counted = {
            "labelled": int((task.answers.codes != -1).sum()),
            "recommended": best["target_accuracy"],
            "source_only": sources["target_accuracy"].iloc[0],
            "source_only_pipeline": sources["pipeline"].iloc[0],
            "confusion": _confusion(task, predicted).tolist(),
        }
        counted["sentence"] = (
            f"Counted afterwards on the target's own labels, which nothing was fitted or chosen by: "
            f"{counted['recommended']:.1%} right, against {counted['source_only']:.1%} for "
            f"{counted['source_only_pipeline']}, the best source-only pipeline by the same score."
        )
    rows = race.table.astype(object).where(race.table.notna(), None)
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "versions": {"ftransfer": version("ftransfer"), "python": platform.python_version()}
        | {name: version(name) for name in ("scikit-learn", "numpy", "torch", "torchvision")},
        "task": {
            "features": str(features.folder),
            "sources": list(task.sources),
            "target": task.target,
            "classes": task.classes.tolist(),
            "n_source": int(task.is_source.sum()),
            "n_target": int((~task.is_source).sum()),
            "n_features": int(task.X.shape[1]),
            "notes": task.notes,
            "backbone": recipe.get("backbone"),
            "weights": recipe.get("weights"),
            "layers": "+".join(layer["name"] for layer in recipe["layers"]),
        },
        "score": {"name": SCORE_NAME, "meaning": SCORE_MEANING, "uses_target_labels": False},
        "recommendation": {
            "pipeline": best["pipeline"],
            "params": best["params"],
            "adaptation": best["adaptation"],
            "adapt": race.adapt,
            "score": float(best["score"]),
            "sentence": race.sentence,
            "reason": race.reason,
        },
        "counted": counted,
        "candidates": rows.to_dict("records"),
    }


def _confusion(task, predicted) -> np.ndarray:
    k = len(task.classes)
    counts = np.zeros((k, k), dtype=int)
    known = task.answers.codes >= 0
    np.add.at(counts, (task.answers.codes[known], predicted[known]), 1)
    return counts


def _predictions(race: Race, predicted) -> pd.DataFrame:
    task, pipeline = race.task, race.pipeline
    rows = task.rows[~task.is_source]
    table = pd.DataFrame({"root": rows["root"], "path": rows["path"], "label": task.classes[predicted]})
    if hasattr(pipeline, "predict_proba"):
        # no calibrated number: a classifier's own probability is often too sure of itself on a new domain
        table["probability"] = pipeline.predict_proba(task.X_target).max(axis=1).round(4)
    return table


# ---------------------------------------------------------------- the page


def _page(race: Race, predicted, results: dict) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda v: "" if _missing(v) else f"{v:.1%}"
    environment.filters["number"] = lambda v: "" if _missing(v) else f"{v:.3f}"
    task = race.task
    candidates = [
        {**row, "chosen": i == race.chosen, "setting": setting(row["params"])}
        for i, row in enumerate(results["candidates"])
    ]
    seen = set()
    best = [c for c in candidates if not (c["pipeline"] in seen or seen.add(c["pipeline"]))]
    n_target = len(predicted)
    of_source = np.bincount(task.y[task.is_source], minlength=len(task.classes))
    of_target = np.bincount(predicted, minlength=len(task.classes))
    shares = [
        {"name": name, "predicted": int(t), "target": t / n_target, "source": s / of_source.sum()}
        for name, s, t in zip(task.classes, of_source, of_target, strict=True)
    ]
    confusion = []
    if results["counted"]:
        for name, row in zip(task.classes, np.array(results["counted"]["confusion"]), strict=True):
            total = max(1, row.sum())
            cells = [{"count": int(c), "share": round(c / total, 3)} for c in row]
            right = float(row[len(confusion)] / total) if row.sum() else None
            confusion.append({"name": name, "cells": cells, "right": right})
    return environment.get_template("report.html").render(
        title=f"{' + '.join(task.sources)} to {task.target}",
        best=best,
        candidates=candidates,
        shares=shares,
        confusion=confusion,
        **_chart(best),
        **{k: results[k] for k in ("task", "recommendation", "counted", "score", "command", "versions")},
    )


def _chart(best: list[dict]) -> dict:
    """Place bars, circles and ticks on a scale from 0 to 1."""
    bars = [
        {
            "pipeline": row["pipeline"],
            "width": round(PLOT_WIDTH * max(0.0, row["score"] or 0.0), 1),
            "target": None
            if _missing(row["target_accuracy"])
            else PLOT_LEFT + PLOT_WIDTH * row["target_accuracy"],
            "chosen": row["chosen"],
            "baseline": row["adaptation"] in BASELINES,
        }
        for row in best
    ]
    ticks = [{"x": PLOT_LEFT + PLOT_WIDTH * t / 5, "label": f"{t / 5:.1f}"} for t in range(6)]
    text = "; ".join(f"{row['pipeline']} {row['score']:.3f}" for row in best if not _missing(row["score"]))
    return {"bars": bars, "ticks": ticks, "chart_text": f"Scores of the best setting of each recipe: {text}"}


def setting(params: dict) -> str:
    """Write parameters as people read them: the last part of each name and its value."""
    return ", ".join(f"{key.rsplit('__', 1)[-1]} {value}" for key, value in params.items())


def _missing(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
