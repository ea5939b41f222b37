"""Folds for cross-validation on rows of two domains."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator, StratifiedGroupKFold, StratifiedKFold


class DomainKFold(BaseCrossValidator):
    """Split into folds that hold both domains, the classes of the source, and whole groups.

    The target rows (``y == -1``) are stratified like a class, so each fold holds source and target rows in
    proportion: an adapter always has target rows to fit on, and a scorer always has rows of both kinds.

    Parameters
    ----------
    n_splits : int >= 2, default=5
    random_state : int, default=0
        Rows are shuffled.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import DomainKFold
    >>> y = np.array([0, 0, 1, 1, -1, -1, -1, -1])
    >>> for train, test in DomainKFold(2).split(np.zeros((8, 1)), y):
    ...     print(y[train], y[test])
    [ 0  1 -1 -1] [ 0  1 -1 -1]
    [ 0  1 -1 -1] [ 0  1 -1 -1]
    """

    # with metadata routing switched on, groups are asked for, as scikit-learn's own folds of groups do
    __metadata_request__split: ClassVar[dict[str, bool]] = {"groups": True}

    def __init__(self, n_splits: int = 5, *, random_state: int = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def split(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to fit on and the rows to hold out, fold by fold.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels of the source rows, -1 on target rows.
        groups : array of shape (n_samples,), optional
            Rows of one group are never on both sides.

        Yields
        ------
        train, test : ndarray of int
        """
        kind = StratifiedKFold if groups is None else StratifiedGroupKFold
        folds = kind(self.n_splits, shuffle=True, random_state=self.random_state)
        yield from folds.split(X, y, groups)

    def get_n_splits(
        self, X: ArrayLike | None = None, y: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> int:
        """Return the number of folds."""
        return self.n_splits
