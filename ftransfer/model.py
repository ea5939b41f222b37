"""The one file that a user takes along: the features' recipe and the fitted pipeline."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import skops.io

from ftransfer.errors import FtransferError
from ftransfer.features import writing

# types beyond those that skops takes for safe; all are data and arithmetic of this package or scikit-learn
TRUSTED = [
    "ftransfer.adapt.coral.CORAL",
    "ftransfer.adapt.gfk.GeodesicFlowKernel",
    "ftransfer.adapt.importance.ImportanceWeighted",
    "ftransfer.adapt.jda.JointDistributionAdaptation",
    "ftransfer.adapt.pseudo.PseudoLabelled",
    "ftransfer.adapt.scaler.DomainScaler",
    "ftransfer.adapt.subspace.SubspaceAlignment",
    "ftransfer.adapt.tca.TransferComponentAnalysis",
    "ftransfer.adapt.transport.OptimalTransport",
    "ftransfer.pipeline.AdaptationPipeline",
    "sklearn.tree._tree.Tree",
]


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, the recipe of the features that it takes, and its classes.

    Attributes
    ----------
    pipeline : AdaptationPipeline, fitted
    recipe : dict
        Recipe of the feature set (backbone, hash of the weights, layers, preprocessing).
    classes : ndarray of str
    chosen_by : dict
        The numbers that the pipeline was chosen by.
    """

    pipeline: object
    recipe: dict
    classes: np.ndarray
    chosen_by: dict = field(default_factory=dict)

    def predict(self, X) -> np.ndarray:
        """Name the class of each target row.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), features by the same recipe
        """
        return self.classes[self.pipeline.predict(X)]

    def save(self, file) -> None:
        """Write the model with skops: it is read again without unpickling anything."""
        content = {
            "format": 1,
            "pipeline": self.pipeline,
            "recipe": self.recipe,
            "classes": self.classes,
            "chosen_by": self.chosen_by,
        }
        with writing(Path(file).parent):
            skops.io.dump(content, file, compression=zipfile.ZIP_DEFLATED)

    @classmethod
    def load(cls, file, *, trusted=()) -> "Model":
        """Read a model file.

        Parameters
        ----------
        file : str or path
        trusted : list of str
            Further types that the file may hold, for pipelines of your own with estimators of your own.

        Raises
        ------
        FtransferError
            If it is no model file, or holds a type that is not trusted.
        """
        file = Path(file)
        if not file.is_file():
            raise FtransferError(f"no model file {file}; ftransfer fit writes one into its run folder")
        allowed = [*TRUSTED, *trusted]
        try:
            strange = sorted(set(skops.io.get_untrusted_types(file=file)) - set(allowed))
        except Exception as error:  # skops raises whatever it meets in a file that is none of its own
            raise FtransferError(f"{file} is no model file: {type(error).__name__}: {error}") from error
        if strange:
            raise FtransferError(
                f"{file} holds types that are not trusted: {', '.join(strange)}; load it with trusted=[...] only "
                f"if you know where it comes from"
            )
        try:
            content = skops.io.load(file, trusted=allowed)
            return cls(content["pipeline"], content["recipe"], content["classes"], content["chosen_by"])
        except Exception as error:
            raise FtransferError(f"{file} is no model file: {type(error).__name__}: {error}") from error
