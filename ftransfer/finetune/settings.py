"""How a backbone is trained: all that a user can set."""

import math
from dataclasses import dataclass

from ftransfer.errors import FtransferError, unknown
from ftransfer.finetune.augment import AUTO, check_rules
from ftransfer.images.views import FOURIER, MIXING

LEARNING_RATE = {"adamw": 1e-3, "sgd": 3e-2}
WEIGHT_DECAY = {"adamw": 1e-2, "sgd": 1e-4}
TAKEN_RATES = (1.0, 0.1)  # of which validation chooses
TRANSFER_WEIGHT = {"l2sp": 0.01, "features": 1.0, "logits": 1.0}
TEMPERATURE = 4.0
VIEWS = ("crop", "flip", "colour", "grey")  # of self-supervision
ALIGN_WEIGHT = {"adversarial": 1.0, "coral": 0.1, "mmd": 1.0}


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
    taken_rate : float, optional
        Learning rate of taken layers, as a part of `learning_rate`. Default: train with each of `TAKEN_RATES`, and keep
        the one with the better validation; without validation the first.
    class_weights : {"none", "balanced"}
        Balanced: each class weighs as much as any other, however many rows it has.
    transfer_loss : {"l2sp", "features", "logits"}, optional
        Add a term to the loss of the labels, L = L_labels + transfer_weight x L_transfer: stay near the weights that
        were taken, near the teacher's embedding, or near its softened scores. See `ftransfer.finetune.transfer`.
        Default: features where a teacher is named, else none. Rows without labels train too, where there is a teacher.
    transfer_weight : float, optional
        Default: 0.01 for l2sp, 1 for features and for logits.
    teacher, teacher_weights : str, optional
        Of features and logits: a backbone; it sees the images unvaried, in its own size. For logits its weights are a
        checkpoint of the same classes. Default: the network as it starts.
    temperature : float, optional
        Of logits; 4 where it is not given.
    target : str, optional
        Domain without labels that `align` brings near to `domains`, or whose look the rule ``fourier`` takes. Its
        labels, where there are any, are only counted after the training.
    align : {"adversarial", "coral", "mmd"}, optional
        Add a term to the loss that is small where source and target are alike, see `ftransfer.finetune.align`.
    align_weight : float, optional
        Of this term: 1, of coral 0.1; its gradient rises from 0 over the training.
    self_supervised : {"simclr"}, optional
        Train without any label, on all images of `domains`: two views of an image by `rules` should be alike, see
        `ftransfer.finetune.contrast`. Without rules: crop, flip, colour and grey.
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
    taken_rate: float | None = None
    class_weights: str = "none"
    transfer_loss: str | None = None
    transfer_weight: float | None = None
    teacher: str | None = None
    teacher_weights: str = "DEFAULT"
    temperature: float | None = None
    target: str | None = None
    align: str | None = None
    align_weight: float | None = None
    self_supervised: str | None = None
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.teacher and self.transfer_loss is None:
            object.__setattr__(self, "transfer_loss", "features")
        if self.self_supervised:
            object.__setattr__(self, "labels", ())
            object.__setattr__(self, "rules", self.rules or VIEWS)
        if self.rules != AUTO:
            check_rules(self.rules)
        for kind, name, known in (
            ("optimizer", self.optimizer, LEARNING_RATE),
            ("precision", self.precision, ["float32", "bfloat16"]),
            ("kind of class weights", self.class_weights, ["none", "balanced"]),
            ("transfer loss", self.transfer_loss, TRANSFER_WEIGHT),
            ("alignment", self.align, ALIGN_WEIGHT),
            ("self-supervision", self.self_supervised, ["simclr"]),
        ):
            if name is not None and name not in known:
                raise unknown(kind, name, known)
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise FtransferError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        for name in ("transfer_weight", "align_weight", "temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise FtransferError(f"{name.replace('_', ' ')} must be a number above 0, not {value}")
        if wrong := [rule for rule, broken in self._contradictions().items() if broken]:
            raise FtransferError(wrong[0])

    def _contradictions(self) -> dict[str, bool]:
        """Say what to do about each combination that makes no sense, and whether it is there."""
        loss, align, is_fresh = self.transfer_loss, self.align, str(self.weights) == "random"
        names = "add --align adversarial, coral or mmd"
        return {
            "--transfer-loss l2sp stays near the initial weights and has no teacher; use features or logits": (
                loss == "l2sp" and self.teacher is not None
            ),
            "--transfer-loss l2sp stays near the initial weights, and --weights random loads none": (
                loss == "l2sp" and is_fresh
            ),
            f"--transfer-loss {loss} with --weights random needs a --teacher": (
                self.has_teacher and self.teacher is None and is_fresh
            ),
            "--teacher-weights are those of --teacher; name it as well": (
                self.teacher is None and self.teacher_weights != "DEFAULT"
            ),
            "--transfer-weight is the weight of --transfer-loss; add --transfer-loss l2sp, features or logits": (
                loss is None and self.transfer_weight is not None
            ),
            "--temperature is that of --transfer-loss logits; add it, or leave the temperature out": (
                loss != "logits" and self.temperature is not None
            ),
            f"--align {align} needs --target DOMAIN, the domain without labels": (
                align is not None and self.target is None
            ),
            f"--target {self.target} is the domain that --align brings near; {names}, or --augment fourier, which "
            "takes its colours": align is None and self.target is not None and FOURIER not in self.rules,
            f"--align-weight is the weight of --align; {names}": align is None
            and self.align_weight is not None,
            f"{self.target} is the target and cannot be a source as well; leave out --domain {self.target}": (
                self.target in self.domains
            ),
            **self._contradictions_of_images(),
        }

    def _contradictions_of_images(self) -> dict[str, bool]:
        """Say the same of what changes the images, and of a training without labels."""
        mixing, name = next((rule for rule in self.rules if rule in MIXING), None), self.self_supervised
        given = ("transfer_loss", "align", "labels_per_class", "test", "test_split")
        beside = next((each.replace("_", "-") for each in given if getattr(self, each)), "")
        return {
            "--augment fourier needs --target DOMAIN, whose colours it takes": (
                FOURIER in self.rules and self.target is None
            ),
            f"{mixing} mixes images that --align and a teacher need apart; leave one of them out": (
                mixing is not None and (self.align is not None or self.has_teacher)
            ),
            f"--self-supervised {name} compares single images without labels, which mixup, cutmix and auto do "
            "not allow; name other augmentations": name is not None
            and (mixing is not None or self.rules == AUTO),
            f"--self-supervised {name} reads no labels; leave out --{beside}": name is not None
            and beside != "",
        }

    @property
    def has_teacher(self) -> bool:
        """Whether there is something to learn from an image without a label."""
        return self.transfer_loss in ("features", "logits")
