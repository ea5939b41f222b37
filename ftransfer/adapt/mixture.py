"""Target rows as a mixture of the classes."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh
from scipy.special import softmax
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ftransfer.adapt.base import TargetClassifier, read_rows, warn_of_no_target
from ftransfer.adapt.scaler import BLOCK


class TargetMixture(TargetClassifier):
    """Fit a Gaussian mixture to the target, one component a class, from the source's class means on.

    The last step of a pipeline; it is fitted on all rows, and ``y == -1`` marks the target rows. All components have
    one covariance, that of the source's rows about their class means. The means start at the source's, and each is
    held there as by `prior_rows` rows; the shares of the classes are estimated along, so that a class that the target
    lacks is left empty. Without target rows it is linear discriminant analysis with a shrunk covariance.

    Parameters
    ----------
    shrinkage : float from 0 to 1, default=0.8
        How far the covariance is shrunk to a multiple of the identity with the same trace.
    prior_rows : float > 0, default=5.0
        Rows that the source's mean of a class counts as.
    temperature : float > 0 or "auto", default="auto"
        Divides the log-likelihoods: features are not independent, and their evidence does not add up. "auto":
        ``max(1, sqrt(n_features) / 4)``.
    n_rounds : int, default=50
        Of expectation maximisation, at most.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (n_classes, n_features), float64
    intercept_ : ndarray of shape (n_classes,), float64
    target_shares_ : ndarray of shape (n_classes,), float64
        Estimated shares of the classes in the target.

    Notes
    -----
    Bring the domains together before: with `ShareWeightedScaler`, or `DomainScaler` where all classes are there. It
    believes that each class is one cloud of rows, as wide in the target as in the source.

    References
    ----------
    Expectation maximisation with a conjugate prior on the means: Fraley, Raftery, "Bayesian regularization for normal
    mixture estimation and model-based clustering", Journal of Classification 2007. Components that start as labelled
    classes: Nigam, McCallum, Thrun, Mitchell, "Text classification from labeled and unlabeled documents using EM",
    Machine Learning 2000; tempering is theirs as well, of the unlabelled rows.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import ShareWeightedScaler, TargetMixture, make_pipeline
    >>> rng = np.random.default_rng(0)
    >>> labels = np.r_[np.arange(150) % 3, np.arange(150) % 2]  # the target lacks class 2
    >>> X = rng.normal(size=(300, 5)) + 3 * np.eye(3, 5)[labels]
    >>> X[150:] += 1.0
    >>> y = np.where(np.arange(300) < 150, labels, -1)
    >>> fitted = make_pipeline(ShareWeightedScaler(), TargetMixture()).fit(X, y)
    >>> bool(np.mean(fitted.predict(X[150:]) == labels[150:]) > 0.95)
    True
    >>> fitted[-1].target_shares_.round(1).tolist()
    [0.5, 0.5, 0.0]
    """

    _parameter_constraints = {
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
        "prior_rows": [Interval(Real, 0, None, closed="neither")],
        "temperature": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
    }
    self_labelling = True  # for the guard of a race

    def __init__(
        self,
        *,
        shrinkage: float = 0.8,
        prior_rows: float = 5.0,
        temperature: float | str = "auto",
        n_rounds: int = 50,
    ) -> None:
        self.shrinkage = shrinkage
        self.prior_rows = prior_rows
        self.temperature = temperature
        self.n_rounds = n_rounds

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Fit the classes on the labelled rows, and the mixture on the target rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, -1 on target rows; labelled target rows count as labelled.
        sample_domain : array of shape (n_samples,), int, optional
            Checked, but not used: all that matters here is which rows have a label.

        Returns
        -------
        self

        Raises
        ------
        FtransferError
            If no row is labelled, labels are strings, -1 was meant as a class, or `sample_domain` is of another form.
        """
        self._validate_params()
        X, y, unlabelled, codes = read_rows(self, X, y, sample_domain)
        self.classes_ = np.unique(y[~unlabelled])
        labelled = X[~unlabelled]
        means = np.stack(
            [labelled[codes == k].mean(axis=0, dtype=np.float64) for k in range(len(self.classes_))]
        )
        whiten = self._whitener(labelled, means, codes)
        self._tempering = (
            max(1.0, np.sqrt(X.shape[1]) / 4) if self.temperature == "auto" else self.temperature
        )
        prior, shares = whiten(means), np.bincount(codes) / len(codes)
        means = prior
        if unlabelled.any():
            means, shares = self._expectation_maximisation(_in_blocks(whiten, X[unlabelled]), prior, shares)
        else:
            warn_of_no_target(self)
        self.target_shares_ = shares
        # |x - m|^2 is linear in x but for |x|^2, which all classes share; whitening is symmetric
        self.coef_ = whiten(means) / self._tempering
        self.intercept_ = np.log(shares) - (means**2).sum(axis=1) / 2 / self._tempering
        return self

    def _whitener(
        self, rows: np.ndarray, means: np.ndarray, codes: np.ndarray
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that maps rows so that the shrunk covariance about the class means is the identity."""
        n, d = rows.shape
        blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
        if n < d:
            residuals = rows - means[codes]
            scatter = residuals @ residuals.T
        else:
            scatter = np.zeros((d, d))
            for block in blocks:
                residuals = rows[block] - means[codes[block]]
                scatter += residuals.T @ residuals
        level = scatter.trace() / n / d
        if level <= np.finfo(np.float64).tiny:
            return lambda rows: rows * 1.0
        values, vectors = eigh(scatter / n)
        some = values > 1e-9 * max(values[-1], 0)
        values, axes = values[some], vectors[:, some]
        if n < d:
            axes = residuals.T @ axes / np.sqrt(values * n)
        flat = max(self.shrinkage, 1e-6) * level  # the variance off the axes
        gain = 1 / np.sqrt((1 - self.shrinkage) * values + flat) - 1 / np.sqrt(flat)
        return lambda rows: rows / np.sqrt(flat) + ((rows @ axes) * gain) @ axes.T

    def _expectation_maximisation(
        self, rows: np.ndarray, prior: np.ndarray, shares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        means, n_classes = prior, len(prior)
        for _ in range(self.n_rounds):
            logits = (rows @ means.T - (means**2).sum(axis=1) / 2) / self._tempering + np.log(shares)
            member = softmax(logits, axis=1)
            counts = member.sum(axis=0)
            before = means
            means = (self.prior_rows * prior + member.T @ rows) / (self.prior_rows + counts)[:, None]
            shares = (counts + 1) / (len(rows) + n_classes)
            if np.abs(means - before).max() <= 1e-5 * max(1.0, np.abs(means).max()):
                break
        return means, shares

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Log of class share and tempered likelihood, up to a constant: (n_samples, n_classes); (n_samples,) of two."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class: array of shape (n_samples, n_classes)."""
        return softmax(self._logits(X), axis=1)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Predict the class of each row: array of shape (n_samples,)."""
        logits = self._logits(X)
        return self.classes_[logits.argmax(axis=1)]

    def _logits(self, X: ArrayLike) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return X @ self.coef_.T + self.intercept_

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def _in_blocks(whiten: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Whiten rows without as many copies of all of them as it takes steps."""
    out = np.empty(rows.shape)
    for start in range(0, len(rows), BLOCK):
        out[start : start + BLOCK] = whiten(rows[start : start + BLOCK])
    return out
