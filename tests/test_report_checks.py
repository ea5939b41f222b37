"""What the report checks of the data, and which images it shows."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, draw, write_feature_set
from PIL import Image

from ftransfer import load_task
from ftransfer.report.checks import check_data
from ftransfer.report.shown import MOST_LOOKED_AT, Shown
from ftransfer.report.thumbnails import MOST_BYTES, look, look_at, spread
from ftransfer.task import Answers


def checked(features, source="day", looks=None):
    task = load_task(features, source, "night")
    rows = np.arange(len(task.y))
    found = check_data(task, features, rows, looks or [None] * len(rows))
    return {each["check"]: each for each in found}


def test_data_without_a_fault_has_no_finding(feature_set):
    found = checked(feature_set)
    assert not [name for name, each in found.items() if each["found"]]
    assert "smallest has 20" in found["classes with few images"]["sentence"]
    assert found["size separates the domains"]["found"] is None
    assert "found: 0" in found["size separates the domains"]["sentence"]


def test_copies_two_labels_few_images_and_unreadable_files_are_found_and_named(feature_set):
    table = feature_set.manifest
    keys = table["sha256"].copy()
    table.loc[3, "sha256"] = keys[0]  # within the source, of the same class
    table.loc[1, "sha256"] = keys[2]  # of two classes
    table.loc[70, "sha256"] = keys[6]  # across
    table.loc[[40, 90], "status"] = "error"
    table.loc[[40, 90], "error"] = "not an image"
    table.loc[:59, "label"] = table["label"][:60].where(table["label"][:60] != "oak", None)
    table.loc[[2, 5, 8], "label"] = "oak"
    feature_set.write_manifest(table)
    found = checked(feature_set)
    assert found["unreadable files"]["examples"] == ["40.png: not an image", "90.png: not an image"]
    assert found["duplicates within a domain"]["examples"] == [
        "day: 0.png, day: 3.png",
        "day: 1.png, day: 2.png",
    ]
    assert found["duplicates across domains"]["examples"] == ["day: 6.png, night: 70.png"]
    assert "day: 1.png, day: 2.png" in found["one image with two labels"]["examples"]
    assert found["classes with few images"]["examples"] == ["oak: 3 images"]
    assert all(found[name]["found"] for name in list(found)[:5])


def test_a_hundred_thousand_duplicates_are_counted_and_few_are_named(feature_set):
    task = load_task(feature_set, "day", "night")
    n = 50_000
    rows = pd.DataFrame({"root": "r", "path": [f"{i}.png" for i in range(2 * n)], "domain": "day"})
    rows["sha256"] = np.arange(2 * n) // 2
    many = replace(
        task,
        y=np.zeros(2 * n, dtype=int),
        sample_domain=np.ones(2 * n, dtype=int),
        rows=rows,
        answers=Answers(np.empty(0, dtype=int)),
    )
    found = {each["check"]: each for each in check_data(many, feature_set, np.array([0]), [None])}
    assert "50000 images occur more than once" in found["duplicates within a domain"]["sentence"]
    assert len(found["duplicates within a domain"]["examples"]) == 10


@pytest.mark.parametrize("shade", ["same", "darker"])
@pytest.mark.parametrize("size", [(40, 32), (64, 48)])
def test_sizes_and_colours_that_tell_the_domains_apart_are_called_so(feature_set, tmp_path, shade, size):
    task = load_task(feature_set, "day", "night")
    rows = []
    for i, at_source in enumerate(task.is_source):
        file = tmp_path / f"{i}.png"
        draw(file, i, seed=i, size=(40, 32) if at_source else size)
        if not at_source and shade == "darker":
            Image.open(file).point(lambda v: v // 3).save(file)
        rows.append((str(tmp_path), file.name, hashlib.sha256(file.read_bytes()).hexdigest()))
    found = checked(feature_set, looks=look_at(rows))
    assert found["size separates the domains"]["found"] is (size != (40, 32))
    assert found["colour separates the domains"]["found"] is (shade == "darker")
    if size != (40, 32):
        assert "target: most often 64 x 48 pixels" in found["size separates the domains"]["examples"][1]


def test_an_image_is_looked_at_only_while_it_is_the_one_that_was_embedded(tmp_path):
    draw(tmp_path / "a.png", 1, seed=0, size=(300, 200))
    content = (tmp_path / "a.png").read_bytes()
    found = look(str(tmp_path), "a.png", hashlib.sha256(content).hexdigest())
    assert found.size == (300, 200)
    assert found.colour[1] > found.colour[0]
    assert look(str(tmp_path), "a.png", "0" * 64) is None
    assert look(str(tmp_path), "../a.png", hashlib.sha256(content).hexdigest()) is None
    (tmp_path / "a.png").unlink()
    assert look(str(tmp_path), "a.png", hashlib.sha256(content).hexdigest()) is None


def test_each_group_has_its_share_of_a_sample():
    groups = np.repeat([0, 1, 2], [1000, 5, 1])
    rows = spread(groups, most=20, each=8)
    assert np.bincount(groups[rows]).tolist() == [8, 5, 1]
    assert set(groups[rows[:3]]) == {0, 1, 2}
    assert rows.tolist() == spread(groups, most=20, each=8).tolist()
    assert len(spread(groups, most=4, each=8)) == 4


def test_the_sample_of_a_large_run_holds_every_kind_of_mistake_and_stays_small(tmp_path, monkeypatch):
    X, y, labels = blobs(3000, 3000, 8, 10)
    features = write_feature_set(
        tmp_path / "f", X, np.array([f"c{i}" for i in range(10)])[labels], np.where(y == -1, "night", "day")
    )
    task = load_task(features, "day", "night")
    predicted = task.answers.codes.copy()
    predicted[:30] = (predicted[:30] + 1) % 10
    looked = []
    monkeypatch.setattr("ftransfer.report.shown.look_at", lambda rows: [looked.append(r) for r in rows])
    shown = Shown(task, predicted, np.linspace(0.1, 1.0, len(predicted)))
    assert len(looked) == MOST_LOOKED_AT < len(shown.rows) < 1700
    assert set(range(3000, 3030)) <= set(shown.rows.tolist())
    data = shown.as_data(np.r_[task.y[:3000], task.answers.codes], [predicted, predicted], None)
    assert len({len(data[name]) for name in ("path", "domain", "label", "predicted", "sure", "picture")}) == 1


def test_small_pictures_beyond_the_size_of_a_page_are_left_out(feature_set, monkeypatch):
    from ftransfer.report.thumbnails import Look

    task = load_task(feature_set, "day", "night")
    large = Look("x" * 100_000, (1, 1), np.zeros(6))
    monkeypatch.setattr("ftransfer.report.shown.look_at", lambda rows: [large for _ in rows])
    shown = Shown(task, task.answers.codes, None)
    pictures = shown.as_data(task.y, [task.answers.codes] * 2, None)["picture"]
    assert sum(picture is not None for picture in pictures) == MOST_BYTES // 100_000
