"""How frequent the classes are in the target, by what a fitted pipeline predicts there."""

import numpy as np

from ftransfer.compare.label_shift import LabelShift, black_box_shift
from ftransfer.scoring.judge import Evidence


def estimate_label_shift(evidence: Evidence) -> LabelShift:
    """Estimate the target's class shares by `black_box_shift`, with a fitted pipeline as the classifier.

    See Also
    --------
    ftransfer.compare.label_shift.estimate_class_shares : The same by a plain classifier, before any adaptation.

    Notes
    -----
    It believes that the pipeline errs on the target as it does on held-out source rows. Between domains that differ it
    errs more there, and some of that looks like label shift.
    """
    judge = evidence.judge
    classes = np.arange(len(judge.classes))
    truth, predicted, on_target = (
        (labels[:, None] == classes).astype(float)
        for labels in (judge.labels, evidence.source_labels, evidence.target_labels)
    )
    joint = np.array([(predicted * weights[:, None]).T @ truth for weights in judge.source_weights])
    shares = joint.sum(axis=1, keepdims=True)
    rates = np.divide(joint, shares, out=np.tile(np.eye(len(classes)), (len(joint), 1, 1)), where=shares > 0)
    return black_box_shift(judge.classes, truth.mean(axis=0), rates, judge.target_weights @ on_target)
