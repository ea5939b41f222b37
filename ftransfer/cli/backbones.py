"""ftransfer backbones."""

import click


@click.command()
def backbones():
    """List the backbones that extract can run, and the names of their pretrained weights."""
    from torchvision.models import get_model_weights

    from ftransfer.backbone import PHOTO_HINT, list_backbones

    for name in list_backbones():
        weights = ["DEFAULT"] if name == "small_cnn" else [w.name for w in get_model_weights(name)]
        click.echo(f"{name:<20} {' '.join(weights)}")
    click.echo(f"note: {PHOTO_HINT}", err=True)
