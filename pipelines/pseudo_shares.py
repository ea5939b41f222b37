"""Share-weighted scaling, unit-length rows, then pseudo-labelling with logistic regression, without clusters."""

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer

from ftransfer import PseudoLabelled, ShareWeightedScaler, make_pipeline

# one cluster a class would fill a class that the target lacks
pseudo = PseudoLabelled(LogisticRegression(C=10.0, max_iter=1000), structured=False)
pipeline = make_pipeline(ShareWeightedScaler(estimator="mixture"), Normalizer(), pseudo)
grid = {"shareweightedscaler__scale": [None, "std"]}
