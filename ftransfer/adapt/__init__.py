"""Adaptation methods, one a file."""

from ftransfer.adapt.base import DomainAdapter, domain_codes
from ftransfer.adapt.coral import CORAL, coral
from ftransfer.adapt.gfk import GeodesicFlowKernel
from ftransfer.adapt.gradual import GradualSelfTraining
from ftransfer.adapt.importance import ImportanceWeighted
from ftransfer.adapt.jda import JointDistributionAdaptation
from ftransfer.adapt.mixture import TargetMixture
from ftransfer.adapt.prior import PriorCorrected
from ftransfer.adapt.pseudo import PseudoLabelled
from ftransfer.adapt.scaler import DomainScaler
from ftransfer.adapt.selection import SourceSelected
from ftransfer.adapt.share_scaler import ShareWeightedScaler
from ftransfer.adapt.subspace import SubspaceAlignment
from ftransfer.adapt.tca import TransferComponentAnalysis
from ftransfer.adapt.transport import OptimalTransport

__all__ = [
    "CORAL",
    "DomainAdapter",
    "DomainScaler",
    "GeodesicFlowKernel",
    "GradualSelfTraining",
    "ImportanceWeighted",
    "JointDistributionAdaptation",
    "OptimalTransport",
    "PriorCorrected",
    "PseudoLabelled",
    "ShareWeightedScaler",
    "SourceSelected",
    "SubspaceAlignment",
    "TargetMixture",
    "TransferComponentAnalysis",
    "coral",
    "domain_codes",
]
