"""Subspace alignment after per-domain scaling, then logistic regression."""

from sklearn.linear_model import LogisticRegression

from ftransfer import DomainScaler, SubspaceAlignment, make_pipeline

pipeline = make_pipeline(DomainScaler(), SubspaceAlignment(), LogisticRegression(max_iter=1000))
grid = {"subspacealignment__n_components": [20, 40, 80], "logisticregression__C": [0.001, 0.01, 0.1]}
