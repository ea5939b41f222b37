"""Run folders side by side: what differs in data and settings, and what came of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError
from ftransfer.report.numbers import brief, setting
from ftransfer.report.page import draw_or_tell, load_template, read_style
from ftransfer.storage.places import local
from ftransfer.storage.reading import read_text
from ftransfer.storage.writing import write_whole, writing

LEAST_SAME = {"target": "targets", "features": "feature sets", "scorer": "scores"}


@dataclass(frozen=True)
class RunComparison:
    """Several runs side by side.

    Attributes
    ----------
    table : DataFrame
        One row per run: ``run``; its data, ``sources, target, label, features, backbone, weights, layers, n_source,
        n_target, n_features, n_classes``; ``scorer, settings`` (how many were scored); the answer, ``adapt, pipeline,
        adaptation, setting, score, low, high, expected_accuracy``; ``target_accuracy, source_only_accuracy`` where the
        target has labels; ``created, version, command``.
    recipes : DataFrame
        Best score of each recipe (row) in each run (column).
    counted : DataFrame
        The same for the accuracy on the target; NaN where it was not measured.
    differences : dict of {str: list of str}
        Each fact of data or settings that differs, with its value in each run.
    same : dict of {str: str}
        Facts that are the same in all.
    agreement : DataFrame of shape (n_runs, n_runs)
        Share of the target images in both with the same predicted label; NaN where they have no image in common.
    notes : list of str
        What cannot be compared.
    """

    table: pd.DataFrame
    recipes: pd.DataFrame
    counted: pd.DataFrame
    differences: dict[str, list[str]]
    same: dict[str, str]
    agreement: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<RunComparison of {', '.join(self.table['run'])}>"


def compare_runs(runs: Sequence[str | Path]) -> RunComparison:
    """Put run folders side by side.

    Parameters
    ----------
    runs : sequence of str or path
        Two or more folders that ``ftransfer fit`` or `write_report` wrote. One with several races in it counts as
        those.

    Returns
    -------
    RunComparison

    Raises
    ------
    FtransferError
        If one is not a run folder, or there are fewer than two.

    See Also
    --------
    write_comparison : A page and a table of it.
    """
    found = [each for run in runs for each in _read(local(run, "a run folder"))]
    if len(found) < 2:
        raise FtransferError(f"compare-runs takes two or more run folders; given {len(found)}")
    names = _short_names([folder for folder, _ in found])
    results = dict(zip(names, (each for _, each in found), strict=True))
    facts = pd.DataFrame({name: _facts(each) for name, each in results.items()}).T
    facts = facts.drop(columns=[c for c in facts if c.startswith("grid of ") and facts[c].isna().any()])
    differing = [c for c in facts if len({str(v) for v in facts[c]}) > 1]
    table = pd.DataFrame([{"run": name, **_row(each)} for name, each in results.items()])
    return RunComparison(
        table=table,
        recipes=_by_recipe(results, "score"),
        counted=_by_recipe(results, "target_accuracy"),
        differences={c: [_text(v) for v in facts[c]] for c in differing},
        same={c: _text(facts[c].iloc[0]) for c in facts if c not in differing},
        agreement=_agreement({name: folder for name, (folder, _) in zip(names, found, strict=True)}),
        notes=_notes(table),
    )


def write_comparison(comparison: RunComparison, folder: str | Path) -> None:
    """Write ``runs.html``, a page without requests, and ``runs.csv``, a row per run, into a folder.

    Parameters
    ----------
    comparison : RunComparison
    folder : str or path
        Made if it is not there.
    """
    folder = local(folder, "a folder")
    page = draw_or_tell(_draw, comparison)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "runs.csv", comparison.table.to_csv(index=False).encode())
        write_whole(folder / "runs.html", page.encode())


def _read(folder: Path) -> list[tuple[Path, dict]]:
    """Read the results of a run folder; those of its members, where it holds several races."""
    file = folder / "results.json"
    if not file.is_file():
        raise FtransferError(
            f"{folder} is not a run folder: it has no results.json; name one that ftransfer fit wrote"
        )
    try:
        results = json.loads(read_text(file))
        if "runs" in results:
            return [each for run in results["runs"].values() for each in _read(folder / run["folder"])]
        if results.get("kind") == "regression":
            raise FtransferError(
                f"{folder} is a regression; compare-runs takes runs whose labels are classes"
            )
        _row(results), _facts(results)
        return [(folder, results)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FtransferError):
            raise
        raise FtransferError(f"{file} cannot be read: {error!r}") from error


def _short_names(folders: Sequence[Path]) -> list[str]:
    """Name each run by the end of its path, as long as it takes to tell them apart."""
    for length in range(1, max(len(f.parts) for f in folders) + 1):
        names = ["/".join(f.parts[-length:]) for f in folders]
        if len(set(names)) == len(names):
            return names
    raise FtransferError(f"the same run folder is named twice: {', '.join(map(str, folders))}")


def _facts(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was given: data and settings."""
    task = results["task"]
    grids: dict[str, dict[str, set]] = {}
    for row in results["candidates"]:
        grid = grids.setdefault(row["pipeline"], {})
        for name, value in row["params"].items():
            grid.setdefault(name, set()).add(brief(value))
    facts = {
        "sources": " + ".join(task["sources"]),
        "target": task["target"],
        "target left out": task.get("unseen", False),
        "label column": task["label"] or "label",
        "classes": ", ".join(map(str, task["classes"])),
        "source images": task["n_source"],
        "target images": task["n_target"],
        "numbers per image": task["n_features"],
        "features": task["features"],
        "score": results["score"]["name"],
        "target labels used": results["recommendation"].get("target_labels_used", 0),
        "recipes": ", ".join(sorted(grids)),
        "ftransfer": results["versions"]["ftransfer"],
        "scikit-learn": results["versions"].get("scikit-learn"),
    }
    facts |= {f"features: {key}": value for key, value in results["fingerprint"].items() if key != "format"}
    for recipe, grid in sorted(grids.items()):
        values = (f"{name.rsplit('__', 1)[-1]} {'/'.join(sorted(each))}" for name, each in grid.items())
        facts[f"grid of {recipe}"] = ", ".join(values)
    return facts


def _row(results: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a run, for the table."""
    task, answer, counted = results["task"], results["recommendation"], results["counted"] or {}
    expected = results["expected"] or {}
    return {
        "sources": " + ".join(task["sources"]),
        "target": task["target"],
        "label": task["label"],
        "features": task["features"],
        "backbone": task["backbone"],
        "weights": task["weights"],
        "layers": task["layers"],
        "n_source": task["n_source"],
        "n_target": task["n_target"],
        "n_features": task["n_features"],
        "n_classes": len(task["classes"]),
        "scorer": results["score"]["name"],
        "settings": sum(row["score"] is not None for row in results["candidates"]),
        "adapt": answer["adapt"],
        "pipeline": answer["pipeline"],
        "adaptation": answer["adaptation"],
        "setting": setting(answer["params"]),
        "score": answer["score"],
        "low": answer["low"],
        "high": answer["high"],
        "expected_accuracy": expected.get("value"),
        "target_accuracy": counted.get("recommended"),
        "source_only_accuracy": counted.get("source_only"),
        "created": results["created"],
        "version": results["versions"]["ftransfer"],
        "command": results["command"],
    }


def _by_recipe(results: Mapping[str, dict], key: str) -> pd.DataFrame:
    """Take a number of the best setting of each recipe, a row per recipe and a column per run."""
    columns = {}
    for name, each in results.items():
        best: dict[str, float] = {}
        for row in each["candidates"]:
            if row["score"] is not None:
                best.setdefault(row["pipeline"], np.nan if row[key] is None else row[key])
        columns[name] = pd.Series(best, dtype=float)
    table = pd.DataFrame(columns)
    return table.loc[table.mean(axis=1).sort_values(ascending=False, kind="stable").index]


def _agreement(folders: Mapping[str, Path]) -> pd.DataFrame:
    """Compare the predicted labels of each two runs."""
    labels: dict[str, pd.Series] = {}
    for name, folder in folders.items():
        try:
            table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False)
            labels[name] = table.drop_duplicates(["root", "path"]).set_index(["root", "path"])["label"]
        except (OSError, ValueError, KeyError):
            labels[name] = pd.Series(dtype=str)
    agreement = pd.DataFrame(np.nan, index=list(folders), columns=list(folders))
    for one, other in combinations(folders, 2):
        both = pd.concat([labels[one], labels[other]], axis=1, join="inner", keys=["one", "other"])
        if len(both):
            agreement.loc[one, other] = agreement.loc[other, one] = float(
                (both["one"] == both["other"]).mean()
            )
    return agreement


def _notes(table: pd.DataFrame) -> list[str]:
    """Say what cannot be compared."""
    notes = []
    differing = [what for column, what in LEAST_SAME.items() if table[column].nunique() > 1]
    if differing:
        notes.append(
            f"the scores are not comparable between runs with different {' or '.join(differing)}: a score compares "
            f"recipes on the same data"
        )
    if (
        table["target_accuracy"].notna().any()
        and table["target"].nunique() == 1
        and table["n_target"].nunique() > 1
    ):
        notes.append(
            "the runs have different numbers of target images, so their accuracies are not on the same images"
        )
    return notes


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None or value != value else value if isinstance(value, str) else json.dumps(value)


def _draw(comparison: RunComparison) -> str:
    table = comparison.table
    return load_template("runs.html").render(
        title=f"{len(table)} runs",
        style=read_style(),
        names=table["run"].tolist(),
        rows=table.astype(object).where(table.notna(), None).to_dict("records"),
        counted=bool(table["target_accuracy"].notna().any()),
        expected=bool(table["expected_accuracy"].notna().any()),
        differences=comparison.differences,
        same=comparison.same,
        recipes=[
            {
                "pipeline": name,
                "cells": [
                    {"score": _known(score), "accuracy": _known(accuracy), "best": score == best[run]}
                    for run, score, accuracy in zip(comparison.recipes, row, comparison.counted.loc[name], strict=True)
                ],
            }
            for best in [comparison.recipes.max()]
            for name, row in zip(comparison.recipes.index, comparison.recipes.to_numpy(), strict=True)
        ],
        agreement=[
            {"run": name, "cells": [_known(value) for value in row]}
            for name, row in zip(comparison.agreement.index, comparison.agreement.to_numpy(), strict=True)
        ],
        agrees=bool(comparison.agreement.notna().any(axis=None)),
        notes=comparison.notes,
    )  # fmt: skip


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
