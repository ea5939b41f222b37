"""The scores by name, and what each means. Nothing here takes long to import."""

DEFAULT_SCORER = "consistency"
ENSEMBLE = "ensemble"

MEANINGS = {
    "consistency": "how far the labels predicted for the target agree, beyond chance, with those of a panel "
    "of plain "
    "methods that fail for different reasons; at most 1. Which methods depends on whether the target seems "
    "to have all classes in about the source's shares.",
    "circular": "accuracy on the source of the same pipeline fitted in reverse, from the target with its "
    "predicted labels to the source.",
    "source_accuracy": "accuracy on held-out source rows. The target is not used.",
    "importance_weighted": "accuracy on held-out source rows, each weighted by its similarity to the target.",
    "deep_embedded": "accuracy on held-out source rows, weighted by their similarity to the target in the "
    "adapted features, with a control variate.",
    "entropy": "mean entropy of the probabilities predicted for the target, negated.",
    "information": "mutual information of target rows and predicted classes: high for confident predictions "
    "that are spread over the classes.",
    "neighbourhood_density": "density of the clusters that the predicted target probabilities form.",
    "mixval": "share of mixtures of two target rows for which the predicted label is that of the dominant "
    "row.",
}
MEANINGS[ENSEMBLE] = (
    "from 0 to 1, without target labels: the share of the other candidates that one beats, averaged over "
    + ", ".join(MEANINGS)
    + "."
)
SCORERS = tuple(MEANINGS)
