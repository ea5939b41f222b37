"""The other ways to transfer: train a backbone further, from parts of another, or adapt its statistics."""

from ftransfer.finetune.batchnorm import adapt_batch_norm, extract_adapted, save_backbone
from ftransfer.finetune.network import checkpoint_path, read_about, read_rules
from ftransfer.finetune.settings import Training
from ftransfer.finetune.train import fine_tune

__all__ = [
    "Training",
    "adapt_batch_norm",
    "checkpoint_path",
    "extract_adapted",
    "fine_tune",
    "read_about",
    "read_rules",
    "save_backbone",
]
