"""Carry labels from one image collection to another: frozen CNN features, adapted in scikit-learn.

Nothing here imports torch until images are turned into features.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "CORAL": "adapt.coral",
    "DomainScaler": "adapt.scaler",
    "GeodesicFlowKernel": "adapt.gfk",
    "GradualSelfTraining": "adapt.gradual",
    "ImportanceWeighted": "adapt.importance",
    "JointDistributionAdaptation": "adapt.jda",
    "OptimalTransport": "adapt.transport",
    "PriorCorrected": "adapt.prior",
    "PseudoLabelled": "adapt.pseudo",
    "ShareWeightedScaler": "adapt.share_scaler",
    "SourceSelected": "adapt.selection",
    "SubspaceAlignment": "adapt.subspace",
    "TargetMixture": "adapt.mixture",
    "TransferComponentAnalysis": "adapt.tca",
    "domain_codes": "adapt.base",
    "AdaptationPipeline": "pipeline",
    "make_pipeline": "pipeline",
    "load_pipeline": "recipes",
    "load_recipe": "recipes",
    "list_recipes": "recipes",
    "find_images": "images.find",
    "Backbone": "backbone.backbone",
    "list_backbones": "backbone.backbone",
    "FeatureSet": "features.feature_set",
    "JoinedFeatures": "features.joined",
    "open_features": "features.joined",
    "import_features": "features.imports",
    "import_named_features": "features.imports",
    "export_features": "features.exports",
    "extract_features": "extract.extract",
    "plan_extraction": "extract.plan",
    "Training": "finetune.settings",
    "adapt_batch_norm": "backbone.batch_norm",
    "extract_adapted": "extract.adapted",
    "fine_tune": "finetune.train",
    "save_backbone": "backbone.checkpoint",
    "Task": "task",
    "load_task": "task",
    "DomainKFold": "scoring.folds",
    "best_by_rank": "scoring.ensemble",
    "list_scorers": "scoring.scorer",
    "load_scorer": "scoring.scorer",
    "draw_target_labels": "task",
    "race": "search.race",
    "suggest_labels": "search.suggest",
    "RegressionModel": "model.regression",
    "RegressionTask": "regression.task",
    "load_regression_task": "regression.task",
    "measure_errors": "regression.measure",
    "race_regression": "regression.race",
    "write_regression_report": "regression.report",
    "RaceSettings": "search.settings",
    "extract_on_cluster": "cluster",
    "race_on_cluster": "cluster",
    "write_report": "report",
    "compare_runs": "report.runs",
    "write_comparison": "report.runs",
    "Model": "model.model",
    "compare_domains": "compare.domains",
    "FtransferError": "errors",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ftransfer' has no attribute {name!r}")
    value = getattr(import_module(f"ftransfer.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
