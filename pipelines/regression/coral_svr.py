"""CORAL after per-domain scaling, then support vector regression."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from ftransfer import CORAL, DomainScaler, make_pipeline

pipeline = make_pipeline(
    DomainScaler(), CORAL(), TransformedTargetRegressor(SVR(), transformer=StandardScaler())
)
grid = {"coral__ridge": [1.0, 10.0, 100.0], "transformedtargetregressor__regressor__C": [1.0, 10.0]}
