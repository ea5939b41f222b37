"""Candidates share what transformers made of the rows."""

from threading import Thread

import numpy as np
import pytest
from conftest import blobs
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, make_pipeline
from ftransfer.adapt.scaler import DomainScaler as Scaler
from ftransfer.recipes import Recipe
from ftransfer.scoring.judge import Judge
from ftransfer.search import maps
from ftransfer.search.strategy import Trial
from ftransfer.search.trials import fit_trial


@pytest.fixture
def judge():
    X, y, _ = blobs()
    return Judge(X, y)


@pytest.fixture
def fits(monkeypatch):
    """Names of what is fitted."""
    done = []
    for kind in (Scaler, CORAL):
        whole = kind.fit_transform

        def noted(self, *args, whole=whole, **params):
            done.append(type(self).__name__)
            return whole(self, *args, **params)

        monkeypatch.setattr(kind, "fit_transform", noted)
    return done


def trial(*steps, **params):
    return Trial(Recipe("own", make_pipeline(*steps)), params)


def test_one_map_serves_all_classifiers_and_their_settings_as_separate_fits_do(judge, fits):
    lasts = (LogisticRegression(C=0.1), LogisticRegression(C=1.0), SVC())
    shared = [fit_trial(judge, trial(DomainScaler(), CORAL(), Normalizer(), last)) for last in lasts]
    assert fits == ["DomainScaler", "CORAL"]
    for fitted, last in zip(shared, lasts, strict=True):
        alone = make_pipeline(DomainScaler(), CORAL(), Normalizer(), last)
        alone.fit(judge.X, judge.y, sample_domain=judge.domain)
        assert np.array_equal(fitted.decision_function(judge.X), alone.decision_function(judge.X))
        assert fitted.memory is None


def test_another_setting_or_other_rows_before_it_make_another_map(judge, fits):
    fit_trial(judge, trial(DomainScaler(), CORAL(), SVC()))
    fit_trial(judge, trial(DomainScaler(), CORAL(), SVC(), coral__ridge=10.0))
    fit_trial(judge, trial(CORAL(), SVC()))
    assert fits == ["DomainScaler", "CORAL", "CORAL", "CORAL"]
    X, y, labels = blobs()
    other = Judge(judge.X, np.where(y == -1, -1, 2 - labels))  # the same array of rows with other labels
    fit_trial(other, trial(DomainScaler(), CORAL(), SVC()))
    assert fits[4:] == ["DomainScaler", "CORAL"]


def test_no_more_is_kept_than_the_limit_and_nothing_once_the_judge_is_gone(judge, fits, monkeypatch):
    monkeypatch.setattr(maps, "MOST_BYTES", 0)
    for _ in range(2):
        fit_trial(judge, trial(DomainScaler(), SVC()))
    assert fits == ["DomainScaler", "DomainScaler"]
    assert not maps._kept[judge]
    before = len(maps._kept)
    gone = Judge(judge.X, judge.y)
    fit_trial(gone, trial(DomainScaler(), SVC()))
    assert len(maps._kept) == before + 1
    del gone
    assert len(maps._kept) == before


def test_a_step_that_writes_into_its_rows_shares_none(judge):
    """It would change those that others are fitted on."""
    steps = DomainScaler(), StandardScaler(copy=False), SVC()
    first = fit_trial(judge, trial(*steps)).decision_function(judge.X.copy())
    fit_trial(judge, trial(DomainScaler(), SVC()))
    assert np.array_equal(fit_trial(judge, trial(*steps)).decision_function(judge.X.copy()), first)


def test_threads_that_need_the_same_map_wait_for_one_fit(judge, fits):
    threads = [Thread(target=fit_trial, args=(judge, trial(DomainScaler(), SVC(C=c)))) for c in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fits == ["DomainScaler"]
