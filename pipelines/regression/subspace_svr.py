"""Subspace alignment after per-domain scaling, then support vector regression."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from ftransfer import DomainScaler, SubspaceAlignment, make_pipeline

pipeline = make_pipeline(
    DomainScaler(), SubspaceAlignment(0.9), TransformedTargetRegressor(SVR(), transformer=StandardScaler())
)
grid = {
    "subspacealignment__n_components": [0.8, 0.95],
    "transformedtargetregressor__regressor__C": [1.0, 10.0],
}
