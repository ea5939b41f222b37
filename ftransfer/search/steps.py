"""The steps of the guard, from the mildest to the strongest adaptation."""

BASELINES = ("source only", "per-domain scaling")
STEPS = (*BASELINES, "alignment", "labels of its own")
# steps of pipelines that are fitted on labels which were predicted for the target
SELF_LABELLING = {
    "JointDistributionAdaptation",
    "LabelPropagation",
    "LabelSpreading",
    "PseudoLabelled",
    "SelfTrainingClassifier",
}


def step_of(adaptation: str) -> str:
    """Tell which step of the guard an adaptation is."""
    if adaptation in BASELINES:
        return adaptation
    return STEPS[3] if SELF_LABELLING & set(adaptation.split(" + ")) else STEPS[2]
