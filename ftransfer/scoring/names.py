"""The scores by name, and what each means. Nothing here takes long to import."""

DEFAULT_SCORER = "consistency"
ENSEMBLE = "ensemble"

MEANINGS = {
    "consistency": "how far the labels predicted for the target agree, beyond chance, with those of a panel of plain "
    "methods that fail for different reasons; at most 1. Which methods depends on whether the target seems to have all "
    "classes in about the source's shares.",
    "circular": "share of the source that the same pipeline gets right when it is fitted the other way round, from the "
    "target with its predicted labels to the source.",
    "source_accuracy": "share of held-out source rows predicted right. It does not look at the target.",
    "importance_weighted": "share of held-out source rows predicted right, each weighted by how target-like it is.",
    "deep_embedded": "share of held-out source rows predicted right, weighted by how target-like they are in the "
    "adapted features, with a control variate.",
    "entropy": "mean entropy of the probabilities predicted for the target, negated.",
    "information": "mutual information of target rows and predicted classes: sure predictions, spread over the "
    "classes.",
    "neighbourhood_density": "whether the probabilities predicted for the target come in dense clusters.",
    "mixval": "share of mixtures of two target rows that get the label predicted for the dominant one.",
}
MEANINGS[ENSEMBLE] = (
    "from 0 to 1, without target labels: the share of the other candidates that one beats, averaged over "
    + ", ".join(MEANINGS)
    + "."
)
SCORERS = tuple(MEANINGS)
