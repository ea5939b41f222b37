"""ftransfer backbones."""

import json
from fnmatch import fnmatch

import click

from ftransfer.cli import complete
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import say
from ftransfer.errors import FtransferError


@click.command()
@click.argument(
    "patterns_or_features", shell_complete=complete.folders, nargs=-1, metavar="[PATTERN...] or FEATURES..."
)
@click.option("--rank", is_flag=True, help="Rank FEATURES: feature sets of the same images.")
@click.option(
    "--source",
    shell_complete=complete.domains,
    help="With --rank: the labelled domain.  [default: the only one with labels]",
)
@click.option("--json", "as_json", is_flag=True, help="With --rank: print the table as JSON.")
def backbones(patterns_or_features: tuple[str, ...], rank: bool, source: str | None, as_json: bool) -> None:
    """List the backbones that extract can run, or rank feature sets for a task.

    A PATTERN such as 'vit*' or 'timm:*dinov2*' lists those that match it, of timm too, where it is installed.

    With --rank, the backbones and layers of FEATURES are ranked by how well they explain the source's labels (LogME,
    the H-score with a shrunk covariance). LEEP and NCE need logits: a layer named fc, classifier or head, which
    `ftransfer extract --layer` gives. Target labels are not used.
    """
    if (rank and not patterns_or_features) or (not rank and (source or as_json)):
        raise click.UsageError(
            "to rank feature sets: ftransfer backbones --rank FEATURES... [--source DOMAIN], without other options"
        )
    if rank:
        say(_rank(patterns_or_features, source, as_json))
    else:
        say(_list(patterns_or_features))


def _list(patterns: tuple[str, ...]) -> str:
    from torchvision.models import get_model_weights

    from ftransfer.backbone.backbone import list_backbones
    from ftransfer.backbone.names import PHOTO_HINT
    from ftransfer.backbone.timm_models import PREFIX, list_timm

    lines = []
    for name in list_backbones():
        if not patterns or any(fnmatch(name, pattern) for pattern in patterns):
            weights = ["DEFAULT"] if name == "small_cnn" else [w.name for w in get_model_weights(name)]
            lines.append(f"{name:<20} {' '.join(weights)}")
    for pattern in patterns:
        lines += list_timm(pattern) if pattern.startswith(PREFIX) else []
    if not lines:
        raise FtransferError(
            f"no backbone matches {' or '.join(patterns)}; those of timm match '{PREFIX}*'; feature sets are "
            f"ranked by --rank"
        )
    if not patterns:
        say(f"note: {PHOTO_HINT}", err=True)
        lines += [f"{PREFIX}NAME            any timm model: ftransfer backbones '{PREFIX}*dinov2*'"]
        lines += ["FILE.py              your own network: a file that defines model and transforms"]
    return "\n".join(lines)


def _rank(folders: tuple[str, ...], source: str | None, as_json: bool) -> str:
    from ftransfer.compare.backbones import rank_features
    from ftransfer.features.feature_set import FeatureSet

    sets = [FeatureSet(folder) for folder in folders]
    with progress_bar(0, " layers", "rank") as bar:
        ranked = rank_features(sets, source, progress=bar.update)
    if as_json:
        table = ranked.astype(object).where(ranked.notna(), None)
        return json.dumps({**ranked.attrs, "ranked": table.to_dict("records")})
    shown = ranked.drop(columns="features" if len(sets) == 1 else []).rename(
        columns={"logme": "LogME", "h_score": "H-score", "leep": "LEEP", "nce": "NCE"}
    )
    unknown = ["LEEP", "NCE"] if shown["LEEP"].isna().all() else []
    lines = [shown.drop(columns=unknown).to_string(index=False, float_format="{:.3f}".format, na_rep="")]
    lines += [f"note: {note}" for note in ranked.attrs["notes"]]
    lines.append(
        f"By {ranked.attrs['rows']} labelled images of {ranked.attrs['source']}; higher is better in every "
        f"column. The H-score increases with the number of features."
    )
    return "\n".join(lines)
