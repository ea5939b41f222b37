"""Subspace alignment after per-domain scaling, then a random forest."""

from sklearn.ensemble import RandomForestClassifier

from ftransfer import DomainScaler, SubspaceAlignment, make_pipeline

pipeline = make_pipeline(
    DomainScaler(), SubspaceAlignment(), RandomForestClassifier(n_estimators=200, random_state=0)
)
grid = {"subspacealignment__n_components": [20, 40, 80]}
