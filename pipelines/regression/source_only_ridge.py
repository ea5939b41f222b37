"""No adaptation: standardised features, then ridge regression, fitted on the source."""

from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pipeline = make_pipeline(StandardScaler(), Ridge())
grid = {"ridge__alpha": [1.0, 10.0, 100.0, 1000.0]}
