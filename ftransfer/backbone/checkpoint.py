"""Checkpoints: files of plain tensors, read without running code, written with what they say of themselves."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ftransfer.backbone.names import unwrap
from ftransfer.backbone.tensors import read_tensors, refuse_hollow
from ftransfer.errors import FtransferError
from ftransfer.storage.places import local
from ftransfer.storage.writing import write_whole, writing

HEAD = "ftransfer_head"  # the classifier trained on top of a user's own module, which does not name its own


def read_checkpoint(file: Path) -> dict[str, torch.Tensor]:
    """Read the state dict in a file, without running code.

    Raises
    ------
    FtransferError
        If it cannot be read, or holds no plain tensors by the names of layers.
    """
    state, _ = unwrap(read_tensors(file))
    if not state:
        raise FtransferError(f"{file} does not hold a state dict (a mapping from layer names to tensors)")
    refuse_hollow(state, file)
    # torchvision's published densenet files name their layers as an older release did
    old = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
    return {old.sub(r"\1\2", key): value for key, value in state.items()}


def checkpoint_path(out: str | Path) -> Path:
    """Check that a checkpoint can have this name."""
    out = local(out, "a checkpoint")
    if out.suffix != ".safetensors":
        raise FtransferError(
            f"{out}: checkpoints are written as .safetensors; use the name {out.stem}.safetensors"
        )
    return out


def checkpoint(backbone: str, state: dict[str, torch.Tensor], **about: object) -> bytes:
    """Write weights as safetensors, with what `read_about` reads beside them."""
    about = {"backbone": backbone, **about}
    # one entry alone: safetensors writes several in any order, and equal weights should be equal files
    return save(state, metadata={"ftransfer": json.dumps(about)})


def save_backbone(backbone: Any, out: str | Path, **about: object) -> None:
    """Write the weights of a backbone as a checkpoint that `Backbone` takes, whole or not at all.

    Parameters
    ----------
    backbone : Backbone
    out : str or path
        Ends in ``.safetensors``.
    **about
        What the checkpoint says of itself, see `read_about`.
    """
    out = checkpoint_path(out)
    state = {k: v.detach().cpu().contiguous() for k, v in backbone.weights().items()}
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, checkpoint(backbone.name, state, **about))


def read_about(weights: str | Path) -> dict:
    """Read what a checkpoint of `ftransfer finetune` says of itself; nothing of any other."""
    file = Path(str(weights)).expanduser()
    if file.suffix != ".safetensors" or not file.is_file():
        return {}
    try:
        with safe_open(file, "pt") as opened:
            return json.loads((opened.metadata() or {}).get("ftransfer", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise FtransferError(f"{file} cannot be read as a checkpoint: {error}") from error
