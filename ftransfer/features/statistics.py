"""Adapted batch-norm statistics on disk: beside the feature set that they made, so that a model can take them along."""

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ftransfer.errors import FtransferError
from ftransfer.features.protocol import Features
from ftransfer.storage.places import Place, place
from ftransfer.storage.writing import write_whole, writing


def statistics_file(folder: str | Place, weights: str) -> Place:
    """Name the file of the statistics that a fingerprint names by the hash of the adapted weights."""
    return place(folder) / "adapted" / f"{weights.removeprefix('sha256:')}.safetensors"


def write_statistics(folder: str | Place, weights: str, statistics: dict[str, np.ndarray]) -> None:
    """Write adapted statistics, means and variances by the names of the network, whole or not at all."""
    file = statistics_file(folder, weights)
    with writing(file.parent):
        file.parent.mkdir(exist_ok=True)
        write_whole(file, save(statistics))


def read_statistics(features: Features, domain: str) -> dict[str, np.ndarray] | None:
    """Read the statistics by which a domain of a feature set was embedded.

    Returns
    -------
    dict of str to ndarray; None where the domain was embedded by the backbone as it is, or the file is not there.

    Raises
    ------
    FtransferError
        If the file is damaged.
    """
    weights = features.fingerprint.get("batch_norm", {}).get(domain)
    file = weights and statistics_file(features.folder, weights)
    if not file or not file.is_file():
        return None
    try:
        return load(file.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise FtransferError(
            f"{file} cannot be read ({str(error)[:200]}); run the same ftransfer extract again"
        ) from error
