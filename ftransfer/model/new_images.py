"""New images for a model: found, embedded by the backbone that its fingerprint names, and checked."""

import json
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from safetensors.numpy import load, save

from ftransfer.errors import FtransferError
from ftransfer.features.fingerprint import name_difference
from ftransfer.features.probe import compare_lengths, compare_probes, read_probe
from ftransfer.features.protocol import Features
from ftransfer.images.find import find_images
from ftransfer.images.kinds import is_image
from ftransfer.images.pixels import eight_bits
from ftransfer.images.table import COLUMNS, TABLES, names_domains
from ftransfer.storage.places import Remote, is_remote, place

DOMAIN = "new"  # of images that a model labels
MAX_SIDE = 4096  # pixels of an image, as far as a model file says how many


def find_new_images(
    location: Any,
    *,
    allow_outside: bool = False,
    labelled: bool = False,
    columns: dict[str, str | None] | None = None,
) -> pd.DataFrame:
    """List images: a folder however deep, a table, a data set of torchvision, or one file.

    With `labelled` as `find_images` does it, with domains and labels; class folders alone are of one domain, as is a
    table without a column of domains. `columns` as it takes them.
    """
    path = place(str(location))
    if path.is_file() and is_image(path.name):
        return _table([path])
    if labelled:
        if path.suffix.lower() in TABLES and path.is_file():
            one = not names_domains(path, (columns or {}).get("domain"))
        else:
            one = path.is_dir() and not any(path.glob("*/*/*"))
        return find_images(
            location, domain=DOMAIN if one else None, allow_outside=allow_outside, columns=columns
        )
    return find_images(location, domain=DOMAIN, labels=False, allow_outside=allow_outside, columns=columns)


def _table(paths: Sequence[Any]) -> pd.DataFrame:
    roots = [str(p.parent) if isinstance(p, Remote) else "" for p in paths]
    names = [p.name if root else str(p) for p, root in zip(paths, roots, strict=True)]
    table = pd.DataFrame({"root": roots, "path": names, "label": None, "domain": DOMAIN})
    return table[COLUMNS].astype(object)


def find_backbone(
    fingerprint: dict,
    origin: str = "",
    weights: str | Path | None = None,
    device: str = "auto",
    statistics: dict | None = None,
    *,
    probe: np.ndarray | None = None,
    named: Any = None,
) -> Any:
    """Build the backbone that a fingerprint names, its weights found by the hash of their values.

    Parameters
    ----------
    fingerprint : dict
        Of a feature set, or of the new images of a `Model` (`Model.fingerprint_of_new`).
    origin : str
        Where the weights came from, as the feature set or the model notes it: where to look first.
    weights : str or path, optional
        As `Backbone` takes it. Default: what `origin` names, then published weights that torchvision has
        in its cache.
    device : str
    statistics : dict of str to ndarray, optional
        Batch-norm statistics of the images' domain, where the fingerprint names any.
    probe : ndarray of float32, optional
        What the backbone gave of the fixed picture when the features were made.
    named : path or Backbone, optional
        The user's own file or backbone again, where the features were made by a module: it is not run for its
        being named in a model file.

    Raises
    ------
    FtransferError
        If no weights of that hash are found, the rest of the fingerprint differs, or the statistics are not
        those that it names.
    """
    what, backbone = _build_named(fingerprint, origin, weights, device, named)
    check_fingerprint({**fingerprint, "batch_norm": None}, backbone.fingerprint, what)
    if probe is not None and backbone.probe is not None:
        compare_probes(
            probe,
            backbone.probe,
            f"the code of {backbone.name} has changed since the model's features were made",
        )
    return _adapted(backbone, fingerprint, statistics)


def _build_named(
    fingerprint: dict, origin: str, weights: str | Path | None, device: str, named: Any
) -> tuple[str, Any]:
    """Build a backbone, and say what it is for an error that follows."""
    from ftransfer.backbone.backbone import Backbone, list_backbones

    name, wanted = str(fingerprint.get("backbone"))[:200], fingerprint.get("weights")
    layers, tried = [layer["name"] for layer in fingerprint["layers"]], []
    tier = fingerprint.get("tier", "exact")
    if name.startswith("module:"):
        if named is None:
            raise FtransferError(
                f"the model's features were made by {name} (class {fingerprint.get('class')}, {origin}), and "
                f"a file is never run just because a model names it: give it as --backbone FILE.py"
            )
        if not isinstance(named, Backbone):
            named = Backbone.from_file(
                named, weights=weights or "DEFAULT", layers=layers, device=device, tier=tier
            )
        return f"{named.name} of {named.origin}", named
    if named is not None:
        raise FtransferError(
            f"the model's features were made by {name}, which is found by name: omit --backbone"
        )
    if not name.startswith("timm:") and name not in list_backbones():
        raise FtransferError(f"the model's features were made by the backbone {name}, unknown here")
    for each in [weights] if weights else _candidates(name, origin):
        backbone = Backbone(name, each, layers, device, tier, _image_size(fingerprint))
        if backbone.fingerprint["weights"] == wanted:
            return f"a backbone with the weights {each}", backbone
        tried.append(f"{each} is {backbone.fingerprint['weights'][:19]}...")
    raise FtransferError(
        f"the model needs the weights of {name} with the hash "
        f"{str(wanted)[:19]}...{origin and f', from {origin}'}; "
        f"{'; '.join(tried) or 'none are in the cache'}; give the checkpoint used for the features: --weights FILE"
    )


def _image_size(fingerprint: dict) -> int | None:
    """Return the side in pixels that a fingerprint names; it may come from a stranger."""
    size = fingerprint.get("preprocessing", {}).get("crop")
    return size if type(size) is int and 0 < size <= MAX_SIDE else None


def _adapted(backbone: Any, fingerprint: dict, statistics: dict | None) -> Any:
    """Give the backbone the batch-norm statistics that the fingerprint names, if it names any."""
    named = fingerprint.get("batch_norm")
    if not named:
        return backbone
    import torch

    from ftransfer.backbone.weights import hash_weights

    if statistics is None:
        raise FtransferError(
            "the model's target was embedded with its own batch-norm statistics, which were missing when it "
            "was fitted; run the same ftransfer extract --adapt-bn again, then ftransfer fit"
        )
    network = backbone.network
    state, given = network.state_dict(), {name: torch.from_numpy(v.copy()) for name, v in statistics.items()}
    fits = all(name in state and state[name].shape == values.shape for name, values in given.items())
    if fits:
        network.load_state_dict(given, strict=False)
    if not fits or hash_weights(network) not in named.values():
        raise FtransferError(
            "the model is damaged: its batch-norm statistics are not those that its fingerprint names"
        )
    backbone.fingerprint["batch_norm"] = named
    return backbone


def _candidates(name: str, origin: str) -> list[str]:
    """Name the weights that may be meant: what the origin says, and what torchvision has in its cache."""
    import torch.hub
    from torchvision.models import get_model_weights

    if name.startswith("timm:"):
        return ["random"] if origin.startswith("random") else ["DEFAULT"] if "published" in origin else []
    if name == "small_cnn":
        return ["random", "DEFAULT"] if origin.startswith("random") else ["DEFAULT", "random"]
    published = list(get_model_weights(name))
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    named = [w.name for w in published if origin.endswith(f".{w.name}")]
    cached = [w.name for w in published if (cache / w.url.rsplit("/", 1)[1]).is_file()]
    random = ["random"] if origin.startswith("random") else []
    return list(dict.fromkeys([*named, *random, *cached]))


def check_features(model: Any, features: Features) -> str:
    """Refuse features that are not what a model takes: of another fingerprint, by changed code, of another scale.

    Returns
    -------
    str
        A note as of `check_fingerprint`.
    """
    given, what = features.fingerprint, str(features.folder)
    note = check_fingerprint(model.fingerprint_like(given), given, what)
    probe = read_probe(features) if model.probe is not None else None
    if probe is not None and given.get("backbone") == "imported":
        compare_lengths(model.probe, probe, what)
    elif probe is not None:
        compare_probes(model.probe, probe, f"{what} was made by different code than the model's features")
    return note


def check_fingerprint(wanted: dict, given: dict, what: str) -> str:
    """Refuse features of another fingerprint than the model's, with the difference named.

    Returns
    -------
    str
        A note where only the decoder differs, which moves a pixel by a grey level or two; else empty.
    """
    # how rows are matched shapes no number
    apart = {"decoder": None, "rows": None}
    differs = fingerprint_difference(given | apart, wanted | apart)
    if differs:
        raise FtransferError(f"{what} was computed with other settings than the model's features: {differs}")
    if given.get("decoder") == wanted.get("decoder"):
        return ""
    return (
        f"these images were decoded by {given.get('decoder')}, those of the model by "
        f"{wanted.get('decoder')}: features may differ slightly"
    )


def fingerprint_difference(given: dict, wanted: dict) -> str:
    """Name what differs between the features that are there and those that a model takes."""
    return name_difference(given, wanted, words=("there", "in the model"))


def embed(
    model: Any,
    images: pd.DataFrame,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    backbone: Any = None,
) -> np.ndarray:
    """Embed images as the model's fingerprint says; see `Model.predict`."""
    from ftransfer.extract.extract import extract_features

    if backbone is not None:  # a user's own, which may have changed since
        backbone = find_model_backbone(model, weights, device, backbone)
    else:
        backbone = _kept_backbone(model, weights and str(weights), device)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(images, list):
            table = _table([_file(image, Path(folder), i) for i, image in enumerate(images)])
        else:
            table = find_new_images(images)
        features = extract_features(table, Path(folder) / "features", backbone)
        if features.summary.failed:
            path, reason = features.summary.failed[0]
            raise FtransferError(f"{path} cannot be read: {reason}")
        return features.load(features.complete)


def find_model_backbone(
    model: Any, weights: str | Path | None = None, device: str = "auto", named: Any = None
) -> Any:
    """Build the backbone that embeds new images for a model; see `find_backbone`."""
    options = {"probe": model.probe, "named": named}
    return find_backbone(model.fingerprint_of_new, model.origin, weights, device, model.statistics, **options)


def _kept_backbone(model: Any, weights: str | Path | None, device: str) -> Any:
    """Keep the backbone of the last call: images may come one at a time."""
    statistics = model.statistics and save(model.statistics)
    probe = None if model.probe is None else model.probe.tobytes()
    return _backbone(json.dumps(model.fingerprint_of_new), model.origin, weights, device, statistics, probe)


@lru_cache(maxsize=1)
def _backbone(
    fingerprint: str,
    origin: str,
    weights: str | Path | None,
    device: str,
    statistics: bytes | None,
    probe: bytes | None,
) -> Any:
    own = load(statistics) if statistics else None
    probe = None if probe is None else np.frombuffer(probe, np.float32)
    return find_backbone(json.loads(fingerprint), origin, weights, device, own, probe=probe)


def _file(image: Any, folder: Path, i: int) -> Any:
    """Name the file of an image; one in memory is written to a file, pixel for pixel, as far as files are read."""
    if not isinstance(image, Image.Image):
        return place(image) if is_remote(image) else image
    kind = image.format or ""
    try:
        image = eight_bits(ImageOps.exif_transpose(image), kind)
    except ValueError as error:
        raise FtransferError(f"image {i} (from 0) cannot be used: {error}") from error
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):  # PNG cannot hold the others
        image = image.convert("RGB")
    image.save(folder / f"{i}.png")
    return folder / f"{i}.png"
