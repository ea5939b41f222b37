"""Subspace alignment after per-domain scaling, then ridge regression."""

from sklearn.linear_model import Ridge

from ftransfer import DomainScaler, SubspaceAlignment, make_pipeline

pipeline = make_pipeline(DomainScaler(), SubspaceAlignment(0.9), Ridge())
grid = {"subspacealignment__n_components": [0.8, 0.95], "ridge__alpha": [1.0, 10.0, 100.0, 1000.0]}
