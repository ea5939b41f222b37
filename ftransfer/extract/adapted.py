"""Embed domains by batch-norm statistics of their own (AdaBN)."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Unpack

import pandas as pd
import torch

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.batch_norm import adapt_batch_norm
from ftransfer.errors import FtransferError, unknown, warn_user
from ftransfer.extract.extract import extract_features
from ftransfer.extract.plan import pending_rows
from ftransfer.extract.running import Options, untold
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.statistics import read_statistics, write_statistics
from ftransfer.storage.places import place


def extract_adapted(
    images: pd.DataFrame,
    out: str | Path,
    backbone: Backbone,
    domains: Iterable[str] | None = None,
    *,
    views: dict | None = None,
    **options: Unpack[Options],
) -> FeatureSet:
    """Embed images into the feature set `out`, some domains each by batch-norm statistics of its own.

    The fingerprint names the statistics of each such domain by the hash of the adapted weights; they lie in the folder
    ``adapted`` of the feature set, and a model of it takes those of its target along. Images that are added
    to a domain later change its statistics, and so belong into another feature set; where none has changed, they are
    not estimated again.

    Parameters
    ----------
    images : DataFrame
        From `find_images`: all domains of the feature set.
    out : str or path
    backbone : Backbone
    domains : sequence of str, optional
        Those that are adapted; the others keep the statistics that the backbone came with. Default: all.
    views, **options
        As `extract_features` takes them.

    Returns
    -------
    FeatureSet, with the attribute ``summary``.

    Raises
    ------
    FtransferError
        As `adapt_batch_norm` and `extract_features`; if a domain is not there, or two domains hold the same picture.
    """
    domains = list(images["domain"].unique() if domains is None else domains)
    for domain in domains:
        if domain not in set(images["domain"]):
            raise unknown("domain", domain, images["domain"].unique())
    network, fingerprint, probe = backbone.network, dict(backbone.fingerprint), backbone.probe
    plain = {k: v.clone() for k, v in network.state_dict().items()}
    states, names = {}, {}
    for domain in dict.fromkeys(domains):
        own = images[images["domain"] == domain]
        network.load_state_dict(plain)
        if not _take_kept(own, out, backbone, fingerprint, domain):
            found = adapt_batch_norm(own, backbone)
            if not found["converged"]:
                warn_user(
                    f"batch norm of domain {domain!r}: statistics did not settle; one more pass would move one by "
                    f"{min(found['changes']):.1%}"
                )
        states[domain] = {k: v.clone() for k, v in network.state_dict().items() if "running_" in k}
        names[domain] = backbone.fingerprint["weights"]
    backbone.probe = probe  # of the network as it came
    backbone.fingerprint |= fingerprint | {"batch_norm": dict(sorted(names.items()))}
    computed = 0
    for domain, own in images.groupby("domain", sort=False):
        network.load_state_dict(plain | states.get(domain, {}))
        features = extract_features(own, out, backbone, views=views, **options)
        computed += features.summary.computed
    network.load_state_dict(plain)
    options["progress"] = untold  # nothing is computed any more: all rows are listed together
    features = extract_features(images, out, backbone, views=views, **options)
    for domain, state in states.items():  # for whoever embeds further images of the domain
        write_statistics(features.folder, names[domain], {k: v.cpu().numpy() for k, v in state.items()})
    features.summary.computed, features.summary.reused = computed, len(images) - computed
    found = features.manifest.dropna(subset=["sha256"])
    twice = found[found.groupby("sha256")["domain"].transform("nunique") > 1]
    if len(twice):
        raise FtransferError(
            f"{twice['path'].iloc[0]} and {twice['path'].iloc[-1]} are the same image in two domains; with "
            f"separate batch-norm statistics it would need two embeddings, and a feature set holds one per image"
        )
    return features


def _take_kept(
    images: pd.DataFrame, out: str | Path, backbone: Backbone, fingerprint: dict, domain: str
) -> bool:
    """Give the backbone the statistics that a domain has in `out`; False where they are not of the same images.

    `fingerprint` is that of the backbone as it came. Which images are the same, path, size and time of change tell.
    """
    if not (place(out) / "fingerprint.json").is_file():
        return False
    features = FeatureSet(out)
    name = features.fingerprint.get("batch_norm", {}).get(domain)
    if name is None or features.fingerprint != fingerprint | {
        "batch_norm": features.fingerprint["batch_norm"]
    }:
        return False
    old = features.manifest[features.manifest["domain"] == domain]
    if len(old) != len(images) or pending_rows(old, images)["sha256"].isna().any():
        return False
    kept = None
    with suppress(FtransferError):  # damaged: they are estimated again
        kept = read_statistics(features, domain)
    plain = backbone.network.state_dict()
    if kept is None or {k: v.shape for k, v in kept.items()} != {
        k: tuple(v.shape) for k, v in plain.items() if "running_" in k
    }:
        return False
    before = {k: plain[k].clone() for k in kept}
    backbone.network.load_state_dict({k: torch.from_numpy(v) for k, v in kept.items()}, strict=False)
    backbone.note_weights()
    if backbone.fingerprint["weights"] != name:
        backbone.network.load_state_dict(before, strict=False)
    return backbone.fingerprint["weights"] == name
