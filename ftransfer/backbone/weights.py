"""The weights of a backbone: built, downloaded or read from a file, and named by their hash."""

import hashlib
from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
from torchvision import models
from torchvision.transforms._presets import ImageClassification

from ftransfer.backbone.checkpoint import read_checkpoint
from ftransfer.errors import FtransferError, unknown
from ftransfer.shipped import shipped_folder

# ---------------------------------------------------------------- building and loading


def build(name: str, weights: str):
    """Return the model, the state dict still to be loaded (or None), the preprocessing, the origin."""
    if name == "small_cnn":
        from ftransfer.backbone import small_cnn

        side, mean, std = small_cnn.IMAGE_SIZE, small_cnn.MEAN, small_cnn.STD
        preset = ImageClassification(crop_size=side, resize_size=side, mean=mean, std=std)
        choices, make = [], small_cnn.small_cnn
    else:
        choices = list(models.get_model_weights(name))
        preset = models.get_model_weights(name).DEFAULT.transforms()
        make = _torchvision_maker(name)
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make().eval(), None, preset, "random, seed 0"
    file = Path(weights).expanduser()
    if name == "small_cnn" and weights == "DEFAULT":
        file = shipped_folder("data") / "small_cnn.safetensors"
    elif weights in {"DEFAULT", *(w.name for w in choices)}:
        chosen = models.get_model_weights(name).DEFAULT if weights == "DEFAULT" else None
        chosen = chosen or next(w for w in choices if w.name == weights)
        return _download(name, chosen), None, chosen.transforms(), str(chosen)
    if not file.is_file():
        names = ["DEFAULT", *(w.name for w in choices), "random"]
        raise unknown("weights", weights, names, plural=f"{file} is no file, and weights of {name}")
    # a published file that lies under its own name brings its own preprocessing
    preset = next((w.transforms() for w in choices if w.url.endswith("/" + file.name)), preset)
    return make().eval(), read_checkpoint(file), preset, file.name


def _torchvision_maker(name: str):
    # as the builders do for pretrained weights: inputs are normalised once, nothing is initialised in vain
    options = (
        {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    )
    return lambda: models.get_model(name, weights=None, **options)


def _download(name: str, weights) -> nn.Module:
    try:
        return models.get_model(name, weights=weights, progress=False).eval()
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        reason = str(getattr(error, "reason", error)).splitlines()[0]
        raise FtransferError(
            f"cannot download {weights} ({reason}); fetch {weights.url} on a machine with a network, then put it "
            f"into {folder} or name it: --weights FILE"
        ) from error


def load_into(extractor: nn.Module, model: nn.Module, state: dict, name: str, origin: str) -> None:
    """Load what the extractor needs; a classifier of other classes above it does not matter."""
    wanted, full = extractor.state_dict(), model.state_dict()
    used = {prefix for key in wanted for prefix in prefixes(key)}
    wrong = [f"{k} is missing" for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    wrong += [
        f"{k} is {_shape(state[k])}, not {_shape(v)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]
    modules = {n for n, _ in model.named_modules() if n}
    for key in state.keys() - full.keys():
        parents = [p for p in prefixes(key) if p in modules]
        if not parents or parents[-1] in used:
            wrong.append(f"{key} is not part of {name}")
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise FtransferError(
            f"the weights in {origin} do not fit {name}: {'; '.join(sorted(wrong)[:4])}{more}"
        )
    extractor.load_state_dict({k: state[k] for k in wanted if k in state}, strict=False)


def prefixes(key: str) -> list[str]:
    parts = key.split(".")[:-1]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def hash_weights(network: nn.Module) -> str:
    """Name the weights of a network, and its batch-norm statistics, by the hash of their values."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if not key.endswith("num_batches_tracked"):
            value = value.detach().cpu().contiguous()
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
