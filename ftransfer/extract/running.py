"""How an extraction runs: what changes how fast it is and what stops it, and none of its numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from ftransfer.errors import FtransferError


class Options(TypedDict, total=False):
    """What `extract_features` takes of `Running`, by name."""

    batch_size: int | str
    workers: int | None
    strict: bool
    progress: Callable[[int], None]
    replace: bool


def untold(n: int) -> None:
    """Tell nobody how far it is."""


@dataclass(frozen=True)
class Running:
    """How an extraction runs.

    Attributes
    ----------
    batch_size : int or "auto"
        Images in a forward pass, see `make_runtime`. A batch that is not full is filled up, so that all have
        one shape.
    workers : int, optional
        Threads that read and decode, beside a GPU processes. Default: `count_readers`, the usable cores; for images in
        a store more, as they mostly wait.
    strict : bool
        Whether the first image that cannot be read stops the run.
    progress : callable
        Called with the number of images dealt with since the last call.
    replace : bool
        Whether images of the same folders and domains that are in the manifest leave it.
    """

    batch_size: int | str = "auto"
    workers: int | None = None
    strict: bool = False
    progress: Callable[[int], None] = untold
    replace: bool = False

    def check(self, views: int) -> None:
        """Refuse a batch that cannot hold the views of one image, before anything is written.

        Raises
        ------
        FtransferError
        """
        if self.batch_size != "auto" and int(self.batch_size) < views:
            raise FtransferError(
                f"a batch of {self.batch_size} is too small for an image with {views} views; increase --batch-size"
            )
