"""CORAL after per-domain scaling, then ridge regression."""

from sklearn.linear_model import Ridge

from ftransfer import CORAL, DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), CORAL(), Ridge())
grid = {"coral__ridge": [1.0, 10.0, 100.0], "ridge__alpha": [1.0, 10.0, 100.0, 1000.0]}
