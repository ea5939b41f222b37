"""Ridge regression on the source rows, weighted by how like the target's they are."""

from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from ftransfer import ImportanceWeighted, make_pipeline

# few components: with many features the domains are told apart, and few rows get all the weight
pipeline = make_pipeline(StandardScaler(), PCA(random_state=0), ImportanceWeighted(Ridge()))
grid = {"pca__n_components": [0.5, 0.9], "importanceweighted__estimator__alpha": [1.0, 100.0]}
