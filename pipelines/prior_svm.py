"""Unchanged features, then a support vector machine corrected for the target's class proportions."""

from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ftransfer import PriorCorrected, make_pipeline

pipeline = make_pipeline(PriorCorrected(make_plain_pipeline(StandardScaler(), SVC())))
grid = {"priorcorrected__estimator__svc__C": [1.0]}
