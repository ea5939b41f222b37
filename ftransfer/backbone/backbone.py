"""The frozen network: weights, layers, pooling, preprocessing, device, fingerprint.

A backbone is a network cut off before its classifier, or run whole, whose maps and tokens are pooled by their average.
It is a model of torchvision or timm, or any module of a user. The network is never trained here.
"""

import copy
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models

from ftransfer.backbone.cut import Whole
from ftransfer.backbone.device import find_device
from ftransfer.backbone.fast_pixels import MODES, resize_and_crop_quickly, torchcodec_version
from ftransfer.backbone.gpu import gpu_arithmetic
from ftransfer.backbone.openvino_runtime import conversion_fault
from ftransfer.backbone.own import build_module, copied, run_file
from ftransfer.backbone.preprocess import (
    Transforms,
    describe_decoder,
    describe_preset,
    made_picture,
    resized_to,
)
from ftransfer.backbone.runtime import computes_in_bfloat16, fast_arithmetic
from ftransfer.backbone.timm_models import PREFIX, build_timm
from ftransfer.backbone.weights import Built, build, check_answers, hash_weights, load_into, weights_of
from ftransfer.errors import FtransferError, unknown
from ftransfer.images.pixels import resize_and_crop_image
from ftransfer.images.readers import Preparation

TIERS = ("exact", "fast")


def list_backbones() -> list[str]:
    """Name every backbone but timm's: the embedded ``small_cnn`` and torchvision's classification models."""
    return ["small_cnn", *models.list_models(module=models)]


class Backbone:
    """Turn images into embeddings with a frozen, pretrained network.

    Parameters
    ----------
    name : str, default="resnet50"
        ``small_cnn``, any of ``torchvision.models.list_models(module=torchvision.models)``, or ``timm:NAME``, any
        of ``timm.list_models()`` or ``timm.list_pretrained()``. For other networks see `from_module` and `from_file`.
    weights : str or path, default="DEFAULT"
        ``"DEFAULT"``, a name of the model's weights enum (``"IMAGENET1K_V1"``), a checkpoint file
        (``.pth``, ``.pt``, ``.safetensors``; read without unpickling code, widened to float32; images are
        preprocessed as for the published weights of the same file name, else as for DEFAULT), or
        ``"random"`` for an untrained model from a fixed seed.
    layers : sequence of str, optional
        Nodes of the model's graph (of timm's: modules in it); several are concatenated. Default: the input of the
        classifier.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one.
    tier : {"exact", "fast"}, default="exact"
        ``"exact"``: the pixels of the weights' own preset, in float32. ``"fast"``: decoded and resized with
        less work, in bfloat16 where the machine has it; another fingerprint. `compare_tiers` measures the drift.
    image_size : int, optional
        Side in pixels of the square that the network sees. Default: what the weights were trained for.

    Attributes
    ----------
    layers : list of str
    classifier : str
        Name of the layer that scores classes, which an embedding leaves off; empty where that is not known.
    widths : list of int
        Numbers per image that each layer gives, after pooling.
    preset : ImageClassification or Transforms
        The preprocessing.
    fingerprint : dict
        What shapes the numbers of an embedding, the weights named by the SHA-256 of their values. The library
        that computes is named in the fast tier only: in the exact one they agree to 1e-5.
    probe : ndarray of float32, or None
        The embedding of a fixed picture, where code of timm or of a user decides it, which has no hash.
    notes : list of str
        What was done to the weights of a file so that they fit, a sentence each.
    origin : str
        Where the weights came from, for people; two origins with equal values are one fingerprint.
    decodes_on_gpu : bool
        Whether the GPU decodes the JPEG files that it can: in the fast tier, where torchcodec is installed.

    Raises
    ------
    FtransferError
        If the name, the weights or a layer do not exist, do not fit together or cannot be downloaded.
    """

    def __init__(
        self,
        name: str = "resnet50",
        weights: str | Path = "DEFAULT",
        layers: Sequence[str] = (),
        device: str = "auto",
        tier: str = "exact",
        image_size: int | None = None,
    ) -> None:
        if name.startswith(PREFIX):
            built = build_timm(name, str(weights), image_size)
        elif name in list_backbones():
            built = build(name, str(weights), image_size)
        else:
            raise _unknown_backbone(name)
        self._make(built, layers, device, tier)

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        transforms: Callable,
        *,
        layer: str | Sequence[str] | None = None,
        name: str | None = None,
        device: str = "auto",
        tier: str = "exact",
    ) -> "Backbone":
        """Make a backbone of any module and its preprocessing.

        Parameters
        ----------
        module : torch.nn.Module
            Takes a batch (n, channels, height, width), float32. It is copied, and put into evaluation mode.
        transforms : callable
            Takes an RGB image of Pillow, upright; gives float32 (channels, height, width), of one shape for all
            images. Resize, CenterCrop and Normalize of torchvision are recognised, and run as fast as its presets.
        layer : str or sequence of str, optional
            Names of modules in it whose outputs are the embedding. Default: what it returns. Maps (n, channels,
            height, width) and tokens (n, tokens, width) are averaged.
        name : str, optional
            Default: that of the module's class. It is part of the fingerprint.
        device, tier
            As for `Backbone`.

        Raises
        ------
        FtransferError
            If the module does not turn what the transforms give into numbers, or has no such layer.

        Examples
        --------
        >>> from torch import nn
        >>> from torchvision.transforms import Compose, Resize, ToTensor
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> Backbone.from_module(network, Compose([Resize((32, 32)), ToTensor()]), device="cpu").width
        8
        """
        layers = [layer] if isinstance(layer, str) else list(layer or ())
        backbone = cls.__new__(cls)
        backbone._make(build_module(copied(module), transforms, name, "a module"), layers, device, tier)
        return backbone

    @classmethod
    def from_file(
        cls,
        file: str | Path,
        *,
        weights: str | Path = "DEFAULT",
        layers: Sequence[str] = (),
        device: str = "auto",
        tier: str = "exact",
    ) -> "Backbone":
        """Run a Python file of yours, and make a backbone of its names ``model`` and ``transforms``; see `from_module`.

        Parameters
        ----------
        file : str or path
            It may name a ``layer``, or several, and a ``name`` besides.
        weights : str or path, default="DEFAULT"
            A checkpoint for the model. Default: the weights that the file gives it.
        layers, device, tier
            As for `Backbone`.
        """
        backbone = cls.__new__(cls)
        backbone._make(*run_file(Path(file), str(weights), layers), device, tier)
        return backbone

    def _make(self, built: Built, layers: Sequence[str], device: str, tier: str) -> None:
        if tier not in TIERS:
            raise unknown("tier", tier, TIERS)
        self.name, self.tier, self.origin, self.decodes_on_gpu = built.name, tier, built.origin, False
        self.notes = list(built.notes)
        self.device = find_device(device)
        network, self.layers, self.classifier = built.cut(built.model, layers, built.name)
        if built.state is not None:
            self.notes += load_into(network, built.model, built.state, built.name, built.origin)
        self.network = network.float().eval().requires_grad_(False).to(self.device)
        self.preset = built.preset
        outputs = self._try(built.has_probe)
        self.widths = [output.shape[1] for output in outputs]
        self.probe = torch.cat(outputs, dim=1)[0].cpu().numpy() if built.has_probe else None
        if built.state is not None:
            self.notes += check_answers(self)
        self.fingerprint = {
            "format": 1,
            "backbone": self.name,
            **built.fingerprint,
            "weights": hash_weights(network),
            "layers": [{"name": n, "width": w} for n, w in zip(self.layers, self.widths, strict=True)],
            "pooling": "global average",
            "preprocessing": describe_preset(self.preset),
            "decoder": describe_decoder(),
            "tier": tier,
            "dtype": "float32",
        }
        if tier == "fast":
            self._take_shortcuts(built.has_probe)

    def _try(self, on_picture: bool) -> list[torch.Tensor]:
        """Embed the picture that is the same everywhere, or a black one: what the layers give of it."""
        shape, image_type = self.input_shape, self.input_type
        try:
            batch = self.preprocess(made_picture()) if on_picture else torch.zeros(3, *shape[:2])
            outputs = self._outputs(batch[None])
        except FtransferError:
            raise
        except Exception as error:  # whatever a network raises of images that it was not made for
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            what = f"{shape[0]} x {shape[1]} pixels" if image_type == np.uint8 else f"shape {shape}"
            fault = f"{type(error).__name__}: {reason[:200]}"
            raise FtransferError(f"{self.name} cannot process images of {what}: {fault}") from error
        if on_picture and not all(torch.isfinite(output).all() for output in outputs):
            raise FtransferError(f"{self.name} outputs NaN or infinity for a test image")
        return outputs

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that shape an embedding, by the names of the model."""
        return weights_of(self.network)

    def note_weights(self) -> None:
        """Name the weights anew in the fingerprint, and embed the probe anew: they have been changed."""
        self.fingerprint["weights"] = hash_weights(self.network)
        if self.probe is not None:
            self.probe = torch.cat(self._try(True), dim=1)[0].cpu().numpy()

    def _take_shortcuts(self, is_foreign: bool) -> None:
        """Note in the fingerprint what the fast tier does otherwise on this machine."""
        known = self.fingerprint
        known["runtime"], known["dtype"] = fast_arithmetic(self.device)
        if is_foreign and known["runtime"] == "openvino" and (fault := conversion_fault(self)):
            print(f"{fault}; using PyTorch instead", file=sys.stderr)
            known["runtime"], known["dtype"] = fast_arithmetic(self.device, openvino=False)
        half = is_foreign and (known["runtime"], known["dtype"]) == ("torch", "bfloat16")
        if half and not computes_in_bfloat16(self):
            print(f"{self.name} does not support bfloat16; using float32", file=sys.stderr)
            known["dtype"] = "float32"
        if isinstance(self.preset, Transforms):
            return
        known["preprocessing"]["shortcuts"] = "scaled decoding, resize of uint8"
        if self.device.type == "cuda" and self.takes_shortcuts and (version := torchcodec_version()):
            self.decodes_on_gpu = True
            known["preprocessing"]["shortcuts"] += ", JPEG decoded by the GPU and resized in half precision"
            known["decoder"] += f", torchcodec {version}"

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the network sees; its height, where a user's transforms give none."""
        return self.input_shape[-2]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of an image on its way to the network: (side, side, 3) of a preset, else what the transforms give."""
        if isinstance(self.preset, Transforms):
            return self.preset.shape
        return *self.preset.crop_size, *self.preset.crop_size, 3

    @property
    def input_type(self) -> type:
        """Type of its numbers: uint8 of a preset, still to be normalised; float32 where a user's transforms do that."""
        return np.float32 if isinstance(self.preset, Transforms) else np.uint8

    @property
    def width(self) -> int:
        """Numbers per image, all layers together."""
        return sum(self.widths)

    def on(self, device: str) -> "Backbone":
        """Copy it to another device; the fingerprint stays."""
        other = copy.copy(self)
        other.device = find_device(device)
        # eval: of a copy, torch.fx forgets that it is not trained
        other.network = copy.deepcopy(self.network).eval().to(other.device)
        return other

    @property
    def sees_photographs(self) -> bool:
        """Whether the weights are meant for photographs; the embedded demo default is not."""
        return self.name != "small_cnn"

    @property
    def reduce_to(self) -> int | None:
        """Shorter side, in pixels, down to which an image may be decoded; None for all of its pixels."""
        if self.tier == "exact" or isinstance(self.preset, Transforms):
            return None
        return 2 * self.preset.resize_size[0]

    @property
    def takes_shortcuts(self) -> bool:
        """Whether `pixels` are resized with less work than torchvision's preset takes."""
        known = not isinstance(self.preset, Transforms) and self.preset.interpolation in MODES
        return self.tier == "fast" and known

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Prepare one RGB image as the tier says, of `input_shape` and `input_type`."""
        return self._make_pixels()(image)

    def preparation(self, views: dict | None = None) -> Preparation:
        """How the bytes of an image become pixels, without the network: it can be sent to another process."""
        on_gpu = self.decodes_on_gpu and not views
        return Preparation(self._make_pixels(), self.reduce_to, views, on_gpu)

    def _make_pixels(self) -> Callable:
        preset = self.preset
        if isinstance(preset, Transforms):
            return preset.pixels
        size, crop = resized_to(preset), preset.crop_size[0]
        if self.takes_shortcuts:
            return partial(resize_and_crop_quickly, size, crop, MODES[preset.interpolation])
        return partial(resize_and_crop_image, size, crop, Image.Resampling[preset.interpolation.name])

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Resize, crop and normalise one RGB image as the weights want it: float32 (channels, height, width).

        This is the exact tier's, whatever the backbone's; with `embed` it is what every runtime is held to.
        """
        return self.preset(image)

    def embed(self, batch: torch.Tensor) -> np.ndarray:
        """Embed preprocessed images.

        Parameters
        ----------
        batch : tensor of shape (n, channels, height, width), float32

        Returns
        -------
        ndarray of shape (n, width), float32
        """
        return torch.cat(self._outputs(batch), dim=1).cpu().numpy()

    def _outputs(self, batch: torch.Tensor) -> list[torch.Tensor]:
        with torch.inference_mode(), gpu_arithmetic(self.device, exact=True):
            outputs = self.network(batch.to(self.device, non_blocking=True))
            return [self.pool(layer, outputs[layer]) for layer in self.layers]

    def pool(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Average what a layer gives over places or tokens: (n, width)."""
        if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4):
            shape = tuple(getattr(output, "shape", ())) or type(output).__name__
            raise FtransferError(
                f"layer {layer} of {self.name} outputs {shape}, which is not a vector, a sequence of tokens "
                f"or a feature map"
            )
        if output.ndim == 4:
            return output.mean(dim=(1, 2) if self._keeps_channels_last(layer) else (2, 3))
        return output.mean(dim=1) if output.ndim == 3 else output

    def _keeps_channels_last(self, layer: str) -> bool:
        if isinstance(self.network, Whole):
            return getattr(self.network.module, "output_fmt", "") == "NHWC"  # timm's swin transformers
        return self.name.startswith("swin") and layer.split(".")[0] in ("features", "norm")


def open_backbone(
    name: str,
    weights: str = "DEFAULT",
    layers: Sequence[str] = (),
    device: str = "auto",
    tier: str = "exact",
    image_size: int | None = None,
) -> Backbone:
    """Make the backbone that a user names; ``FILE.py`` is run, as it is for that name alone.

    Parameters
    ----------
    name, weights, layers, device, tier, image_size : as for `Backbone` and `Backbone.from_file`
    """
    if not name.endswith(".py"):
        return Backbone(name, weights, layers, device, tier, image_size)
    if image_size is not None:
        raise FtransferError(f"the transforms of {name} set the image size; --image-size cannot change it")
    return Backbone.from_file(name, weights=weights, layers=layers, device=device, tier=tier)


def _unknown_backbone(name: str) -> FtransferError:
    if name.endswith(".py"):
        return FtransferError(
            f"{name} is a file: Backbone.from_file({name!r}) runs it, or ftransfer --backbone {name}"
        )
    if name.startswith("timm/"):
        return FtransferError(f"no backbone '{name}'; did you mean '{PREFIX}{name[5:]}'?")
    return unknown("backbone", name, list_backbones(), plural="timm:NAME, FILE.py, and other backbones")
