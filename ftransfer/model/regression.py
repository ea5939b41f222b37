"""The model file of a regression: the features' fingerprint and a fitted pipeline that predicts numbers."""

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError
from ftransfer.features.probe import read_probe
from ftransfer.features.protocol import Features
from ftransfer.features.statistics import read_statistics
from ftransfer.model.confidence import Familiar
from ftransfer.model.model import Model


@dataclass(frozen=True)
class RegressionModel(Model):
    """A fitted pipeline that predicts numbers, and the fingerprint of the features that it takes.

    It is written and read as `Model` is; `Model.load` gives one where the file holds one. It has no classes, and no
    probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from ftransfer import DomainScaler, RegressionModel, make_pipeline
    >>> X = np.array([[1.0], [2.0], [3.0], [101.0], [102.0], [103.0]])
    >>> y = np.array([10.0, 20.0, 30.0, np.nan, np.nan, np.nan])
    >>> pipeline = make_pipeline(DomainScaler(), LinearRegression()).fit(X, y)
    >>> RegressionModel(pipeline, {"layers": [{"name": "x", "width": 1}]}).predict(X[3:]).round(1)
    array([10., 20., 30.])
    """

    FORMAT: ClassVar[int] = 2
    COLUMNS: ClassVar[tuple[str, ...]] = ("label", "distance", "far")
    classes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype="U1"))

    @classmethod
    def of(
        cls,
        pipeline: Any,
        task: Any,
        features: Features,
        chosen_by: dict,
        *,
        labelled: np.ndarray | None = None,
    ) -> "RegressionModel":
        """Make the model of a pipeline that was fitted on a `RegressionTask`, and note what it knows."""
        return cls(
            pipeline,
            features.fingerprint,
            chosen_by=chosen_by,
            origin=features.origin,
            familiar=Familiar.of(task.X, task.sample_domain),
            target=task.target,
            statistics=read_statistics(features, task.target),
            probe=read_probe(features),
        )

    def predict(self, images: Any, **backbone: Any) -> np.ndarray:
        """Predict a number for each image: array of shape (n_samples,). `images` is what `Model.predict` takes."""
        return self._numbers(np.asarray(self._features(images, **backbone)))

    def describe(self, images: Any, **backbone: Any) -> pd.DataFrame:
        """Predict a number for each image, and say how far it lies from what was trained on.

        Returns
        -------
        DataFrame
            ``label``, the number; ``distance`` to what was trained on, relative to the distance within which 99 % of
            the training rows lie; ``far``, 1 where that is above 1.
        """
        X = np.asarray(self._features(images, **backbone))
        table = pd.DataFrame({"label": self._numbers(X)})
        table["distance"] = np.nan if self.familiar is None else self.familiar.distance(X).round(3)
        table["far"] = (table["distance"] > 1).astype(int)
        return table

    def tally(self, labels: pd.Series, name: str, did: Any) -> None:
        """Add number, mean, least and largest of the predictions to what `write_predictions` did."""
        values = labels.dropna().astype(float)
        if values.empty:
            return
        new = {"n": len(values), "mean": values.mean(), "min": values.min(), "max": values.max()}
        old = did.numbers.get(name, new | {"n": 0})
        n = old["n"] + new["n"]
        did.numbers[name] = {
            "n": n,
            "mean": float((old["n"] * old["mean"] + new["n"] * new["mean"]) / n),
            "min": float(min(old["min"], new["min"])),
            "max": float(max(old["max"], new["max"])),
        }

    @staticmethod
    def compare(given: np.ndarray, found: np.ndarray) -> dict[str, float]:
        """Sum the absolute and the squared errors; labels that are no numbers are left out."""
        truth = pd.to_numeric(pd.Series(given), errors="coerce").to_numpy(float)
        error = (found.astype(float) - truth)[~np.isnan(truth)]
        sums = {
            "absolute_errors": float(np.abs(error).sum()),
            "squared_errors": float(np.square(error).sum()),
        }
        return {"of": len(error), **sums}

    def _numbers(self, X: np.ndarray) -> np.ndarray:
        found = self._ask(lambda: np.asarray(self.pipeline.predict(X)))
        if found.shape != (len(X),) or found.dtype.kind not in "fiu" or not np.isfinite(found).all():
            raise FtransferError(
                "the model is damaged: its pipeline does not predict one finite number for each row"
            )
        return found.astype(float)

    def _check(self) -> None:
        """Refuse what `save` would not have written; the pipeline was checked by its reader."""
        json.dumps(self.fingerprint)
        if self.classes.shape != (0,) or self.temperature is not None:
            raise ValueError("a regression has no classes and no temperature")
        self._check_rest()
