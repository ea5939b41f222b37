"""Where the folders that ship with the package lie: ``pipelines/`` and ``data/``."""

from pathlib import Path


def shipped_folder(name: str) -> Path:
    """Return the folder `name`: inside an installed package, else at the top of the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
