"""ftransfer backbones."""

import json

import click

from ftransfer.cli import complete
from ftransfer.cli.progress import progress_bar


@click.command()
@click.argument("features", shell_complete=complete.folders, nargs=-1)
@click.option("--rank", is_flag=True, help="Rank FEATURES, feature sets of the same images.")
@click.option(
    "--source",
    shell_complete=complete.domains,
    help="With --rank: the domain whose labels count.  [default: the only one with labels]",
)
@click.option("--json", "as_json", is_flag=True, help="With --rank: print the table as JSON.")
def backbones(features, rank, source, as_json):
    """List the backbones that extract can run, or rank feature sets for a task.

    With --rank, the backbones and layers of FEATURES are ranked by how well they explain the source's labels (LogME,
    the H-score with a shrunk covariance). LEEP and NCE need logits: a layer named fc, classifier or head, which
    `ftransfer extract --layer` gives. No label of a target is looked at.
    """
    if rank != bool(features) or (not rank and (source or as_json)):
        raise click.UsageError(
            "to rank feature sets: ftransfer backbones --rank FEATURES... [--source DOMAIN]; nothing else is taken"
        )
    click.echo(_rank(features, source, as_json) if rank else _list())


def _list() -> str:
    from torchvision.models import get_model_weights

    from ftransfer.backbone.backbone import PHOTO_HINT, list_backbones

    click.echo(f"note: {PHOTO_HINT}", err=True)
    lines = []
    for name in list_backbones():
        weights = ["DEFAULT"] if name == "small_cnn" else [w.name for w in get_model_weights(name)]
        lines.append(f"{name:<20} {' '.join(weights)}")
    return "\n".join(lines)


def _rank(folders, source, as_json) -> str:
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
        f"By {ranked.attrs['rows']} labelled images of {ranked.attrs['source']}; more is better in every column. "
        "The H-score grows with the width by itself."
    )
    return "\n".join(lines)
