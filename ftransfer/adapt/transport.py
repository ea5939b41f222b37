"""Optimal transport of the source onto the target."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import type_of_target

from ftransfer.adapt.base import DomainAdapter, is_unlabelled
from ftransfer.errors import FtransferError

CLASS_ROUNDS = 10  # of majorisation and minimisation, as POT has it
SAFE_EXPONENT = 200.0  # exp(-200) and its reciprocal are far from the ends of double precision


class OptimalTransport(OneToOneFeatureMixin, DomainAdapter):
    """Move each source row to the mean of the target rows that the optimal transport plan sends it to.

    The plan moves the mass of the source rows (all alike) to the target rows (all alike) at the least total
    cost, smoothed by its entropy. Target rows stay as they are. Needs the extra: ``pip install
    "ftransfer[ot]"``.

    Parameters
    ----------
    reg : float > 0, default=0.1
        Weight of the entropy, in units of the cost (of its `norm`, if there is one). More of it draws all
        source rows towards the target's mean; less takes longer to converge.
    class_regularisation : float >= 0, default=0.0
        Weight of the penalty on target rows that receive mass from source rows of several classes, in
        units of the cost; about 0.1 times `reg` or more has an effect. With 0 labels do not matter.
    metric : {"sqeuclidean", "euclidean", "cityblock"}, default="sqeuclidean"
        Cost of moving a row. After a ``Normalizer`` the first is twice the cosine distance.
    norm : {"max", "median"} or None, default="max"
        What costs are divided by, so that `reg` means the same for features of any scale.
    max_iter : int, default=1000
        Largest number of Sinkhorn iterations. POT warns where they do not do.
    tol : float > 0, default=1e-9
        Largest error of the plan's marginals at which the iterations end, in units of mass (1 in all).

    Attributes
    ----------
    source_rows_ : dict of {int: ndarray of shape (n_source, n_features)}
        The source rows seen, one entry a source domain, keyed by its code in `sample_domain` (1 without it).
    source_images_ : dict of {int: ndarray of shape (n_source, n_features)}
        Where each of them is moved.
    n_iter_ : int
        Sinkhorn iterations that the longest run took.
    sources_ : ndarray of int
        Codes of the source domains; each is moved by itself.

    Raises
    ------
    FtransferError
        By `fit`, if POT is not installed, the plan is not finite, or `class_regularisation` is given with
        labels that are no classes.

    See Also
    --------
    CORAL : A linear map, with nothing to tune.

    Notes
    -----
    Held-out source rows move along with the nearest source row seen, by the same vector (Ferradans et al.).
    Costs and plan take 8 bytes each for every pair of a source and a target row. The plan believes that both
    domains have the same share of each class. Source rows without a label are a class each. Without
    target rows nothing moves.

    References
    ----------
    Courty, Flamary, Tuia, Rakotomamonjy, "Optimal transport for domain adaptation", TPAMI 2017: the plan P
    minimises ``<P, C> + reg sum P log P`` under uniform marginals, and rows move to ``diag(P 1)^-1 P X_target``.
    Courty, Flamary, Tuia, "Domain adaptation with regularized optimal transport", ECML PKDD 2014: the class
    penalty, ``sum_jc (sum_{i in c} P_ij)^(1/2)``.
    Ferradans, Papadakis, Peyre, Aujol, "Regularized discrete optimal transport", SIAM J. Imaging Sciences 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from ftransfer import OptimalTransport
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 10.0], [1.0, 10.2]])
    >>> moved = OptimalTransport(reg=0.001).fit_transform(X, [0, 1, -1, -1])
    >>> moved[:2].round(2)
    array([[ 0. , 10. ],
           [ 1. , 10.2]])
    """

    _parameter_constraints = {
        "reg": [Interval(Real, 0, None, closed="neither")],
        "class_regularisation": [Interval(Real, 0, None, closed="left")],
        "metric": [StrOptions({"sqeuclidean", "euclidean", "cityblock"})],
        "norm": [StrOptions({"max", "median"}), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        reg: float = 0.1,
        *,
        class_regularisation: float = 0.0,
        metric: str = "sqeuclidean",
        norm: str | None = "max",
        max_iter: int = 1000,
        tol: float = 1e-9,
    ) -> None:
        self.reg = reg
        self.class_regularisation = class_regularisation
        self.metric = metric
        self.norm = norm
        self.max_iter = max_iter
        self.tol = tol

    def _learn(self, X: np.ndarray, y: np.ndarray, domain: np.ndarray) -> None:
        ot = _import_pot()
        target, unlabelled = X[domain < 0].astype(np.float64), is_unlabelled(y)
        self.source_rows_, self.source_images_, self.n_iter_ = {}, {}, 1
        for code in self.sources_.tolist():
            here = domain == code
            self.source_rows_[code] = self.source_images_[code] = rows = X[here]
            if len(target):
                member = _memberships(y[here], unlabelled[here]) if self.class_regularisation > 0 else None
                plan = self._plan(ot, rows.astype(np.float64), target, member)
                image = plan @ target / plan.sum(axis=1, keepdims=True)
                self.source_images_[code] = image.astype(X.dtype)

    def _plan(self, ot: Any, source: np.ndarray, target: np.ndarray, member: np.ndarray | None) -> np.ndarray:
        """Compute the mass that goes from each source row to each target row: (n_source, n_target)."""
        cost = ot.dist(source, target, metric=self.metric)
        if self.norm is not None:
            cost /= (np.max(cost) if self.norm == "max" else np.median(cost)) or 1.0
        plan = self._sinkhorn(ot, cost, warn=member is None)
        if member is not None:
            for r in range(1, CLASS_ROUNDS):
                # the penalty's tangent at the last plan is linear in the next, so it adds to the cost
                mass = member @ (member.T @ plan)
                penalty = self.class_regularisation * 0.5 / np.sqrt(mass + 1e-3)
                plan = self._sinkhorn(ot, cost + penalty, warn=r == CLASS_ROUNDS - 1)
        return plan

    def _sinkhorn(self, ot: Any, cost: np.ndarray, warn: bool) -> np.ndarray:
        a, b = (np.full(n, 1 / n) for n in cost.shape)
        safe = np.ptp(cost) < SAFE_EXPONENT * self.reg  # a constant more or less changes no plan
        method = "sinkhorn" if safe else "sinkhorn_log"
        limits = {"numItermax": self.max_iter, "stopThr": self.tol, "warn": warn}
        plan, log = ot.sinkhorn(a, b, cost - cost.min(), self.reg, method=method, log=True, **limits)
        self.n_iter_ = max(self.n_iter_, log["niter"] + 1)
        if not np.isfinite(plan).all() or (plan.sum(axis=1) <= 0).any():
            raise FtransferError(
                f"no transport plan: reg={self.reg} is too small for costs up to {cost.max():.3g}; "
                f"try a larger reg, or norm='max'"
            )
        return plan

    def _map_source(self, X: np.ndarray, domain: int) -> np.ndarray:
        rows = self.source_rows_[domain]
        nearest = pairwise_distances_argmin(X, rows)
        return self.source_images_[domain][nearest] + (X - rows[nearest])

    def _map_target(self, X: np.ndarray) -> np.ndarray:
        return X.copy()


def _memberships(labels: np.ndarray, unlabelled: np.ndarray) -> np.ndarray:
    """Write classes as one-hot rows (n_source, n_classes); a row without a label is a class of its own."""
    if labels.ndim != 1 or type_of_target(labels[~unlabelled]) not in ("binary", "multiclass"):
        raise FtransferError(
            "class_regularisation needs class labels, and y holds the numbers of a regression; set "
            "class_regularisation=0"
        )
    codes = np.unique(labels[~unlabelled], return_inverse=True)[1]
    group = np.empty(len(labels), dtype=int)
    group[~unlabelled] = codes
    group[unlabelled] = codes.max(initial=-1) + 1 + np.arange(unlabelled.sum())
    return (group[:, None] == np.arange(group.max() + 1)).astype(np.float64)


def _import_pot() -> Any:
    try:
        import ot
    except ImportError as error:
        raise FtransferError(
            'OptimalTransport needs POT, which is not installed: pip install "ftransfer[ot]"'
        ) from error
    return ot
