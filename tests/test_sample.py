"""A race on many rows: some of them are raced on, all target rows are predicted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set

from ftransfer import RaceSettings, load_task, race, write_report
from ftransfer.adapt.ask import BLOCK, ask_in_blocks
from ftransfer.adapt.rows import consecutive
from ftransfer.search.sample import LEAST, of_all_rows, raced_rows
from ftransfer.task import draw_target_labels

QUICK = ["source_only_logistic", "scaled_logistic", "coral_logistic"]


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    X, y, labels = blobs(n_source=600, n_target=900, shift=8.0)
    names, domain = np.array(["a", "b", "c"])[labels], np.where(y == -1, "t", "s")
    return write_feature_set(tmp_path_factory.mktemp("many") / "f", X, names, domain)


@pytest.fixture
def task(features):
    return load_task(features, "s", "t")


def test_few_enough_rows_are_all_raced_on(task):
    settings = RaceSettings(max_rows=1500)
    assert raced_rows(task, settings) == (task, settings, None)


@pytest.mark.parametrize(
    ("most", "n_source", "n_target"), [(1400, 600, 800), (1000, 500, 500), (400, 200, 200)]
)
def test_either_side_has_half_of_the_rows_as_far_as_it_has_as_many(task, most, n_source, n_target):
    some, _, taken = raced_rows(task, RaceSettings(max_rows=most))
    assert abs(int(some.is_source.sum()) - n_source) <= 3
    assert abs(int((~some.is_source).sum()) - n_target) <= 3
    assert np.array_equal(some.X, task.X[taken])
    assert np.array_equal(some.answers.codes, task.answers.codes[taken[~task.is_source]])


def test_a_class_keeps_fifty_rows_and_labelled_target_rows_are_all_raced_on(task):
    labelled, labels = draw_target_labels(task, 300)
    some, settings, taken = raced_rows(labelled, RaceSettings(max_rows=60, target_labels=labels))
    assert np.bincount(some.y[some.is_source]).tolist() == [LEAST] * 3
    assert (settings.target_labels != -1).sum() == (some.labels.codes != -1).sum() == 300
    assert np.array_equal(settings.target_labels, labels[taken[~task.is_source]])


def test_a_race_on_some_rows_gives_all_of_them_and_says_how_many_it_used(task):
    found = race(task, QUICK, jobs=1, max_rows=600)
    assert np.array_equal(found.task.X, task.X)
    assert found.pipeline.predict(found.task.X_target).shape == (900,)
    assert (
        "600 of 1,500 images were raced on, drawn at random (300 of 600 source images, 300 of 900 target images)"
        in " ".join(found.task.notes)
    )
    whole = race(task, QUICK, jobs=1)
    assert "raced on" not in " ".join(whole.task.notes)
    accuracy = [task.answers.accuracy(each.pipeline.predict(task.X_target)) for each in (found, whole)]
    assert accuracy[0] == pytest.approx(accuracy[1], abs=0.02)


def test_labels_that_were_used_are_named_by_their_rows_among_all(task):
    labelled, labels = draw_target_labels(task, 60)
    found = race(labelled, QUICK, jobs=1, max_rows=600)
    assert np.array_equal(found.target_labels, labels)
    used = np.sort(np.r_[found.label_use.useful, found.label_use.held_back])
    assert np.array_equal(used, np.flatnonzero(labels != -1))


def test_of_several_sources_the_chosen_ones_are_given_whole(task):
    domain = np.where(task.is_source, 1 + np.arange(len(task.y)) % 2, -1)
    several = replace(task, sources=("s", "u"), sample_domain=domain)
    found = race(several, QUICK, jobs=1, max_rows=900)
    alone = replace(found, table=found.table.assign(params=[{"sources": "u"}] * len(found.table)))
    _, _, taken = raced_rows(several, RaceSettings(max_rows=900))
    given = of_all_rows(alone, several, RaceSettings(), taken).task
    assert given.sources == ("u",)
    assert len(given.y) == 300 + 900


def test_many_rows_are_predicted_in_blocks_and_a_table_as_a_whole():
    X, sizes = np.arange(2.0 * (BLOCK + 3)).reshape(-1, 2), []

    class Summing:
        def predict(self, rows):
            sizes.append(len(rows))
            return np.asarray(rows).sum(axis=1)

    for rows in (X, X[:5], pd.DataFrame(X)):
        assert np.array_equal(ask_in_blocks(Summing(), "predict", rows), np.asarray(rows).sum(axis=1))
    assert sizes == [BLOCK, 3, 5, len(X)]


def test_rows_that_follow_one_another_are_a_slice():
    assert consecutive(np.array([3, 4, 5])) == slice(3, 6)
    for rows in ([3, 5], [5, 4], [1, 3, 3], []):
        assert consecutive(np.array(rows, dtype=int)).tolist() == rows


def test_the_report_counts_all_target_rows(task, features, tmp_path):
    found = race(task, QUICK, jobs=1, max_rows=600)
    counted = write_report(found, features, tmp_path / "run")["counted"]
    assert counted["labelled"] == np.sum(counted["confusion"]) == 900
    assert counted["recommended"] == np.trace(counted["confusion"]) / 900
    assert len(pd.read_csv(tmp_path / "run" / "predictions.csv")) == 900
