"""Each domain standardised separately, unit-length rows, then a support vector machine."""

from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), Normalizer(), SVC())
grid = {"svc__C": [1.0, 10.0]}
