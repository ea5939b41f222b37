"""Data sets of torchvision as tables of images."""

import inspect
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pandas as pd

from ftransfer.cells import read_labels
from ftransfer.errors import FtransferError, unknown
from ftransfer.images.table import image_table

# ---------------------------------------------------------------- data sets of torchvision


def dataset_table(location: str) -> pd.DataFrame:
    name, split, folder = (location.split(":", 3)[1:] + ["", ""])[:3]
    import torch.hub

    _dataset_class(name)  # refuses a name that is not there
    folder = folder or str(Path(torch.hub.get_dir()).parent / "datasets")
    root = f"torchvision:{name}:{split or 'train'}:{Path(folder).expanduser().resolve()}"
    data = open_dataset(root)
    targets = _targets(data, name)
    classes = getattr(data, "classes", None)
    width = len(str(len(targets)))
    label = read_labels(None if t < 0 else classes[t] if classes is not None else t for t in targets)
    return image_table(root, [f"{i:0{width}d}" for i in range(len(targets))], label, name)


def _dataset_class(name: str) -> type:
    from torchvision import datasets

    if name not in datasets.__all__:
        raise unknown("torchvision data set", name, datasets.__all__)
    return getattr(datasets, name)


@lru_cache(maxsize=4)
def open_dataset(root: str) -> Any:
    """Open ``torchvision:NAME:SPLIT:FOLDER``; download it only if it is not there."""
    _, name, split, folder = root.split(":", 3)
    make: Any = _dataset_class(name)
    takes = inspect.signature(make.__init__).parameters
    options: dict[str, Any] = {}
    if "root" in takes:
        options["root"] = folder
    if "train" in takes:
        if split not in ("train", "test"):
            raise unknown("split", split, ["train", "test"])
        options["train"] = split == "train"
    elif "split" in takes:
        # EMNIST alone takes both: `split` is then its variant, and it is read whole from `train`
        options["split"] = split
    damaged = []
    try:
        try:
            return make(**options)
        except (RuntimeError, FileNotFoundError) as error:
            damaged = _files_of(make, Path(folder)) if "corrupt" in str(error) else []
            if "download" not in takes:
                raise
            return make(**options, download=True)
    except (URLError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if damaged:
            raise FtransferError(
                f"torchvision data set {name}: the files in {damaged[0]} are incomplete or do not match "
                f"torchvision's checksum, and cannot be downloaded again ({reason}); replace them"
            ) from error
        raise FtransferError(
            f"torchvision data set {name} is not in {folder} and cannot be downloaded ({reason}); "
            f"put its files there, or give their folder: torchvision:{name}:{split}:FOLDER"
        ) from error
    except (ValueError, TypeError, ImportError) as error:
        raise FtransferError(f"torchvision data set {name} cannot be opened: {error}") from error


def _files_of(make: type, folder: Path) -> list[Path]:
    """Name what there is of a data set, where torchvision keeps it."""
    names = [getattr(make, "base_folder", None), make.__name__, make.__name__.lower()]
    return [folder / name for name in names if name and (folder / name).exists()]


def _targets(data: Any, name: str) -> list[int]:
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(data, attribute, None)
        if values is not None:
            break
    else:
        samples = getattr(data, "samples", None) or getattr(data, "_samples", None)
        values = [s[1] for s in samples] if samples else [data[i][1] for i in range(len(data))]
    try:
        values = np.asarray(values)
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ValueError
    except ValueError:
        raise FtransferError(
            f"torchvision data set {name} does not have one class per image; use a classification data set"
        ) from None
    return values.tolist()
