"""Networks of a user: any module with any preprocessing, in Python or in a file that the user names."""

import copy
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from ftransfer.backbone.checkpoint import HEAD, read_checkpoint
from ftransfer.backbone.cut import OUTPUT, Whole
from ftransfer.backbone.preprocess import find_preset
from ftransfer.backbone.weights import Built
from ftransfer.errors import FtransferError

PREFIX = "module:"


def build_module(module: nn.Module, transforms: Callable, name: str | None, origin: str) -> Built:
    """Make a backbone of a module; see `Backbone.from_module`."""
    if not isinstance(module, nn.Module):
        raise FtransferError(f"a backbone must be a torch.nn.Module; given {type(module).__name__}")
    if not callable(transforms):
        raise FtransferError(
            f"the transforms of a backbone must take a PIL image and return a tensor; "
            f"{type(transforms).__name__} is not callable"
        )
    kind = type(module)
    name = name or kind.__qualname__
    # a class of a script is in another module in every process
    foreign = kind.__module__ in ("__main__", "<run_path>", *_SCRIPTS)
    known = kind.__qualname__ if foreign else f"{kind.__module__}.{kind.__qualname__}"
    preset = find_preset(transforms)
    said = {"class": known}
    return Built(PREFIX + name, module.eval(), preset, origin, cut_module, fingerprint=said, has_probe=True)


def cut_module(module: nn.Module, layers: Sequence[str], name: str) -> tuple[nn.Module, list[str], str]:
    """Run a module as it is; its layers are what it returns, and what modules in it give."""
    layers = list(layers) or [OUTPUT]
    return Whole(module, layers, name.removeprefix(PREFIX)), layers, ""


def copied(module: nn.Module) -> nn.Module:
    """Copy a user's module, which stays as it is: in training, with its gradients, on its device."""
    try:
        return copy.deepcopy(module)
    except Exception as error:  # what a module holds besides tensors may be anything
        raise FtransferError(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def run_file(file: Path, weights: str = "DEFAULT", layers: Sequence[str] = ()) -> tuple[Built, list[str]]:
    """Run a user's file and make a backbone of its names ``model``, ``transforms`` and, if it has them, others.

    The user has to have named the file: a feature set, a model or a checkpoint that names one is no reason to run it.

    Parameters
    ----------
    file : str or path
    weights : str
        ``"DEFAULT"`` for those that the file gives its model, or a checkpoint.
    layers : sequence of str
        Default: the file's ``layer``, else what the model returns.

    Returns
    -------
    The backbone to be, and its layers.

    Raises
    ------
    FtransferError
        If the file is not there, fails, or lacks a name.
    """
    file = Path(file).expanduser()
    if not file.is_file():
        raise FtransferError(f"the backbone file {file} does not exist")
    found = _run(file)
    missing = [name for name in ("model", "transforms") if name not in found]
    if missing:
        raise FtransferError(
            f"{file} makes no {' and no '.join(missing)}; a backbone file makes model, a torch.nn.Module, and "
            f"transforms, from a PIL image to a tensor"
        )
    built = build_module(found["model"], found["transforms"], found.get("name"), file.name)
    if weights != "DEFAULT":
        if not Path(weights).expanduser().is_file():
            raise FtransferError(
                f"--weights for {file} must be DEFAULT (the file's own) or a checkpoint file; {weights} does "
                f"not exist"
            )
        state = read_checkpoint(Path(weights).expanduser())
        built.state = {key: value for key, value in state.items() if key.split(".")[0] != HEAD}
        built.origin = f"{file.name}, {Path(weights).name}"
    layer = found.get("layer") or ()
    return built, list(layers) or ([layer] if isinstance(layer, str) else list(layer))


_SCRIPTS: set[str] = set()  # names that files were run under


def _run(file: Path) -> dict:
    name = f"backbone_{file.stem}"
    _SCRIPTS.add(name)
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)  # it may import what lies beside it, as a script may
    try:
        return runpy.run_path(str(file), run_name=name)
    except Exception as error:
        line = next((f"line {t}: " for t in _lines(error, file)), "")
        raise FtransferError(f"{file} fails: {line}{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        sys.path.remove(folder)


def _lines(error: Exception, file: Path) -> list[int]:
    found: list[int] = []
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(file):
            found.insert(0, trace.tb_lineno)
        trace = trace.tb_next
    return found
