"""No adaptation: standardised features, then support vector regression, fitted on the source."""

from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

pipeline = make_pipeline(StandardScaler(), TransformedTargetRegressor(SVR(), transformer=StandardScaler()))
grid = {"transformedtargetregressor__regressor__C": [1.0, 10.0]}
