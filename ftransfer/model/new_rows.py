"""New rows of embeddings from elsewhere, for a model of some that were imported under a name."""

from typing import Any

import pandas as pd

from ftransfer.errors import FtransferError
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.imports import import_named_features
from ftransfer.model.new_images import DOMAIN


def import_new_rows(model: Any, table: pd.DataFrame, folder: Any) -> FeatureSet:
    """Import a table into `folder` as what the model takes: under its name, with its columns, on its scale.

    Parameters
    ----------
    model : Model
        Its features were imported.
    table : str or path
        As `import_features` takes it.
    folder : str or path

    Raises
    ------
    FtransferError
        If the model's features have no name, or the table does not hold what they are.
    """
    name = str(model.fingerprint["weights"])
    if name.startswith("sha256:"):
        raise FtransferError(
            "the model's features were imported without a name, so new rows cannot be matched to them; "
            "import them again with --name MODEL, and fit again"
        )
    features = FeatureSet.create(folder, model.fingerprint)  # its columns are those that are asked for
    features.write_manifest(features.manifest.iloc[:0])  # of the rows of another table nothing is asked
    return import_named_features([table], folder, name, domain=DOMAIN)[0]
