"""Ctrl-C ends a command within seconds, whatever computes, and what was finished is kept."""

import signal
import sys
import threading
import time

import pytest
from conftest import draw

from ftransfer import FeatureSet
from ftransfer.cli import interrupt as ending
from ftransfer.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
MOST = 5.0  # seconds; PATIENCE and the end of the process

EXTRACT = """
import sys, time
from ftransfer.cli import main
from ftransfer.images import readers
read = readers.read_bytes
def read_slowly(root, path):
    if "slow" in path:
        print("reading", flush=True)
        time.sleep(100)
    return read(root, path)
readers.read_bytes = read_slowly
main(sys.argv[1:])
"""
FIT = """
import sys, time
from ftransfer.cli import main
main(sys.argv[1:])
"""
RECIPE = """
import time
from sklearn.linear_model import LogisticRegression
from ftransfer import make_pipeline
class Slow(LogisticRegression):
    def fit(self, X, y):
        if self.C > 1:
            print("fitting", flush=True)
            time.sleep(100)
        return super().fit(X, y)
pipeline, grid = make_pipeline(Slow()), {"slow__C": [0.1, 1.0, 10.0]}
"""


@pytest.fixture
def interrupt(nursery):
    """Run code until it prints `after`, and send Ctrl-C; return the exit code, what was said, and the seconds."""

    def run(code, *args, after):
        with nursery.start("-c", code, *args, env={"PYTHONUNBUFFERED": "1"}) as program:
            program.wait_for(after)
            time.sleep(0.5)
            program.send_signal(signal.SIGINT)
            sent = time.monotonic()
            return program.wait(), program.stderr, time.monotonic() - sent

    return run


def test_a_program_that_was_interrupted_leaves_at_once_though_the_signal_was_not_seen_yet(monkeypatch):
    left = []
    monkeypatch.setattr(ending, "_leave", lambda said="": left.append(said))
    for code, times in ((130, 1), (1, 0), (0, 0)):
        with pytest.raises(SystemExit, match=str(code)), ending.leaving_on_interrupt():
            sys.exit(code)
        assert len(left) == times
        left.clear()


def test_a_program_that_goes_on_after_a_command_keeps_no_thread_of_it():
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    deadline = time.monotonic() + 10
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def test_an_extraction_behind_a_slow_picture_ends_at_once_and_keeps_what_is_finished(tmp_path, interrupt):
    for i in range(6):
        draw(tmp_path / "p" / "day" / "ash" / f"{i}.png", 0, i)
    draw(tmp_path / "p" / "day" / "ash" / "slow.png", 0, 9)
    args = ["extract", tmp_path / "p", "--out", tmp_path / "f", "--backbone", "small_cnn", "--batch-size", 2]
    code, said, seconds = interrupt(EXTRACT, *args, "--workers", 2, after="reading")
    assert (code, seconds < MOST) == (130, True), (said, seconds)
    assert "6 of 7 images are kept" in said
    assert len(FeatureSet(tmp_path / "f").done()) == 6


def test_a_race_behind_a_slow_fit_ends_within_seconds_and_goes_on_from_there(
    tmp_path, feature_set, interrupt
):
    (tmp_path / "slow.py").write_text(RECIPE)
    args = [
        "fit",
        feature_set.folder,
        "--source",
        "day",
        "--target",
        "night",
        "--out",
        tmp_path / "run",
        "--jobs",
        1,
    ]
    args += ["--pipeline", tmp_path / "slow.py", "--pipeline", "scaled_logistic"]
    code, said, seconds = interrupt(FIT, *args, after="fitting")
    assert (code, seconds < MOST) == (130, True), (said, seconds)
    assert "kept" in said
    assert "Traceback" not in said
    assert len((tmp_path / "run" / "running").read_text().splitlines()) > 2
