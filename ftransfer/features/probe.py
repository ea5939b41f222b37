"""What a feature set keeps to recognise whether further rows are of its kind, where no hash can tell.

Of a network whose code is not of this package: the *probe*, its embedding of one fixed picture. Of embeddings that
were imported under a name: the lengths of their rows.
"""

import io
from typing import TYPE_CHECKING

import numpy as np

from ftransfer.errors import FtransferError
from ftransfer.features.protocol import Features
from ftransfer.storage.places import Place, place
from ftransfer.storage.writing import write_whole, writing

if TYPE_CHECKING:
    from ftransfer.features.feature_set import FeatureSet

TOLERANCE = 1e-3  # relative difference of two probes of one network
QUANTILES = (0.01, 0.5, 0.99)
UNIT = 1e-2  # rows within it of length one are normalised
RATIO = 4.0  # of the median lengths of two tables of one kind, at most


def probe_file(folder: str | Place) -> Place:
    """Name the file in a feature set."""
    return place(folder) / "probe.npy"


def read_probe(features: Features) -> np.ndarray | None:
    """Read the probe, or the lengths, of a feature set; None where it has none.

    Raises
    ------
    FtransferError
        If the file is damaged.
    """
    if "joined" in features.fingerprint or not (file := probe_file(features.folder)).is_file():
        return None
    try:
        found = np.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
        check_probe(found)
    except (OSError, ValueError, EOFError) as error:
        raise FtransferError(
            f"{file} cannot be read ({str(error)[:200]}); extract into another folder: --out"
        ) from error
    return found


def check_probe(probe: object) -> None:
    """Raise ValueError where this is not a probe."""
    if not (isinstance(probe, np.ndarray) and probe.ndim == 1 and probe.dtype == np.float32 and len(probe)):
        raise ValueError("its probe is damaged")
    if not np.isfinite(probe).all():
        raise ValueError("its probe is not finite")


def keep_probe(features: "FeatureSet", probe: np.ndarray | None) -> None:
    """Write the probe of a feature set that is new; compare it with that of one that is there.

    Raises
    ------
    FtransferError
        If they differ.
    """
    if probe is None:
        return
    there = read_probe(features)
    if there is not None:
        compare_probes(
            there, probe, f"{features.folder} was made by other code: choose another folder with --out"
        )
        return
    _write(features, probe)


def _write(features: "FeatureSet", probe: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, probe.astype(np.float32))
    with writing(features.folder), features.lock():
        write_whole(probe_file(features.folder), buffer.getvalue())


def compare_probes(wanted: np.ndarray, given: np.ndarray, what: str) -> None:
    """Raise an error that begins with `what` where two embeddings of the fixed picture differ by over 0.1 %."""
    if len(wanted) == len(given):
        norm = max(float(np.linalg.norm(wanted)), float(np.finfo(np.float32).tiny))
        difference = float(np.linalg.norm(wanted - given)) / norm
    else:
        difference = np.inf
    if not difference <= TOLERANCE:
        raise FtransferError(
            f"{what} (weights and names are the same, but the embedding of a fixed test image differs by "
            f"{difference:.2g} of its length; at most {TOLERANCE:g} is allowed)"
        )


# ---------------------------------------------------------------- imported rows


def row_lengths(X: np.ndarray) -> np.ndarray:
    """Return the quantiles 0.01, 0.5 and 0.99 of the lengths of rows, (n, width): float32 (3,)."""
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
    return np.quantile(lengths, QUANTILES).astype(np.float32)


def keep_lengths(features: "FeatureSet", lengths: np.ndarray) -> None:
    """Write the lengths of the rows of a feature set that is new; compare them with those of one that is there."""
    there = read_probe(features)
    if there is not None:
        compare_lengths(there, lengths, str(features.folder))
    else:
        _write(features, lengths)


def compare_lengths(wanted: np.ndarray, given: np.ndarray, what: str) -> None:
    """Refuse rows of another scale than those of the same name: normalised and not, or 4 times as long.

    >>> compare_lengths(np.array([0.99, 1, 1]), np.array([11, 12, 13]), "new.npz")
    Traceback (most recent call last):
    ftransfer.errors.FtransferError: new.npz: rows of length 12 (median), and 1 in the feature set; these \
embeddings come from another model or normalisation, so give them another name
    """
    unit = [bool(np.abs(lengths - 1).max() <= UNIT) for lengths in (wanted, given)]
    ratio = float(given[1]) / max(float(wanted[1]), float(np.finfo(np.float32).tiny))
    if unit[0] != unit[1] or not 1 / RATIO <= ratio <= RATIO:
        raise FtransferError(
            f"{what}: rows of length {float(given[1]):.3g} (median), and {float(wanted[1]):.3g} in the "
            f"feature set; these embeddings come from another model or normalisation, so give them another name"
        )
