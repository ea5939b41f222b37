"""Subspace alignment after per-domain scaling, unit-length rows, then a support vector machine."""

from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer import DomainScaler, SubspaceAlignment, make_pipeline

pipeline = make_pipeline(DomainScaler(), SubspaceAlignment(), Normalizer(), SVC())
grid = {"subspacealignment__n_components": [20, 40, 80], "svc__C": [1.0, 10.0]}
