"""No adaptation: logistic regression on the source, features centred, standardised or not."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
grid = {"standardscaler__with_std": [False, True], "logisticregression__C": [0.01, 0.1, 1.0]}
