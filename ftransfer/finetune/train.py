"""Train a backbone further, or from nothing, on labelled images; resume after a kill."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ftransfer.backbone.checkpoint import checkpoint, checkpoint_path
from ftransfer.backbone.decoded import Pixels
from ftransfer.backbone.device import versions
from ftransfer.errors import FtransferError
from ftransfer.finetune.align import make_alignment
from ftransfer.finetune.augment import AUTO
from ftransfer.finetune.contrast import Contrast
from ftransfer.finetune.curves import curves_page
from ftransfer.finetune.data import Chosen, choose_rows
from ftransfer.finetune.frozen import count_frozen
from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Objective, counted
from ftransfer.finetune.rules import learn_rules
from ftransfer.finetune.run import Run
from ftransfer.finetune.settings import ALIGN_WEIGHT, TRANSFER_WEIGHT, Training
from ftransfer.finetune.transfer import classes_of_teacher, make_transfer
from ftransfer.storage.writing import write_whole, writing


def fine_tune(
    images: pd.DataFrame,
    out: str | Path,
    training: Training | None = None,
    *,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict:
    """Train a backbone on labelled images into the checkpoint `out`; go on where it was stopped.

    What the frozen layers give is computed once where no rule varies the images. After each epoch all that
    training needs to go on is kept beside `out`; a training that was stopped and goes on ends with the same
    weights as one that was not.

    Parameters
    ----------
    images : DataFrame
        From `find_images`: ``root, path, label, domain``, and further label columns.
    out : str or path
        The checkpoint, ``.safetensors``, that `Backbone` takes as weights. Beside it lie ``.json``, what this
        function returns, and ``.html``, the learning curves.
    training : Training
    device : str
    progress : callable
        Called with what is done now, how much of it is done, and of how much.

    Returns
    -------
    dict
        ``taken``, ``fresh`` and ``frozen`` modules, ``classes``, ``history`` (a dict an epoch, with the mean of each of
        the ``terms`` of the loss before its weight), ``best_epoch``, ``rates_tried`` (the best epoch of each rate of
        the taken layers) and ``accuracy``: for each domain the share of its test rows that is right (of a domain that
        did not train and with no test share: of all its rows), by task; ``before``: the same of a logistic regression
        on the features of the backbone as it started, fitted on the rows that train and validate.

    Raises
    ------
    FtransferError
        If a domain, a label column or a layer is not there, nothing is left to train on, or `out` has an
        unfinished training with other settings.
    """
    started = time.monotonic()
    training, out = training or Training(), checkpoint_path(out)
    images = images.reset_index(drop=True)
    chosen = choose_rows(images, training, classes_of_teacher(training))
    network = Network(
        training.backbone,
        training.weights,
        chosen.classes,
        take=training.take,
        freeze_until=training.freeze_until,
        seed=training.seed,
        device=device,
        image_size=training.image_size,
    )
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    rows = np.flatnonzero(chosen.use != "")
    images, chosen = images.iloc[rows], chosen.take(rows)
    pixels = Pixels(images, network.backbone, out.parent, counted(progress, "decoding images", len(images)))
    use = chosen.use
    use[~pixels.readable] = ""
    _check_pixels(pixels, use, training)
    learned, domains = None, images["domain"].to_numpy()
    if training.rules == AUTO:
        rows = np.flatnonzero(use == "train")
        known = (chosen.answers[rows, 0], domains[rows])
        rules, learned = learn_rules(
            network.backbone, pixels, rows, *known, seed=training.seed, progress=progress
        )
        training = replace(training, rules=rules)
    before = count_frozen(network.backbone, pixels, chosen, domains, progress)
    objective = _objective(network, training, images, chosen, out.parent, progress)
    run = Run(network, training, pixels, chosen, objective, out, progress)
    results = run.go()
    training = replace(training, taken_rate=results["taken_rate"])
    state, names = network.state(), ("train", "validation", *(["target"] if training.target else []), "test")
    about: dict[str, Any] = {"image_size": training.image_size} if training.image_size else {}
    about |= {"classes": chosen.classes, "rules": list(training.rules), "training": asdict(training)}
    results = {
        "format": 1,
        "training": asdict(training),
        "classes": chosen.classes,
        "images": {name: int((use == name).sum()) for name in names},
        "unreadable": pixels.unreadable,
        "taken": network.taken,
        "fresh": network.fresh,
        "frozen": network.frozen,
        "head_taken": network.head_taken,
        "rules_tried": learned,
        **results,
        "before": before,
        "accuracy": run.count(domains),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    with writing(out.parent):
        write_whole(out, checkpoint(network.backbone.name, state, **about))  # first: it took longest
        write_whole(out.with_suffix(".json"), json.dumps(results, indent=1).encode())
        write_whole(out.with_suffix(".html"), curves_page(out.name, results).encode())
        run.unfinished.unlink(missing_ok=True)
    return results


def _check_pixels(pixels: Pixels, use: np.ndarray, training: Training) -> None:
    """Refuse images none of which could be read, and those that cannot be varied."""
    if not (use == "train").any():
        raise FtransferError(f"none of the images could be read; the first: {pixels.unreadable[0]}")
    if training.rules and not pixels.can_vary:
        raise FtransferError(
            f"{training.backbone} prepares images by transforms of its own, so that they cannot be varied; make them "
            f"of Resize, CenterCrop, ToTensor and Normalize, or leave out {', '.join(training.rules)}"
        )


def _objective(
    network: Network,
    training: Training,
    images: pd.DataFrame,
    chosen: Chosen,
    folder: Path,
    progress: Callable[[str, int, int], None],
) -> Objective:
    """Put together what is minimised: the labels' loss and the terms that the settings name."""
    train, terms = np.flatnonzero(chosen.use == "train"), {}
    transfer = make_transfer(training, network, images, train, folder, progress)
    if transfer is not None:
        weight = training.transfer_weight or TRANSFER_WEIGHT[str(training.transfer_loss)]
        terms[str(training.transfer_loss)] = transfer, weight
    if training.align:
        alignment = make_alignment(training.align, network, training.seed)
        terms[training.align] = alignment, training.align_weight or ALIGN_WEIGHT[training.align]
    if training.self_supervised:
        terms["contrast"] = Contrast(network, training.seed).to(network.device), 1.0
    return Objective(network, training, torch.from_numpy(chosen.answers), train, terms)
