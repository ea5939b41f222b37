"""The models of timm as backbones, ``timm:NAME``: the pooled embedding before the classifier."""

import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftransfer.backbone.checkpoint import read_checkpoint
from ftransfer.backbone.cut import POOLED, Pooled
from ftransfer.backbone.names import fit_names
from ftransfer.backbone.preprocess import Preset, find_preset
from ftransfer.backbone.weights import Built, misfits
from ftransfer.errors import FtransferError, unknown

PREFIX = "timm:"


def import_timm() -> Any:
    """Import timm, or say how it is installed."""
    try:
        import timm
    except ImportError as error:
        raise FtransferError('timm backbones need the package timm: pip install "ftransfer[timm]"') from error
    return timm


def list_timm(pattern: str = "*") -> list[str]:
    """Name the models of timm that match a pattern, each with each of its published weights.

    >>> [name for name in list_timm("resnet18.*") if "tv" in name]
    ['timm:resnet18.tv_in1k']
    """
    timm = import_timm()
    pattern = pattern.removeprefix(PREFIX)
    names = {*timm.list_models(), *timm.list_pretrained()}
    names -= {name.partition(".")[0] for name in timm.list_pretrained()}  # each stands for one of its weights
    return [PREFIX + name for name in sorted(names) if fnmatch(name, pattern)]


def build_timm(name: str, weights: str, image_size: int | None = None) -> Built:
    """Build a model of timm.

    Parameters
    ----------
    name : str
        ``timm:NAME``, where NAME may end in ``.TAG``, which of the published weights.
    weights : str
        ``"DEFAULT"`` for the published ones, ``"random"`` or a file.
    image_size : int, optional
        Side in pixels. Default: what the weights were trained for.

    Raises
    ------
    FtransferError
        If timm is not installed, has no such model, or the weights are not there or do not fit.
    """
    timm = import_timm()
    wanted = name.removeprefix(PREFIX)
    architecture, _, tag = wanted.partition(".")
    if not timm.is_model(architecture) or (tag and wanted not in timm.list_pretrained()):
        known = (
            timm.list_pretrained(f"{architecture}.*") if timm.is_model(architecture) else timm.list_models()
        )
        raise unknown("model", wanted, known, plural="models of timm")
    file = Path(weights).expanduser()
    if weights not in ("DEFAULT", "random") and not file.is_file():
        raise unknown("weights", weights, ["DEFAULT", "random"], plural=f"{file} is not a file, and weights")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _create(timm, wanted, weights == "DEFAULT", image_size).eval()
    cfg = model.pretrained_cfg
    name = PREFIX + ".".join(filter(None, [cfg.get("architecture") or architecture, cfg.get("tag")]))
    origin = {"DEFAULT": f"{name}, published", "random": "random, seed 0"}.get(weights, file.name)
    built = Built(name, model, _preset(timm, model, image_size), origin, cut_timm, has_probe=True)
    if weights not in ("DEFAULT", "random"):
        built.state, built.notes = _renamed(read_checkpoint(file), model)
    return built


def _create(timm: Any, name: str, pretrained: bool, image_size: int | None) -> Any:
    sizes = [{"img_size": image_size}, {}] if image_size else [{}]
    for options in sizes:
        try:
            return timm.create_model(name, pretrained=pretrained, **options)
        except TypeError as error:  # a network without positions takes any size
            if not options or "img_size" not in str(error):
                raise
        except Exception as error:  # of a network, of a hub, or of positions that do not fit
            if pretrained and not isinstance(error, AssertionError):
                raise _no_download(timm, name, error) from error
            if image_size is None:
                raise
            raise FtransferError(
                f"{PREFIX}{name} does not accept images of {image_size} x {image_size} pixels: {error}"
            ) from error
    raise AssertionError("unreachable")


def _no_download(timm: Any, name: str, error: Exception) -> FtransferError:
    cfg = timm.get_pretrained_cfg(name)
    place = cfg and (f"https://huggingface.co/{cfg.hf_hub_id}" if cfg.hf_hub_id else cfg.url)
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    where = f"download {place} on a machine with network access and give the file" if place else "name a file"
    return FtransferError(
        f"cannot download the weights of {PREFIX}{name} ({reason}); {where}: --weights FILE"
    )


def _preset(timm: Any, model: Any, image_size: int | None) -> Preset:
    args = {"input_size": (3, image_size, image_size)} if image_size else {}
    config = timm.data.resolve_model_data_config(model, args=args)
    if config["input_size"][0] != 3:
        raise FtransferError(
            f"{model.pretrained_cfg.get('architecture')} does not accept images with three channels"
        )
    return find_preset(timm.data.create_transform(**config, is_training=False))


def _renamed(state: dict, model: nn.Module) -> tuple[dict, list[str]]:
    """Let timm rename weights of the model's own authors, and fit positions to another size, where they do not fit."""
    state, notes = fit_names(model.state_dict(), state)
    rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if rename is None or not misfits(model.state_dict(), state):
        return state, notes
    try:
        found = rename(dict(state), model)
    except Exception:  # of other weights than it knows: what does not fit is said by their own names
        return state, notes
    return (found if isinstance(found, dict) else state), notes


def cut_timm(model: Any, layers: Sequence[str], name: str) -> tuple[nn.Module, list[str], str]:
    """Run a model of timm whole, but for its classifier where no layer asks for it; see `Pooled`."""
    layers = list(layers) or [POOLED]
    classifier = model.pretrained_cfg.get("classifier") or ""
    return Pooled(model, layers, name), layers, classifier if isinstance(classifier, str) else classifier[0]
