"""Which files are images, which look like images and are not read, and what is litter of file servers and systems."""

import os
import re
import stat
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


READ = _words(
    ".jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .png .apng .ppm .pgm .pbm .pnm .bmp .dib .gif .tif .tiff .webp .avif "
    ".jp2 .j2k .jpx .jpf .mpo"
)
HEIF = _words(".heic .heif .hif")
PICTURES = HEIF + _words(
    ".jxl .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .dng .raf .orf .rw2 .pef .x3f .raw .svg .psd .xcf .eps .ai .ico "
    ".icns .tga .exr .hdr .dcm .dds .pcx .wmf .emf .fits .avifs"
)
TEXTS = _words(
    ".txt .csv .tsv .json .jsonl .xml .html .md .py .yaml .yml .toml .ini .log .npz .npy .parquet .zip .gz .tar .mat "
    ".pdf .mp4 .avi .mov .pt .pth .h5 .arrow .db .sha256 .md5 .cls .sh .ipynb"
)
PACKED = "compressed .tar"
LITTER_FOLDERS = {"system volume information"} | {
    *_words(
        "@eadir @synoresource @appstore @database @tmp "
        "@recycle @recently-snapshot @__thumb @sharebin #recycle #snapshot $recycle.bin recycler __macosx "
        "lost+found __pycache__"
    )
}
LITTER_FILES = re.compile(
    r"\._.*|thumbs\.db|ehthumbs.*\.db|desktop\.ini|\.ds_store|synofile_thumb.*", re.IGNORECASE
)
SIGNS = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n"), "PNG"),
    (re.compile(rb"GIF8"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP"),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF"),
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1|avif)", re.DOTALL), "HEIF"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
)


@cache
def suffixes() -> tuple[str, ...]:
    """Suffixes of files that are read as images; HEIC only where the extra [heif] is installed."""
    return READ + HEIF if find_spec("pillow_heif") else READ


def is_image(name: str) -> bool:
    """Whether a file is read as an image, by its name."""
    return os.path.splitext(name)[1].lower() in suffixes()


def is_litter(folder: str) -> bool:
    """Whether a folder holds what a file server, a system or a notebook keeps there: thumbnails, deleted files."""
    return folder.startswith(".") or folder.lower() in LITTER_FOLDERS


def kind_of(name: str, file: str | None = None) -> str:
    """Say what kind of picture a file is that is not read as one; empty if it looks like none.

    Parameters
    ----------
    name : str
    file : str, optional
        Its path on disk, where its first bytes tell what the name does not.

    >>> kind_of("a.HEIC") in ("", ".heic"), kind_of("notes.txt"), kind_of("._a.jpg")
    (True, '', '._*')
    """
    suffix = os.path.splitext(name)[1].lower()
    if LITTER_FILES.fullmatch(name):
        return "._*" if name.startswith("._") else name.lower() if suffix == ".db" else ""
    if name.startswith("."):
        return "hidden" if suffix in suffixes() or name.lower() in READ else ""
    if suffix in PICTURES:
        return suffix
    if file is None or suffix in TEXTS:
        return ""
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return ""
        with open(file, "rb", buffering=0) as content:
            head = content.read(16)
    except (OSError, ValueError):
        return ""
    sign = next((kind for pattern, kind in SIGNS if pattern.match(head)), "")
    return sign and f"{sign} {f'named {suffix}' if suffix else 'without suffix'}"


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """Say in a line what was not read; empty if nothing was passed over.

    >>> describe_passed_over({".psd": 3, "@eaDir/": 2})
    'skipped: 3 .psd, 2 folders @eaDir'
    """
    found = []
    for kind, n in counts.items():
        if kind.endswith("/"):
            found.append(f"{n} folder{'s' if n > 1 else ''} {kind[:-1]}")
        else:
            heif = kind in HEIF and kind not in suffixes()
            hint = ' (pip install "ftransfer[heif]" reads them)' * heif
            found.append(f"{n} {kind}{hint}{' (unpack them: gunzip, unxz, zstd -d)' * (kind == PACKED)}")
    return f"skipped: {', '.join(found)}" if found else ""
