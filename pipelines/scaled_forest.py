"""Each domain standardised separately, then a random forest."""

from sklearn.ensemble import RandomForestClassifier

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), RandomForestClassifier(n_estimators=200, random_state=0))
grid = {"randomforestclassifier__min_samples_leaf": [1, 3]}
