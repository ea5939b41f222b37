"""Per-domain scaling, rows of unit length, then the target as a mixture of the classes, all of which are there."""

from sklearn.preprocessing import Normalizer

from ftransfer import DomainScaler, TargetMixture, make_pipeline

pipeline = make_pipeline(DomainScaler(), Normalizer(), TargetMixture())
grid = {"domainscaler__scale": ["std", None], "targetmixture__prior_rows": [5.0, 20.0]}
