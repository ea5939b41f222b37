"""Scores that count right labels on held-out source rows: as they are, or weighted towards the target."""

import numpy as np

from ftransfer.scoring.judge import Evidence, density_ratio


def source_accuracy(evidence: Evidence) -> np.ndarray:
    """Share of held-out source rows predicted right.

    It says whether the classes can be told apart at all, not whether the labels carry over.
    """
    return evidence.judge.source_weights @ evidence.right


def importance_weighted(evidence: Evidence) -> np.ndarray:
    """Share of held-out source rows predicted right, weighted by how target-like each is.

    Sugiyama, Krauledat, Mueller, "Covariate shift adaptation by importance weighted cross validation", JMLR 2007.
    The weights are a density ratio in the features as they are, with mean one on every sample.
    """
    weights = evidence.judge.source_weights * evidence.judge.importance
    return weights @ evidence.right / weights.sum(axis=1)


def deep_embedded(evidence: Evidence) -> np.ndarray:
    """Importance weighting in the space that the classifier sees, with a control variate, as 1 - risk.

    You, Wang, Long, Jordan, "Towards accurate model selection in deep unsupervised domain adaptation", ICML 2019,
    with the 0-1 loss: risk = mean(w l) + eta mean(w) - eta, eta = -cov(w l, w) / var(w).
    """
    judge, pipeline = evidence.judge, evidence.pipeline
    Z_source, Z_target = judge.X_source, judge.X_target
    steps = getattr(pipeline, "steps_", [])[:-1]
    if steps:
        domain = judge.domain[judge.source]
        several = len(np.unique(domain)) > 1
        Z_source = pipeline.transform_source(Z_source, sample_domain=domain if several else None)
        for _, step in steps:
            Z_target = Z_target if step in (None, "passthrough") else step.transform(Z_target)
    ratio = density_ratio(np.asarray(Z_source), np.asarray(Z_target))
    loss = ratio * ~evidence.right
    weights = judge.source_weights
    mean_ratio, mean_loss = weights @ ratio, weights @ loss
    covariance = weights @ (loss * ratio) - mean_loss * mean_ratio
    variance = weights @ ratio**2 - mean_ratio**2
    eta = -np.divide(covariance, variance, out=np.zeros_like(variance), where=variance > 0)
    return 1 - (mean_loss + eta * (mean_ratio - 1))
