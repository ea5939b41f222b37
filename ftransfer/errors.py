"""The one error for what a user can mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class FtransferError(ValueError):
    """A mistake that the user can mend; the message states the rule, what was given and the next step.

    The command line prints it as one line and exits with 1. Any other exception is a fault of the
    program and keeps its traceback. It is a ``ValueError``, as scikit-learn expects of its estimators.
    """


def unknown(kind: str, name: str, known: Iterable[str], plural: str | None = None) -> FtransferError:
    """Make the error for a name that is not there: what there is, and the nearest to what was asked.

    >>> print(unknown("domain", "webcm", ["amazon", "webcam"]))
    no domain 'webcm'; did you mean 'webcam'? (domains found: amazon, webcam)
    """
    known = [str(each) for each in known]
    near = get_close_matches(str(name), known, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else ";"
    shown = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    found = f"{plural or kind + 's'} found: {shown or 'none'}"
    return FtransferError(f"no {kind} '{name}'{guess} " + (f"({found})" if near else found))
