"""The one error for what a user can fix, and warnings that point at the user's own line."""

import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches

THROUGH = ("ftransfer", "sklearn", "joblib")


class FtransferError(ValueError):
    """An error that the user can fix; the message states the rule, what was given and the next step.

    The command line prints it as one line and exits with 1. Any other exception is a fault of the
    program and keeps its traceback. It is a ``ValueError``, as scikit-learn expects of its estimators.
    """


def unknown(kind: str, name: str, known: Iterable[str], plural: str | None = None) -> FtransferError:
    """Make the error for a name that is not there: what there is, and the nearest to what was asked.

    >>> print(unknown("domain", "webcm", ["amazon", "webcam"]))
    no domain 'webcm'; did you mean 'webcam'? (domains found: amazon, webcam)
    """
    known = [str(each) for each in known]
    near = get_close_matches(str(name), [each for each in known if each != str(name)], n=1)
    guess = f"; did you mean '{near[0]}'?" if near else ";"
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    found = f"{plural or kind + 's'} found: {shown or 'none'}"
    return FtransferError(f"no {kind} '{name}'{guess} " + (f"({found})" if near else found))


def warn_user(message: str) -> None:
    """Warn at the line that called into this package, through however many functions of it and of `THROUGH`."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in THROUGH:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
