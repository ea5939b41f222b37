"""No adaptation: standardised features, then a support vector machine on the source."""

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

# strong where the target lies within the source, weak where it is shifted
pipeline = make_pipeline(StandardScaler(), SVC())
grid = {"svc__C": [1.0]}
