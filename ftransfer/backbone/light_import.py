"""Import torchvision without torch's compiler, which it takes a name from and hardly ever calls."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo.utils"


def import_torchvision() -> None:
    """Import torchvision, and leave torch's compiler to whoever calls it first: it takes half of the time of both.

    While torchvision is imported, something stands for the compiler's module that imports it when it is used.
    """
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return
    sys.modules[COMPILER] = standing = _Later(COMPILER)
    try:
        import torchvision  # noqa: F401
    finally:
        if sys.modules.get(COMPILER) is standing:
            del sys.modules[COMPILER]


class _Later(ModuleType):
    """What torchvision sees of the compiler's module."""

    def __getattr__(self, name: str) -> Any:
        if name == "is_compile_supported":
            return lambda *args: getattr(_import_compiler(self), name)(*args)
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_import_compiler(self), name)


def _import_compiler(standing: ModuleType) -> ModuleType:
    if sys.modules.get(COMPILER) is standing:
        del sys.modules[COMPILER]
    return import_module(COMPILER)
