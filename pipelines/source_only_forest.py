"""No adaptation: a random forest on the source."""

from sklearn.ensemble import RandomForestClassifier

pipeline = RandomForestClassifier(n_estimators=200, random_state=0)
grid = {"min_samples_leaf": [1, 3]}
