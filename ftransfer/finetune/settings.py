"""How a backbone is trained: all that a user can set."""

from dataclasses import dataclass

from ftransfer.errors import FtransferError, unknown
from ftransfer.finetune.augment import AUTO, check_rules

LEARNING_RATE = {"adamw": 1e-3, "sgd": 3e-2}
WEIGHT_DECAY = {"adamw": 1e-2, "sgd": 1e-4}


@dataclass(frozen=True)
class Training:
    """How a backbone is trained.

    Attributes
    ----------
    backbone, weights : str
        As `Backbone` takes them: published weights, a checkpoint, or ``"random"`` for a training from nothing.
    image_size : int, optional
        Side in pixels of the square that the network sees. Default: what the backbone is made for.
    take : tuple of str
        Structure transfer: the layers that are taken from `weights`; the others start fresh. Default: all.
    freeze_until : str, optional
        Feature transfer: the last layer, in the order of computation, that stays as it is.
    unfreeze_every : int, default=0
        Train the head alone for so many epochs, then as many with the last block as well, and so on down to
        `freeze_until` (Howard, Ruder, ACL 2018, section 3.3); 0: all from the start.
    labels : tuple of str
        Label columns of the table, a head for each; a row may lack some of its labels.
    domains : tuple of str
        Domains that train and validate. Default: all.
    labels_per_class : int, optional
        Rows of each domain and class that train and validate.
    validation, test : float, default=0.2 and 0
        Shares of each domain and class that stop the training, and that count afterwards.
    test_split : str, optional
        Images in a folder of this name, or of this split of a torchvision data set, only count, too.
    rules : tuple of str
        Augmentations, see `vary`; ``("auto",)`` learns on the source which, see `learn_rules`.
    epochs : int, default=20
    patience : int, default=5
        Epochs without a better validation after which training ends; 0: never.
    batch_size : int, default=32
    optimizer : {"adamw", "sgd"}
        SGD has Nesterov's momentum, 0.9.
    learning_rate : float, optional
        Of the heads and of fresh layers, after a warm-up over the first epoch; it falls to 0 as a cosine.
        Default: 0.001 for AdamW, 0.03 for SGD.
    taken_rate : float, default=0.1
        Learning rate of taken layers, as a part of `learning_rate`.
    class_weights : {"none", "balanced"}
        Balanced: each class weighs as much as any other, however many rows it has.
    teacher, teacher_weights : str, optional
        Distillation: a backbone whose embedding is learned as well (the teacher sees the images unvaried).
        Rows without labels then train, too.
    teacher_share : float, default=1.0
        Weight of the teacher's loss, against 1 for the labels'.
    precision : {"float32", "bfloat16"}
        Of the forward pass; weights are kept in float32.
    seed : int, default=0
        Of the heads, the order, the augmentation and the split.
    """

    backbone: str = "resnet50"
    weights: str = "DEFAULT"
    image_size: int | None = None
    take: tuple[str, ...] = ()
    freeze_until: str | None = None
    unfreeze_every: int = 0
    labels: tuple[str, ...] = ("label",)
    domains: tuple[str, ...] = ()
    labels_per_class: int | None = None
    validation: float = 0.2
    test: float = 0.0
    test_split: str | None = None
    rules: tuple[str, ...] = ()
    epochs: int = 20
    patience: int = 5
    batch_size: int = 32
    optimizer: str = "adamw"
    learning_rate: float | None = None
    taken_rate: float = 0.1
    class_weights: str = "none"
    teacher: str | None = None
    teacher_weights: str = "DEFAULT"
    teacher_share: float = 1.0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rules != AUTO:
            check_rules(self.rules)
        for kind, name, known in (
            ("optimizer", self.optimizer, LEARNING_RATE),
            ("precision", self.precision, ["float32", "bfloat16"]),
            ("kind of class weights", self.class_weights, ["none", "balanced"]),
        ):
            if name not in known:
                raise unknown(kind, name, known)
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise FtransferError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
