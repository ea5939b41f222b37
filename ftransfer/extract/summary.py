"""What an extraction did, for people."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pandas as pd

from ftransfer.backbone.backbone import Backbone
from ftransfer.extract.drift import compare_tiers
from ftransfer.extract.plan import Leaving, pending_rows
from ftransfer.features.feature_set import FeatureSet
from ftransfer.features.probe import keep_probe
from ftransfer.storage.places import Place


@dataclass
class Summary:
    """What an extraction did.

    Attributes
    ----------
    images, computed, reused : int
        Images listed; embeddings computed now; images whose embedding was there (or came twice).
    failed : list of (path, reason)
    replaced : int
        Rows from other folders that left, being of the same domain: their files are gone, or it was asked for.
    kept : int
        Rows from other folders that stay beside this run's, though of the same domain.
    passed_over : dict of str to int
        Files that look like pictures and were not read, and folders, by kind.
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
    kept: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    runtime: str = ""
    drift: dict | None = None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an extraction; what was finished is committed, and the message says how much."""


@contextmanager
def extraction(
    images: pd.DataFrame, out: str | Place, backbone: Backbone, views: dict | None, replace: bool
) -> Iterator[tuple[FeatureSet, pd.DataFrame, Summary]]:
    """Open the feature set `out` for these images, and put into its manifest what became of its rows meanwhile.

    Yields
    ------
    features : FeatureSet
    manifest : DataFrame
        A row for each image, to be changed in place.
    summary : Summary

    Raises
    ------
    Interrupted
        In place of a KeyboardInterrupt.
    """
    features = FeatureSet.create(out, backbone.fingerprint | ({"views": views} if views else {}))
    features.write_origin(backbone.origin)
    keep_probe(features, backbone.probe)
    leaving = Leaving(replace)
    manifest, replaced = features.list_rows(lambda old: pending_rows(old, images), leaving)
    summary = Summary(len(manifest), replaced=replaced, kept=leaving.kept)
    summary.passed_over = images.attrs.get("passed_over", {})
    try:
        yield features, manifest, summary
    except KeyboardInterrupt:
        done = int((manifest["status"] != "pending").sum())
        raise Interrupted(
            f"interrupted: {done} of {len(manifest)} images are kept in {out}; run the same command again to resume"
        ) from None
    finally:
        features.update_rows(manifest)


def conclude(
    features: FeatureSet, backbone: Backbone, manifest: pd.DataFrame, summary: Summary, started: float
) -> FeatureSet:
    """Measure how far the fast tier drifts, if it computed, and how long it took; `started` by `time.monotonic`."""
    if backbone.tier == "fast" and summary.computed:
        with suppress(OSError, ValueError):  # an image may have gone since
            summary.drift = compare_tiers(features, backbone, manifest)
    summary.seconds = time.monotonic() - started
    features.summary = summary
    return features
