"""From a table of images to a feature set: what is there is kept, what is new is embedded."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Unpack

import pandas as pd

from ftransfer.backbone.backbone import Backbone
from ftransfer.backbone.runtime import make_runtime
from ftransfer.extract.devices import embed_on_devices
from ftransfer.extract.engine import embed_rows
from ftransfer.extract.running import Options, Running
from ftransfer.extract.summary import conclude, extraction
from ftransfer.features.feature_set import FeatureSet


def extract_features(
    images: pd.DataFrame,
    out: str | Path,
    backbone: Backbone,
    *,
    views: dict | None = None,
    devices: Sequence[str] = (),
    **running: Unpack[Options],
) -> FeatureSet:
    """Embed images with a frozen backbone into the feature set `out`; resume if interrupted.

    Parameters
    ----------
    images : DataFrame
        From `find_images`: ``root, path, label, domain``.
    out : str or path
        Folder of the feature set, or its URL. Images are added to its manifest; those whose file is no longer there
        leave it. Existing embeddings are not computed again.
    backbone : Backbone
    views : dict, optional
        From `describe_views`: embed several views of each image.
    devices : sequence of str, optional
        Devices of this machine, one process each. Default: the backbone's device.
    **running
        ``batch_size``, ``workers``, ``strict``, ``replace`` and ``progress``, see `ftransfer.extract.running.Running`.

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
    started, how = time.monotonic(), Running(**running)
    how.check(views["count"] if views else 1)
    with extraction(images, out, backbone, views, how.replace) as (features, manifest, summary):
        if len(devices) > 1:
            embed_on_devices(features, backbone, manifest, summary, devices, how)
        else:
            make = partial(make_runtime, backbone, len(manifest) * features.n_views, how.batch_size)
            embed_rows(features, backbone, manifest, summary, make, how)
    return conclude(features, backbone, manifest, summary, started)
