"""ftransfer import."""

import json
from functools import partial
from typing import Any

import click

from ftransfer.cli import complete
from ftransfer.cli.text import say, visible


@click.command("import")
@click.argument("tables", shell_complete=complete.paths, nargs=-1, required=True, metavar="TABLE...")
@click.option("--out", shell_complete=complete.folders, required=True, help="Folder of the feature set.")
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the embedding model, such as minilm-l6; needed to add rows later and to label new rows.",
)
@click.option("--domain", help="Domain of all rows.  [default: column domain, else each file's name]")
@click.option(
    "--labels",
    shell_complete=complete.paths,
    multiple=True,
    help="File with one label per line, or .npy; one per table.",
)
@click.option(
    "--label-column",
    "label_columns",
    multiple=True,
    help="Label column; repeat it for several tasks.  [default: label]",
)
@click.option("--domain-column", help="Domain column.  [default: domain]")
@click.option("--path-column", help="Column of paths or other row names.  [default: path]")
@click.option(
    "--features",
    "--embedding-columns",
    "features",
    multiple=True,
    metavar="NAMES",
    help="Feature columns: names or patterns, 'f*', separated by commas.  [default: all of numbers]",
)
@click.option("--ignore", multiple=True, metavar="NAMES", help="Columns to exclude, as for --features.")
@click.option(
    "--missing",
    type=click.Choice(["refuse", "drop-rows"]),
    default="refuse",
    show_default=True,
    help="What to do with rows that have missing numbers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_(
    tables: tuple[str, ...],
    out: Any,
    name: str,
    domain: str,
    labels: tuple[str, ...],
    label_columns: tuple[str, ...],
    domain_column: str | None,
    path_column: str | None,
    features: Any,
    ignore: tuple[str, ...],
    missing: str,
    as_json: bool,
) -> None:
    """Make the feature set OUT from existing embeddings: of images, texts or tables.

    TABLE is .npy; .npz with the keys X, y, domain, path, of which X alone is needed; or .parquet, .csv or .tsv with a
    column of lists or one column per feature. Columns are matched by name. A column of numbers that may be a row
    number, a key or a label is refused until --features, --ignore or --label-column says what it is.
    """
    from ftransfer.features.imports import import_features, import_named_features
    from ftransfer.features.manifest import LABELS

    columns = {"label": next(iter(label_columns), None), "domain": domain_column, "path": path_column}
    columns |= {LABELS + name: name for name in label_columns}
    import_tables = partial(import_named_features, name=name) if name is not None else import_features
    feature_set, new = import_tables(
        tables,
        out,
        domain=domain,
        labels=labels,
        embedding_columns=features,
        columns=columns,
        ignore=ignore,
        missing=missing,
    )
    rows, notes = feature_set.complete, list(feature_set.imported)
    if as_json:
        found = {"out": str(out), "rows": len(rows), "new": new, "width": feature_set.width, "notes": notes}
        say(json.dumps(found))
        return
    say(f"{out}: {len(rows)} rows, {feature_set.width} features each ({new} new)")
    for name, some in rows.groupby("domain"):
        labelled = int(some["label"].notna().sum())
        say(
            f"  {visible(name)}: {len(some)} rows, {labelled} with a label, {some['label'].nunique()} classes"
        )
    for note in notes:
        say(f"note: {note}")
