"""What a pipeline does about the target, and which step of the guard that is."""

from ftransfer.adapt.containers import is_semi_supervised
from ftransfer.adapt.scaler import DomainScaler
from ftransfer.pipeline import AdaptationPipeline

BASELINES = ("source only", "per-domain scaling")
STEPS = (*BASELINES, "alignment", "self-labelling")  # from the mildest to the strongest adaptation


def adaptation(pipeline: AdaptationPipeline) -> str:
    """Name what a pipeline does about the target: the classes of its steps that read target rows."""
    steps = pipeline.readers
    if not steps:
        return BASELINES[0]
    if len(steps) == 1 and isinstance(steps[0], DomainScaler):
        return BASELINES[1]
    return " + ".join(
        type(step).__name__ for step in steps if not isinstance(step, DomainScaler) or len(steps) == 1
    )


def step_of(pipeline: AdaptationPipeline) -> str:
    """Tell which step of the guard a pipeline is."""
    name = adaptation(pipeline)
    if name in BASELINES:
        return name
    return STEPS[3] if any(labels_target(step) for step in pipeline.readers) else STEPS[2]


def labels_target(estimator: object) -> bool:
    """Whether an estimator is fitted on labels that were predicted for target rows.

    It says so by the attribute ``self_labelling = True``; those of ``sklearn.semi_supervised``, and what derives from
    them, do so unasked.

    Examples
    --------
    >>> from sklearn.semi_supervised import LabelSpreading
    >>> from ftransfer import CORAL, PseudoLabelled
    >>> [labels_target(each) for each in (CORAL(), PseudoLabelled(), LabelSpreading())]
    [False, True, True]
    """
    return bool(getattr(estimator, "self_labelling", is_semi_supervised(estimator)))
