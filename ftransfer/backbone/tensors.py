"""Read a file of tensors from a stranger: what it is, is looked at first, and no code in it is run."""

import argparse
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from ftransfer.errors import FtransferError

LARGEST = 1e15  # of a weight: the square of larger ones is no float32
HEAD = 512  # bytes of a file that tell what it is


def read_tensors(file: Path) -> object:
    """Read what `torch.save` or safetensors wrote.

    A Namespace of settings, which many programs keep beside the weights, is read, too.

    Raises
    ------
    FtransferError
        If it is another file, is damaged, or holds objects that only code can make.
    """
    try:
        if fault := _fault_of(file):
            raise ValueError(fault)
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever it meets in a file that is none of its own
        raise FtransferError(
            f"{file} cannot be read as a checkpoint of plain tensors (.pth, .pt or .safetensors): {_reason(error)}"
        ) from error


def _fault_of(file: Path) -> str | None:
    """Say what a file is, where it is none of tensors; and what it would unpack to."""
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself; run git lfs pull to fetch it"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page that the server sent instead of the file"
    if not head.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        return "it is truncated"
    names = [member.filename.rpartition("/")[2] for member in members]
    if "constants.pkl" in names:
        return "it is a program (TorchScript); save the state_dict() of the model"
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return "it is compressed, which torch.save never does; refused, since it could unpack to any size"
    if sum(member.file_size for member in members) > file.stat().st_size:
        return "it declares more data than it holds"
    return None


def _reason(error: Exception) -> str:
    text = str(error)
    if found := re.search(r"GLOBAL (\S+)", text):
        name = found[1]
        return (
            f"it holds objects of type {name}, and only tensors are read; save only the weights: "
            f"torch.save(model.state_dict(), FILE)"
        )
    first = (text.splitlines() or [""])[0] or type(error).__name__
    return "it is truncated, or not a checkpoint" if "Weights only load failed" in first else first[:200]


def refuse_hollow(state: dict[str, torch.Tensor], file: Path) -> None:
    """Refuse tensors whose values are not stored one by one.

    Raises
    ------
    FtransferError
        Naming the first of them.
    """
    for key, value in state.items():
        if fault := _hollow(value):
            raise FtransferError(f"{file}: {key} {fault}; save plain dense tensors")


def _hollow(value: torch.Tensor) -> str | None:
    if value.is_meta:
        return "has a shape and no values (the meta device)"
    if value.layout != torch.strided or value.is_nested:
        return f"is stored as {str(value.layout).removeprefix('torch.')}"
    if value.is_quantized:
        return "is quantized"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "declares more values than the file holds"
    return None


def value_fault(key: str, given: torch.Tensor, wanted: torch.Tensor) -> str | None:
    """Say why a network cannot compute with a weight.

    >>> value_fault("fc.bias", torch.tensor([1, 2]), torch.zeros(2))
    'fc.bias holds int64, not floating-point numbers'
    """
    if not wanted.is_floating_point() or not given.numel():
        return None
    if not given.is_floating_point():
        return f"{key} holds {str(given.dtype).removeprefix('torch.')}, not floating-point numbers"
    low, high = (each.item() for each in given.float().aminmax())
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        return f"{key} holds NaN or infinity"
    if max(abs(low), abs(high)) > LARGEST:
        return f"{key} holds {max(low, high, key=abs):.3g}, which is too large to compute with"
    if key.endswith("running_var") and low < 0:
        return f"{key} holds a negative variance"
    return None
