"""One training: its epochs, the best of them, and what is kept to go on after a kill."""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.nn import functional as F

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.decoded import Pixels, batches, on_disk
from ftransfer.errors import FtransferError
from ftransfer.finetune.augment import vary
from ftransfer.finetune.network import Network
from ftransfer.finetune.settings import LEARNING_RATE, WEIGHT_DECAY, Training
from ftransfer.storage.writing import write_whole, writing


class Run:
    """One training: epochs, the best of them, and what is needed to go on."""

    def __init__(
        self,
        network: Network,
        training: Training,
        pixels: Pixels,
        use: np.ndarray,
        answers: np.ndarray,
        out: Path,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.network, self.training, self.pixels, self.progress = network, training, pixels, progress
        self.use, self.answers, self.device = use, torch.from_numpy(answers), network.device
        self.folder, self.unfinished = out.parent, out.with_name(out.name + ".unfinished")
        self.rows = {name: np.flatnonzero(use == name) for name in ("train", "validation", "test")}
        digest = hashlib.sha256(cast(Any, pixels.values.numpy()))
        digest.update(answers.tobytes() + "/".join(use).encode())
        self.digest = digest.hexdigest()
        self.stages = network.stages()
        self.frozen: list[str] | None = None
        self.inputs: torch.Tensor | None = None  # what the frozen part gives, where it is computed once
        self.history: list[dict] = []
        self.best: dict | None = None
        self.weights = [self._class_weights(task) for task in range(len(network.heads))]
        self.teacher = self._ask_teacher() if training.teacher else None
        self.projector = None
        if self.teacher is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(training.seed)
                self.projector = torch.nn.Linear(network.backbone.width, self.teacher.shape[1]).to(
                    self.device
                )
        self.optimizer = self._make_optimizer()

    def _class_weights(self, task: int) -> torch.Tensor:
        known = self.answers[self.rows["train"], task]
        counts = torch.bincount(
            known[known >= 0], minlength=cast(torch.nn.Linear, self.network.heads[task]).out_features
        )
        if self.training.class_weights == "none":
            return torch.ones(len(counts), device=self.device)
        return (counts.sum() / (counts > 0).sum() / counts.clamp(min=1)).float().to(self.device)

    def _ask_teacher(self) -> torch.Tensor:
        """Embed all images with the teacher, standardised: this is what the student learns to say."""
        training = self.training
        teacher = Backbone(str(training.teacher), training.teacher_weights, device=str(self.device))
        student = self.network.backbone
        if teacher.image_size != student.image_size:
            raise FtransferError(
                f"the teacher {training.teacher} sees {teacher.image_size} pixels a side, the student "
                f"{student.image_size}; use a teacher with the same input size"
            )
        same, preset = self.pixels.values, cast(Any, teacher.preset)
        out = torch.zeros(len(same), teacher.width)
        for part in batches(np.arange(len(same)), training.batch_size):
            images = same[part].float() / 255
            mean, std = (torch.tensor(v)[:, None, None] for v in (preset.mean, preset.std))
            out[part] = torch.from_numpy(teacher.embed((images - mean) / std))
            self.progress("embedding by the teacher", int(part[-1]) + 1, len(same))
        seen = out[self.rows["train"]]
        return (out - seen.mean(dim=0)) / (seen - seen.mean(dim=0)).square().mean().sqrt().clamp(min=1e-6)

    def _make_optimizer(self) -> torch.optim.Optimizer:
        training, network = self.training, self.network
        rate = training.learning_rate or LEARNING_RATE[training.optimizer]
        taken = set(network.taken)
        own: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for owner, parameter in network.parameters():
            if owner not in network.frozen:
                own[owner in taken].append(parameter)
        own[False] += list(network.heads.parameters())
        own[False] += list(self.projector.parameters()) if self.projector else []
        groups: list[dict[str, Any]] = [
            {"params": own[False], "lr": rate, "rate": rate},
            {"params": own[True], "lr": rate, "rate": rate * training.taken_rate},
        ]
        decay = WEIGHT_DECAY[training.optimizer]
        if training.optimizer == "sgd":
            return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True, weight_decay=decay)
        return torch.optim.AdamW(groups, rate, weight_decay=decay)

    def go(self) -> dict:
        """Train to the end, from the start or from where it was stopped; the network is then the best one."""
        self._resume()
        for epoch in range(len(self.history) + 1, self.training.epochs + 1):
            if self._has_ended():
                break
            self._freeze(epoch)
            began = time.monotonic()
            row = {"epoch": epoch, **self._train_epoch(epoch), **self._validate()}
            row["seconds"] = round(time.monotonic() - began, 2)
            self.history.append(row)
            if self.best is None or _merit(row) > _merit(self.history[self.best["epoch"] - 1]):
                self.best = {"epoch": epoch, "state": self.network.state()}
            self._keep()
        self._freeze(max(1, len(self.history)))  # where nothing was left to train
        if self.best is not None:
            self.network.load_state(self.best["state"])
        return {"history": self.history, "best_epoch": self.best["epoch"] if self.best else 0}

    def _has_ended(self) -> bool:
        patience, every = self.training.patience, self.training.unfreeze_every
        still_opening = len(self.history) < every * (len(self.stages) + 1)
        waited = len(self.history) - self.best["epoch"] if self.best else 0
        return bool(patience and len(self.rows["validation"]) and not still_opening and waited >= patience)

    def _freeze(self, epoch: int) -> None:
        """Open the blocks whose turn it is, and compute once what the part below them gives."""
        every, stages = self.training.unfreeze_every, self.stages
        closed = max(0, len(stages) - (epoch - 1) // every) if every else 0
        frozen = [*self.network.frozen, *(m for stage in stages[:closed] for m in stage)]
        if frozen == self.frozen:
            return
        self.frozen = frozen
        self.network.freeze(frozen)
        self.inputs = None
        if self.network.trunk is None:
            return
        rows = np.flatnonzero(self.use != "")
        if self.training.rules:  # varied images go through the trunk each time
            rows = rows[self.use[rows] != "train"]
        for part in batches(rows, self.training.batch_size):
            given = self._through_trunk(self.pixels.batch(part)).cpu()
            if self.inputs is None:
                self.inputs = on_disk((len(self.use), *given.shape[1:]), given.dtype, self.folder)
            self.inputs[part] = given
            self.progress("computing frozen layers", int(np.searchsorted(rows, part[-1])) + 1, len(rows))

    def _through_trunk(self, images: torch.Tensor) -> torch.Tensor:
        if self.network.trunk is None:
            return images
        self.network.train(False)
        with torch.no_grad():
            return self.network.trunk(images.to(self.device))

    def _inputs(self, rows: np.ndarray, draw: torch.Generator | None = None) -> torch.Tensor:
        """Give some rows to the tail, varied where `draw` is given and there are rules."""
        if draw is not None and self.training.rules:
            return self._through_trunk(
                self.pixels.batch(rows, partial(vary, rules=self.training.rules, draw=draw))
            )
        return self.pixels.batch(rows) if self.inputs is None else self.inputs[rows]

    def _losses(self, inputs: torch.Tensor, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """Return the loss, and for each task how many of the rows with a label are right, and how many there are."""
        low = self.training.precision == "bfloat16"
        cast = torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext()
        with cast:
            embedded = self.network.embed(inputs.to(self.device))
            scores = [head(embedded).float() for head in self.network.heads]
            told = self.projector(embedded).float() if self.projector else None
        loss, right, known = torch.zeros((), device=self.device), [], []
        for task, score in enumerate(scores):
            y = self.answers[rows, task].to(self.device)
            labelled = y >= 0
            entropy = F.cross_entropy(score, y, self.weights[task], ignore_index=-1, reduction="sum")
            loss = loss + entropy / labelled.sum().clamp(min=1) / len(scores)
            right.append(int((score.argmax(dim=1) == y)[labelled].sum()))
            known.append(int(labelled.sum()))
        if told is not None and self.teacher is not None:
            loss = loss + self.training.teacher_share * F.mse_loss(told, self.teacher[rows].to(self.device))
        return loss, np.array(right), np.array(known)

    def _train_epoch(self, epoch: int) -> dict:
        training = self.training
        draw = torch.Generator().manual_seed(1_000_003 * training.seed + epoch)
        rows = self.rows["train"]
        rows = rows[torch.randperm(len(rows), generator=draw).numpy()]
        parts = batches(rows, training.batch_size)
        total, right, known = 0.0, 0, 0
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=draw)))  # of dropout
            for step, part in enumerate(parts, start=(epoch - 1) * len(parts)):
                inputs = self._inputs(part, draw)
                self.network.train(True)
                factor = _cosine(step, len(parts), training.epochs * len(parts))
                for group in self.optimizer.param_groups:
                    group["lr"] = group["rate"] * factor
                loss, r, k = self._losses(inputs, part)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                total, right, known = total + float(loss.detach()) * len(part), right + r, known + k
                self.progress(f"epoch {epoch} of {training.epochs}", step % len(parts) + 1, len(parts))
        if not math.isfinite(total):
            raise FtransferError(
                f"the loss of epoch {epoch} is not finite; a lower learning rate may help: --learning-rate "
                f"{self.optimizer.param_groups[0]['rate'] / 10:g}"
            )
        return {"loss": total / len(rows), "accuracy": _share(right, known)}

    def _evaluate(self, rows: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the mean loss, and the right and the labelled rows of each task."""
        self.network.train(False)
        total, right, known = 0.0, np.zeros(1), np.zeros(1)
        with torch.no_grad():
            for part in batches(rows, self.training.batch_size):
                loss, r, k = self._losses(self._inputs(part), part)
                total, right, known = total + float(loss) * len(part), right + r, known + k
        return total / len(rows), right, known

    def _validate(self) -> dict:
        if not len(self.rows["validation"]):
            return {}
        loss, right, known = self._evaluate(self.rows["validation"])
        return {"validation_loss": loss, "validation_accuracy": _share(right, known)}

    def count(self, domains: np.ndarray) -> dict:
        """Count what is right among the test rows of each domain."""
        counted = {}
        for domain in dict.fromkeys(domains[self.rows["test"]]):
            rows = self.rows["test"][domains[self.rows["test"]] == domain]
            _, right, known = self._evaluate(rows)
            tasks = zip(self.network.classes, right, known, strict=True)
            counted[domain] = {
                task: {"right": int(r), "of": int(k), "accuracy": int(r) / int(k)}
                for task, r, k in tasks
                if k
            }
        return counted

    # ------------------------------------------------------------ stop and go on

    def _key(self) -> dict:
        return json.loads(json.dumps(asdict(self.training))) | {"images": self.digest}

    def _keep(self) -> None:
        content = {
            "key": json.dumps(self._key()),
            "state": self.network.state(),
            "projector": self.projector.state_dict() if self.projector else {},
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "best": self.best,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        with writing(self.folder):
            write_whole(self.unfinished, buffer.getbuffer())

    def _resume(self) -> None:
        if not self.unfinished.is_file():
            return
        try:
            kept = torch.load(self.unfinished, map_location="cpu", weights_only=True)
            key = json.loads(kept["key"])
        except Exception as error:  # torch raises whatever it meets in a file that is none of its own
            raise FtransferError(f"{self.unfinished} cannot be read; delete it to start again") from error
        other = [name for name, value in self._key().items() if key.get(name) != value]
        if other:
            name = other[0]
            what = "images" if name == "images" else f"{name} {key.get(name)}, not {self._key()[name]}"
            raise FtransferError(
                f"{self.unfinished} holds an interrupted training with other settings ({what}); use the same "
                f"settings to resume, or delete it to start again"
            )
        self.network.load_state(kept["state"])
        if self.projector:
            self.projector.load_state_dict(kept["projector"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.history, self.best = kept["history"], kept["best"]


def _merit(row: dict) -> tuple:
    """Order epochs by validation accuracy, equal ones by loss; without validation the last is best."""
    if "validation_loss" not in row:
        return (row["epoch"],)
    accuracy = row["validation_accuracy"]
    return (0.0 if accuracy is None else accuracy, -row["validation_loss"])


def _cosine(step: int, warm: int, total: int) -> float:
    """Rise over the first `warm` steps, then fall to 0 (Loshchilov, Hutter, ICLR 2017, equation 5)."""
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / total))


def _share(right: ArrayLike, known: ArrayLike) -> float | None:
    """Average the tasks' accuracies; nothing where no row has a label."""
    seen = np.asarray(known) > 0
    return float((np.asarray(right)[seen] / np.asarray(known)[seen]).mean()) if seen.any() else None
