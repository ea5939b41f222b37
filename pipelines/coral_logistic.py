"""CORAL after per-domain scaling, then logistic regression."""

from sklearn.linear_model import LogisticRegression

from ftransfer import CORAL, DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), CORAL(), LogisticRegression(max_iter=1000))
grid = {"coral__ridge": [1.0, 10.0, 100.0], "logisticregression__C": [0.001, 0.01, 0.1]}
