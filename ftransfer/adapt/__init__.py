"""Adaptation methods, one a file."""

from ftransfer.adapt.base import DomainAdapter, domain_codes
from ftransfer.adapt.coral import CORAL, coral
from ftransfer.adapt.scaler import DomainScaler
from ftransfer.adapt.subspace import SubspaceAlignment

__all__ = ["CORAL", "DomainAdapter", "DomainScaler", "SubspaceAlignment", "coral", "domain_codes"]
