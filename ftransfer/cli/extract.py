"""ftransfer extract."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import click

from ftransfer.cli import complete, options
from ftransfer.cli.interrupt import wait_for_workers
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import one_line, say, say_warning, visible
from ftransfer.errors import FtransferError

ALL_DOMAINS = "*"  # what --adapt-bn stands for without a value


class BatchSize(click.ParamType):
    """A number of images, or auto."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Turn text into "auto" or an int above 0."""
        if value != "auto" and not (str(value).isdigit() and int(value) > 0):
            self.fail("a positive whole number, or auto", param, ctx)
        return value if value == "auto" else int(value)


@click.command()
@click.argument("images", shell_complete=complete.paths)
@click.option(
    "--out",
    shell_complete=complete.folders,
    required=True,
    help="Folder of the feature set; extended if it exists.",
)
@click.option("--domain", help="Name of the domain, if all IMAGES belong to one.")
@click.option(
    "--labels/--no-labels", default=True, help="Whether folder names are labels.  [default: labels]"
)
@click.option(
    "--label-column",
    "label_columns",
    multiple=True,
    help="Label column of a table; repeat it for several tasks.  [default: label]",
)
@options.domain_column
@options.path_column
@click.option(
    "--layout",
    metavar="LEVELS",
    help="Meaning of each folder level: domain/*/class, class/domain ...  [default: domain/class]",
)
@options.backbone
@options.weights("DEFAULT, a name (IMAGENET1K_V1), a file, or random.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    help="Node of the graph, or module; may be repeated.  [default: classifier's input]",
)
@options.image_size
@click.option(
    "--adapt-bn",
    shell_complete=complete.domains,
    multiple=True,
    is_flag=False,
    flag_value=ALL_DOMAINS,
    metavar="[DOMAIN]",
    help="Use batch-norm statistics of each domain's own images, or only for this domain (may be repeated).",
)
@options.device("; several separated by commas, one process each.")
@click.option(
    "--tier",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="fast: bfloat16 and faster resizing; prints the difference to exact.",
)
@click.option(
    "--batch-size",
    type=BatchSize(),
    default="auto",
    show_default=True,
    help="Images per forward pass.",
)
@click.option("--workers", type=click.IntRange(1), help="Decoding threads.  [default: usable cores]")
@click.option(
    "--views", type=click.IntRange(1), default=1, show_default=True, help="Augmented views per image."
)
@click.option(
    "--augment",
    default="flip,crop,colour",
    show_default=True,
    help="Augmentations of the views: flip,crop,shift,colour,channels,grey,invert,erase,fourier.",
)
@click.option(
    "--style-domain",
    shell_complete=complete.domains,
    metavar="DOMAIN",
    help="Target whose images give --augment fourier their colours and light.",
)
@click.option(
    "--rules-from",
    shell_complete=complete.paths,
    metavar="CHECKPOINT",
    help="Use the augmentations that this checkpoint of ftransfer finetune was trained with.",
)
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be read.")
@options.allow_outside
@options.cluster
@click.option(
    "--replace", is_flag=True, help="Remove what OUT holds of the same domains first.  [default: add to it]"
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def extract(
    images: Any,
    out: Any,
    domain: str,
    labels: tuple[str, ...],
    label_columns: tuple[str, ...],
    domain_column: str | None,
    path_column: str | None,
    layout: str | None,
    backbone: Any,
    weights: Any,
    layers: tuple[str, ...],
    image_size: int | None,
    adapt_bn: tuple[str, ...],
    device: Any,
    tier: str,
    batch_size: int,
    workers: int | None,
    views: int,
    augment: Any,
    rules_from: str | None,
    style_domain: str | None,
    strict: bool,
    allow_outside: bool,
    cluster: str | None,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compute the features of IMAGES with a frozen network, into the feature set OUT.

    IMAGES is a folder <root>/<domain>/<class>/*, a folder <root>/<class>/* with --domain, a .csv, .tsv or
    .parquet table with the columns path, label, domain, a .txt list of paths and labels, or a data set of torchvision
    such as torchvision:CIFAR10 or torchvision:CIFAR100:test.

    After an interruption, run the same command again to resume.
    """
    if adapt_bn:
        refuse_beside_adapting(dry_run, cluster)
    if cluster is not None:
        from ftransfer.cluster import check_address, extract_on_cluster

        check_address(cluster)  # a typo is said before a network is loaded
    how = {"domain": domain, "labels": labels, "allow_outside": allow_outside, "layout": layout}
    table = list_images(images, label_columns, domain_column, path_column, **how)
    from ftransfer.backbone.backbone import open_backbone
    from ftransfer.extract.extract import extract_features

    made = plan_views(views, choose_rules(views, augment, rules_from), table, style_domain)
    devices = ["cpu"] if cluster else choose_devices(device, len(table), bool(adapt_bn))
    network = open_backbone(backbone, weights, layers, devices[0], tier, image_size)
    say_notes(network, table)
    if dry_run:
        return say_plan(make_plan(table, out, network, made, replace), out, as_json)
    if adapt_bn:
        from ftransfer.extract.adapted import extract_adapted

        extract_features = partial(extract_adapted, domains=None if ALL_DOMAINS in adapt_bn else adapt_bn)
    if cluster:
        wait_for_workers()
        extract_features = partial(extract_on_cluster, cluster=cluster, device=device, warn=say_warning)
    elif len(devices) > 1:
        extract_features = partial(extract_features, devices=devices)
    where = cluster or (", ".join(devices) if len(devices) > 1 else network.device)
    with progress_bar(len(table), " images", f"{network.name} on {where}") as bar:
        features = extract_features(
            table,
            out,
            network,
            batch_size=batch_size,
            workers=workers,
            strict=strict,
            views=made,
            replace=replace,
            progress=bar.update,
        )
    features.write_training(weights)
    did = {"out": str(out), **asdict(features.summary)}
    say(json.dumps(did) if as_json else describe(features, out))
    refuse_where_none_was_read(features.summary)


def refuse_where_none_was_read(did: Any) -> None:
    """End with an error where all images failed: after the summary, which says more."""
    if len(did.failed) == did.images:
        path, reason = did.failed[0]
        raise FtransferError(f"none of the {did.images} images could be read; {path}: {reason}")


def say_notes(network: Any, table: Any) -> None:
    """Say what was done to the weights of a file, and that small_cnn never saw a photograph."""
    from ftransfer.backbone.names import PHOTO_HINT
    from ftransfer.images.read import looks_like_photographs

    for note in network.notes:
        say(f"note: {note}", err=True)
    if not network.sees_photographs and looks_like_photographs(table):
        say_warning(PHOTO_HINT)


def refuse_beside_adapting(dry_run: bool, cluster: str | None) -> None:
    """Refuse what does not go with --adapt-bn."""
    if dry_run:
        raise click.UsageError(
            "--dry-run cannot be combined with --adapt-bn, whose statistics are part of the fingerprint"
        )
    if cluster:
        raise click.UsageError(
            "--adapt-bn does not run on a cluster; use ftransfer finetune --adapt-bn and pass its checkpoint "
            "as --weights"
        )


def choose_rules(count: int, augment: str, rules_from: str | None) -> str:
    """Name the augmentations of the views, or those of a checkpoint."""
    if not rules_from:
        return augment
    if count == 1:
        raise click.UsageError("--rules-from needs the number of views per image, such as --views 4")
    from ftransfer.finetune.rules import read_rules

    return ",".join(read_rules(rules_from))


def plan_views(count: int, names: str, table: Any, style_domain: str | None) -> dict | None:
    """Describe the views; read some images of the domain whose look one of the augmentations takes."""
    from ftransfer.images.styles import read_styles
    from ftransfer.images.views import describe_views

    return describe_views(count, names, read_styles(table, style_domain) if style_domain else ())


def choose_devices(device: str, n_images: int, adapts: bool) -> list[str]:
    """Name the devices to compute on: one alone where batch norm is adapted."""
    from ftransfer.extract.devices import name_devices

    devices = name_devices(device, n_images)
    if adapts and len(devices) > 1 and device != "auto":
        raise click.UsageError("--adapt-bn needs a single device")
    return devices[:1] if adapts else devices


def list_images(
    images: str,
    label_columns: Sequence[str],
    domain_column: str | None,
    path_column: str | None,
    **options: Any,
) -> Any:
    """List the images, with the labels of all columns that are named, and say how folders were understood."""
    from ftransfer.features.manifest import LABELS
    from ftransfer.images.find import find_images
    from ftransfer.images.table import read_label_columns

    columns = {"label": next(iter(label_columns), None), "domain": domain_column, "path": path_column}
    table = find_images(images, columns=columns, **options)
    found = table.attrs
    if label_columns:
        table = table.join(read_label_columns(images, label_columns).add_prefix(LABELS))
        table.attrs = found
    for note in found["notes"]:
        say(f"note: {one_line(note)}", err=True)
    return table


def say_plan(plan: Any, out: Any, as_json: bool) -> None:
    """Print what is left to do."""
    say(json.dumps({"out": str(out), **asdict(plan)}) if as_json else f"{out}: {plan}")


def make_plan(table: Any, out: str, backbone: Any, views: dict | None, replace: bool) -> Any:
    """Say what an extraction would do."""
    from ftransfer.extract.plan import plan_extraction

    with progress_bar(len(table), " images", "reading") as bar:
        fingerprint = backbone.fingerprint | ({"views": views} if views else {})
        return plan_extraction(table, out, fingerprint, replace=replace, progress=bar.update)


def describe(features: Any, out: Any) -> str:
    """Say in a few lines what an extraction did."""
    from ftransfer.images.kinds import describe_passed_over

    did = features.summary
    rate = f", {did.computed / did.seconds:.0f} images/s" if did.computed and did.seconds > 1 else ""
    lines = [
        f"{out}: {did.images} images, {features.width} features each ({did.computed} computed, {did.reused} "
        f"cached or duplicate{rate})"
    ]
    if did.drift:
        lines.append(
            f"fast against exact on {did.drift['images']} images: centred cosine {did.drift['centred_cosine']:.4f}, "
            f"{did.drift['neighbour_overlap']:.0%} of the nearest neighbours identical"
        )
    if did.replaced:
        lines.append(f"{did.replaced} images of the same domains in another folder were replaced by these")
    if did.kept:
        lines.append(
            f"added to {did.kept} images of the same domains from elsewhere; --replace removes those"
        )
    if passed := describe_passed_over(did.passed_over):
        lines.append(passed)
    lines += features.set_aside
    if did.failed:
        lines.append(f"{len(did.failed)} could not be read (status error in the manifest):")
        lines += [f"  {visible(path)}: {visible(reason)}" for path, reason in did.failed[:10]]
        lines += [f"  and {len(did.failed) - 10} more"] if len(did.failed) > 10 else []
    manifest = features.manifest
    if pending := int((manifest["status"] == "pending").sum()):
        lines.append(f"{pending} images of another extraction into {out} are still pending")
    for domain, rows in manifest.query("status == 'ok'").groupby("domain"):
        labelled = rows["label"].notna().sum()
        classes = f"{rows['label'].nunique()} classes" if labelled else "no labels"
        some = f", {len(rows) - labelled} of them unlabelled" if 0 < labelled < len(rows) else ""
        lines.append(f"  {visible(domain)}: {len(rows)} images, {classes}{some}")
    return "\n".join(lines)
