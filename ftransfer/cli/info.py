"""ftransfer info."""

import json
from dataclasses import asdict

import click

from ftransfer.cli import complete
from ftransfer.errors import FtransferError
from ftransfer.storage.places import place
from ftransfer.storage.reading import read_text


@click.command()
@click.argument("folder", shell_complete=complete.folders)
@click.option(
    "--verify", is_flag=True, help="Read every byte of a feature set; exit with 1 if anything is wrong."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def info(ctx, folder, verify, as_json):
    """Say what is in FOLDER: a feature set or a run.

    --verify checks each part's bytes against the checksum that is its name, and that each image of the manifest
    has a sound embedding. The images themselves are not read.
    """
    folder = place(folder)
    if verify:
        from ftransfer.features.feature_set import FeatureSet

        found = FeatureSet(folder).verify()
        click.echo(json.dumps(asdict(found)) if as_json else f"{folder}: {found}")
        ctx.exit(1 if found.wrong else 0)
    if (folder / "results.json").is_file():
        found = _run(folder)
    elif (folder / "running").is_file():
        raise FtransferError(f"{folder} is a run that has not ended, or was stopped: run ftransfer fit again")
    else:
        found = _feature_set(folder)
    if as_json:
        click.echo(json.dumps(found))
    else:
        for name, value in found.items():
            click.echo(f"{name + ':':<12}{value}")


def _run(folder) -> dict:
    try:
        results = json.loads(read_text(folder / "results.json"))
        if "runs" in results:
            answers = {name: run["recommendation"]["sentence"] for name, run in results["runs"].items()}
            return {
                f"run for each of the {results['kind']}": "",
                **answers,
                "report": str(folder / "report.html"),
            }
        task, answer = results["task"], results["recommendation"]
        return {
            "run": f"{', '.join(task['sources'])} to {task['target']}",
            "features": task["features"],
            "answer": answer["sentence"],
            "pipeline": answer["pipeline"],
            "setting": answer["params"],
            "score": f"{answer['score']:.3f} ({results['score']['name']})",
            "report": str(folder / "report.html"),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FtransferError(f"{folder / 'results.json'} cannot be read: {error!r}") from error


def _feature_set(folder) -> dict:
    from ftransfer.features.feature_set import FeatureSet

    features = FeatureSet(folder)
    manifest, fingerprint = features.manifest, features.fingerprint
    found = {
        "backbone": f"{fingerprint['backbone']}, layer {'+'.join(x['name'] for x in fingerprint['layers'])}",
        "weights": fingerprint["weights"],
        "width": f"{features.width} numbers an image, {fingerprint['dtype']}"
        + (
            f", of {features.n_views} views: {', '.join(features.views['augment'])}" if features.views else ""
        ),
        "parts": f"{len(features.parts())} with {len(features.done())} embeddings",
        "images": f"{len(manifest)}",
    }
    for domain, rows in manifest.groupby("domain"):
        counts = ", ".join(f"{n} {status}" for status, n in rows["status"].value_counts().items())
        found[f"  {domain}"] = f"{counts}; {rows['label'].nunique()} classes"
    for row in manifest[manifest["status"] == "error"].head(10).itertuples():
        found[f"  {row.path}"] = f"cannot be read: {row.error}"
    return found
