"""The journal of a race: what each trial was found to be worth, written down at once, so that a killed race goes on.

A text file: a line that says which race this is, then a line of JSON for each trial. A journal of another race is
started anew; a line that cannot be read, such as the last one of a killed race, counts for nothing.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sklearn

from ftransfer.scoring.judge import Score
from ftransfer.search.candidate import TrialResult
from ftransfer.search.strategy import Trial
from ftransfer.storage.writing import write_whole, writing
from ftransfer.task import Task


class Journal:
    """Results of a race by trial, in memory and, where a file is named, on disk.

    Parameters
    ----------
    file : str, path or None
    task : Task
    scorer : str
        Name of the score.
    target_labels : ndarray or None
        What the guard was given.

    Raises
    ------
    FtransferError
        If the file cannot be written.
    """

    def __init__(
        self, file: str | Path | None, task: Task, scorer: str, target_labels: np.ndarray | None = None
    ) -> None:
        self.file = None if file is None else Path(file)
        self.rows: dict[str, TrialResult] = {}
        if self.file is None:
            return
        head = json.dumps({"race": _fingerprint(task, scorer, target_labels)})
        lines = self.file.read_text("utf-8", errors="replace").splitlines() if self.file.is_file() else []
        if lines[:1] == [head]:
            for line in lines[1:]:
                self._take(line)
        kept = [head, *(_dump(key, row) for key, row in self.rows.items())]  # without what could not be read
        with writing(self.file.parent):
            write_whole(self.file, "".join(line + "\n" for line in kept).encode())

    def find(self, trial: Trial) -> TrialResult | None:
        """Give what was found of a trial before."""
        row = self.rows.get(_key(trial)) if self.rows else None
        return None if row is None else replace(row)

    def add(self, trial: Trial, result: TrialResult) -> None:
        """Write down what was found of a trial."""
        if self.file is not None:
            line = (_dump(_key(trial), result) + "\n").encode()
            # unbuffered: what a full disk did not take is not written again when the file is closed
            with writing(self.file.parent), open(self.file, "ab", buffering=0) as out:
                while line:
                    line = line[out.write(line) :]

    def _take(self, line: str) -> None:
        try:
            row = json.loads(line)
            found, predicted = row["found"], row["predicted"]
            if found is not None:
                found = _score(found) if "value" in found else {k: _score(v) for k, v in found.items()}
            self.rows[str(row["trial"])] = TrialResult(
                found=found,
                predicted=None if predicted is None else np.asarray(predicted, dtype=int),
                seconds=float(row["seconds"]),
                error=str(row["error"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return


def _dump(key: str, result: TrialResult) -> str:
    found: dict[str, Any] | None = None
    if isinstance(result.found, Score):
        found = _plain(result.found)
    elif result.found is not None:
        found = {name: _plain(score) for name, score in result.found.items()}
    predicted = None if result.predicted is None else result.predicted.tolist()
    row = {"trial": key, "found": found, "predicted": predicted}
    return json.dumps({**row, "seconds": result.seconds, "error": result.error})


def _plain(score: Score) -> dict[str, Any]:
    return {"value": score.value, "resampled": np.asarray(score.resampled).tolist(), "parts": score.parts}


def _score(plain: dict[str, Any]) -> Score:
    return Score(
        float(plain["value"]), np.asarray(plain["resampled"], dtype=np.float64), dict(plain["parts"])
    )


def _key(trial: Trial) -> str:
    """Name a trial by all that it fits: an edited recipe is another."""
    settings = trial.recipe.pipeline.get_params() | trial.params
    text = "\n".join(f"{k}={v!r}" for k, v in sorted(settings.items()))
    return f"{trial.recipe.name} {trial.share:.6f} {hashlib.sha256(text.encode()).hexdigest()}"


def _fingerprint(task: Task, scorer: str, target_labels: np.ndarray | None) -> str:
    digest = hashlib.sha256(f"{scorer} scikit-learn {sklearn.__version__}".encode())
    for values in (task.X, task.y, task.sample_domain, target_labels, *(rows for _, rows in task.via)):
        digest.update(str(getattr(values, "shape", None)).encode())
        digest.update(b"" if values is None else np.ascontiguousarray(values).data)
    return digest.hexdigest()
