"""Per-domain scaling, unit-length rows, then pseudo-labelling with a support vector machine."""

from sklearn.preprocessing import Normalizer
from sklearn.svm import SVC

from ftransfer import DomainScaler, PseudoLabelled, make_pipeline

pipeline = make_pipeline(DomainScaler(), Normalizer(), PseudoLabelled(SVC()))
grid = {"domainscaler__scale": ["std", None], "pseudolabelled__estimator__C": [1.0]}
