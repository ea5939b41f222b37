"""A run of several races: one for each column of labels, or for each of several feature sets, side by side.

Each race has a run folder of its own, with its own recommendation, page and model. Above them lie one page that shows
them side by side, one predictions.csv with a column for each, and results.json.
"""

import re
from collections.abc import Iterable
from json import dumps
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from ftransfer.errors import FtransferError
from ftransfer.finetune.curves import draw_curve
from ftransfer.report.page import draw_or_tell, load_template, read_style
from ftransfer.search.steps import STEPS
from ftransfer.storage.writing import release, write_whole, writing

# Between features a score misleads. squeezenet1_1 as it comes and tuned on the source (--freeze-until features.7), by
# fit FROZEN TUNED --alternatives, the best of four logistic recipes; score and per cent right of the target, frozen and
# tuned: photo to cartoon 0.330, 60.9 and 0.349, 59.7; photo to sketch 0.288, 43.4 and 0.263, 41.4; amazon to webcam
# 0.648, 89.2 and 0.631, 93.2. It is right on one of three. Both labellings scored in the frozen features alone: right
# on all three, but twice by less than a standard error.
KINDS = {
    "labels": "Each label column is a separate task on the same features, with its own recommendation.",
    "features": "Each feature set has its own race on the same images. There is no recommendation between "
    "them: a score compares recipes on the same features, not feature sets. A few labelled target images "
    "would tell which is better.",
}


def name_folders(names: Iterable[str]) -> dict[str, str]:
    """Give each race the name of its folder.

    Raises
    ------
    FtransferError
        If two would lie in one.
    """
    folders = {name: re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "_" for name in names}
    if len(set(folders.values())) < len(folders):
        raise FtransferError(f"the names {', '.join(names)} are too similar to be used as folder names")
    return folders


def write_several(kind: str, runs: dict[str, dict], folder: Path, *, command: str = "") -> dict:
    """Write the page, the labels and the numbers of several races above their run folders.

    Parameters
    ----------
    kind : {"labels", "features"}
    runs : dict of str to dict
        What `write_report` returned for each race, by its name; it lies in the folder of `name_folders`.
    folder : str or path
    command : str

    Returns
    -------
    dict, as in results.json: ``kind``, and ``runs``, a dict each with ``folder, task, recommendation, counted,
    leading`` (the best candidate of each step of the guard, and the recommended one) and ``training``.
    """
    folder, folders = Path(folder), name_folders(runs)
    told = {name: {"folder": folders[name], **_brief(results)} for name, results in runs.items()}
    results = {"format": 2, "kind": kind, "command": command, "runs": told}
    predictions = _join_predictions({name: folder / f / "predictions.csv" for name, f in folders.items()})
    with writing(folder):
        write_whole(folder / "predictions.csv", predictions.to_csv(index=False).encode())
        write_whole(folder / "results.json", dumps(results).encode())
    page = draw_or_tell(_draw, results)
    with writing(folder):
        write_whole(folder / "report.html", page.encode())
        for name in (
            "running",
            "model.skops",
            "results.csv",
            "classes.csv",
        ):  # of one race that was here before
            (folder / name).unlink(missing_ok=True)
    release(folder)
    return results


def _brief(results: dict) -> dict:
    chosen = results["recommendation"]
    leading, steps = [], set()
    for row in results["candidates"]:
        is_chosen = (row["pipeline"], row["params"]) == (chosen["pipeline"], chosen["params"])
        step = row["step"]
        if row["score"] is not None and (is_chosen or step not in steps):
            leading.append({**row, "chosen": is_chosen})
            steps.add(step)
    leading.sort(key=lambda row: STEPS.index(row["step"]))
    counted = results["counted"] and {
        key: results["counted"][key] for key in ("labelled", "recommended", "source_only", "sentence")
    }
    kept = {key: results[key] for key in ("task", "recommendation", "score", "training")}
    return {**kept, "counted": counted, "leading": leading}


def _join_predictions(files: dict[str, Path]) -> pd.DataFrame:
    """Put a column of labels and one of probabilities for each race beside one another, image by image."""
    joined = None
    for name, file in files.items():
        table = pd.read_csv(file, dtype=str, keep_default_na=False).drop_duplicates(["root", "path"])
        table = table[["root", "path", "label", "probability"]].rename(
            columns={"label": name, "probability": f"{name} probability"}
        )
        joined = table if joined is None else joined.merge(table, on=["root", "path"], how="outer")
    return joined


def _draw(results: dict) -> str:
    task = next(iter(results["runs"].values()))["task"]
    return load_template("several.html").render(
        **results,
        said=KINDS[results["kind"]],
        title=f"{' + '.join(task['sources'])} to {task['target']}",
        counted=any(run["counted"] for run in results["runs"].values()),
        curves={
            name: Markup(draw_curve(run["training"]))
            for name, run in results["runs"].items()
            if run["training"]
        },
        style=read_style(),
    )
