"""No adaptation: a random forest on the source, standardised by the source."""

from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=200, random_state=0))
grid = {"randomforestclassifier__min_samples_leaf": [1, 3]}
