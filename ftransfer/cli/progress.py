"""A progress bar on standard error, silent where that is no terminal."""

import sys

from tqdm import tqdm


def progress_bar(total: int, unit: str, description: str) -> tqdm:
    """Make a bar with rate and time left; `bar.update` is the callback that the library takes."""
    return tqdm(total=total, unit=unit, desc=description, file=sys.stderr, disable=None, dynamic_ncols=True)
