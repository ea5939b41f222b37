"""No adaptation: unit-length rows, then a support vector machine on the source."""

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

# standardised by the source alone, a shifted target is spread too wide, and this baseline would be a weak one
pipeline = make_pipeline(Normalizer(), SVC())
grid = {"svc__C": [1.0, 10.0]}
