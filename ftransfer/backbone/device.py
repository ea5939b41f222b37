"""The device that a backbone computes on."""

import torch
import torchvision

from ftransfer.backbone.gpu import part_queues
from ftransfer.errors import FtransferError


def find_device(name: str) -> torch.device:
    if name != "cpu":
        part_queues()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FtransferError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}") from error
    return device


def versions() -> dict[str, str]:
    """Versions of what computed the embeddings, for the record; they are no part of the fingerprint."""
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}
