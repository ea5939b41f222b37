"""Per-domain scaling, then a random forest."""

from sklearn.ensemble import RandomForestRegressor

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(
    DomainScaler(), RandomForestRegressor(100, max_features="sqrt", min_samples_leaf=2, random_state=0)
)
grid = {}
