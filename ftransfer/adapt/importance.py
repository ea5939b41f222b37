"""Importance weighting for covariate shift."""

from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import has_fit_parameter

from ftransfer.adapt.base import content_order, warn_of_no_target
from ftransfer.adapt.wrapped import FittedOnLabelled
from ftransfer.errors import FtransferError

FARTHEST = 14.0  # bound on a log-odds of the domains: beyond it a probability is one in single precision


class ImportanceWeighted(FittedOnLabelled):
    """Weight the source rows by how much more often the target has such rows, then fit.

    The last step of a pipeline; it is fitted on all rows, and ``y == -1`` (NaN in a regression) marks the
    target rows. A domain classifier learns to tell target from source; its odds on each source row, taken
    out of fold, are the ratio of the two densities. Several sources count as one.

    Parameters
    ----------
    estimator : classifier or regressor, default=None
        Its ``fit`` takes ``sample_weight``. None: ``LogisticRegression(max_iter=1000)``.
    domain_classifier : classifier, default=None
        With ``decision_function`` or ``predict_proba``. None: a logistic regression on standardised features.
    clip : float >= 1 or None, default=10.0
        Largest weight, as a multiple of the mean weight; 1 makes all weights equal, None clips nothing.
    calibrate : bool, default=True
        Whether a sigmoid (Platt's) is fitted to the out-of-fold scores, so that an overconfident domain
        classifier gives no extreme weights. False needs ``predict_proba``.
    cv : int >= 2, default=5
        Number of folds; fewer, where source or target have fewer rows.

    Attributes
    ----------
    estimator_ : fitted estimator
    sample_weight_ : ndarray of shape (n_labelled,)
        Weights of the labelled rows in the order given. Source rows have mean one; labelled target rows
        (which `sample_domain` tells) have weight one.
    effective_sample_size_ : float
        In rows, Kish's ``(sum w)^2 / sum w^2``: n_labelled where all weights are equal. A small one says
        that few rows carry the fit.
    classes_ : ndarray of shape (n_classes,), of a classifier

    Notes
    -----
    It believes that p(y|x) is that of the source, and that the source has rows wherever the target does. With
    many features the domains are easily told apart and few rows get all the weight: reduce them before.

    References
    ----------
    Shimodaira, "Improving predictive inference under covariate shift by weighting the log-likelihood
    function", Journal of Statistical Planning and Inference 2000: weights ``p_target(x) / p_source(x)``.
    Bickel, Brueckner, Scheffer, "Discriminative learning under covariate shift", JMLR 2009: the ratio as
    ``p(target|x) / p(source|x) * n_source / n_target``. Clipping and calibration are ours.

    Examples
    --------
    A line fitted to a parabola: with weights it is fitted where the target lies, about x = 1, slope 2.

    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from ftransfer import ImportanceWeighted
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal(0, 1, 1000), rng.normal(1, 1, 1000)][:, None]
    >>> y = np.where(np.arange(2000) < 1000, X[:, 0] ** 2, np.nan)
    >>> weighted = ImportanceWeighted(LinearRegression()).fit(X, y)
    >>> print(f"slope {LinearRegression().fit(X[:1000], y[:1000]).coef_[0]:.1f} without weights")
    slope -0.2 without weights
    >>> print(f"slope {weighted.estimator_.coef_[0]:.1f} with them")
    slope 1.6 with them
    >>> print(f"{weighted.effective_sample_size_:.0f} of 1000 rows")
    410 of 1000 rows
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "domain_classifier": [HasMethods(["fit", "predict"]), None],
        "clip": [Interval(Real, 1, None, closed="left"), None],
        "calibrate": ["boolean"],
        "cv": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self,
        estimator: BaseEstimator | None = None,
        *,
        domain_classifier: BaseEstimator | None = None,
        clip: float | None = 10.0,
        calibrate: bool = True,
        cv: int = 5,
    ) -> None:
        self.estimator = estimator
        self.domain_classifier = domain_classifier
        self.clip = clip
        self.calibrate = calibrate
        self.cv = cv

    def fit(self, X: ArrayLike, y: ArrayLike, *, sample_domain: ArrayLike | None = None) -> Self:
        """Weight the labelled rows and fit the estimator on them.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, -1 (or NaN) on target rows.
        sample_domain : array of shape (n_samples,), int, optional
            Positive for a source, negative for a target; needed where target rows have labels.

        Returns
        -------
        self

        Raises
        ------
        FtransferError
            If `y` or `sample_domain` break the rule, the estimator's ``fit`` takes no ``sample_weight``,
            the domain classifier gives no score, or a domain has a single row.
        """
        self._validate_params()
        X, y, domain, labelled = self._read(X, y, sample_domain)
        estimator = self._template()
        if not has_fit_parameter(estimator, "sample_weight"):
            raise FtransferError(
                f"{type(self).__name__} needs an estimator whose fit takes sample_weight; "
                f"{type(estimator).__name__} does not. Put the steps before it into the outer pipeline"
            )
        target = domain < 0
        weight, rows = np.ones(len(X)), labelled & ~target
        if not target.any():
            warn_of_no_target(self)
        elif rows.any():
            weight[rows] = _clipped(np.exp(self._log_odds(X, target)[rows]), self.clip)
        self.sample_weight_ = weight[labelled]
        self.effective_sample_size_ = float(self.sample_weight_.sum() ** 2 / (self.sample_weight_**2).sum())
        self._fit_estimator(X[labelled], y[labelled], sample_weight=self.sample_weight_)
        return self

    def _log_odds(self, X: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Compute each row's log-odds of the target, out of fold; n_source / n_target falls to the mean of one."""
        smaller = min(target.sum(), (~target).sum())
        if smaller < 2:
            raise FtransferError(
                f"the domain classifier needs at least two rows of each domain; given {(~target).sum()} "
                f"source and {target.sum()} target rows"
            )
        default = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier = default if self.domain_classifier is None else self.domain_classifier
        methods = ["decision_function", "predict_proba"] if self.calibrate else ["predict_proba"]
        method = next((m for m in methods if hasattr(classifier, m)), None)
        if method is None:
            raise FtransferError(
                f"the domain classifier {type(classifier).__name__} has no {' or '.join(methods)}"
                + ("" if self.calibrate else "; with a decision_function, calibrate=True works")
            )
        folds = StratifiedKFold(min(self.cv, smaller), shuffle=True, random_state=0)
        order = content_order(X)
        rows, is_target = X[order], target[order].astype(int)
        # no params are not none at all to scikit-learn 1.6 with metadata routing on
        out_of_fold = cross_val_predict(classifier, rows, is_target, cv=folds, method=method, params={})
        score = np.empty_like(out_of_fold)
        score[order] = out_of_fold
        if method == "predict_proba":
            nearest = expit(-FARTHEST)
            score = logit(np.clip(score[:, 1].astype(np.float64), nearest, 1 - nearest))
        if self.calibrate:
            score = scale(np.asarray(score, dtype=np.float64))[:, None]
            score = LogisticRegression().fit(score, target).decision_function(score)
        return np.clip(score, -FARTHEST, FARTHEST)


def _clipped(weight: np.ndarray, clip: float | None) -> np.ndarray:
    """Scale positive weights to mean one, cut so that the largest is at most `clip` times the final mean."""
    if clip is not None:
        n, ascending = len(weight), np.sort(weight)
        # the n - m largest cut to c make a mean of (rest + (n - m) c) / n, and c is clip times that
        rest, room = np.cumsum(ascending), n - clip * (n - np.arange(1, n + 1))
        m = np.flatnonzero((room > 0) & (ascending * room <= clip * rest * (1 + 1e-12)))[-1]
        weight = np.minimum(weight, clip * rest[m] / room[m])
    return weight / weight.mean()
