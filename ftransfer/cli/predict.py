"""ftransfer predict."""

import json
from dataclasses import asdict

import click

from ftransfer.cli import complete, options
from ftransfer.cli.progress import progress_bar
from ftransfer.storage.places import place


@click.command()
@click.argument("run", shell_complete=complete.paths)
@click.argument("images_or_features", shell_complete=complete.paths)
@click.option(
    "--out", shell_complete=complete.paths, required=True, help="The table of labels to write, a .csv file."
)
@click.option(
    "--weights",
    shell_complete=complete.paths,
    help="The backbone's checkpoint, where it is not in torchvision's cache.",
)
@click.option(
    "--features",
    shell_complete=complete.folders,
    help="Folder to keep the images' features in.  [default: beside --out]",
)
@click.option(
    "--domain",
    shell_complete=complete.domains,
    help="Of a feature set with several domains, label this one only.",
)
@options.device()
@options.allow_outside
@click.option("--trust", multiple=True, metavar="TYPE", help="A type that the model file may hold besides.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def predict(run, images_or_features, out, weights, features, domain, device, allow_outside, trust, as_json):
    """Label IMAGES_OR_FEATURES with the model of RUN.

    RUN is a run folder of ftransfer fit, or its model.skops; of several columns of labels, all are written.
    IMAGES_OR_FEATURES is what extract takes (a folder of images however deep, a table, a data set of torchvision) or
    one image; or a feature set. The images should be like those of the run's target. Stopped and started again, it
    goes on where it was.
    """
    from ftransfer.model.model import load_models
    from ftransfer.model.new_images import DOMAIN, check_fingerprint
    from ftransfer.model.predict import write_predictions

    out = place(out)
    models = load_models(run, trusted=trust)
    model = next(iter(models.values()))  # of several columns of labels: all take the same features
    if (place(images_or_features) / "fingerprint.json").is_file():
        from ftransfer.features.feature_set import FeatureSet

        feature_set = FeatureSet(images_or_features)
    else:
        folder = features or out.with_name(f"{out.stem}.features")
        feature_set = _extract(model, images_or_features, folder, weights, device, allow_outside)
        domain = DOMAIN
    note = check_fingerprint(
        model.fingerprint_like(feature_set.fingerprint), feature_set.fingerprint, str(feature_set.folder)
    )
    if note:
        click.echo(f"note: {note}", err=True)
    try:
        with progress_bar(len(feature_set.manifest), " labels", "predict") as bar:
            did = write_predictions(models, feature_set, out, domain=domain, progress=bar.update)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: {out} is as it was, and the features are in {feature_set.folder}; "
            f"the same command goes on from there"
        ) from None
    if as_json:
        click.echo(json.dumps({"out": str(out), "features": str(feature_set.folder), **asdict(did)}))
    else:
        click.echo(describe(did, out))


def _extract(model, images, folder, weights, device, allow_outside):
    from ftransfer.extract.devices import name_devices
    from ftransfer.extract.extract import extract_features
    from ftransfer.model.new_images import find_backbone, find_new_images

    table = find_new_images(images, allow_outside=allow_outside)
    devices = name_devices(device, len(table))
    backbone = find_backbone(model.fingerprint_of_new, model.origin, weights, devices[0], model.statistics)
    where = ", ".join(devices) if len(devices) > 1 else backbone.device
    with progress_bar(len(table), " images", f"{backbone.name} on {where}") as bar:
        return extract_features(table, folder, backbone, devices=devices, progress=bar.update)


def describe(did, out) -> str:
    """Say in a few lines how many images got which label."""
    lines = [f"{out}: {did.images - did.failed} images labelled"]
    lines += [f"  {label}: {n}" for label, n in sorted(did.labels.items(), key=lambda item: -item[1])[:20]]
    lines += [f"  and {len(did.labels) - 20} more classes"] if len(did.labels) > 20 else []
    if did.far:
        lines.append(
            f"{did.far} of them lie far from what the model was fitted on (column far): look at these"
        )
    if did.failed:
        lines.append(f"{did.failed} could not be read and have no label (column error)")
    return "\n".join(lines)
