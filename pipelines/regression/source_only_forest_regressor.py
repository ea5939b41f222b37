"""No adaptation: standardised features, then a random forest, fitted on the source."""

from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pipeline = make_pipeline(
    StandardScaler(), RandomForestRegressor(100, max_features="sqrt", min_samples_leaf=2, random_state=0)
)
grid = {}
