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
    "JoinedFeatures": "join",
    "open_features": "join",
    "import_features": "convert",
    "export_features": "convert",
    "extract_features": "extract",
    "plan_extraction": "plan",
    "Training": "finetune",
    "adapt_batch_norm": "finetune",
    "extract_adapted": "finetune",
    "fine_tune": "finetune",
    "save_backbone": "finetune",
    "Task": "task",
    "load_task": "task",
    "DomainKFold": "scoring",
    "best_by_rank": "scoring",
    "list_scorers": "scoring",
    "load_scorer": "scoring",
    "draw_target_labels": "guard",
    "race": "search",
    "extract_on_cluster": "cluster",
    "race_on_cluster": "cluster",
    "write_report": "report",
    "Model": "model",
    "compare_domains": "similarity",
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
