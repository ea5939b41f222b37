"""The fingerprint of a feature set: what shapes its numbers, and how two of them differ."""

import hashlib
import json


def digest_fingerprint(fingerprint: dict) -> str:
    """Name a fingerprint by its content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def feature_width(fingerprint: dict) -> int:
    """Count the numbers per image that a fingerprint gives; ValueError, KeyError or TypeError if it is none."""
    layers = [(layer["name"], layer["width"]) for layer in fingerprint["layers"]]
    if not layers or not all(isinstance(n, str) and type(w) is int and 0 < w < 2**24 for n, w in layers):
        raise ValueError(f"its layers are {str(layers)[:100]}")
    return sum(width for _, width in layers)


def name_difference(old: dict, new: dict, prefix: str = "", words=("there", "now")) -> str:
    different = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        if a != b and isinstance(a, dict) and isinstance(b, dict):
            different.append(name_difference(a, b, f"{prefix}{key}.", words))
        elif a != b:
            different.append(f"{prefix}{key} is {_short(a)} {words[0]}, {_short(b)} {words[1]}")
    return "; ".join(different)


def _short(value) -> str:
    if isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value):
        return "+".join(v["name"] for v in value)
    text = str(value)
    return text if len(text) <= 60 else text[:24] + "..."
