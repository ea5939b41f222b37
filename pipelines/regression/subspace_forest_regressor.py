"""Subspace alignment after per-domain scaling, then a random forest."""

from sklearn.ensemble import RandomForestRegressor

from ftransfer import DomainScaler, SubspaceAlignment, make_pipeline

pipeline = make_pipeline(
    DomainScaler(),
    SubspaceAlignment(0.9),
    RandomForestRegressor(100, max_features="sqrt", min_samples_leaf=2, random_state=0),
)
grid = {"subspacealignment__n_components": [0.8, 0.95]}
