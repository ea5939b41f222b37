"""How the backbone of a feature set was trained, as ``ftransfer finetune`` wrote it beside the checkpoint."""

import json
import math

from ftransfer.storage.places import Place, place
from ftransfer.storage.reading import read_text

KEPT = ("training", "images", "history", "best_epoch", "seconds", "classes", "before", "accuracy")


def read_training(file: str | Place) -> dict | None:
    """Read what `fine_tune` wrote beside a checkpoint; None where it is not there, or is something else.

    Parameters
    ----------
    file : path
        A ``.json`` file.
    """
    try:
        results = json.loads(read_text(place(file)))
        _check(results)  # what reads on relies on it
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return {key: results[key] for key in KEPT if key in results}


def _check(results: dict) -> None:
    """Raise ValueError, TypeError or LookupError where a value is not of the kind that `fine_tune` writes."""
    training, images, history = results["training"], results["images"], results["history"]
    texts = [training["backbone"], training["weights"], *(training.get("rules") or [])]
    numbers = [images["train"], images["validation"], results["best_epoch"], results["seconds"]]
    for epoch in history:
        numbers += [epoch[name] for name in ("loss", "accuracy") if epoch[name] is not None]
        measured = [
            epoch.get(name) for name in ("validation_loss", "validation_accuracy", "target_information")
        ]
        measured += (epoch.get("terms") or {}).values()
        numbers += [value for value in measured if value is not None]
    if not (isinstance(history, list) and history and all(isinstance(text, str) for text in texts)):
        raise ValueError("not the results of a training")
    for counted in (results.get("before", {}), results.get("accuracy", {})):
        numbers += [
            each[name] for tasks in counted.values() for each in tasks.values() for name in ("of", "accuracy")
        ]
    if not isinstance(results.get("classes", {}), dict):
        raise ValueError("not the classes of a training")
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        raise ValueError("not a number")
