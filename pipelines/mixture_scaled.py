"""Per-domain scaling, unit-length rows, then a class mixture that expects all classes."""

from sklearn.preprocessing import Normalizer

from ftransfer import DomainScaler, TargetMixture, make_pipeline

pipeline = make_pipeline(DomainScaler(), Normalizer(), TargetMixture())
grid = {"domainscaler__scale": ["std", None], "targetmixture__prior_rows": [5.0, 20.0]}
