"""Damage images and tables of embeddings by chance, and read them as an extraction and an import do; part of `fuzz`."""

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ftransfer.features.imports import import_features
from ftransfer.images.readers import Preparation, read_image

KINDS = {
    "JPEG": {},
    "progressive": {"progressive": True},
    "PNG": {},
    "GIF": {},
    "TIFF": {},
    "WEBP": {},
    "BMP": {},
}
KINDS |= {"LZW": {"compression": "tiff_lzw"}, "JPEG2000": {}, "PPM": {}}
FORMATS = {"progressive": "JPEG", "LZW": "TIFF"}
TABLES = ("x.csv", "x.parquet", "x.npy", "x.npz")
PREPARE = Preparation(np.asarray)


def make_reading(folder: Path) -> None:
    """Write an image of each kind, turned by its EXIF where it has any, and a table of each kind."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (37, 50, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    for name, options in KINDS.items():
        turned = {"exif": exif} if FORMATS.get(name, name) in ("JPEG", "PNG", "WEBP") else {}
        image.save(folder / f"{name}.image", FORMATS.get(name, name), **options, **turned)
    X = rng.normal(size=(20, 4)).astype(np.float32)
    table = pd.DataFrame(X, columns=["f0", "f1", "f2", "f3"])
    table["label"], table["path"] = [*"ab"] * 10, [f"{i}.png" for i in range(20)]
    table.to_csv(folder / "x.csv", index=False)
    table.to_parquet(folder / "x.parquet", index=False)
    np.save(folder / "x.npy", X)
    np.savez(folder / "x.npz", X=X, y=table["label"].to_numpy(str))


def attack_image(chance: random.Random, made: Path, work: Path, damage) -> str:
    """Damage an image and read it; what cannot be read is a row with a reason."""
    content = (made / f"{chance.choice(list(KINDS))}.image").read_bytes()
    for _ in range(chance.choice([1, 1, 3])):
        content = _damage_header(chance, content) if chance.random() < 0.4 else damage(chance, content)
    (work / "x").write_bytes(content)
    *_, views, reason = read_image(str(work), "x", PREPARE, lambda sha256: False)
    assert (views is None) != (reason is None)
    assert reason is None or 0 < len(reason) < 2000
    return "works" if reason is None else "refused"


def _damage_header(chance: random.Random, content: bytes) -> bytes:
    """Write a number of one to four bytes, as sizes and offsets are, somewhere near the beginning."""
    width = chance.choice([1, 2, 4])
    number = chance.choice([0, 1, 255, 65535, 2**31 - 1, 2**32 - 1, chance.getrandbits(32)]) % 256**width
    at = chance.randrange(min(200, len(content)) + 1)
    return content[:at] + number.to_bytes(width, chance.choice(["big", "little"])) + content[at + width :]


def attack_import(chance: random.Random, made: Path, work: Path, damage, damage_array) -> None:
    """Damage a table of embeddings and import it: finite numbers of one width, or FtransferError."""
    file = work / chance.choice(TABLES)
    content = (made / file.name).read_bytes()
    if file.suffix == ".npz" and chance.random() < 0.6:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = chance.choice(list(members))
        members[name] = damage_array(chance, members[name])
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, member in members.items():
                archive.writestr(name, member)
        content = out.getvalue()
    elif file.suffix == ".npy" and chance.random() < 0.6:
        content = damage_array(chance, content)
    elif file.suffix == ".csv" and chance.random() < 0.6:
        cells = content.decode().split(",")
        odd = ["nan", "", "1e999", "x", '"', "\n", "0x1F", "-0", "1,5", "\0", "é" * 99, "=1+1", "9" * 400]
        for _ in range(chance.choice([1, 3])):
            cells[chance.randrange(len(cells))] = chance.choice(odd)
        content = ",".join(cells).encode()
    else:
        content = damage(chance, content)
    file.write_bytes(content)
    features = import_features([file], work / "imported")[0]
    assert np.isfinite(features.load(features.complete)).all()
