"""ftransfer extract."""

import json
from dataclasses import asdict

import click

from ftransfer.cli.progress import progress_bar


@click.command()
@click.argument("images")
@click.option("--out", required=True, help="Folder of the feature set; extended if it is there.")
@click.option("--domain", help="Name of the domain, where all of IMAGES are one.")
@click.option(
    "--labels/--no-labels", default=True, help="Whether folder names are labels.  [default: labels]"
)
@click.option("--backbone", default="resnet50", show_default=True, help="See ftransfer backbones.")
@click.option(
    "--weights",
    default="DEFAULT",
    show_default=True,
    help="DEFAULT, a name (IMAGENET1K_V1), a file, or random.",
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Node of the graph; may be repeated.  [default: classifier's input]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 ...")
@click.option("--batch-size", default="auto", show_default=True, help="Images in a forward pass.")
@click.option("--workers", type=click.IntRange(1), help="Threads that decode.  [default: usable cores]")
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be read.")
@click.option("--allow-outside", is_flag=True, help="Let a table name images outside its folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def extract(
    images,
    out,
    domain,
    labels,
    backbone,
    weights,
    layers,
    device,
    batch_size,
    workers,
    strict,
    allow_outside,
    as_json,
):
    """Turn IMAGES into the feature set OUT with a frozen CNN.

    IMAGES is a folder <root>/<domain>/<class>/*, a folder <root>/<class>/* with --domain, a .csv or
    .parquet table with the columns path, label, domain, or a data set of torchvision such as
    torchvision:CIFAR10 or torchvision:CIFAR100:test. Stopped and started again, it goes on where it was.
    """
    if batch_size != "auto" and not (batch_size.isdigit() and int(batch_size) > 0):
        raise click.BadParameter("a positive whole number, or auto", param_hint="--batch-size")
    from ftransfer.backbone import PHOTO_HINT, Backbone
    from ftransfer.extract import extract_features
    from ftransfer.images import find_images, looks_like_photographs

    table = find_images(images, domain=domain, labels=labels, allow_outside=allow_outside)
    network = Backbone(backbone, weights, layers, device)
    if not network.sees_photographs and looks_like_photographs(table):
        click.echo(f"warning: {PHOTO_HINT}", err=True)
    with progress_bar(len(table), " images", f"{backbone} on {network.device}") as bar:
        features = extract_features(
            table,
            out,
            network,
            batch_size=batch_size if batch_size == "auto" else int(batch_size),
            workers=workers,
            strict=strict,
            progress=bar.update,
        )
    if as_json:
        click.echo(json.dumps({"out": str(out), **asdict(features.summary)}))
    else:
        click.echo(describe(features, out))


def describe(features, out) -> str:
    """Say in a few lines what an extraction did."""
    did = features.summary
    rate = f", {did.computed / did.seconds:.0f} images/s" if did.computed and did.seconds > 1 else ""
    lines = [
        f"{out}: {did.images} images, {features.width} numbers each "
        f"({did.computed} computed, {did.reused} already there or the same picture twice{rate})"
    ]
    if did.replaced:
        lines.append(f"{did.replaced} images of the same domains in another folder were replaced by these")
    if did.failed:
        lines.append(f"{len(did.failed)} could not be read and are marked so in the manifest:")
        lines += [f"  {path}: {reason}" for path, reason in did.failed[:10]]
        lines += [f"  and {len(did.failed) - 10} more"] if len(did.failed) > 10 else []
    for domain, rows in features.complete.query("status == 'ok'").groupby("domain"):
        labelled = rows["label"].notna().sum()
        classes = f"{rows['label'].nunique()} classes" if labelled else "no labels"
        some = f", {len(rows) - labelled} of them unlabelled" if 0 < labelled < len(rows) else ""
        lines.append(f"  {domain}: {len(rows)} images, {classes}{some}")
    return "\n".join(lines)
