"""Per-domain scaling, unit-length rows, then pseudo-labelling with logistic regression."""

from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer

from ftransfer import DomainScaler, PseudoLabelled, make_pipeline

pipeline = make_pipeline(DomainScaler(), Normalizer(), PseudoLabelled(LogisticRegression(max_iter=1000)))
grid = {"domainscaler__scale": ["std", None], "pseudolabelled__estimator__C": [10.0]}
