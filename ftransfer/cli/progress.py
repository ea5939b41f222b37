"""A progress bar on standard error, silent where that is no terminal."""

import shutil
import sys

from tqdm import tqdm

from ftransfer.cli.text import visible


def progress_bar(total: int, unit: str, description: str) -> tqdm:
    """Make a bar with rate and time left; `bar.update` is the callback that the library takes."""
    columns = shutil.get_terminal_size().columns  # 80 where a terminal does not know its size
    terminal = getattr(sys.stderr, "raw", sys.stderr)  # a bar moves the cursor
    return tqdm(total=total, unit=unit, desc=visible(description), file=terminal, disable=None, ncols=columns)
