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
from PIL import Image

from ftransfer.backbone.decoded import Pixels, batches, on_disk
from ftransfer.errors import FtransferError
from ftransfer.finetune.align import information, strength
from ftransfer.finetune.augment import mix, vary
from ftransfer.finetune.data import Chosen
from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Objective, Seen, Tally
from ftransfer.finetune.settings import LEARNING_RATE, TAKEN_RATES, WEIGHT_DECAY, Training
from ftransfer.images.styles import STYLES
from ftransfer.images.views import FOURIER, fourier_style
from ftransfer.storage.writing import write_whole, writing


class Run:
    """One training, or one for each rate of the taken layers: epochs, the best of them, and what is needed to go on.

    Parameters
    ----------
    network : Network
        As it starts.
    training : Training
    pixels : Pixels
    chosen : Chosen
        What each row of `pixels` is for, and its classes.
    objective : Objective
    out : Path
        The checkpoint, beside which an unfinished training is kept.
    progress : callable
    """

    def __init__(
        self,
        network: Network,
        training: Training,
        pixels: Pixels,
        chosen: Chosen,
        objective: Objective,
        out: Path,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.network, self.training, self.pixels, self.progress = network, training, pixels, progress
        self.objective, self.chosen, self.use, self.device = objective, chosen, chosen.use, network.device
        self.folder, self.unfinished = out.parent, out.with_name(out.name + ".unfinished")
        names = ("train", "validation", "target", "test")
        self.rows = {name: np.flatnonzero(self.use == name) for name in names}
        digest = hashlib.sha256(cast(Any, pixels.values.numpy()))
        digest.update(chosen.answers.tobytes() + "/".join(self.use).encode())
        self.digest = digest.hexdigest()
        self.styles = self._styles()
        if not training.align:  # the target only lends its look
            self.rows["target"] = self.rows["target"][:0]
        self.stages = network.stages()
        self.frozen: list[str] | None = None
        self.inputs: torch.Tensor | None = None  # what the frozen part gives, where it is computed once
        self.rates = self._rates()
        self.begun = network.state(), _copy(objective.terms.state_dict())
        self.done: list[dict] = []  # of each rate: its history, and its best epoch
        self.best: dict | None = None  # of all rates
        self._begin()

    def _styles(self) -> np.ndarray | None:
        """Take the look of some images of the target."""
        if FOURIER not in self.training.rules:
            return None
        rows = self.rows["target"][:STYLES]
        if not len(rows):
            raise FtransferError(
                f"no image of {self.training.target} could be read, whose colours fourier takes"
            )
        images = self.pixels.values[rows].permute(0, 2, 3, 1).numpy()
        return np.stack([fourier_style(Image.fromarray(image)) for image in images])

    def _rates(self) -> tuple[float, ...]:
        """Rates of the taken layers that are tried."""
        if self.training.taken_rate is not None:
            return (self.training.taken_rate,)
        moving = set(self.network.taken) - set(self.network.frozen)
        return TAKEN_RATES if moving and len(self.rows["validation"]) else TAKEN_RATES[:1]

    def _begin(self) -> None:
        """Put all weights back to where they start, for the next rate."""
        self.network.load_state(self.begun[0])
        self.objective.terms.load_state_dict(self.begun[1])
        self.rate = self.rates[min(len(self.done), len(self.rates) - 1)]
        self.optimizer = self._make_optimizer()
        self.history: list[dict] = []

    def _make_optimizer(self) -> torch.optim.Optimizer:
        training, network = self.training, self.network
        rate = training.learning_rate or LEARNING_RATE[training.optimizer]
        decay = WEIGHT_DECAY[training.optimizer]
        taken = set(network.taken)
        own: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for owner, parameter in network.parameters():
            if owner not in network.frozen:
                own[owner in taken].append(parameter)
        own[False] += [*network.heads.parameters(), *self.objective.terms.parameters()]
        stays = training.transfer_loss == "l2sp"  # it pulls to where they began, a decay would pull to 0
        groups: list[dict[str, Any]] = [
            {"params": own[False], "lr": rate, "rate": rate, "weight_decay": decay},
            {"params": own[True], "lr": rate, "rate": rate * self.rate, "weight_decay": decay * (not stays)},
        ]
        if training.optimizer == "sgd":
            return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)
        return torch.optim.AdamW(groups, rate)

    def go(self) -> dict:
        """Train to the end, from the start or from where it was stopped; the network is then the best one."""
        self._resume()
        while len(self.done) < len(self.rates):
            self._train()
            best = max(range(len(self.history)), key=lambda i: _merit(self.history[i])) + 1
            self.done.append({"taken_rate": self.rate, "best_epoch": best, "history": self.history})
            if len(self.done) < len(self.rates):
                self._begin()
            self._keep()
        self._freeze(max(len(each["history"]) for each in self.done))  # where nothing was left to train
        best = cast(dict, self.best)
        self.network.load_state(best["state"])
        kept = next(each for each in self.done if each["taken_rate"] == best["rate"])
        tried = [
            {"taken_rate": each["taken_rate"], **each["history"][each["best_epoch"] - 1]}
            for each in self.done
        ]
        return {**kept, "rates_tried": tried}

    def _train(self) -> None:
        for epoch in range(len(self.history) + 1, self.training.epochs + 1):
            if self._has_ended():
                break
            self._freeze(epoch)
            began = time.monotonic()
            row = {"epoch": epoch, **self._train_epoch(epoch), **self._validate()}
            row["seconds"] = round(time.monotonic() - began, 2)
            self.history.append(row)
            if self.best is None or _merit(row) > tuple(self.best["merit"]):
                self.best = {"rate": self.rate, "merit": _merit(row), "state": self.network.state()}
            self._keep()

    def _has_ended(self) -> bool:
        patience, every = self.training.patience, self.training.unfreeze_every
        done = len(self.history)
        still_opening = done < every * (len(self.stages) + 1)
        still_rising = self.training.align is not None and done < self.training.epochs / 2
        if not (patience and done and len(self.rows["validation"])) or still_opening or still_rising:
            return False
        best = max(range(done), key=lambda i: _merit(self.history[i])) + 1
        return done - best >= patience

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

    def _inputs(
        self, rows: np.ndarray, draw: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Give some rows to the tail, varied and mixed where `draw` is given and there are rules; and the shares."""
        rules = self.training.rules
        if draw is None or not rules:
            return (self.pixels.batch(rows) if self.inputs is None else self.inputs[rows]), None
        if self.training.self_supervised:
            rows = np.tile(rows, 2)
        images = self.pixels.batch(rows, partial(vary, rules=rules, draw=draw, styles=self.styles))
        images, shares = mix(images, rules, draw)
        return self._through_trunk(images), shares

    def _see(
        self, given: tuple[torch.Tensor, torch.Tensor | None], rows: np.ndarray, pull: float = 1.0
    ) -> Seen:
        inputs, shares = given
        rows = np.resize(rows, len(inputs))  # where each image has two views
        low = self.training.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext():
            embedded = self.network.embed(inputs.to(self.device))
            scores = self.network.scores(embedded)
        is_target = torch.from_numpy(self.use[rows] == "target").to(self.device)
        return Seen(rows, embedded.float(), scores, is_target, pull, shares)

    def _batches(self, draw: torch.Generator) -> list[np.ndarray]:
        """Put the rows that train into a random order; to each of them comes one of the target, if there is any."""
        rows, target = self.rows["train"], self.rows["target"]
        rows, target = (each[torch.randperm(len(each), generator=draw).numpy()] for each in (rows, target))
        parts = batches(rows, self.training.batch_size)
        if not len(target):
            return parts
        beside = batches(np.resize(target, len(rows)), self.training.batch_size)
        return [np.concatenate(both) for both in zip(parts, beside, strict=True)]

    def _train_epoch(self, epoch: int) -> dict:
        training = self.training
        draw = torch.Generator().manual_seed(1_000_003 * training.seed + epoch)
        parts, tally = self._batches(draw), Tally()
        steps, what = training.epochs * len(parts), f"epoch {epoch} of {training.epochs}"
        if len(self.rates) > 1:
            what += f", taken rate {self.rate:g}"
        self.objective.train(True)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=draw)))  # of dropout
            for step, part in enumerate(parts, start=(epoch - 1) * len(parts)):
                inputs = self._inputs(part, draw)
                self.network.train(True)
                for group in self.optimizer.param_groups:
                    group["lr"] = group["rate"] * _cosine(step, len(parts), steps)
                counts = self.objective(self._see(inputs, part, strength(step / steps)))
                self.optimizer.zero_grad()
                counts.loss.backward()
                self.optimizer.step()
                tally.add(counts, len(part))
                self.progress(what, step % len(parts) + 1, len(parts))
        if not math.isfinite(tally.total):
            raise FtransferError(
                f"the loss of epoch {epoch} is not finite; a lower learning rate may help: --learning-rate "
                f"{self.optimizer.param_groups[0]['rate'] / 10:g}"
            )
        terms = {name: value / tally.n for name, value in tally.terms.items()}
        return {"loss": tally.loss, "accuracy": tally.accuracy, "terms": terms}

    def _evaluate(self, rows: np.ndarray) -> tuple[Tally, list[torch.Tensor]]:
        """Return the tally, and the scores of each task."""
        self.network.train(False)
        self.objective.train(False)
        tally, scores = Tally(), []
        draw = torch.Generator().manual_seed(self.training.seed) if self.training.self_supervised else None
        with torch.no_grad():
            for part in batches(rows, self.training.batch_size):
                seen = self._see(self._inputs(part, draw), part)
                tally.add(self.objective(seen), len(part))
                scores.append([each.cpu() for each in seen.scores])
        return tally, [torch.cat(each) for each in zip(*scores, strict=True)]

    def _validate(self) -> dict:
        """Measure the validation rows, and without their labels the target's."""
        measured: dict[str, float | None] = {}
        if len(self.rows["validation"]):
            tally, _ = self._evaluate(self.rows["validation"])
            measured = {"validation_loss": tally.loss, "validation_accuracy": tally.accuracy}
        if len(self.rows["target"]):
            scores = self._evaluate(self.rows["target"])[1]
            measured["target_information"] = sum(map(information, scores)) / len(scores)
        return measured

    def count(self, domains: np.ndarray) -> dict:
        """Count what is right among the rows of each domain that are counted."""
        counted: dict[str, dict] = {}
        counts = self.chosen.counted & (self.use != "")
        for domain in dict.fromkeys(domains[counts]):
            rows = np.flatnonzero(counts & (domains == domain))
            answers, scores = self.chosen.truth[rows], self._evaluate(rows)[1]
            for task, y, score in zip(self.network.classes, answers.T, scores, strict=True):
                right, known = int((score.argmax(dim=1).numpy() == y)[y >= 0].sum()), int((y >= 0).sum())
                if known:
                    found = {"right": right, "of": known, "accuracy": right / known}
                    counted.setdefault(domain, {})[task] = found
        return counted

    # ------------------------------------------------------------ stop and go on

    def _key(self) -> dict:
        return json.loads(json.dumps(asdict(self.training))) | {"images": self.digest}

    def _keep(self) -> None:
        content = {
            "key": json.dumps(self._key()),
            "state": self.network.state(),
            "terms": self.objective.terms.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "done": self.done,
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
        self.done, self.best = kept["done"], kept["best"]
        self._begin()
        self.network.load_state(kept["state"])
        self.objective.terms.load_state_dict(kept["terms"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.history = kept["history"]


def _merit(row: dict) -> tuple:
    """Order epochs by validation accuracy, equal ones by loss; without validation the last is best.

    Where a target is aligned, its information is added to the accuracy: neither needs a label of the target.
    """
    if "validation_loss" not in row:
        return (row["epoch"],)
    accuracy = row["validation_accuracy"] or 0.0
    return (accuracy + row.get("target_information", 0.0), -row["validation_loss"])


def _copy(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.items()}


def _cosine(step: int, warm: int, total: int) -> float:
    """Rise over the first `warm` steps, then fall to 0 (Loshchilov, Hutter, ICLR 2017, equation 5)."""
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / total))
