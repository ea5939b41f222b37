"""The fingerprint of a feature set: what shapes its numbers, and how two of them differ."""

import hashlib
import json

from ftransfer.errors import FtransferError
from ftransfer.storage.places import Place, Remote, place


def digest_fingerprint(fingerprint: dict) -> str:
    """Name a fingerprint by its content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def feature_width(fingerprint: dict) -> int:
    """Count the numbers per image that a fingerprint gives; ValueError, KeyError or TypeError if it is none."""
    layers = [(layer["name"], layer["width"]) for layer in fingerprint["layers"]]
    if not layers or not all(isinstance(n, str) and type(w) is int and 0 < w < 2**24 for n, w in layers):
        raise ValueError(f"its layers are {str(layers)[:100]}")
    return sum(width for _, width in layers)


def name_difference(old: dict, new: dict, prefix: str = "", words: tuple[str, str] = ("there", "now")) -> str:
    different = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if a != b and isinstance(a, dict) and isinstance(b, dict):
            different.append(name_difference(a, b, f"{prefix}{key}.", words))
        elif a != b:
            different.append(f"{prefix}{key} is {_short(a)} {words[0]}, {_short(b)} {words[1]}")
    return "; ".join(different)


def _short(value: object) -> str:
    if isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value):
        return "+".join(v["name"] for v in value)
    text = str(value)
    return text if len(text) <= 60 else text[:24] + "..."


def refuse_foreign(folder: str | Place) -> None:
    """Raise an error if a folder holds files and is not a feature set, so that none can be made in it."""
    folder = place(folder)
    if (folder / "fingerprint.json").is_file():
        return
    if not isinstance(folder, Remote) and folder.exists() and not folder.is_dir():
        raise FtransferError(f"{folder} is a file, and a feature set is a folder; choose another: --out")
    foreign = [p.name for p in folder.iterdir() if p.name != "parts"] if folder.is_dir() else []
    foreign = [name for name in foreign if not name.startswith(".")]
    if foreign and not (folder / "fingerprint.json").is_file():  # another writer may have begun just now
        raise FtransferError(
            f"{folder} is not empty and not a feature set ({', '.join(sorted(foreign)[:3])}); choose another "
            f"folder: --out"
        )


def not_a_feature_set(folder: Place) -> FtransferError:
    """Make the error for what is not a feature set, with a next step that leaves what is there alone."""
    if folder.is_dir() and next(iter(folder.iterdir()), None) is not None:
        what = "is not a feature set (it has no fingerprint.json)"
        step = f"if it holds images: ftransfer extract {folder} --out {folder.name}-features"
    elif folder.is_file():
        what, step = "is a file, and a feature set is a folder", "of a table of embeddings: ftransfer import"
    else:
        what = "is not a feature set (it is empty)" if folder.is_dir() else "does not exist"
        step = f"make one: ftransfer extract IMAGES --out {folder}"
    return FtransferError(f"{folder} {what}; {step}")
