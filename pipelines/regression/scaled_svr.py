"""Per-domain scaling, then support vector regression."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), TransformedTargetRegressor(SVR(), transformer=StandardScaler()))
grid = {"transformedtargetregressor__regressor__C": [1.0, 10.0]}
