"""Per-domain scaling, then ridge regression."""

from sklearn.linear_model import Ridge

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), Ridge())
grid = {"ridge__alpha": [1.0, 10.0, 100.0, 1000.0]}
