"""The one file that a user takes along: the features' fingerprint, the fitted pipeline and its classes."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from ftransfer.errors import FtransferError
from ftransfer.features.fingerprint import feature_width
from ftransfer.features.probe import check_probe, read_probe
from ftransfer.features.protocol import Features
from ftransfer.features.statistics import read_statistics
from ftransfer.features.stored import StoredRows
from ftransfer.model.confidence import FEWEST_ROWS, Familiar, fit_temperature, probability
from ftransfer.model.file import read_model_file, write_model_file
from ftransfer.model.new_images import DOMAIN
from ftransfer.storage.places import local

BLOCK = 8192  # rows that are described at once


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, the fingerprint of the features that it takes, and its classes.

    New images should come from the target domain: every row is treated as a target row.

    Attributes
    ----------
    pipeline : AdaptationPipeline, fitted
    fingerprint : dict
        Fingerprint of the feature set (backbone, hash of the weights, layers, preprocessing).
    classes : ndarray of str
    chosen_by : dict
        The scores behind the choice of the pipeline.
    origin : str
        Where the backbone's weights came from.
    temperature : float or None
        Calibrates the probabilities; fitted on held-out source rows (`ftransfer.model.confidence`).
    familiar : Familiar or None
        Measures the distance of a row from the training data.
    target : str
        Name of the target domain.
    statistics : dict of str to ndarray, or None
        Batch-norm statistics of the target, where it was embedded by its own (``ftransfer extract --adapt-bn``).
    probe : ndarray of float32, or None
        What tells further features of this kind where no hash can, see `ftransfer.features.probe`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from ftransfer import DomainScaler, Model, make_pipeline
    >>> X = np.array([[1.0], [2.0], [8.0], [9.0], [101.0], [102.0], [108.0], [109.0]])
    >>> y = np.array([0, 0, 1, 1, -1, -1, -1, -1])
    >>> pipeline = make_pipeline(DomainScaler(), LogisticRegression()).fit(X, y)
    >>> Model(pipeline, {"layers": [{"name": "x", "width": 1}]}, np.array(["low", "high"])).predict(X[4:])
    array(['low', 'low', 'high', 'high'], dtype='<U4')
    """

    FORMAT: ClassVar[int] = 1
    COLUMNS: ClassVar[tuple[str, ...]] = ("label", "probability", "distance", "far")  # of `describe`
    pipeline: Any
    fingerprint: dict
    classes: np.ndarray
    chosen_by: dict = field(default_factory=dict)
    origin: str = ""
    temperature: float | None = None
    familiar: Familiar | None = None
    target: str = ""
    statistics: dict | None = None
    probe: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        pipeline: Any,
        task: Any,
        features: Features,
        chosen_by: dict,
        *,
        labelled: np.ndarray | None = None,
    ) -> "Model":
        """Make the model of a pipeline that was fitted on a task; calibrate it, and note what it knows.

        Parameters
        ----------
        pipeline : AdaptationPipeline, fitted
        task : Task
        features : FeatureSet
            What the task was taken from.
        chosen_by : dict
        labelled : ndarray of int, optional
            Target rows whose labels the pipeline was fitted on: it is surer of these than of others, so the
            probabilities are calibrated without them.
        """
        rows, target = np.ones(len(task.y), dtype=bool), np.flatnonzero(task.sample_domain < 0)
        if labelled is not None and len(target) - len(labelled) >= FEWEST_ROWS:
            rows[target[labelled]] = False
        temperature = fit_temperature(
            pipeline,
            task.X,
            task.y,
            np.where(rows, task.sample_domain, 0),
            expected=chosen_by.get("expected_accuracy"),
        )
        familiar = Familiar.of(task.X, task.sample_domain)
        fitted = (
            pipeline,
            features.fingerprint,
            task.classes,
            chosen_by,
            features.origin,
            temperature,
            familiar,
        )
        return cls(*fitted, task.target, read_statistics(features, task.target), read_probe(features))

    @property
    def fingerprint_of_new(self) -> dict:
        """Fingerprint of new images, which are embedded as the target's were: by its statistics, if it has any."""
        fingerprint = dict(self.fingerprint)
        own = fingerprint.pop("batch_norm", {}).get(self.target)
        return fingerprint | ({"batch_norm": {DOMAIN: own}} if own else {})

    def fingerprint_like(self, given: dict) -> dict:
        """Return the fingerprint that features are held to: that of new images, or of the feature set fitted on."""
        new = self.fingerprint_of_new
        return new if given.get("batch_norm") == new.get("batch_norm") else self.fingerprint

    @property
    def width(self) -> int:
        """Numbers per image that the pipeline takes."""
        return feature_width(self.fingerprint)

    def predict(self, images: Any, **backbone: Any) -> np.ndarray:
        """Name the class of each image.

        Parameters
        ----------
        images : array of shape (n_samples, n_features), str, path, or list of path or PIL image
            Features with the same fingerprint; or a folder, table or file of images, in the order of
            `ftransfer.find_images`; or images one by one.
        **backbone
            For images: ``weights``, a checkpoint file where the backbone's weights are not in
            torchvision's cache, ``device``, and ``backbone``, the `Backbone` or its file where it is one of yours.

        Returns
        -------
        ndarray of str of shape (n_samples,)

        Raises
        ------
        FtransferError
            If the features are of another width or not finite, an image cannot be read, or the weights that
            the fingerprint names are not there.
        """
        return self.classes[self._codes(self._features(images, **backbone))]

    def describe(self, images: Any, **backbone: Any) -> pd.DataFrame:
        """Name the class of each image, and say how sure that is.

        Parameters
        ----------
        images, **backbone
            As in `predict`.

        Returns
        -------
        DataFrame
            ``label``; ``probability`` that it is right, calibrated on the source and on a new domain an
            estimate (missing where the pipeline has none); ``distance`` to what was trained on, relative to
            the distance within which 99 % of the training rows lie; ``far``, 1 where that is above 1.
        """
        X = self._features(images, **backbone)
        blocks = range(0, max(len(X), 1), BLOCK)
        return pd.concat([self._described(np.asarray(X[i : i + BLOCK])) for i in blocks], ignore_index=True)

    def _described(self, X: np.ndarray) -> pd.DataFrame:
        # of some, such as a vote, labels and probabilities take as long as each alone
        once = getattr(getattr(self.pipeline, "steps_", [("", None)])[-1][1], "predicts_most_probable", False)
        values = self._ask(lambda: self.pipeline.predict_proba(X)) if once else None
        codes = self._codes(X, values)
        sure = self._ask(lambda: probability(self.pipeline, X, codes, self.temperature, values))
        table = pd.DataFrame({"label": self.classes[codes], "probability": np.round(sure, 4)})
        table["distance"] = np.nan if self.familiar is None else self.familiar.distance(X).round(3)
        table["far"] = (table["distance"] > 1).astype(int)
        return table

    def tally(self, labels: pd.Series, name: str, did: Any) -> None:
        """Add how many images got each label to what `write_predictions` did."""
        for label, n in labels.value_counts().items():
            label = f"{name} {label}".strip()
            did.labels[label] = did.labels.get(label, 0) + n

    @staticmethod
    def compare(given: np.ndarray, found: np.ndarray) -> dict[str, float]:
        """Count how many labels are right, and of how many."""
        return {"right": int((given == found).sum()), "of": len(given)}

    def _features(self, images: Any, **backbone: Any) -> np.ndarray | StoredRows:
        first = images[0] if isinstance(images, list) and images else images
        if isinstance(first, str | Path | Image.Image):
            from ftransfer.model.new_images import embed

            images = embed(self, images, **backbone)
        X = images if isinstance(images, StoredRows) else np.asarray(images)
        if X.ndim != 2 or X.shape[1] != self.width or X.dtype.kind not in "fiu":
            raise FtransferError(
                f"the model takes features of shape (n, {self.width}), or images; given {X.dtype} {X.shape}"
            )
        if not isinstance(X, StoredRows) and not np.isfinite(X).all():
            raise FtransferError(f"row {int((~np.isfinite(X).all(axis=1)).argmax())} holds NaN or infinity")
        return X

    def _codes(self, X: np.ndarray | StoredRows, probabilities: np.ndarray | None = None) -> np.ndarray:
        if probabilities is None:
            codes = self._ask(lambda: np.asarray(self.pipeline.predict(X)))
        else:
            codes = self._ask(lambda: self.pipeline.classes_[np.argmax(probabilities, axis=1)])
        fine = codes.shape == (len(X),) and codes.dtype.kind in "iu"
        if not fine or (len(codes) and not 0 <= codes.min() <= codes.max() < len(self.classes)):
            raise FtransferError(
                "the model is damaged: its pipeline predicts classes that it has no names for"
            )
        return codes

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except FtransferError:
            raise
        except Exception as error:  # a pipeline out of a file can fail in any way
            raise FtransferError(
                f"the model's pipeline cannot predict: {type(error).__name__}: {error}"
            ) from error

    def save(self, file: Path) -> None:
        """Write the model with skops, whole or not at all: it is read again without unpickling anything."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.familiar is not None:
            content["familiar"] = vars(self.familiar)
        write_model_file({"format": self.FORMAT, **content}, file)

    @classmethod
    def load(cls, file: Path, *, trusted: Sequence[str] = ()) -> "Model":
        """Read a model file.

        Parameters
        ----------
        file : str or path
            The file, or the run folder that it lies in.
        trusted : list of str
            Further types that the file may hold, for pipelines of your own with estimators of your own.

        Raises
        ------
        FtransferError
            If it is not a model file, is damaged or too large, or holds a type that is not trusted.
        """
        file = local(file, "a model")
        if file.is_dir():
            several = sorted(str(f.parent) for f in file.glob("*/model.skops"))
            file = file / "model.skops"
            if several and not file.is_file():
                raise FtransferError(f"{file.parent} holds several models; choose one: {', '.join(several)}")
        content = read_model_file(file, trusted)
        try:
            kind = _kind_of(content.pop("format"))
            if content["familiar"] is not None:
                content["familiar"] = Familiar(**content["familiar"])
            model = kind(**content)
            model._check()
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise FtransferError(
                f"{file} is not a model file, or is damaged: {type(error).__name__}: {error}"
            ) from error
        return model

    def _check(self) -> None:
        """Refuse what `save` would not have written; the pipeline was checked by its reader."""
        json.dumps(self.fingerprint)
        if self.classes.ndim != 1 or self.classes.dtype.kind != "U" or len(self.classes) < 2:
            raise ValueError("its classes are not names")
        self._check_rest()

    def _check_rest(self) -> None:
        if (
            not isinstance(self.origin, str)
            or self.width < 1
            or not callable(getattr(self.pipeline, "predict", None))
        ):
            raise ValueError("it has no pipeline")
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise ValueError("its temperature is not a positive number")
        if self.familiar is not None:
            self.familiar.check(self.width)
        if self.probe is not None:
            check_probe(self.probe)
        for values in (self.statistics or {}).values():
            if (
                not isinstance(values, np.ndarray)
                or values.dtype != np.float32
                or not np.isfinite(values).all()
            ):
                raise ValueError("its batch-norm statistics are damaged")


def _kind_of(number: object) -> type[Model]:
    """Return the class that a format of model files belongs to."""
    from ftransfer.model.regression import RegressionModel  # which derives from the class of this module

    for kind in (Model, RegressionModel):
        if number == kind.FORMAT:
            return kind
    raise ValueError(
        f"it is of another format than {Model.FORMAT} and {RegressionModel.FORMAT}; read it with the release that "
        f"wrote it"
    )


def load_models(run: str | Path, *, trusted: Sequence[str] = ()) -> dict[str, Model]:
    """Read the model of a run; of a run with several columns of labels the model of each, by the column's name.

    Parameters
    ----------
    run : str or path
        A run folder or a model file.
    trusted : list of str
        See `Model.load`.

    Returns
    -------
    dict of str to Model; the only one of a run with one column of labels has the name "".

    Raises
    ------
    FtransferError
        As `Model.load`; or if the run is one of several feature sets, of which one has to be named.
    """
    run = local(run, "a model")
    if not (run / "results.json").is_file() or (run / "model.skops").is_file():
        return {"": Model.load(run, trusted=trusted)}
    try:
        results = json.loads((run / "results.json").read_text("utf-8"))
        kind = results["kind"]
        folders = {str(name): run / Path(each["folder"]).name for name, each in results["runs"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FtransferError(f"{run / 'results.json'} cannot be read: {error!r}"[:300]) from error
    if kind != "labels":
        raise FtransferError(
            f"{run} holds several runs; choose one of them: {', '.join(map(str, folders.values()))}"
        )
    return {name: Model.load(folder, trusted=trusted) for name, folder in folders.items()}
