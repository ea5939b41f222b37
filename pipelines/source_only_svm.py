"""No adaptation: a support vector machine on the source, standardised by the source."""

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

pipeline = make_pipeline(StandardScaler(), SVC())
grid = {"svc__C": [1.0, 10.0]}
