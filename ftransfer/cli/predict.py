"""ftransfer predict."""

import json
from dataclasses import asdict
from typing import Any

import click

from ftransfer.cli import complete, options
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import say, spreadsheet_notes, visible
from ftransfer.storage.places import place


@click.command()
@click.argument("run", shell_complete=complete.paths)
@click.argument("images_or_features", shell_complete=complete.paths)
@click.option(
    "--out",
    shell_complete=complete.paths,
    required=True,
    help="Table of labels to write: .csv, .tsv or .parquet.",
)
@click.option(
    "--weights",
    shell_complete=complete.paths,
    help="Checkpoint of the backbone, if it is not in torchvision's cache.",
)
@click.option(
    "--features",
    shell_complete=complete.folders,
    help="Folder for the features of the images.  [default: beside --out]",
)
@click.option(
    "--domain",
    shell_complete=complete.domains,
    help="Label only this domain of a feature set.",
)
@click.option(
    "--backbone",
    shell_complete=complete.paths,
    metavar="FILE.py",
    help="The backbone file that made the features, if there was one.",
)
@click.option(
    "--accuracy",
    "count",
    is_flag=True,
    help="IMAGES_OR_FEATURES has labels, as for extract: print the accuracy.",
)
@click.option(
    "--reject",
    metavar="P|N%",
    help='Answer "unknown" if the probability is below P (0.7), or for all but the surest N% of the images (80%).',
)
@click.option("--label-column", help="With --accuracy: column of a table with labels.  [default: label]")
@options.domain_column
@options.path_column
@options.device()
@options.allow_outside
@click.option("--trust", multiple=True, metavar="TYPE", help="Additional type to trust in the model file.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def predict(
    run: str,
    images_or_features: str,
    out: Any,
    weights: Any,
    features: Any,
    domain: str,
    backbone: Any,
    count: bool,
    reject: str | None,
    label_column: str | None,
    domain_column: str | None,
    path_column: str | None,
    device: Any,
    allow_outside: bool,
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Label IMAGES_OR_FEATURES with the model of RUN.

    RUN is a run folder of ftransfer fit, its model.skops, or a checkpoint of ftransfer finetune with a classifier head;
    for several tasks all labels are written. IMAGES_OR_FEATURES is as for extract (a folder of images of any depth, a
    table, a torchvision data set), a single image, a feature set, or a table of embeddings if RUN was fitted on
    embeddings imported with a name. The images should resemble the target of the run. After an interruption, run the
    same command again to resume.
    """
    from ftransfer.model.checkpoint import is_checkpoint, models_of_checkpoint
    from ftransfer.model.model import load_models
    from ftransfer.model.new_images import DOMAIN, check_features
    from ftransfer.model.predict import refuse_other_kinds, write_predictions
    from ftransfer.model.reject import Reject, check_rejects

    out = place(out)
    passed: dict[str, dict] = {}
    refuse_other_kinds(out)  # before anything is computed
    which = Reject.read(reject) if reject else None
    if is_checkpoint(run):
        models, weights = models_of_checkpoint(run), weights or run
    else:
        models = load_models(run, trusted=trust)
    if which:
        check_rejects(models)
    model = next(iter(models.values()))  # of several columns of labels: all take the same features
    given, folder = images_or_features, features or out.with_name(f"{out.stem}.features")
    if (place(given) / "fingerprint.json").is_file():
        from ftransfer.features.feature_set import FeatureSet

        feature_set = FeatureSet(given)
    elif model.fingerprint.get("backbone") == "imported":
        from ftransfer.model.new_rows import import_new_rows

        feature_set, domain = import_new_rows(model, given, folder), DOMAIN
    else:
        columns = {"path": path_column}
        if count:
            columns |= {"label": label_column, "domain": domain_column}
        table = {"allow_outside": allow_outside, "labelled": count, "columns": columns}
        feature_set = _extract(model, given, folder, device, table, weights=weights, named=backbone)
        passed["passed_over"] = feature_set.summary.passed_over
        domain = domain if count else DOMAIN
    if note := check_features(model, feature_set):
        say(f"note: {note}", err=True)
    try:
        with progress_bar(len(feature_set.manifest), " labels", "predict") as bar:
            did = write_predictions(
                models, feature_set, out, domain=domain, count=count, reject=which, progress=bar.update
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: {out} is unchanged, and the features are kept in {feature_set.folder}; run the "
            f"same command again to resume"
        ) from None
    if as_json:
        say(json.dumps({"out": str(out), "features": str(feature_set.folder), **asdict(did), **passed}))
    else:
        say(describe(did, out))
        if count:
            say(describe_accuracy(did.accuracy))


def _extract(model: Any, images: Any, folder: Any, device: Any, table: Any, **backbone: Any) -> Any:
    from ftransfer.extract.devices import name_devices
    from ftransfer.extract.extract import extract_features
    from ftransfer.images.kinds import describe_passed_over
    from ftransfer.model.new_images import find_model_backbone, find_new_images

    table = find_new_images(images, **table)
    if passed := describe_passed_over(table.attrs.get("passed_over", {})):
        say(passed, err=True)
    devices = name_devices(device, len(table))
    backbone = find_model_backbone(model, device=devices[0], **backbone)
    where = ", ".join(devices) if len(devices) > 1 else backbone.device
    with progress_bar(len(table), " images", f"{backbone.name} on {where}") as bar:
        return extract_features(table, folder, backbone, devices=devices, progress=bar.update)


def describe_accuracy(accuracy: dict) -> str:
    """Say how many labels are right, in all and by domain."""
    counts = list(accuracy.values())
    if any("squared_errors" in each for each in counts):
        return describe_errors(accuracy)
    right, of = sum(c["right"] for c in counts), sum(c["of"] for c in counts)
    if not of:
        return "accuracy: none of the images has a label to compare with"
    lines = [f"accuracy: {right / of:.1%} of {of} images with a label"]
    each = accuracy.items() if len(accuracy) > 1 else ()
    return "\n".join(lines + [f"  {name}: {c['right'] / c['of']:.1%} of {c['of']}" for name, c in each])


def describe_errors(errors: dict) -> str:
    """Say how far predicted numbers are off, by domain."""
    lines = []
    for name, each in errors.items():
        if each["of"]:
            mae, rmse = each["absolute_errors"] / each["of"], (each["squared_errors"] / each["of"]) ** 0.5
            lines.append(
                f"error in {name}: MAE {mae:.4g}, RMSE {rmse:.4g} on {each['of']} images with a label"
            )
    return "\n".join(lines) or "error: none of the images has a number to compare with"


def describe(did: Any, out: Any) -> str:
    """Say in a few lines how many images got which label."""
    lines = [f"{out}: {did.images - did.failed} images labelled"]
    lines += [
        f"  {visible(label)}: {n}" for label, n in sorted(did.labels.items(), key=lambda item: -item[1])[:20]
    ]
    lines += [f"  and {len(did.labels) - 20} more classes"] if len(did.labels) > 20 else []
    for name, found in did.numbers.items():
        said = f"  {visible(name) + ': ' if name else ''}from {found['min']:.4g} to {found['max']:.4g}"
        lines.append(f"{said}, mean {found['mean']:.4g}")
    if did.unknown:
        lines.append(f"{did.unknown} labels were left unknown (--reject); an accuracy is that of the others")
    if did.far:
        lines.append(f"{did.far} of them are far from the training data (column far): check these")
    if did.failed:
        lines.append(f"{did.failed} could not be read (column error)")
    lines += [f"note: {note}" for note in spreadsheet_notes(did.labels)]
    return "\n".join(lines)
