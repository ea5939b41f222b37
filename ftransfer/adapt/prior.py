"""Prior correction for label shift: the class shares of the target by maximum likelihood."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from ftransfer.adapt.ask import ask
from ftransfer.adapt.base import TargetClassifier, content_order, read_rows, warn_of_no_target
from ftransfer.errors import FtransferError

FOLDS = 3
LEAST = 1e-6  # of a probability: a forest says 0 where it means seldom
COLDEST, HOTTEST = np.log(1e-2), np.log(1e3)  # bounds of the log temperature
BIAS_PENALTY = 1e-2  # on a squared bias: one of 1 weighs as a hundredth of a nat a row


class PriorCorrected(MetaEstimatorMixin, TargetClassifier):
    """Correct a classifier for class shares that differ in the target (label shift).

    The last step of a pipeline; it is fitted on all rows, and ``y == -1`` marks the target rows. The classifier
    learns from the labelled rows. Its probabilities are calibrated on held-out labelled rows; then those class shares
    are found that make the target rows most likely, and each probability is multiplied by its class's share in the
    target over that in the source. The features are left as they are.

    Parameters
    ----------
    estimator : classifier, default=None
        With ``predict_proba`` or ``decision_function``. None: ``LogisticRegression(max_iter=1000)`` on standardised
        features.
    pseudo_count : float >= 0, default=1.0
        Rows of each class that the target is taken to have besides its own: no class is ever ruled out.
    cv : int >= 2, default=3
        Folds that the calibration is fitted on.

    Attributes
    ----------
    estimator_ : classifier, fitted on the labelled rows
    classes_ : ndarray of shape (n_classes,)
    source_shares_, target_shares_ : ndarray of shape (n_classes,), float64
        Shares of the classes; the target's are estimated.
    temperature_ : float
        Divides the logits; above 1 where the classifier is too sure.
    bias_ : ndarray of shape (n_classes,), float64
        Added to the logits after that.

    See Also
    --------
    ShareWeightedScaler : For features that are shifted as well.

    Notes
    -----
    It believes that rows of a class are alike in source and target, and only the shares of the classes differ. Where
    the features are shifted, too, it takes that for shares, and can do harm.

    References
    ----------
    Saerens, Latinne, Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a simple
    procedure", Neural Computation 2002, equation 2.9, with a Dirichlet prior.
    Alexandari, Kundaje, Shrikumar, "Maximum likelihood with bias-corrected calibration is hard-to-beat at label
    shift adaptation", ICML 2020: bias-corrected temperature scaling, section 3.1; the bias is penalised a little.

    Examples
    --------
    Two overlapping classes, 1 to 1 in the source and 9 to 1 in the target:

    >>> import numpy as np
    >>> from ftransfer import PriorCorrected
    >>> rng = np.random.default_rng(0)
    >>> labels = np.r_[np.arange(400) % 2, np.arange(400) % 10 == 0].astype(int)
    >>> X = rng.normal(size=(800, 2)) + 1.5 * labels[:, None]
    >>> y = np.where(np.arange(800) < 400, labels, -1)
    >>> fitted = PriorCorrected().fit(X, y)
    >>> fitted.target_shares_.round(1).tolist()
    [0.9, 0.1]
    >>> plain, corrected = (np.mean(f.predict(X[400:]) == labels[400:]) for f in (fitted.estimator_, fitted))
    >>> print(f"{plain:.0%} right without the correction, {corrected:.0%} with it")
    85% right without the correction, 92% with it
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "pseudo_count": [Interval(Real, 0, None, closed="left")],
        "cv": [Interval(Integral, 2, None, closed="left")],
    }
    self_labelling = True  # for the guard of a race: the shares come from what it predicts for the target

    def __init__(
        self, estimator: BaseEstimator | None = None, *, pseudo_count: float = 1.0, cv: int = FOLDS
    ) -> None:
        self.estimator = estimator
        self.pseudo_count = pseudo_count
        self.cv = cv

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Fit the classifier on the labelled rows, calibrate it, and find the shares of the target's classes.

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
            If no row is labelled, labels are strings, -1 was meant as a class, `sample_domain` is of another form, or
            the classifier gives neither probabilities nor a decision function.
        """
        self._validate_params()
        X, y, unlabelled, codes = read_rows(self, X, y, sample_domain)
        self.classes_ = np.unique(y[~unlabelled])
        labelled, template = X[~unlabelled], plain_classifier() if self.estimator is None else self.estimator
        self.estimator_ = clone(template).fit(labelled, y[~unlabelled])
        self.source_shares_ = np.bincount(codes) / len(codes)
        held_out = held_out_logits(template, labelled, codes, self.cv)
        self.temperature_, self.bias_ = calibrate(held_out, codes)
        self.target_shares_ = self.source_shares_
        if unlabelled.any():
            calibrated = self._calibrated(X[unlabelled])
            self.target_shares_ = most_likely_shares(calibrated, self.source_shares_, self.pseudo_count)
        else:
            warn_of_no_target(self)
        return self

    def _calibrated(self, X: np.ndarray) -> np.ndarray:
        return logits_of(self.estimator_, X) / self.temperature_ + self.bias_

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class under the target's shares: array of shape (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        correction = np.log(np.maximum(self.target_shares_, LEAST)) - np.log(self.source_shares_)
        return softmax(self._calibrated(X) + correction, axis=1)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def plain_classifier() -> Pipeline:
    """Make the classifier that estimates shares where none is given."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


def logits_of(classifier: Any, X: ArrayLike) -> np.ndarray:
    """Logits of a fitted classifier: its decision function, or the log of its probabilities.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float64

    Raises
    ------
    FtransferError
        If it has neither.
    """
    method = next((m for m in ("decision_function", "predict_proba") if hasattr(classifier, m)), None)
    if method is None:
        raise FtransferError(
            f"{type(classifier).__name__} has neither decision_function nor predict_proba, and estimating "
            f"the class proportions needs one of them; use another classifier"
        )
    values = np.asarray(ask(classifier, method, X), dtype=np.float64)
    if method == "predict_proba":
        return np.log(values.clip(LEAST, 1))
    return np.c_[-values, values] / 2 if values.ndim == 1 else values


def held_out_logits(template: BaseEstimator, X: np.ndarray, codes: np.ndarray, cv: int = FOLDS) -> np.ndarray:
    """Logits of rows by a classifier that was not fitted on them, in `cv` folds.

    What a fold's classifier has not seen, a class with one row, gets its lowest logit.

    Parameters
    ----------
    template : classifier, not fitted
    X : array of shape (n_samples, n_features)
    codes : array of shape (n_samples,), int
        Classes, from 0.

    Returns
    -------
    ndarray of shape (n_samples, n_classes), float64
    """
    counts, order = np.bincount(codes), content_order(X)
    n_classes, folds = len(counts), min(cv, len(codes))
    if n_classes < 2 or folds < 2:
        return np.zeros((len(codes), n_classes))
    split = StratifiedKFold if counts.min() >= folds else KFold
    found = np.zeros((len(codes), n_classes))
    for train, test in split(folds, shuffle=True, random_state=0).split(X, codes[order]):
        seen = np.unique(codes[order[train]])
        if len(seen) < 2:
            continue
        logits = logits_of(clone(template).fit(X[order[train]], codes[order[train]]), X[order[test]])
        part = np.repeat(logits.min(axis=1, keepdims=True), n_classes, axis=1)
        part[:, seen] = logits
        found[order[test]] = part
    return found


def calibrate(logits: np.ndarray, codes: np.ndarray) -> tuple[float, np.ndarray]:
    """Fit the temperature and the biases that make the true classes of held-out rows most likely.

    Parameters
    ----------
    logits : array of shape (n_samples, n_classes)
    codes : array of shape (n_samples,), int

    Returns
    -------
    temperature : float
    bias : ndarray of shape (n_classes,), float64
    """
    n, k = logits.shape
    truth = np.eye(k)[codes]
    spread = max(float(np.std(logits - logits.mean(axis=1, keepdims=True))), np.finfo(float).tiny)
    scaled = logits / spread

    def surprise(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        sharpness, bias = np.exp(-parameters[0]), parameters[1:]
        log_probability = log_softmax(scaled * sharpness + bias, axis=1)
        error = np.exp(log_probability) - truth
        slope = -(error * scaled).sum() * sharpness / n
        loss = -(log_probability * truth).sum() / n + BIAS_PENALTY * (bias**2).sum()
        return loss, np.r_[slope, error.mean(axis=0) + 2 * BIAS_PENALTY * bias]

    bounds = [(COLDEST, HOTTEST), *[(-10, 10)] * k]
    found = minimize(surprise, np.zeros(k + 1), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0]) * spread), found[1:] - found[1:].mean()


def most_likely_shares(
    logits: ArrayLike,
    source_shares: ArrayLike,
    pseudo_count: float = 1.0,
    *,
    n_rounds: int = 1000,
    tolerance: float = 1e-7,
) -> np.ndarray:
    """Find the class shares that make the target rows most likely, by expectation maximisation.

    Parameters
    ----------
    logits : array of shape (n_target, n_classes)
        Calibrated on the source.
    source_shares : array of shape (n_classes,)
        Above zero.
    pseudo_count : float
        Of a Dirichlet prior, in rows a class.

    Returns
    -------
    ndarray of shape (n_classes,), float64, which sums to one
    """
    likelihood = np.exp(logits - logsumexp(logits, axis=1, keepdims=True)) / source_shares
    shares = np.asarray(source_shares, dtype=np.float64)
    for _ in range(n_rounds):
        joint = likelihood * shares
        counts = (joint / joint.sum(axis=1, keepdims=True)).sum(axis=0) + pseudo_count
        before, shares = shares, counts / counts.sum()
        if np.abs(shares - before).max() < tolerance:
            break
    return shares
