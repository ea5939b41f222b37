"""Adaptation methods, one a file; each is imported when it is asked for."""

from importlib import import_module
from typing import Any

_HOMES = {
    "CORAL": "coral",
    "DomainAdapter": "base",
    "DomainScaler": "scaler",
    "GeodesicFlowKernel": "gfk",
    "GradualSelfTraining": "gradual",
    "ImportanceWeighted": "importance",
    "JointDistributionAdaptation": "jda",
    "OptimalTransport": "transport",
    "PriorCorrected": "prior",
    "PseudoLabelled": "pseudo",
    "ShareWeightedScaler": "share_scaler",
    "SourceSelected": "selection",
    "SubspaceAlignment": "subspace",
    "TargetMixture": "mixture",
    "TransferComponentAnalysis": "tca",
    "domain_codes": "base",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ftransfer.adapt' has no attribute {name!r}")
    value = getattr(import_module(f"ftransfer.adapt.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
