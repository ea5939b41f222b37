"""The frozen CNN: weights, layers, pooling, preprocessing, device, fingerprint.

The one home of torchvision's models. A backbone is a torchvision classification model cut off at the
layers asked for; maps are pooled by their global average. The model is never trained here.
"""

import copy
import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image, features
from torch import nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ftransfer.backbone.device import find_device
from ftransfer.backbone.fast_pixels import MODES, resize_and_crop_quickly, torchcodec_version
from ftransfer.backbone.gpu import gpu_arithmetic
from ftransfer.backbone.runtime import fast_arithmetic
from ftransfer.backbone.weights import build, hash_weights, load_into, prefixes
from ftransfer.errors import FtransferError, unknown
from ftransfer.images.pixels import resize_and_crop_image
from ftransfer.images.readers import Preparation

PHOTO_HINT = (
    "small_cnn is a demo default for small glyphs and never saw a photograph; for photographs use ImageNet "
    "weights: --backbone resnet50 --weights DEFAULT"
)


TIERS = ("exact", "fast")


def list_backbones() -> list[str]:
    """Name every backbone: the embedded ``small_cnn`` and torchvision's classification models."""
    return ["small_cnn", *models.list_models(module=models)]


class Backbone:
    """Turn images into embeddings with a frozen, pretrained CNN.

    Parameters
    ----------
    name : str, default="resnet50"
        ``small_cnn``, or any of ``torchvision.models.list_models(module=torchvision.models)``.
    weights : str or path, default="DEFAULT"
        ``"DEFAULT"``, a name of the model's weights enum (``"IMAGENET1K_V1"``), a checkpoint file
        (``.pth``, ``.pt``, ``.safetensors``; read without unpickling code, widened to float32; images are
        preprocessed as for the published weights of the same file name, else as for DEFAULT), or
        ``"random"`` for an untrained model from a fixed seed.
    layers : sequence of str, optional
        Nodes of the model's graph; several are concatenated. Default: the input of the classifier.
    device : str, default="auto"
        ``"auto"`` takes the GPU where there is one.
    tier : {"exact", "fast"}, default="exact"
        ``"exact"``: the pixels of torchvision's own preset, in float32. ``"fast"``: decoded and resized with
        less work, in bfloat16 where the machine has it; another fingerprint. `compare_tiers` measures the drift.

    Attributes
    ----------
    layers : list of str
    classifier : str
        Name of the layer that scores classes, which an embedding leaves off.
    widths : list of int
        Numbers per image that each layer gives, after pooling.
    image_size : int
        Side in pixels of the square that the network sees.
    fingerprint : dict
        What shapes the numbers of an embedding, the weights named by the SHA-256 of their values. The library
        that computes is named in the fast tier only: in the exact one they agree to 1e-5.
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
        self, name="resnet50", weights="DEFAULT", layers: Sequence[str] = (), device="auto", tier="exact"
    ):
        if name not in list_backbones():
            raise unknown("backbone", name, list_backbones(), plural="backbones")
        if tier not in TIERS:
            raise unknown("tier", tier, TIERS)
        self.name, self.tier, self.decodes_on_gpu = name, tier, False
        self.device = find_device(device)
        model, state, preset, self.origin = build(name, str(weights))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about nodes that differ between train and eval
            nodes = [n for n in get_graph_node_names(model)[1] if n != "x"]
            self.layers = list(layers) or [_classifier_input(model, nodes)]
            self.classifier = nodes[_classifier(model, nodes)]
            known = dict.fromkeys(
                prefix for n in nodes for prefix in prefixes(n + ".")
            )  # layer1 stands for its last node
            for layer in self.layers:
                if layer not in known:
                    raise unknown(
                        "layer", layer, sorted(known, key=lambda n: n.count(".")), plural=f"layers of {name}"
                    )
            extractor = create_feature_extractor(model, self.layers)
        if state is not None:
            load_into(extractor, model, state, name, self.origin)
        self.network = extractor.float().eval().requires_grad_(False).to(self.device)
        self.preset = preset
        self.image_size = preset.crop_size[0]
        self.widths = [e.shape[1] for e in self._outputs(torch.zeros(1, 3, self.image_size, self.image_size))]
        self.fingerprint = {
            "format": 1,
            "backbone": name,
            "weights": hash_weights(extractor),
            "layers": [{"name": n, "width": w} for n, w in zip(self.layers, self.widths, strict=True)],
            "pooling": "global average",
            "preprocessing": {
                "orientation": "exif",
                "colour": "RGB",
                "resize": preset.resize_size[0],
                "crop": preset.crop_size[0],
                "interpolation": preset.interpolation.value,
                "antialias": preset.antialias,
                "mean": list(preset.mean),
                "std": list(preset.std),
            },
            "decoder": describe_decoder(),
            "tier": tier,
            "dtype": "float32",
        }
        if tier == "fast":
            self.fingerprint["preprocessing"]["shortcuts"] = "scaled decoding, resize of uint8"
            self.fingerprint["runtime"], self.fingerprint["dtype"] = fast_arithmetic(self.device)
            if self.device.type == "cuda" and self.takes_shortcuts and (version := torchcodec_version()):
                self.decodes_on_gpu = True
                self.fingerprint["preprocessing"]["shortcuts"] += (
                    ", JPEG decoded by the GPU and resized in half precision"
                )
                self.fingerprint["decoder"] += f", torchcodec {version}"

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
        return 2 * self.preset.resize_size[0] if self.tier == "fast" else None

    @property
    def takes_shortcuts(self) -> bool:
        """Whether `pixels` are resized with less work than torchvision's preset takes."""
        return self.tier == "fast" and self.preset.interpolation in MODES

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Resize and crop one RGB image as the tier says: uint8 (side, side, 3), still to be normalised."""
        return self._resize_and_crop()(image)

    def preparation(self, views: dict | None = None) -> Preparation:
        """How the bytes of an image become pixels, without the network: it can be sent to another process."""
        on_gpu = self.decodes_on_gpu and not views
        return Preparation(self._resize_and_crop(), self.reduce_to, views, on_gpu)

    def _resize_and_crop(self):
        preset = self.preset
        size, crop = preset.resize_size[0], preset.crop_size[0]
        if self.takes_shortcuts:
            return partial(resize_and_crop_quickly, size, crop, MODES[preset.interpolation])
        return partial(resize_and_crop_image, size, crop, Image.Resampling[preset.interpolation.name])

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        """Resize, crop and normalise one RGB image as the weights want it: float32 (3, side, side).

        This is the exact tier's, whatever the backbone's; with `embed` it is what every runtime is held to.
        """
        return self.preset(image)

    def embed(self, batch: torch.Tensor) -> np.ndarray:
        """Embed preprocessed images.

        Parameters
        ----------
        batch : tensor of shape (n, 3, side, side), float32

        Returns
        -------
        ndarray of shape (n, width), float32
        """
        return torch.cat(self._outputs(batch), dim=1).cpu().numpy()

    def _outputs(self, batch):
        with torch.inference_mode(), gpu_arithmetic(self.device, exact=True):
            outputs = self.network(batch.to(self.device, non_blocking=True))
            return [self.pool(layer, outputs[layer]) for layer in self.layers]

    def pool(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Average what a layer gives over places or tokens: (n, width)."""
        if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4):
            shape = tuple(getattr(output, "shape", ())) or type(output).__name__
            raise FtransferError(
                f"layer {layer} of {self.name} gives {shape}, neither a vector, tokens nor a map"
            )
        if output.ndim == 4:
            # torchvision's swin transformers alone keep the channels last inside
            channels_last = self.name.startswith("swin") and layer.split(".")[0] in ("features", "norm")
            return output.mean(dim=(1, 2) if channels_last else (2, 3))
        return output.mean(dim=1) if output.ndim == 3 else output


def _classifier_input(model: nn.Module, nodes: list[str]) -> str:
    return nodes[_classifier(model, nodes) - 1]


def _classifier(model: nn.Module, nodes: list[str]) -> int:
    """Place the last layer with weights among the nodes: it is the classifier."""
    modules = dict(model.named_modules())
    return max(i for i, n in enumerate(nodes) if isinstance(modules.get(n), nn.Linear | nn.Conv2d))


def describe_decoder() -> str:
    """Name the decoder as far as it decides pixels: patch releases do not."""
    import PIL

    release = ".".join(PIL.__version__.split(".")[:2])
    return f"pillow {release}, libjpeg-turbo {features.version('libjpeg_turbo')}, torchvision preset"
