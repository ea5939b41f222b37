"""Answer "unknown" where the model is not sure: below a probability, or for the least sure share of the images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ftransfer.errors import FtransferError

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reject:
    """Which predictions are left unknown.

    Attributes
    ----------
    probability : float or None
        From 0 to 1; less sure predictions are left unknown.
    coverage : float or None
        From 0 to 1, in its place: share of the images that are labelled, the surest ones.

    Examples
    --------
    >>> Reject.read("0.7"), Reject.read("80%")
    (Reject(probability=0.7, coverage=None), Reject(probability=None, coverage=0.8))
    """

    probability: float | None = None
    coverage: float | None = None

    @classmethod
    def read(cls, text: str) -> "Reject":
        """Read a probability such as 0.7, or a coverage such as 80%.

        Raises
        ------
        FtransferError
            If it is neither.
        """
        share = text.strip().endswith("%")
        try:
            value = float(text.strip().removesuffix("%")) / (100 if share else 1)
        except ValueError:
            value = np.nan
        if not 0 < value <= 1 or (value == 1 and not share):
            raise FtransferError(
                f"'{text}' is neither a probability, such as 0.7, nor a share of the images to label, such as 80%"
            )
        return cls(coverage=value) if share else cls(probability=value)

    def threshold(self, probability: np.ndarray) -> float:
        """Return the lowest probability that is answered; of a coverage, among these predictions."""
        if self.coverage is None:
            return float(self.probability or 0.0)
        known = np.sort(probability[~np.isnan(probability)])[::-1]
        return float(known[max(1, round(self.coverage * len(known))) - 1]) if len(known) else 0.0


def check_rejects(models: dict[str, Any]) -> None:
    """Refuse to leave predictions unknown where a model cannot say how sure it is, or has a class of that name.

    Raises
    ------
    FtransferError
    """
    for model in models.values():
        if "probability" not in model.COLUMNS:
            raise FtransferError("--reject is for classes; a model of a regression has no probability")
        if UNKNOWN in model.classes.tolist():
            raise FtransferError(
                f"'{UNKNOWN}' is a class of the model, so --reject has no word for its answer"
            )


def leave_unknown(table: pd.DataFrame, thresholds: dict[str, float]) -> int:
    """Put "unknown" in place of labels that are less sure, in place; return how many.

    Parameters
    ----------
    table : DataFrame
        With the columns of `write_predictions`.
    thresholds : dict of {str: float}
        Lowest probability that is answered, by the column of labels, "" where there is one.
    """
    count = 0
    for name, threshold in thresholds.items():
        sure = table[f"{name} probability".strip()].to_numpy(float)
        if np.isnan(sure[table[name or "label"].notna()]).any():
            raise FtransferError(
                "the model gives no probabilities, so --reject cannot tell what it is sure of"
            )
        unsure = sure < threshold
        table.loc[unsure, name or "label"] = UNKNOWN
        count += int(unsure.sum())
    return count
