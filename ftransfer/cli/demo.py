"""ftransfer demo."""

import zipfile
from pathlib import Path
from typing import Any

import click

from ftransfer.cli import complete
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import say


@click.command()
@click.option(
    "--out",
    default="ftransfer-demo",
    shell_complete=complete.folders,
    show_default=True,
    help="Folder for images, features and run.",
)
def demo(out: Any) -> None:
    """Run the complete workflow offline, in about a minute: printed digits to handwritten ones.

    The source is digits rendered from free fonts, the target real handwriting, and the backbone a small
    CNN that never saw a digit. All three ship with the package.
    """
    from ftransfer.backbone.backbone import Backbone
    from ftransfer.cli.extract import describe as describe_extraction
    from ftransfer.cli.fit import run_fit
    from ftransfer.cli.fit_answer import describe
    from ftransfer.cli.run_race import FitSettings
    from ftransfer.extract.extract import extract_features
    from ftransfer.images.find import find_images
    from ftransfer.shipped import shipped_folder
    from ftransfer.storage.writing import writing

    out = Path(out)
    images, features = out / "images", out / "features"
    with writing(out), zipfile.ZipFile(shipped_folder("data") / "digits.zip") as digits:
        digits.extractall(images)
    say(
        "Source: printed digits in free fonts, labelled. Target: handwritten digits. The backbone never saw a "
        "digit.\n"
    )
    say(f"$ ftransfer extract {images} --out {features} --backbone small_cnn")
    table = find_images(images)
    with progress_bar(len(table), " images", "small_cnn") as bar:
        feature_set = extract_features(table, features, Backbone("small_cnn"), progress=bar.update)
    say(describe_extraction(feature_set, features))
    command = f"ftransfer fit {features} --source printed --target handwritten --out {out / 'run'}"
    say(f"\n$ {command}")
    settings = FitSettings("printed", "handwritten", out=out / "run")
    results, folder = run_fit([features], settings, command=command)
    say(describe(results, folder))
    say(f"\nIn short: {_meaning(results)}")


def _meaning(results: dict) -> str:
    """Say in one sentence what the numbers show."""
    counted = results["counted"]
    gain = 100 * (counted["recommended"] - counted["source_only"])
    share = f"{counted['recommended']:.0%} of the handwritten digits are classified correctly with printed labels only"
    if results["recommendation"]["adaptation"] == "source only":
        return f"{share}; no adaptation was recommended."
    more = "more" if gain >= 0 else "fewer"
    return f"{share}, {abs(gain):.1f} percentage points {more} than without adaptation."
