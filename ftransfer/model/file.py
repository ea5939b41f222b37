"""Write and read a model file: a zip of JSON and NumPy arrays by skops, from which no code is run.

A model may come from a stranger. What the file would unfold to is counted before it is parsed, the plan in it is
checked before anything is built (`ftransfer.model.plan`), and what was built before it is used
(`ftransfer.model.objects`). Of scikit-learn only estimators are read whose prediction is plain NumPy or checked
there; others have to be trusted by name.
"""

import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ftransfer.errors import FtransferError
from ftransfer.model.objects import check_objects
from ftransfer.model.plan import TREE, Plan, read_plan, trusted_objects
from ftransfer.storage.writing import write_whole, writing

MAX_BYTES = 2 * 2**30  # of all that is in the file, unpacked
MAX_RATIO = 100  # of that to the file, above FREE_BYTES: arrays of numbers do not shrink like a bomb
FREE_BYTES = 64 * 2**20
MAX_DIRECTORY_BYTES = 4 * 2**20  # of the list of members; a forest of 1,000 trees takes 300 kB
END, END_64 = b"PK\5\6", b"PK\6\7"
UNUSED = [f"sklearn.externals.array_api_compat.{name}" for name in ("cupy", "dask", "torch")]


def import_skops() -> Any:
    """Import skops without torch and Dask, which its search for all estimators of scikit-learn would import."""
    held = [name for name in UNUSED if name not in sys.modules]
    for name in held:  # whoever imports it is told that it is not there
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import skops.io
    finally:
        for name in held:
            del sys.modules[name]
    return skops.io


def write_model_file(content: dict, file: Path) -> None:
    """Write plain data and fitted estimators, whole or not at all."""
    with writing(Path(file).parent):
        write_whole(Path(file), import_skops().dumps(content, compression=zipfile.ZIP_DEFLATED))


def read_model_file(file: Path, trusted: Sequence[str] = ()) -> dict:
    """Read what `write_model_file` wrote, or refuse it.

    Parameters
    ----------
    file : str or path
    trusted : list of str
        Further types that the file may hold. What is in them is not checked.

    Raises
    ------
    FtransferError
        If it is not a model file, is damaged or too large, or holds a type that is not trusted.
    """
    file, trusted = Path(file), set(trusted)
    try:
        data = _check_plan(file, trusted)
        content = import_skops().loads(data, trusted=[*trusted_objects(), TREE, *trusted])
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        check_objects(content, trusted)
    except FtransferError:
        raise
    except Exception as error:  # a file that is not one of ours can fail in any way
        raise FtransferError(
            f"{file} is not a model file, or is damaged: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    return content


def _check_plan(file: Path, trusted: set[str]) -> bytes:
    """Check what a file says that is to be built; return it packed anew, so that nothing else is read."""
    members = _read_members(file)
    plan = Plan(read_plan(members["schema.json"]), members, trusted)
    plan.check()
    if plan.foreign:
        raise FtransferError(
            f"{file} holds types that are not trusted: {', '.join(sorted(plan.foreign))[:500]}; if you trust "
            f"its origin, load it with trusted=[...] (--trust TYPE)"
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted({"schema.json", *plan.files}):
            archive.writestr(name, members.pop(name))
    return out.getvalue()


def _read_members(file: Path) -> dict[str, bytes]:
    """Read all that is in the zip, each member no further than it says, and all no further than is allowed."""
    if not file.is_file():
        raise FtransferError(f"{file} does not exist; ftransfer fit writes model.skops into its run folder")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise FtransferError(f"{file} has {size / 2**20:.0f} MiB; at most {MAX_BYTES >> 20} are read")
    data = file.read_bytes()
    _check_directory(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.infolist()
        size = sum(member.file_size for member in found)
        most = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * len(data)))
        if size > most:
            raise FtransferError(
                f"{file} would unpack to {size / 2**20:.0f} MiB; at most {most >> 20} are read from "
                f"{len(data) / 2**20:.3g} MiB"
            )
        if len({member.filename for member in found}) < len(found):
            raise ValueError("it holds a name twice")
        return {member.filename: _read_member(archive, member) for member in found}


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename[:50]} uses a compression that skops does not use")
    with archive.open(member) as stream:
        content = stream.read(member.file_size)  # unlike read(), it unpacks no more than that
    if len(content) != member.file_size:
        raise ValueError(f"{member.filename[:50]} is truncated")
    return content


def _check_directory(data: bytes) -> None:
    """Refuse a zip whose list of members is long: Python reads it whole, and takes ten times its size."""
    tail = data[-(22 + 2**16) :]
    at = tail.find(END)
    while at >= 0:
        size = int.from_bytes(tail[at + 12 : at + 16], "little")
        if size > MAX_DIRECTORY_BYTES or tail[max(0, at - 20) :].startswith(END_64):
            raise ValueError("it lists too many members")
        at = tail.find(END, at + 1)
