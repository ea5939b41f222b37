"""Draw characters from the fonts of the Debian packages that fonts.txt lists."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

TABLE = Path(__file__).parents[1] / "fonts.txt"
# Big families would outweigh the rest: at most so many faces a package, spread over its styles.
FACES_PER_PACKAGE = {"digits": 3, "letters": 10}
# Not the character itself, but its outline, and its shape cut out of a bright box.
LEFT_OUT = {"OCRBF.otf", "OCRBX.otf"}
FONT_SIZE = 128
# A noncharacter: fonts have no glyph for it, so that it draws the font's own "missing" box.
MISSING = "\uffff"


@dataclass(frozen=True)
class Package:
    """One row of fonts.txt."""

    serves: str
    name: str
    licence: str


@dataclass(frozen=True)
class Face:
    """One font file, named by its file's stem in safe ASCII."""

    package: str
    name: str
    path: Path


def read_packages(serves: str) -> list[Package]:
    """List the packages of fonts.txt that serve ``"digits"`` or ``"letters"``."""
    lines = (line.split("#")[0].split(maxsplit=2) for line in TABLE.read_text().splitlines())
    packages = [Package(first, name, licence.strip()) for first, name, licence in filter(None, lines)]
    if len({p.name for p in packages}) != len(packages):
        raise SystemExit("fonts.txt names a package twice; each serves either digits or letters")
    return [p for p in packages if p.serves == serves]


def install_line() -> str:
    """Return the command that installs every package of fonts.txt."""
    names = sorted(p.name for serves in FACES_PER_PACKAGE for p in read_packages(serves))
    return "apt-get install --no-install-recommends " + " ".join(names)


def list_faces(serves: str, characters: str, at_least: int) -> list[Face]:
    """List the faces that have at least so many of the characters, a few from each package."""
    faces = []
    for package in read_packages(serves):
        usable, seen = [], set()
        for path in _font_files(package.name):
            try:
                font = open_font(path)
            except OSError:  # a package or two ships a file that FreeType cannot read
                continue
            # the same face often comes as .otf and .ttf, under the same two names
            if font.getname() not in seen and sum(has(font, c) for c in characters) >= at_least:
                seen.add(font.getname())
                slug = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")
                usable.append(Face(package.name, slug, path))
        count = min(len(usable), FACES_PER_PACKAGE[serves])
        faces += [usable[i] for i in np.linspace(0, len(usable) - 1, count).round().astype(int)]
    return faces


def _font_files(package: str) -> list[Path]:
    listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True)
    if listed.returncode:
        raise SystemExit(f"{package} is not installed; on Debian 12, as root:\n{install_line()}")
    paths = {Path(line) for line in listed.stdout.splitlines() if line.lower().endswith((".ttf", ".otf"))}
    return sorted(p for p in paths if p.is_file() and not p.is_symlink() and p.name not in LEFT_OUT)


def open_font(path: Path) -> ImageFont.FreeTypeFont:
    """Open a font at the one size that everything is drawn at, before it is scaled down."""
    # the basic layout engine is in every build of Pillow; the other one would depend on libraqm
    return ImageFont.truetype(path, FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)


def has(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Whether the font draws the character with ink, and not as its box for what is missing."""
    try:
        mask, missing = font.getmask(character), font.getmask(MISSING)
    except OSError:  # a few bitmap sizes and broken outlines cannot be drawn
        return False
    if mask.getbbox() is None:
        return False
    return mask.size != missing.size or bytes(mask) != bytes(missing)


def draw(font: ImageFont.FreeTypeFont, character: str, ink: int, side: int) -> np.ndarray:
    """Draw one character, bright on black, as large as fits and centred.

    Parameters
    ----------
    font : ImageFont.FreeTypeFont
    character : str
    ink : int
        Longer side of the character's own box, in pixels.
    side : int
        Side of the square around it, in pixels.

    Returns
    -------
    ndarray of shape (side, side), uint8
    """
    mask = font.getmask(character, mode="L")
    glyph = Image.frombytes("L", mask.size, bytes(mask))
    glyph = glyph.crop(glyph.getbbox())
    scale = ink / max(glyph.size)
    width, height = (max(1, round(length * scale)) for length in glyph.size)
    glyph = glyph.resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("L", (side, side))
    square.paste(glyph, ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)
