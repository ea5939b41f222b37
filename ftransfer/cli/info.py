"""ftransfer info."""

import json
from dataclasses import asdict
from typing import Any

import click

from ftransfer.cli import complete
from ftransfer.cli.text import say, visible
from ftransfer.errors import FtransferError
from ftransfer.storage.places import place
from ftransfer.storage.reading import read_text


@click.command()
@click.argument("folder", shell_complete=complete.folders)
@click.option(
    "--verify", is_flag=True, help="Check every byte of a feature set; exit with 1 if anything is wrong."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def info(ctx: click.Context, folder: Any, verify: bool, as_json: bool) -> None:
    """Show what is in FOLDER: a feature set, a run folder, or a model file.

    --verify checks the bytes of each part against its checksum, and that each image of the manifest has a valid
    embedding. The images themselves are not read.
    """
    folder = place(folder)
    if verify:
        from ftransfer.features.feature_set import FeatureSet

        found = FeatureSet(folder).verify()
        say(json.dumps(asdict(found)) if as_json else f"{folder}: {found}")
        ctx.exit(1 if found.wrong else 0)
    if (folder / "results.json").is_file():
        about, lines = _of_run(folder)
    elif (folder / "running").is_file():
        raise FtransferError(f"{folder} holds an unfinished run: run the same ftransfer fit again to resume")
    elif folder.suffix.lower() == ".skops" and folder.is_file():
        about, lines = _of_model(folder)
    else:
        about, lines = _of_feature_set(folder)
    if as_json:
        say(json.dumps(about))
    else:
        for name, value in lines.items():
            say(f"{visible(name) + ':':<12}{visible(value)}")


def _of_run(folder: Any) -> tuple[dict, dict[str, str]]:
    """Describe a run for programs, and for people."""
    report = str(folder / "report.html")
    try:
        results = json.loads(read_text(folder / "results.json"))
        if "runs" in results:
            answers = {name: run["recommendation"]["sentence"] for name, run in results["runs"].items()}
            about = {"run_for_each_of": results["kind"], "answers": answers, "report": report}
            return about, {f"run for each of the {results['kind']}": "", **answers, "report": report}
        task, answer = results["task"], results["recommendation"]
        about = {
            "sources": task["sources"],
            "target": task["target"],
            "features": task["features"],
            "answer": answer["sentence"],
            "pipeline": answer["pipeline"],
            "setting": answer["params"],
            "score": float(answer["score"]),
            "scorer": results["score"]["name"],
            "report": report,
        }
        lines = {
            "run": f"{', '.join(task['sources'])} to {task['target']}",
            **{name: about[name] for name in ("features", "answer", "pipeline", "setting")},
            "score": f"{about['score']:.3f} ({about['scorer']})",
            "report": report,
        }
        return about, lines
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FtransferError(f"{folder / 'results.json'} cannot be read: {error!r}") from error


def _of_model(file: Any) -> tuple[dict, dict[str, str]]:
    """Describe a model file."""
    from ftransfer.model.model import Model

    model = Model.load(file)
    about = {
        "target": model.target,
        "classes": model.classes.tolist(),
        "pipeline": " -> ".join(type(step).__name__ for _, step in model.pipeline.steps),
        "width": model.width,
        "backbone": model.fingerprint.get("backbone"),
        "weights": model.fingerprint.get("weights"),
        "origin": model.origin,
    }
    lines = {name: str(value) for name, value in about.items() if value}
    return about, lines | ({"classes": ", ".join(about["classes"])} if about["classes"] else {})


def _of_feature_set(folder: Any) -> tuple[dict, dict[str, str]]:
    """Describe a feature set."""
    from ftransfer.features.feature_set import FeatureSet

    features = FeatureSet(folder)
    manifest, fingerprint = features.manifest, features.fingerprint
    failed = manifest[manifest["status"] == "error"]
    about = {
        "backbone": fingerprint["backbone"],
        "layers": [layer["name"] for layer in fingerprint["layers"]],
        "weights": fingerprint["weights"],
        "width": features.width,
        "dtype": fingerprint["dtype"],
        "views": features.n_views,
        "parts": len(features.parts()),
        "embeddings": len(features.done()),
        "images": len(manifest),
        "domains": {
            domain: {**rows["status"].value_counts().to_dict(), "classes": int(rows["label"].nunique())}
            for domain, rows in manifest.groupby("domain")
        },
        "errors": dict(zip(failed["path"], failed["error"], strict=True)),
    }
    views = f", of {features.n_views} views: {', '.join(features.views['augment'])}" if features.views else ""
    lines = {
        "backbone": f"{about['backbone']}, layer {'+'.join(about['layers'])}",
        "weights": about["weights"],
        "width": f"{about['width']} features per image, {about['dtype']}{views}",
        "parts": f"{about['parts']} with {about['embeddings']} embeddings",
        "images": str(about["images"]),
    }
    for domain, counts in about["domains"].items():
        told = ", ".join(f"{n} {status}" for status, n in counts.items() if status != "classes")
        lines[f"  {domain}"] = f"{told}; {counts['classes']} classes"
    for path, error in list(about["errors"].items())[:10]:
        lines[f"  {path}"] = f"cannot be read: {error}"
    return about, lines
