"""Options that several commands share."""

from typing import Any

import click

from ftransfer.cli import complete

backbone = click.option(
    "--backbone",
    shell_complete=complete.backbones,
    default="resnet50",
    show_default=True,
    help="A name, timm:NAME or FILE.py; see ftransfer backbones.",
)
image_size = click.option(
    "--image-size",
    type=click.IntRange(8),
    metavar="PIXELS",
    help="Input size of the network.  [default: what its weights were trained for]",
)
allow_outside = click.option(
    "--allow-outside", is_flag=True, help="Allow a table to list images outside its folder."
)
path_column = click.option("--path-column", help="Column of a table with paths.  [default: path]")
domain_column = click.option("--domain-column", help="Column of a table with domains.  [default: domain]")
cluster = click.option("--cluster", metavar="ADDRESS", help="Dask scheduler tcp://HOST:PORT, or local:4.")


def weights(help: str, name: str = "--weights") -> Any:
    """Name weights: DEFAULT, published ones, or a checkpoint file."""
    return click.option(
        name, shell_complete=complete.checkpoints, default="DEFAULT", show_default=True, help=help
    )


def device(more: str = "") -> Any:
    """Name what computes."""
    return click.option(
        "--device",
        shell_complete=complete.words("auto", "cpu", "cuda"),
        default="auto",
        show_default=True,
        help=f"auto, cpu, cuda, cuda:1 ...{more}",
    )
