"""ftransfer import."""

import json

import click

from ftransfer.cli import complete


@click.command("import")
@click.argument("tables", shell_complete=complete.paths, nargs=-1, required=True, metavar="TABLE...")
@click.option("--out", shell_complete=complete.folders, required=True, help="Folder of the feature set.")
@click.option("--domain", help="Domain of all rows.  [default: column domain, else each file's name]")
@click.option(
    "--labels",
    shell_complete=complete.paths,
    multiple=True,
    help="File with a label a line, or .npy; one a table.",
)
@click.option(
    "--label-column",
    "label_columns",
    multiple=True,
    help="Name of the column of labels; several are a task each.  [default: label]",
)
@click.option("--domain-column", help="Name of the column of domains.  [default: domain]")
@click.option("--path-column", help="Name of the column of paths, or other names of rows.  [default: path]")
@click.option(
    "--embedding-columns",
    help="Columns of numbers, with commas, or their prefix.  [default: all numeric columns]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def import_(
    tables, out, domain, labels, label_columns, domain_column, path_column, embedding_columns, as_json
):
    """Make the feature set OUT of embeddings that were made elsewhere: of images, texts, tables.

    TABLE is .npy; .npz with the keys X, y, domain, path, of which X alone is needed; or .parquet or .csv with a
    column of lists or a column a number.
    """
    from ftransfer.features.manifest import LABELS
    from ftransfer.features.tables import import_features

    columns = {"label": next(iter(label_columns), None), "domain": domain_column, "path": path_column}
    columns |= {LABELS + name: name for name in label_columns}
    features, new = import_features(
        tables,
        out,
        domain=domain,
        labels=labels,
        embedding_columns=embedding_columns,
        columns=columns,
    )
    rows = features.complete
    if as_json:
        click.echo(json.dumps({"out": str(out), "rows": len(rows), "new": new, "width": features.width}))
        return
    click.echo(f"{out}: {len(rows)} rows, {features.width} numbers each ({new} new)")
    for name, some in rows.groupby("domain"):
        labelled = int(some["label"].notna().sum())
        click.echo(f"  {name}: {len(some)} rows, {labelled} with a label, {some['label'].nunique()} classes")
