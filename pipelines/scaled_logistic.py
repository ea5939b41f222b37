"""Each domain standardised separately, then logistic regression."""

from sklearn.linear_model import LogisticRegression

from ftransfer import DomainScaler, make_pipeline

pipeline = make_pipeline(DomainScaler(), LogisticRegression(max_iter=1000))
grid = {"logisticregression__C": [0.001, 0.01, 0.1]}
