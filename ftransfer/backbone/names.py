"""Find the weights of a network in a state dict as other programs write it: wrapped, renamed, of one channel."""

from collections.abc import Mapping
from typing import Any

import torch

PHOTO_HINT = (
    "small_cnn is for the demo and was trained on small glyphs, not on photographs; for photographs use "
    "ImageNet weights: --backbone resnet50 --weights DEFAULT"
)

CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_ema",
    "ema",
    "teacher",
    "model",
    "net",
    "network",
    "student",
)
# of several networks in a checkpoint, the one to take: an average of weights, or the one that was trained
BETTER = ("ema", "teacher", "encoder_q", "base_encoder", "model", "net", "backbone", "encoder")
WORSE = ("encoder_k", "momentum_encoder", "student", "predictor", "discriminator")


def unwrap(content: Any) -> tuple[dict, str]:
    """Return the state dict in what a file holds, and where it was.

    Parameters
    ----------
    content : object
        A state dict, or a dict that holds one under a name of `CONTAINERS`, beside an optimizer or an epoch.

    Returns
    -------
    The state dict, which is empty where there is none, and the names that led to it, with dots.

    >>> unwrap({"epoch": 3, "state_dict": {"fc.bias": torch.zeros(2)}})
    ({'fc.bias': tensor([0., 0.])}, 'state_dict')
    """
    path = []
    while isinstance(content, Mapping) and not _is_state(content):
        name = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if name is None:
            break
        path.append(name)
        content = content[name]
    return (dict(content) if isinstance(content, Mapping) and _is_state(content) else {}), ".".join(path)


def _is_state(content: Mapping) -> bool:
    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def fit_names(wanted: Mapping[str, torch.Tensor], state: dict) -> tuple[dict, list[str]]:
    """Find the weights that a network wants in a state dict, under whatever prefix most of them are.

    The prefix may be that of DataParallel (``module.``), torch.compile (``_orig_mod.``), Lightning (``model.``),
    MoCo (``module.encoder_q.``) or of a program of one's own. Weights of one channel of input are spread over three,
    and those of three summed to one, so that a grey image gives what it gave before.

    Parameters
    ----------
    wanted : dict of str to tensor
    state : dict of str to tensor

    Returns
    -------
    The state dict by the names of the network, and a sentence for each thing that was done.
    """
    notes = []
    prefix = _find_prefix(wanted, state)
    if prefix:
        left = len([key for key in state if not key.startswith(prefix)])
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        others = f"; {left} others are ignored" if left else ""
        notes.append(f"using the weights under {prefix}*{others}")
    for key, value in wanted.items():
        given = state.get(key)
        if given is not None and given.ndim == 4 and given.shape != value.shape:
            fitted = _fit_channels(given, value)
            if fitted is not None:
                state = state | {key: fitted}
                what = (
                    "one channel are copied to three"
                    if given.shape[1] == 1
                    else "three channels are summed to one"
                )
                notes.append(f"weights of {what} in {key}")
    return state, notes


def _find_prefix(wanted: Mapping[str, torch.Tensor], state: dict) -> str:
    """Return the prefix under which most of the wanted weights are; of several, see `BETTER`."""
    candidates = {""}
    for key in list(wanted)[:3]:
        candidates |= {each.removesuffix(key) for each in state if each.endswith("." + key)}
    counts = {p: sum(p + key in state for key in wanted) for p in candidates}
    most = max(counts.values())
    if counts[""] == most:
        return ""
    best = [prefix for prefix, count in counts.items() if count == most]
    return min(
        best,
        key=lambda prefix: (_rank(prefix), list(state).index(next(k for k in state if k.startswith(prefix)))),
    )


def _rank(prefix: str) -> int:
    parts = prefix.split(".")
    if any(part in WORSE for part in parts):
        return len(BETTER) + 1
    return next((i for i, name in enumerate(BETTER) if name in parts), len(BETTER))


def _fit_channels(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor | None:
    """Spread weights of one input channel over three, or sum those of three to one; None where it is neither."""
    if given.shape[0] != wanted.shape[0] or given.shape[2:] != wanted.shape[2:]:
        return None
    channels = (given.shape[1], wanted.shape[1])
    if channels == (1, 3):
        return given.expand(-1, 3, -1, -1) / 3
    return given.sum(dim=1, keepdim=True) if channels == (3, 1) else None
