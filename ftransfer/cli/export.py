"""ftransfer export."""

from pathlib import Path
from typing import Any

import click

from ftransfer.cli import complete
from ftransfer.cli.text import say
from ftransfer.errors import FtransferError
from ftransfer.storage.places import Remote, place

FORMATS = ("parquet", "npz", "csv", "tsv")


@click.command()
@click.argument("features", shell_complete=complete.folders, nargs=-1, required=True, metavar="FEATURES...")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="[default: by --out, else parquet]")
@click.option(
    "--out", shell_complete=complete.paths, help="File; replaced if it is there.  [default: FEATURES.FORMAT]"
)
def export(features: Any, kind: str | None, out: Any) -> None:
    """Write FEATURES as one table with paths, labels, domains and embeddings; several are joined.

    ftransfer import reads it back.
    """
    from ftransfer.features.exports import export_features
    from ftransfer.features.joined import open_features

    suffix = place(out).suffix[1:].lower() if out else "parquet"
    if kind is None and suffix not in FORMATS:
        raise FtransferError(
            f"{out} tells no format that can be written; end it in {', '.join('.' + f for f in FORMATS)}, or name "
            f"one: --format"
        )
    kind = kind or suffix
    first = place(features[0])
    beside = Path(first.name) if isinstance(first, Remote) else first.resolve()  # of a store: here
    file = place(out) if out else Path(f"{beside}.{kind}")
    rows = export_features(open_features(features, balance=False), file, kind)
    say(f"{file}: {rows} rows")
