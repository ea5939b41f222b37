"""Each domain standardised by itself, then a support vector machine."""

from sklearn.svm import SVC

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), SVC())
grid = {"svc__C": [1.0, 10.0]}
