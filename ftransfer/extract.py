"""From a table of images to a feature set: what is there is kept, what is new is embedded."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import pandas as pd

from ftransfer.backbone import Backbone
from ftransfer.devices import embed_on_devices
from ftransfer.engine import embed_rows
from ftransfer.features import FeatureSet
from ftransfer.fidelity import compare_tiers
from ftransfer.plan import pending_rows
from ftransfer.runtime import make_runtime


@dataclass
class Summary:
    """What an extraction did.

    Attributes
    ----------
    images, computed, reused : int
        Images listed; embeddings computed now; images whose embedding was there (or came twice).
    failed : list of (path, reason)
    replaced : int
        Rows from other folders that this run's rows took the place of, being of the same domain.
    seconds : float
    runtime : str
        What computed, with its version.
    drift : dict, optional
        Of the fast tier: how far a sample lies from the exact one, see `compare_tiers`.
    """

    images: int
    computed: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    replaced: int = 0
    seconds: float = 0.0
    runtime: str = ""
    drift: dict | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction; what was finished is committed, and the message says how much."""


def extract_features(
    images: pd.DataFrame,
    out,
    backbone: Backbone,
    *,
    batch_size: int | str = "auto",
    workers: int | None = None,
    strict: bool = False,
    views: dict | None = None,
    devices: Sequence[str] = (),
    progress: Callable[[int], None] = lambda n: None,
) -> FeatureSet:
    """Embed images with a frozen backbone into the feature set `out`; go on where it was stopped.

    Parameters
    ----------
    images : DataFrame
        From `find_images`: ``root, path, label, domain``.
    out : str or path
        Folder of the feature set, or its URL. Rows of the same root or domain are replaced in its manifest, others
        are kept; an embedding that is there already is not computed again.
    backbone : Backbone
    batch_size : int or "auto"
        Images in a forward pass, see `make_runtime`. A batch that is not full is filled up, so that all have
        one shape.
    workers : int, optional
        Threads that read and decode, beside a GPU processes. Default: the usable cores; for images in a store more,
        as they mostly wait.
    strict : bool, default=False
        Whether the first image that cannot be read stops the run.
    views : dict, optional
        From `describe_views`: embed several views of each image.
    devices : sequence of str, optional
        Devices of this machine to compute on, a process each. Default: the backbone's alone.
    progress : callable
        Called with the number of images dealt with since the last call.

    Returns
    -------
    FeatureSet, with the attribute ``summary``.

    Raises
    ------
    FtransferError
        If `out` holds another recipe or cannot be written; with `strict`, for an unreadable image.
    Interrupted
        On Ctrl-C, after what was finished was committed.
    """
    started = time.monotonic()
    features = FeatureSet.create(out, backbone.recipe | ({"views": views} if views else {}))
    features.write_origin(backbone.origin)
    manifest, replaced = features.list_rows(lambda old: pending_rows(old, images))
    summary = Summary(len(manifest), replaced=replaced)
    runtime = partial(make_runtime, backbone, len(manifest) * features.n_views, batch_size)
    options = {"workers": workers, "strict": strict, "progress": progress}
    try:
        if len(devices) > 1:
            several = {"devices": devices, "batch_size": batch_size}
            embed_on_devices(embed_rows, features, backbone, manifest, summary, **several, **options)
        else:
            embed_rows(features, backbone, manifest, summary, runtime, **options)
    except KeyboardInterrupt:
        raise interrupted(manifest, out) from None
    finally:
        features.update_rows(manifest)
    return conclude(features, backbone, manifest, summary, started)


def conclude(features, backbone, manifest: pd.DataFrame, summary: Summary, started: float) -> FeatureSet:
    """Measure how far the fast tier drifts, if it computed, and how long it took; `started` by `time.monotonic`."""
    if backbone.tier == "fast" and summary.computed:
        with suppress(OSError, ValueError):  # an image may have gone since
            summary.drift = compare_tiers(features, backbone, manifest)
    summary.seconds = time.monotonic() - started
    features.summary = summary
    return features


def interrupted(manifest: pd.DataFrame, out) -> Interrupted:
    """Say how much of an interrupted extraction is kept."""
    done = int((manifest["status"] != "pending").sum())
    return Interrupted(
        f"interrupted: {done} of {len(manifest)} images are kept in {out}; the same command goes on from there"
    )
