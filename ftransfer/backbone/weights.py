"""The weights of a backbone: built, downloaded or read from a file, and named by their hash."""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.transforms._presets import ImageClassification

from ftransfer.backbone.checkpoint import read_checkpoint
from ftransfer.backbone.cut import Whole, cut_graph, prefixes
from ftransfer.backbone.names import fit_names
from ftransfer.backbone.preprocess import Preset, made_picture, with_image_size
from ftransfer.backbone.tensors import value_fault
from ftransfer.errors import FtransferError, unknown
from ftransfer.shipped import shipped_folder
from ftransfer.storage.reading import refuse_irregular

SAME = 1e-4  # of the length of features: what hardly differs

# ---------------------------------------------------------------- building and loading


@dataclass
class Built:
    """A model, before it is cut off at the layers asked for.

    Attributes
    ----------
    name : str
    model : Module
    preset : Preset
    origin : str
        Where the weights came from, for people.
    cut : callable
        Takes model, layers and name; gives the network, the layers and the name of the classifier.
    state : dict, optional
        Weights that are still to be loaded.
    fingerprint : dict
        What else tells the model from others.
    notes : list of str
        What was done to its weights, a sentence each.
    has_probe : bool
        Whether code outside of this package and torchvision decides the embedding.
    """

    name: str
    model: nn.Module
    preset: Preset
    origin: str
    cut: Callable[[nn.Module, Sequence[str], str], tuple[nn.Module, list[str], str]]
    state: dict | None = None
    fingerprint: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has_probe: bool = False


def build(name: str, weights: str, image_size: int | None = None) -> Built:
    """Build ``small_cnn`` or a model of torchvision; `image_size` is the side that it sees, in pixels."""
    if name == "small_cnn":
        from ftransfer.backbone import small_cnn

        side, mean, std = small_cnn.IMAGE_SIZE, small_cnn.MEAN, small_cnn.STD
        preset = ImageClassification(crop_size=side, resize_size=side, mean=mean, std=std)
        choices, make = [], lambda weights=None: small_cnn.small_cnn()
    else:
        choices = list(models.get_model_weights(name))
        preset = models.get_model_weights(name).DEFAULT.transforms()
        make = _torchvision_maker(name)

    def built(model: Any, preset: Any, origin: str, state: dict | None = None) -> Built:
        preset = preset if image_size is None else with_image_size(preset, image_size)
        return Built(name, model.eval(), preset, origin, cut_graph, state)

    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return built(make(), preset, "random, seed 0")
    file = Path(weights).expanduser()
    if name == "small_cnn" and weights == "DEFAULT":
        file = shipped_folder("data") / "small_cnn.safetensors"
    elif weights in {"DEFAULT", *(w.name for w in choices)}:
        chosen = models.get_model_weights(name).DEFAULT if weights == "DEFAULT" else None
        chosen = chosen or next(w for w in choices if w.name == weights)
        return built(make(chosen), chosen.transforms(), str(chosen), _fetch(chosen))
    if not file.is_file():
        names = ["DEFAULT", *(w.name for w in choices), "random"]
        raise unknown("weights", weights, names, plural=f"{file} is not a file, and weights of {name}")
    # a published file that lies under its own name brings its own preprocessing
    published = next((w for w in choices if w.url.endswith("/" + file.name)), None)
    preset = published.transforms() if published else preset
    return built(make(published), preset, file.name, read_checkpoint(file))


def _torchvision_maker(name: str) -> Callable[..., nn.Module]:
    # as the builders do for pretrained weights: inputs are normalised once, nothing is initialised in vain
    options: dict = (
        {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    )

    def make(weights: WeightsEnum | None = None) -> nn.Module:
        sized = {}
        if weights is not None and name.startswith("vit_"):  # it has a place for each patch of an image
            sized["image_size"] = weights.meta["min_size"][0]
        return models.get_model(name, weights=None, **options, **sized)

    return make


def _fetch(weights: WeightsEnum) -> dict[str, torch.Tensor]:
    """Read published weights out of torchvision's cache, as any checkpoint is read; download them before."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(urlparse(weights.url).path).name
    if not file.exists():
        named = re.search(r"-([a-f0-9]{8,})\.", file.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(file), named and named[1], progress=False)
        except (URLError, OSError, RuntimeError) as error:
            reason = str(getattr(error, "reason", error)).splitlines()[0]
            raise FtransferError(
                f"cannot download {weights} ({reason}); download {weights.url} on a machine with network "
                f"access, then put it into {folder} or give it as --weights FILE"
            ) from error
    try:
        refuse_irregular(file)
        return read_checkpoint(file)
    except (FtransferError, OSError) as error:
        raise FtransferError(f"{error}; delete {file.name} there to download it again") from error


def load_into(network: nn.Module, model: nn.Module, state: dict, name: str, origin: str) -> list[str]:
    """Load what the network needs of a model; a classifier of other classes above it does not matter.

    Returns
    -------
    list of str
        What was done to the weights for it, a sentence each.
    """
    wanted, full = weights_of(network), model.state_dict()
    state, notes = fit_names(wanted, state)
    used = {prefix for key in wanted for prefix in prefixes(key)}
    wrong = misfits(wanted, state)
    faults = [] if wrong else [value_fault(key, state[key], wanted[key]) for key in wanted if key in state]
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
    if faults := sorted(filter(None, faults)):
        more = f" and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise FtransferError(f"the weights in {origin} are damaged: {'; '.join(faults[:4])}{more}")
    fitting = {k: state[k] for k in wanted if k in state}
    if isinstance(network, Whole):
        network.load_weights(fitting)
    else:
        network.load_state_dict(fitting, strict=False)
    return notes


def check_answers(backbone: Any) -> list[str]:
    """See that a network with the weights of a file tells a picture from a black one.

    Returns
    -------
    list of str
        A warning where it hardly does.

    Raises
    ------
    FtransferError
        If it gives the same numbers for both, or numbers that are not finite.
    """
    picture = made_picture()
    pictures = (picture, Image.new("RGB", picture.size))
    of_picture, of_black = (backbone.embed(backbone.preprocess(each)[None])[0] for each in pictures)
    if not (np.isfinite(of_picture).all() and np.isfinite(of_black).all()):
        raise FtransferError(
            f"{backbone.name} with the weights in {backbone.origin} outputs NaN or infinity for a test "
            f"image; the file is damaged or belongs to another network"
        )
    length = max(np.linalg.norm(of_picture), np.linalg.norm(of_black))
    apart = np.linalg.norm(of_picture - of_black)
    if apart == 0:
        raise FtransferError(
            f"{backbone.name} with the weights in {backbone.origin} outputs the same features for a test "
            f"image and a black image; some layers are all zeros, or the file is damaged"
        )
    if apart < SAME * length:
        return [
            f"the features of a test image and a black image differ by only {apart / length:.0e}; they may "
            f"carry little information"
        ]
    return []


def misfits(wanted: dict, state: dict) -> list[str]:
    """Say which weights are missing from a state dict, or of another shape there."""
    wrong = [f"{k} is missing" for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    return wrong + [
        f"{k} is {_shape(state[k])}, not {_shape(v)}"
        for k, v in wanted.items()
        if k in state and state[k].shape != v.shape
    ]


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict of a cut or whole network, by the names of the model that it is of.

    Constants that tracing found are left out: they are of the code, and in no checkpoint.
    """
    if isinstance(network, Whole):
        return network.weights()
    state = network.state_dict()
    return {key: value for key, value in state.items() if not re.fullmatch(r"_tensor_constant\d+", key)}


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def hash_weights(network: nn.Module) -> str:
    """Name the weights of a network, and its batch-norm statistics, by the hash of their values."""
    digest = hashlib.sha256()
    for key, value in sorted(weights_of(network).items()):
        if not key.endswith("num_batches_tracked"):
            value = value.detach().cpu().contiguous()
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
