"""Carry labels from one image collection to another: frozen CNN features, adapted in scikit-learn.

Nothing here imports torch until images are turned into features.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "CORAL": "adapt",
    "DomainScaler": "adapt",
    "GeodesicFlowKernel": "adapt",
    "ImportanceWeighted": "adapt",
    "JointDistributionAdaptation": "adapt",
    "OptimalTransport": "adapt",
    "PseudoLabelled": "adapt",
    "SubspaceAlignment": "adapt",
    "TransferComponentAnalysis": "adapt",
    "domain_codes": "adapt",
    "AdaptationPipeline": "pipeline",
    "make_pipeline": "pipeline",
    "load_pipeline": "pipeline",
    "load_recipe": "pipeline",
    "list_recipes": "pipeline",
    "find_images": "images",
    "Backbone": "backbone",
    "list_backbones": "backbone",
    "FeatureSet": "features",
    "extract_features": "extract",
    "Task": "task",
    "load_task": "task",
    "race": "search",
    "write_report": "report",
    "Model": "model",
    "FtransferError": "errors",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'ftransfer' has no attribute {name!r}")
    value = getattr(import_module(f"ftransfer.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_HOMES])
