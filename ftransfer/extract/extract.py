"""From a table of images to a feature set: what is there is kept, what is new is embedded."""

import time
from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.runtime import make_runtime
from ftransfer.extract.devices import embed_on_devices
from ftransfer.extract.engine import embed_rows
from ftransfer.extract.plan import pending_rows
from ftransfer.extract.summary import Summary, conclude, interrupted
from ftransfer.features.feature_set import FeatureSet


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
        If `out` holds another fingerprint or cannot be written; with `strict`, for an unreadable image.
    Interrupted
        On Ctrl-C, after what was finished was committed.
    """
    started = time.monotonic()
    features = FeatureSet.create(out, backbone.fingerprint | ({"views": views} if views else {}))
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
