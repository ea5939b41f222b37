"""The run folder of a regression: page, tables, results.json and the model, as for classes."""

import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from ftransfer.features.protocol import Features
from ftransfer.model.regression import RegressionModel
from ftransfer.regression.measure import measure_errors
from ftransfer.regression.pictures import draw_boxes, draw_scatter, ends_of
from ftransfer.regression.race import RegressionRace
from ftransfer.report import name_folders, start_run
from ftransfer.report.numbers import plain
from ftransfer.report.page import draw_or_tell, load_template, read_style
from ftransfer.storage.writing import release, write_whole, writing

HERE = Path(__file__).parent


def write_regression_report(
    race: RegressionRace,
    features: Features,
    folder: str | Path,
    *,
    command: str = "",
    target_labels: np.ndarray | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> dict:
    """Write the page, its numbers, the predicted labels and the model of a race of regressors into the run folder.

    Parameters
    ----------
    race : RegressionRace
    features : FeatureSet
        What the task was taken from.
    folder : str or path
        The run folder; a former run in it is replaced.
    command : str
        What would reproduce the run, for the page.
    target_labels : ndarray of shape (n_target,), float, optional
        Labels that the guard was given, NaN for the others.
    progress : callable
        Called with 1 for each of three parts that are done.

    Returns
    -------
    dict, as in results.json
    """
    folder = start_run(Path(folder))
    try:
        predicted = race.pipeline.predict(race.task.X_target)
        results = collect_results(race, features, predicted, command, target_labels)
        model = RegressionModel.of(race.pipeline, race.task, features, results["recommendation"])
        rows = race.task.rows.loc[~race.task.is_source, ["root", "path"]].reset_index(drop=True)
        rows = rows.assign(label=predicted)
        if target_labels is not None:
            rows["used_by_guard"] = ~np.isnan(target_labels)
        with writing(folder):
            model.save(folder / "model.skops")
            write_whole(folder / "predictions.csv", rows.to_csv(index=False).encode())
            params = race.table["params"].map(lambda p: json.dumps(plain(p)))
            write_whole(folder / "results.csv", race.table.assign(params=params).to_csv(index=False).encode())
        progress(1)
        with writing(folder):
            write_whole(folder / "results.json", json.dumps(results).encode())
        progress(1)
        page = draw_or_tell(draw_regression_page, race, results, predicted)
        with writing(folder):
            write_whole(folder / "report.html", page.encode())
            (folder / "running").unlink()
            (folder / "classes.csv").unlink(missing_ok=True)  # of a run with classes that was here before
        progress(1)
        return results
    finally:
        release(folder)


def collect_results(
    race: RegressionRace,
    features: Features,
    predicted: np.ndarray,
    command: str = "",
    target_labels: np.ndarray | None = None,
) -> dict:
    """Put all numbers of a run together, as in results.json; the layout is that of a run with classes."""
    task, fingerprint, best = race.task, features.fingerprint, race.table.iloc[race.chosen]
    found = {
        "format": 2,
        "kind": "regression",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "versions": {"ftransfer": version("ftransfer"), "python": platform.python_version()}
        | {name: version(name) for name in ("scikit-learn", "numpy")},
        "task": {
            "features": str(features.folder),
            "sources": list(task.sources),
            "target": task.target,
            "label": task.label,
            "n_source": int(task.is_source.sum()),
            "n_target": len(predicted),
            "n_features": task.X.shape[1],
            "notes": task.notes,
            "backbone": fingerprint.get("backbone"),
            "weights": fingerprint.get("weights"),
            "layers": "+".join(layer["name"] for layer in fingerprint["layers"]),
        },
        "fingerprint": fingerprint,
        "score": {"name": race.score_name, "meaning": race.score_meaning, "uses_target_labels": False},
        "ground": asdict(race.ground),
        "recommendation": best[["pipeline", "params", "adaptation", "score", "low", "high"]].to_dict()
        | {
            "adapt": race.adapt,
            "sentence": race.sentence,
            "reason": race.reason,
            "target_labels_used": 0 if target_labels is None else (~np.isnan(target_labels)).sum(),
        },
        "steps": [asdict(step) for step in race.steps],
        "expected": None if race.expected is None else {"rmse": asdict(race.expected)},
        "errors": _errors(race, predicted),
        "counted": _counted(race, predicted),
        "candidates": race.table.to_dict("records"),
    }
    return plain(found)


def _errors(race: RegressionRace, predicted: np.ndarray) -> list[dict]:
    """Errors by domain: held-out rows of each source, and the target where it has labels."""
    return [
        {"domain": name, "n": len(truth)}
        | {key: asdict(value) for key, value in measure_errors(truth, guess).items()}
        for name, (truth, guess) in _by_domain(race, predicted).items()
    ]


def _by_domain(race: RegressionRace, predicted: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    task = race.task
    codes = task.sample_domain[task.is_source]
    y = task.y[task.is_source]
    found = {
        f"{name} (source, held out)": (y[codes == i], race.held_out[codes == i])
        for i, name in enumerate(task.sources, start=1)
    }
    known = ~np.isnan(task.answers)
    if known.sum() > 1:
        found[f"{task.target} (target)"] = (task.answers[known], predicted[known])
    return found


def _counted(race: RegressionRace, predicted: np.ndarray) -> dict | None:
    """What the target's own labels say of the choice, after it."""
    answers = race.task.answers
    known = ~np.isnan(answers)
    if known.sum() < 2:
        return None
    now = measure_errors(answers, predicted)
    before = None if race.source_only is None else measure_errors(answers, race.source_only)
    against, lost = "", False
    adapted = race.table["adaptation"][race.chosen] != "source only"
    if before is not None and adapted:
        against = f"; source only has RMSE {before['rmse'].value:.4g} (R2 {before['r2'].value:.3f})"
        lost = now["rmse"].value > 1.01 * before["rmse"].value
    sentence = (
        f"Target error, measured on {int(known.sum())} target labels after the choice and not used for it: RMSE "
        f"{now['rmse'].value:.4g} (95% interval {now['rmse'].low:.4g} to {now['rmse'].high:.4g}), R2 "
        f"{now['r2'].value:.3f}{against}."
    )
    return {
        "labelled": known.sum(),
        "recommended": {key: asdict(value) for key, value in now.items()},
        "source_only": None if before is None else {key: asdict(value) for key, value in before.items()},
        "contradicts": lost,
        "sentence": f"The recommendation is wrong here. {sentence}" if lost else sentence,
    }


def draw_regression_page(race: RegressionRace, results: dict, predicted: np.ndarray) -> str:
    """Draw the page: one HTML file without scripts that asks nothing of the network."""
    task, sides = race.task, _by_domain(race, predicted)
    everything = [values for pair in sides.values() for values in pair]
    ends = ends_of(*everything)
    scatters = []
    for row, (name, (truth, guess)) in zip(results["errors"], sides.items(), strict=True):
        said = f"{name}: predicted against true, R2 {row['r2']['value'] or float('nan'):.3f}"
        scatters.append({"name": name, "picture": draw_scatter(truth, guess, ends, said), "n": len(truth)})
    spreads = {"labels in the source": task.y[task.is_source], f"predicted for {task.target}": predicted}
    first = set(race.table.drop_duplicates("pipeline").index)
    rows = [
        {**row, "chosen": i == race.chosen, "first": i in first or i == race.chosen}
        for i, row in enumerate(results["candidates"])
    ]
    return _template("page.html").render(
        **results,
        title=f"{' + '.join(task.sources)} to {task.target}" + (f", {task.label}" if task.label else ""),
        style=read_style(),
        rows=rows,
        scatters=scatters,
        residuals=draw_boxes({name: guess - truth for name, (truth, guess) in sides.items()}, zero=True),
        spreads=draw_boxes(spreads, zero=False),
        files="results.csv (all settings), results.json (every number of this page), predictions.csv (a number for "
        "each target image)",
        fingerprint_text=json.dumps(results["fingerprint"], indent=1),
    )


def _template(name: str) -> jinja2.Template:
    return load_template(
        name,
        HERE,
        figure=lambda v: "" if v is None else f"{v:.4g}",
        gain=lambda v: "" if v is None else f"{v:+.3f}",
        interval=lambda e: "" if e["low"] is None else f"{e['low']:.4g} to {e['high']:.4g}",
    )


def write_several_regressions(runs: dict[str, dict], folder: str | Path, *, command: str = "") -> dict:
    """Write the page, the labels and the numbers of several outputs above their run folders.

    Parameters
    ----------
    runs : dict of str to dict
        What `write_regression_report` returned for each column of labels.
    folder : str or path
    command : str

    Returns
    -------
    dict, as in results.json
    """
    folder, folders = Path(folder), name_folders(runs)
    kept = ("task", "recommendation", "score", "errors", "counted")
    told = {name: {"folder": folders[name]} | {key: run[key] for key in kept} for name, run in runs.items()}
    results = {"format": 2, "kind": "labels", "regression": True, "command": command, "runs": told}
    tables = [
        pd.read_csv(folder / inner / "predictions.csv", dtype=str).rename(columns={"label": name})
        for name, inner in folders.items()
    ]
    joined = pd.concat(
        [tables[0][["root", "path"]], *(t[[n]] for t, n in zip(tables, folders, strict=True))], axis=1
    )
    page = draw_or_tell(lambda: _template("several.html").render(**results, style=read_style()))
    with writing(folder):
        write_whole(folder / "predictions.csv", joined.to_csv(index=False).encode())
        write_whole(folder / "results.json", json.dumps(results).encode())
        write_whole(folder / "report.html", page.encode())
        for name in ("running", "model.skops", "results.csv", "classes.csv"):  # of a single run before
            (folder / name).unlink(missing_ok=True)
    release(folder)
    return results
