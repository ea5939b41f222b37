"""Threads that Ctrl-C does not wait for."""

import signal
import sys
import threading
import time
import warnings

import pytest
import sklearn

from ftransfer.search.threads import in_threads


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_come_in_the_order_of_the_arguments(jobs):
    def wait(i):
        time.sleep(0.02 * (i % 3))
        return i

    assert list(in_threads(wait, ((i,) for i in range(10)), jobs)) == list(range(10))
    assert list(in_threads(wait, iter(()), jobs)) == []


def test_one_thread_begins_nothing_before_the_last_result_was_dealt_with():
    begun = []
    for i in in_threads(begun.append, ((i,) for i in range(4)), 1):
        assert i is None
        time.sleep(0.02)
        assert begun == list(range(len(begun)))
        if len(begun) == 2:
            break
    time.sleep(0.1)
    assert begun == [0, 1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_goes_wrong_in_a_thread_or_in_the_arguments_is_raised(jobs):
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        list(in_threads(lambda i: 1 / i, ((i,) for i in (1, 0, 1)), jobs))

    def arguments():
        yield (1,)
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        list(in_threads(abs, arguments(), jobs))


def test_threads_know_the_configuration_of_scikit_learn_and_end():
    before = threading.active_count()
    with sklearn.config_context(assume_finite=True):
        found = list(in_threads(lambda: sklearn.get_config()["assume_finite"], [()] * 3, 2))
    assert found == [True] * 3
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


STUCK = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import numpy as np
from sklearn.svm import SVC
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.cli import main
import ftransfer.search.contest

class Stuck(SVC):
    def fit(self, X, y):  # as a fit in compiled code: no signal reaches it
        print("fitting", flush=True)
        time.sleep(300)

recipes = [Recipe("stuck", AdaptationPipeline([("svc", Stuck())]), {})]
ftransfer.search.contest.with_baselines = lambda *given: recipes
main(["fit", sys.argv[1], "--source", "day", "--target", "night", "--out", sys.argv[2], "--jobs", sys.argv[3]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_a_race_whatever_a_fit_is_at(feature_set, tmp_path, jobs, nursery):
    with nursery.start("-c", STUCK, feature_set.folder, tmp_path / "run", jobs) as program:
        program.wait_for("fitting\n")
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130  # not the 300 s of the fit
        assert "results so far are kept in" in program.stderr


def test_a_fit_that_empties_the_filters_of_warnings_lets_none_through(recwarn):
    def fit(i):
        warnings.resetwarnings()  # as each tree of a forest does for a moment, in whatever thread
        warnings.warn("of a fit", UserWarning, stacklevel=1)

    list(in_threads(fit, [(i,) for i in range(4)], 2, local=True))
    assert not recwarn.list
