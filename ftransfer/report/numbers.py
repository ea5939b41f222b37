"""The numbers of a run: all that the page shows, as plain data for results.json and the tables beside it."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.compare.domains import compare_domains
from ftransfer.errors import FtransferError
from ftransfer.features.protocol import Features
from ftransfer.model.model import Model
from ftransfer.report.checks import check_data
from ftransfer.report.grid import curves, search_report
from ftransfer.report.labels import cover, describe_labels
from ftransfer.report.metrics import average_classes, score_classes
from ftransfer.report.shown import Shown
from ftransfer.search.outcome import Race

CALIBRATION_BINS = 10
MOST_CONFUSIONS = 10
CONTRADICTS = (
    0.01  # of the accuracy, by which source only must be better for the labels to contradict the advice
)
SIMILARITY_ROWS = 300  # of each domain
DRAWN = 50_000  # rows of each domain that these are drawn from


class Findings:
    """What a race found, counted out.

    Parameters
    ----------
    race : Race
    features : FeatureSet
        What the task was taken from.

    Attributes
    ----------
    recommendation : dict
        The answer, as in results.json.
    model : Model
    probability : ndarray of shape (n_target,), or None
        How sure the model is of each target row, calibrated on held-out source rows; None where it does not say.
    predicted : ndarray of shape (n_target,), int
        Class of each target row by the recommended pipeline.
    before : ndarray of shape (n_target,), int, or None
        The same by the best source-only pipeline; None if there is none.
    """

    def __init__(self, race: Race, features: Features) -> None:
        self.race, self.task = race, race.task
        self.recommendation = self._recommendation()
        expected = None if race.expected is None else race.expected.value
        chosen_by = {**self.recommendation, "score_name": race.scorer.name, "expected_accuracy": expected}
        labelled = None if race.label_use is None else race.label_use.fitted
        self.model = Model.of(race.pipeline, race.task.visible, features, chosen_by, labelled=labelled)
        self.features = features
        self.before = None if race.source_only is None else race.source_only.predict(self.task.X_target)
        described = self.model.describe(self.task.X_target)
        self.predicted = pd.Index(self.task.classes).get_indexer(described["label"])
        probability = described["probability"].to_numpy(float)
        self.probability = None if np.isnan(probability).any() else probability

    @cached_property
    def shown(self) -> Shown:
        """The images that the page shows one by one; they are read when they are first asked for."""
        return Shown(self.task, self.predicted, self.probability)

    def _recommendation(self) -> dict:
        race, best = self.race, self.race.table.iloc[self.race.chosen]
        numbers = best[["pipeline", "params", "adaptation", "score", "low", "high"]].to_dict()
        used = 0 if race.target_labels is None else (race.target_labels != -1).sum()
        said = {"adapt": race.adapt, "sentence": race.sentence, "reason": race.reason}
        said |= {
            "ground": race.ground,
            "steps": [asdict(step) | {"compared": step.compared} for step in race.steps],
        }
        return plain({**numbers, **said, "target_labels_used": used})

    def predictions(self) -> pd.DataFrame:
        """One row a target image: ``root, path, label, probability``."""
        rows = self.task.rows.loc[~self.task.is_source, ["root", "path"]].reset_index(drop=True)
        probability = np.nan if self.probability is None else self.probability
        table = rows.assign(label=self.task.classes[self.predicted], probability=probability)
        if self.race.target_labels is not None:
            table["used_by_guard"] = self.race.target_labels != -1
        return table

    def results(self, command: str) -> dict:
        """Put everything together, as in results.json."""
        race, task, fingerprint = self.race, self.task, self.features.fingerprint
        return plain(
            {
                "format": 2,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": command,
                "versions": {"ftransfer": version("ftransfer"), "python": platform.python_version()}
                | {name: version(name) for name in ("scikit-learn", "numpy", "torch", "torchvision")},
                "task": {
                    "features": str(self.features.folder),
                    "sources": list(task.sources),
                    "target": task.target,
                    "unseen": task.unseen,
                    "label": task.label,
                    "classes": task.classes,
                    "n_source": int(task.is_source.sum()),
                    "n_target": len(self.predicted),
                    "n_features": task.X.shape[1],
                    "notes": task.notes,
                    "backbone": fingerprint.get("backbone"),
                    "weights": fingerprint.get("weights"),
                    "layers": "+".join(layer["name"] for layer in fingerprint["layers"]),
                },
                "fingerprint": fingerprint,
                "score": {
                    "name": race.scorer.name,
                    "meaning": race.scorer.meaning,
                    "uses_target_labels": False,
                },
                "recommendation": self.recommendation,
                "expected": None if race.expected is None else asdict(race.expected),
                "temperature": self.model.temperature,
                "counted": self._counted() if task.answers else None,
                "coverage": self._coverage(),
                "labels": describe_labels(race),
                "classes": self._classes(),
                "candidates": race.table.to_dict("records"),
                "curves": curves(race.table),
                "search": search_report(race.table),
                "training": self.features.training,
                "similarity": self._similarity(),
                "checks": check_data(task, self.features, self.shown.rows, self.shown.looks),
            }
        )

    def _coverage(self) -> list[dict] | None:
        """Accuracy over the share of the images that are labelled; None where the model gives no probabilities."""
        if self.probability is None:
            return None
        codes = self.task.answers.codes
        return cover(self.probability, np.where(codes == -1, np.nan, codes == self.predicted))

    def _similarity(self) -> dict:
        """Say how far apart the domains are, on so few rows that it takes seconds; or why that cannot be said."""
        task = self.task
        names = task.classes[task.y[task.is_source]]
        of_source, of_target = (
            np.sort(np.random.default_rng(0).permutation(len(X))[:DRAWN])
            for X in (task.X_source, task.X_target)
        )
        X_source, X_target = task.X_source[of_source], task.X_target[of_target]
        try:
            table = compare_domains(X_source, X_target, names[of_source], max_rows=SIMILARITY_ROWS)
        except FtransferError as problem:
            return {"notes": [str(problem)], "rows": []}
        return {"notes": table.attrs["notes"], "rows": table.to_dict("records")}

    def _counted(self) -> dict:
        task, codes = self.task, self.task.answers.codes
        known = codes != -1
        plain_one = best_source_only(self.race)
        accuracy = task.answers.accuracy(self.predicted)  # of all rows, where the race saw some of them
        plain_accuracy = None if self.before is None else task.answers.accuracy(self.before)
        confusion = np.zeros((len(task.classes),) * 2, dtype=int)
        np.add.at(confusion, (codes[codes >= 0], self.predicted[codes >= 0]), 1)
        counted = {
            "labelled": known.sum(),
            "of_other_classes": (codes == -2).sum(),
            "recommended": accuracy,
            "source_only": plain_accuracy,
            "source_only_pipeline": None if plain_one is None else plain_one["pipeline"],
            "confusion": confusion,
            **average_classes(codes, self.predicted, len(task.classes)),
            "source_only_averages": None
            if self.before is None
            else average_classes(codes, self.before, len(task.classes)),
            "most_confused": most_confused(confusion, task.classes.tolist()),
            "calibration": None,
        }
        if self.probability is not None:
            counted["calibration"] = calibration(self.probability[known], (self.predicted == codes)[known])
        lost = 0.0 if plain_accuracy is None else plain_accuracy - accuracy
        counted["contradicts"] = bool(lost > CONTRADICTS)
        against = ""
        if plain_one is not None and self.race.chosen != self.race.source_only_row:
            against = (
                f", {-100 * lost:+.1f} points against {plain_accuracy:.1%} without adaptation "
                f"({plain_one['pipeline']})"
            )
        counted["sentence"] = (
            f"Target accuracy, measured with the target's own labels after the choice and not used for it: "
            f"{accuracy:.1%}{against}."
        )
        if counted["contradicts"]:
            counted["sentence"] = f"The recommendation is wrong here. {counted['sentence']}"
        return counted

    def _classes(self) -> list[dict]:
        """One row a class: its share of the source, of the predictions by source only and by the chosen one."""
        task, k = self.task, len(self.task.classes)
        of_source = np.bincount(task.y[task.is_source], minlength=k)
        after = np.bincount(self.predicted, minlength=k)
        table = pd.DataFrame({"class": task.classes, "source_share": of_source / of_source.sum()})
        table["predicted"], table["share"] = after, after / after.sum()
        if self.before is not None:
            table["source_only_share"] = np.bincount(self.before, minlength=k) / after.sum()
        if task.answers:
            codes = task.answers.codes
            scores = score_classes(codes, self.predicted, k)
            table[["labelled", "right"]] = scores[
                ["labelled", "recall"]
            ]  # what is right of a class is its recall
            table[["precision", "f1"]] = scores[["precision", "f1"]]
            if self.before is not None:
                table["source_only_right"] = score_classes(codes, self.before, k)["recall"]
        return table.to_dict("records")


def best_source_only(race: Race) -> pd.Series | None:
    """Take the best source-only candidate, as the guard sees it, if one could be scored."""
    return None if race.source_only_row is None else race.table.iloc[race.source_only_row]


def most_confused(confusion: np.ndarray, classes: Sequence[str]) -> list[dict]:
    """List the commonest mistakes, the commonest first."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        {
            "label": classes[i],
            "predicted": classes[j],
            "count": wrong[i, j],
            "share": wrong[i, j] / confusion[i].sum(),
        }
        for i, j in pairs
        if wrong[i, j]
    ]


def calibration(probability: np.ndarray, right: np.ndarray) -> dict:
    """Compare how sure the model is with how often it is right.

    Parameters
    ----------
    probability : array of shape (n_samples,)
        Of the predicted class.
    right : array of shape (n_samples,), bool

    Returns
    -------
    dict with ``error``, the expected calibration error (Guo, Pleiss, Sun, Weinberger, "On calibration of modern
    neural networks", ICML 2017, equation 3), and ``bins`` of equal width: ``low, high, count, sure, right``,
    the last two None in an empty bin.
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    which = np.clip(np.digitize(probability, edges) - 1, 0, CALIBRATION_BINS - 1)
    bins, error = [], 0.0
    for b in range(CALIBRATION_BINS):
        inside = which == b
        row = {"low": edges[b], "high": edges[b + 1], "count": inside.sum(), "sure": None, "right": None}
        if inside.any():
            row |= {"sure": probability[inside].mean(), "right": right[inside].mean()}
            error += inside.mean() * abs(row["sure"] - row["right"])
        bins.append(row)
    return {"error": error, "mean_probability": probability.mean(), "right": right.mean(), "bins": bins}


def setting(params: dict) -> str:
    """Write parameters as people read them: the last part of each name and its value."""
    return ", ".join(f"{key.rsplit('__', 1)[-1]} {brief(value)}" for key, value in params.items())


def brief(value: Any) -> str:
    """Write a value; a number with many digits with four of them."""
    text = str(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > 8 else text


def plain(value: Any) -> Any:
    """Turn into what JSON holds: numpy's numbers into Python's, NaN into None, an estimator into its text."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
