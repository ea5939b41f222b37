"""CORAL after per-domain scaling, unit-length rows, then a support vector machine."""

from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), CORAL(), Normalizer(), SVC())
grid = {"coral__ridge": [1.0, 10.0, 100.0], "svc__C": [1.0, 10.0]}
