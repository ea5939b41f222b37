"""A killed race goes on from its journal."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from ftransfer import CORAL, DomainScaler, FtransferError, load_task, make_pipeline, race
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search import finalists, journal, trials
from ftransfer.search.journal import Journal
from ftransfer.search.race import prepare, run
from ftransfer.search.settings import RaceSettings
from ftransfer.task import Answers

RECIPES = [
    Recipe("plain", AdaptationPipeline([("svc", SVC())]), {"svc__C": [1.0, 10.0]}),
    Recipe("scaled", make_pipeline(DomainScaler(), SVC()), {}),
    Recipe("aligned", make_pipeline(DomainScaler(), CORAL(), SVC()), {"coral__ridge": [1.0, 10.0]}),
]


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    X, y, labels = blobs(n_source=60, n_target=60, shift=8.0)
    folder = tmp_path_factory.mktemp("journal") / "f"
    names = np.array(["a", "b", "c"])[labels]
    return load_task(write_feature_set(folder, X, names, np.where(y == -1, "t", "s")), "s", "t")


@pytest.fixture
def fits(monkeypatch):
    """Settings that were fitted while racing, in order."""
    done, fit = [], trials.fit_trial
    for module in (finalists, trials):
        monkeypatch.setattr(
            module, "fit_trial", lambda judge, trial: done.append(trial.params) or fit(judge, trial)
        )
    return done


def raced(task, file, **options):
    return race(task, RECIPES, jobs=1, journal=file, **options)


@pytest.mark.parametrize("scorer", ["consistency", "ensemble"])
def test_a_race_that_goes_on_finds_what_an_undisturbed_one_does(task, tmp_path, fits, monkeypatch, scorer):
    whole = raced(task, tmp_path / "whole", scorer=scorer)
    fits.clear()

    def stop(n):
        if len(fits) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raced(task, tmp_path / "running", scorer=scorer, progress=stop)
    first = len(fits)
    fits.clear()
    found = raced(task, tmp_path / "running", scorer=scorer)
    assert len(fits) < len(whole.table) + len(RECIPES) - 1
    assert first + len(fits) <= len(whole.table) + len(RECIPES)  # the best of each recipe may be fitted again
    columns = ["pipeline", "params", "score", "target_accuracy", "source_accuracy"]
    assert found.table[columns].equals(whole.table[columns])
    assert (found.chosen, found.sentence, found.reason) == (whole.chosen, whole.sentence, whole.reason)
    np.testing.assert_array_equal(found.pipeline.predict(task.X), whole.pipeline.predict(task.X))


def test_a_failure_is_remembered_as_one(task, tmp_path, fits):
    bad = [*RECIPES, Recipe("bad", make_pipeline(DomainScaler(), SVC()), {"svc__C": [-1.0]})]
    for _ in range(2):
        table = race(task, bad, jobs=1, journal=tmp_path / "j").table
        assert table["error"].str.contains("C").sum() == 1
        assert table["score"].isna().sum() == 1
    assert fits.count({"svc__C": -1.0}) == 1


@pytest.mark.parametrize("other", [{"scorer": "entropy"}, {"target_labels": "some"}])
def test_the_journal_of_another_race_is_started_anew(task, tmp_path, fits, other):
    raced(task, tmp_path / "j")
    fits.clear()
    if "target_labels" in other:
        other = {"target_labels": np.where(np.arange(60) < 5, 0, -1)}
    raced(task, tmp_path / "j", **other)
    assert len(fits) == 5


def test_a_race_goes_on_whatever_the_answers_are(task, tmp_path, fits):
    """Nothing in a journal rests on a label of the target."""
    first = raced(task, tmp_path / "j")
    fits.clear()
    turned = replace(task, answers=Answers((task.answers.codes + 1) % 3))
    second = raced(turned, tmp_path / "j")
    assert len(fits) <= len(RECIPES)  # what the guard weighs
    assert second.table["score"].equals(first.table["score"])
    assert not second.table["target_accuracy"].equals(first.table["target_accuracy"])


def test_an_edited_recipe_is_fitted_again(task, tmp_path, fits):
    raced(task, tmp_path / "j")
    fits.clear()
    edited = [
        RECIPES[0],
        RECIPES[1],
        Recipe("aligned", make_pipeline(CORAL(), SVC()), {"coral__ridge": [1.0]}),
    ]
    race(task, edited, jobs=1, journal=tmp_path / "j")
    assert {"coral__ridge": 1.0} in fits


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "7",
        '{"trial": "x"}',
        '{"trial": "x", "found": {"value": "much"}, "predicted": [], "seconds": 1, "error": ""}',
        '{"trial": "x", "found": {"a": 3}, "predicted": [], "seconds": 1, "error": ""}',
        '{"trial": "x", "found": null, "predicted": {}, "seconds": 1, "error": ""}',
        "\udcff\x00",
    ],
)
def test_a_line_that_cannot_be_read_counts_for_nothing(task, tmp_path, line):
    raced(task, tmp_path / "j")
    before = (tmp_path / "j").read_text().splitlines()
    with open(tmp_path / "j", "a", encoding="utf-8", errors="surrogateescape") as out:
        out.write(line)
    opened = Journal(tmp_path / "j", task, "consistency")
    assert len(opened.rows) == len(before) - 1 == 5
    assert (tmp_path / "j").read_text().splitlines() == before
    assert all(json.loads(each) for each in before)


def test_a_journal_that_cannot_be_written_is_an_error(task, tmp_path):
    with pytest.raises(FtransferError, match="cannot write to"):
        Journal(tmp_path / "nowhere" / "j", task, "consistency")


def test_a_disk_that_runs_full_in_a_race_is_one_error_and_the_race_goes_on_once_there_is_room(
    task, tmp_path, fits
):
    class Disk:
        room = 3000

        def __init__(self, file):
            self.file = file

        def write(self, content):
            if not self.room:
                raise OSError(28, "No space left on device")
            n = min(self.room, len(content))
            self.room -= n
            return self.file.write(content[:n])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "open", lambda *args, **options: Disk(open(*args, **options)), raising=False)  # noqa: SIM115
        with pytest.raises(FtransferError, match="cannot write to .*No space left"):
            raced(task, tmp_path / "j")
    fits.clear()
    whole = raced(task, tmp_path / "j")
    assert len(fits) < len(whole.table) + len(RECIPES)


def test_forests_that_are_grown_out_once_the_rounds_are_over_are_written_down(task, tmp_path):
    weak = RandomForestClassifier(100, min_samples_leaf=80, random_state=0)  # of leaves alone
    recipes = [*RECIPES, Recipe("weak", make_pipeline(DomainScaler(), CORAL(), weak))]
    contest = prepare(task, recipes, RaceSettings(jobs=1, journal=tmp_path / "j"))
    tried = run(contest, progress=lambda n: None, announce=lambda n: None, bind=partial)
    assert [each.pipeline for each in tried.stopped] == ["weak"]
    assert not any('"weak ' in line for line in (tmp_path / "j").read_text().splitlines())
    tried.grow_out(tried.stopped)
    assert not tried.stopped
    assert any('"weak ' in line for line in (tmp_path / "j").read_text().splitlines())
