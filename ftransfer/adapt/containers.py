"""What goes into what: adapters inside of scikit-learn's containers, and containers around them.

A container of scikit-learn hands `y` on to all that is in it. Inside of an `AdaptationPipeline` the domain of each row
is made known to the adapters in a container by `known_domain`. Where the label of target rows, -1, would reach what
takes it for a class, `refuse_surroundings` says so: scikit-learn asks nobody before it fits, so the functions that
are being called are looked at.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import parallel_config
from numpy.typing import ArrayLike
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from ftransfer.errors import FtransferError

# these fit what they hold to other labels than those they were given: numbered anew, one class against the others
RELABEL = ("sklearn.ensemble.", "sklearn.multiclass", "sklearn.multioutput", "sklearn.calibration")
ONE_AGAINST_OTHERS = ("_fit_binary", "_fit_ovo_binary")
MOST_FRAMES = 100


@dataclass(frozen=True)
class Known:
    """What is known of the rows that a container is given: their domains (None: all of the one source)."""

    domain: ArrayLike | None
    of_source: bool


_known: ContextVar[Known | None] = ContextVar("known", default=None)


@contextmanager
def known_domain(domain: ArrayLike | None, *, of_source: bool = False) -> Iterator[None]:
    """Tell the adapters in a container which domain each row has.

    Parameters
    ----------
    domain : array of shape (n_samples,), int, or None
        As `sample_domain`.
    of_source : bool, default=False
        Whether `transform` is to map rows as `transform_source` does.
    """
    token = _known.set(Known(domain, of_source))
    try:
        with parallel_config(backend="sequential"):  # another thread or process would not know
            yield
    finally:
        _known.reset(token)


def told(step: Any, sample_domain: ArrayLike | None) -> AbstractContextManager[None]:
    """Let a container that takes no `sample_domain` know it all the same, while it is fitted."""
    if sample_domain is None or has_fit_parameter(step, "sample_domain") or not reads_unlabelled(step):
        return nullcontext()
    return known_domain(sample_domain)


def domain_known() -> Known | None:
    """Return what an `AdaptationPipeline` around a container knows of the rows."""
    return _known.get()


def parts_of(estimator: object) -> list[Any]:
    """List the estimators in a container of scikit-learn: a pipeline, a union, a column transformer."""
    if isinstance(estimator, Pipeline):
        parts = [step for _, step in estimator.steps]
    elif isinstance(estimator, FeatureUnion):
        parts = [part for _, part in estimator.transformer_list]
    elif isinstance(estimator, ColumnTransformer):
        parts = [part for _, part, _ in estimator.transformers]
    else:
        parts = []
    return [part for part in parts if part is not None and not isinstance(part, str)]


def change_parts(container: Any, change: Callable[[Any], Any]) -> Any:
    """Change the parts of a union or a column transformer, in place; return it."""
    if isinstance(container, FeatureUnion):
        container.transformer_list = [(name, change(part)) for name, part in container.transformer_list]
    elif isinstance(container, ColumnTransformer):
        container.transformers = [(name, change(part), where) for name, part, where in container.transformers]
    return container


def holds_adapter(estimator: object) -> bool:
    """Whether an estimator maps rows by their domain, or a container holds one that does."""
    return hasattr(estimator, "transform_source") or any(map(holds_adapter, parts_of(estimator)))


def reads_unlabelled(estimator: object) -> bool:
    """Whether an estimator, or what a container holds, finds the target rows in `y`, so that it is given all rows."""
    return bool(readers_in(estimator))


def readers_in(estimator: object) -> list[Any]:
    """List what finds the target rows in `y`: an estimator itself, or parts of a container."""
    if isinstance(estimator, Pipeline | FeatureUnion | ColumnTransformer):
        return [reader for part in parts_of(estimator) for reader in readers_in(part)]
    reads = is_semi_supervised(estimator) or has_fit_parameter(estimator, "sample_domain")
    return [estimator] if reads else []


def is_semi_supervised(estimator: object) -> bool:
    """Whether an estimator is one of ``sklearn.semi_supervised``, or derives from one."""
    return any(kind.__module__.startswith("sklearn.semi_supervised") for kind in type(estimator).__mro__)


def learns_labels(step: Any) -> bool:
    """Whether a step would take -1 for a class: a plain pipeline, a search or a selector does not say so."""
    tags = get_tags(step)
    if (
        tags.target_tags.required
        or tags.estimator_type in ("classifier", "regressor")
        or hasattr(step, "score_func")
        or any(map(learns_labels, parts_of(step)))
    ):
        return True
    inner = getattr(step, "estimator", None)
    return hasattr(inner, "fit") and learns_labels(inner)


def refuse_hidden(step: Any) -> None:
    """Refuse a step that is fitted on the source only, with an adapter somewhere in it that needs the target."""
    if reads_unlabelled(step) or not hasattr(step, "get_params"):
        return
    for name, value in step.get_params(deep=True).items():
        if hasattr(value, "transform_source") and not isinstance(value, type):
            raise FtransferError(
                f"{type(step).__name__} is fitted on the labelled rows, and {type(value).__name__} in it "
                f"({name}) would see no target rows; make it a step of the pipeline, and put what searches or "
                f"selects around the pipeline"
            )


def refuse_surroundings() -> None:
    """Refuse what is being fitted around an adapter, if it would take the target rows' label for a class.

    Raises
    ------
    FtransferError
        If scikit-learn's own pipeline or union hands `y` with -1 in it to another part that learns it, or an
        ensemble, a calibration or one class against the others numbers the labels anew.
    """
    frame = sys._getframe(1)
    for _ in range(MOST_FRAMES):
        if frame is None:
            return
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if module.startswith("sklearn.") and name.startswith("fit"):
            _refuse_around(frame.f_locals.get("self"), frame.f_locals.get("y"))
        elif module == "sklearn.multiclass" and name in ONE_AGAINST_OTHERS:  # perhaps in another process
            raise _relabelled("OneVsRestClassifier" if name == "_fit_binary" else "OneVsOneClassifier")
        frame = frame.f_back


def _refuse_around(around: object, y: object) -> None:
    kind = type(around)
    if kind.__module__.startswith(RELABEL):
        if _any_unlabelled(y):
            raise _relabelled(kind.__name__)
        return
    parts = parts_of(around)
    if not parts or hasattr(around, "predict_source"):
        return
    learns = [each for each in parts if learns_labels(each) and not reads_unlabelled(each)]
    if learns and any(map(reads_unlabelled, parts)) and _any_unlabelled(y):
        raise FtransferError(
            f"scikit-learn's {kind.__name__} passes the target rows to {type(learns[0]).__name__}, which "
            f"treats their label, -1, as a class; use ftransfer's AdaptationPipeline or make_pipeline with "
            f"the same steps"
        )


def _relabelled(name: str) -> FtransferError:
    return FtransferError(
        f"{name} would treat -1, the label of the target rows, as a class; put it inside ftransfer's "
        f"make_pipeline(adapter, {name}(...)), which fits it on the labelled rows only"
    )


def _any_unlabelled(y: Any) -> bool:
    try:
        values = np.asarray(y, dtype=float)
    except (TypeError, ValueError):
        return False
    return bool(values.ndim and ((values == -1) | np.isnan(values)).any())
