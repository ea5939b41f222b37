"""Ctrl-C ends a command within seconds: what is finished is kept, and what still computes is left."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

INTERRUPTED = 130  # exit code
PATIENCE = 4.0  # seconds from Ctrl-C in which what was finished is written
CLUSTER_PATIENCE = 30.0  # the same, where it has to come from the workers of a cluster
_patience = [PATIENCE]


def wait_for_workers() -> None:
    """Give what the workers of a cluster have finished more time after Ctrl-C to arrive."""
    _patience[0] = CLUSTER_PATIENCE


@contextmanager
def leaving_on_interrupt() -> Iterator[None]:
    """Run the block as the program: after Ctrl-C the process ends with 130, within `PATIENCE` whatever computes.

    A decoder or a fit cannot be stopped from Python, and a thread in one would be waited for at the end. A second
    Ctrl-C ends it at once. What is written appears whole or not at all, so that nothing is torn.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    told, ended = threading.Event(), threading.Event()

    def watch() -> None:
        # written in the signal itself, even while Python waits for C; nothing, once the block has ended
        while signal.SIGINT not in (said := ours.recv(64)):
            if not said:
                return
        told.set()
        ours.settimeout(_patience[0])
        with suppress(TimeoutError):
            while (said := ours.recv(64)) and signal.SIGINT not in said:
                pass
        if not ended.is_set():
            _leave("interrupted: finished work is kept; run the same command again to resume")

    threading.Thread(target=watch, daemon=True).start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    interrupted = False
    try:
        yield
    except SystemExit as end:
        interrupted = (
            end.code == INTERRUPTED
        )  # on a busy machine known here before the thread sees the signal
        raise
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        theirs.close()
        if interrupted or told.is_set():
            _leave()


def _leave(said: str = "") -> None:
    with suppress(OSError, ValueError):
        if said:
            os.write(2, f"\n{said}\n".encode())
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(INTERRUPTED)  # the interpreter's own end would crash while threads compute
