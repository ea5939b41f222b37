"""CORAL after per-domain scaling, then a random forest."""

from sklearn.ensemble import RandomForestRegressor

from ftransfer import CORAL, DomainScaler, make_pipeline

pipeline = make_pipeline(
    DomainScaler(),
    CORAL(),
    RandomForestRegressor(100, max_features="sqrt", min_samples_leaf=2, random_state=0),
)
grid = {"coral__ridge": [1.0, 10.0, 100.0]}
