"""CORAL after per-domain scaling, then a random forest."""

from sklearn.ensemble import RandomForestClassifier

from ftransfer import CORAL, DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), CORAL(), RandomForestClassifier(n_estimators=200, random_state=0))
grid = {"coral__ridge": [1.0, 10.0, 100.0]}
