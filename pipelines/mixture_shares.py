"""Share-weighted scaling, unit-length rows, then a class mixture."""

from sklearn.preprocessing import Normalizer

from ftransfer import ShareWeightedScaler, TargetMixture, make_pipeline

pipeline = make_pipeline(
    ShareWeightedScaler(estimator="mixture"), Normalizer(), TargetMixture(prior_rows=20.0)
)
grid = {"shareweightedscaler__scale": [None, "std"]}
