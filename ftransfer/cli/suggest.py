"""ftransfer suggest."""

import json
from pathlib import Path
from typing import Any

import click

from ftransfer.cli import complete
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import say, visible


@click.command()
@click.argument("run", shell_complete=complete.folders)
@click.option("--n", type=click.IntRange(1), default=50, show_default=True, help="Number of images.")
@click.option("--out", shell_complete=complete.folders, help="Folder for the files.  [default: RUN]")
@click.option(
    "--labels",
    "files",
    multiple=True,
    shell_complete=complete.paths,
    metavar="FILE",
    help="Labels that you have already, as for fit --target-labels: these images are not proposed. May be repeated.",
)
@click.option(
    "--features",
    multiple=True,
    shell_complete=complete.folders,
    help="Feature set of the run, if it was moved; may be repeated.",
)
@click.option(
    "--anywhere",
    is_flag=True,
    help="Also read images of object stores, torchvision and outside their folder; only for feature sets you trust.",
)
@click.option("--trust", multiple=True, metavar="TYPE", help="Additional type to trust in the model file.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def suggest(
    run: str,
    n: int,
    out: str | None,
    files: tuple[str, ...],
    features: tuple[str, ...],
    anywhere: bool,
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Choose target images of RUN that are worth a label, and write a page to label them on.

    Half of the images are drawn at random, for an honest estimate of the accuracy; the others would change the model
    most. to-label.csv lists them; label.html shows them, one by one, to be labelled with clicks or number keys in a
    browser, offline, and saves labels.csv for ftransfer fit --target-labels. Images of the target that were added to
    the feature set after RUN are proposed, too.
    """
    from ftransfer.report.labelling import FinishedRun, write_suggestions

    found = FinishedRun(run, features, trust)
    table = found.suggest(n, files)
    with progress_bar(len(table), " pictures", "page") as bar:
        wrote = write_suggestions(found, table, out, files=files, anywhere=anywhere, progress=bar.update)
    if as_json:
        reasons = wrote.table["why"].value_counts().to_dict()
        page = None if wrote.page is None else str(wrote.page)
        about = {"images": len(table), "requested": n, "reasons": reasons, "page": page}
        say(json.dumps({**about, "table": str(wrote.file), "command": wrote.command}))
    else:
        say(describe(wrote, n, found.task["target"]))


def describe(wrote: Any, n: int, target: str) -> str:
    """Say how many images were chosen for which reason, and what comes next."""
    reasons = ", ".join(f"{count} {why}" for why, count in wrote.table["why"].value_counts().items())
    lines = [f"{wrote.file}: {len(wrote.table)} images of {visible(target)} ({reasons})"]
    if len(wrote.table) < n:
        lines.append(f"note: {n} images were requested; these are all that have no label yet")
    if wrote.page is None:
        lines.append(
            "no page was written, because none of the images can be shown: they were moved or changed, or are not "
            "files on this machine (--anywhere reads object stores and torchvision); fill in the column label of "
            "the table"
        )
    else:
        lines.append(f"open in a browser and label: {Path(wrote.page)}")
    return "\n".join([*lines, f"then: {visible(wrote.command)}"])
