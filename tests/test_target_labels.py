"""Labels that people give target images: read from files, and what is wrong in them is said in one line."""

import numpy as np
import pytest
from conftest import blobs, write_feature_set

from ftransfer import FtransferError, load_task
from ftransfer.features.label_file import read_labels
from ftransfer.task import read_target_labels

CLASSES = ["ash", "elm", "oak"]


@pytest.fixture
def task(feature_set):
    """From day to night; the target's images are 60.png to 104.png."""
    return load_task(feature_set, "day", "night")


def given(task, *files):
    return read_labels(files, task.rows[~task.is_source], task.target, CLASSES)


def write(file, *lines, header="path,label"):
    file.write_text("\n".join([header, *lines]) + "\n")
    return file


def test_rows_drawn_at_random_are_told_from_those_with_another_reason(task, tmp_path):
    some = write(
        tmp_path / "a.csv", "60.png,ash,random", "61.png,elm,far", "62.png,oak,", header="path,label,why"
    )
    found = given(task, some)
    assert found.codes[:3].tolist() == [0, 1, 2]
    assert found.random[:4].tolist() == [True, False, False, False]
    plain = given(task, write(tmp_path / "b.csv", "60.png,ash", "61.png,elm"))
    assert plain.random[:3].tolist() == [True, True, False], "without reasons all are taken for a random draw"


def test_labels_of_several_files_are_put_together(task, tmp_path):
    one, other = (
        write(tmp_path / "1.csv", "60.png,ash,far", "61.png,elm,far", header="path,label,why"),
        write(tmp_path / "2.csv", "60.png,ash,random", "64.png,oak,far", header="path,label,why"),
    )
    found = given(task, one, other)
    assert np.flatnonzero(found.codes != -1).tolist() == [0, 1, 4]
    assert np.flatnonzero(found.random).tolist() == [0]
    write(other, "60.png,elm")
    with pytest.raises(
        FtransferError, match=r"1.csv, .*2.csv gives two labels for 60.png: 'ash' and 'elm'; keep"
    ):
        given(task, one, other)


def test_images_with_the_same_content_count_once_and_cannot_have_two_labels(task, tmp_path):
    task.rows.loc[61, "sha256"] = task.rows.loc[60, "sha256"]
    found = given(task, write(tmp_path / "a.csv", "61.png,ash", "60.png,ash", "63.png,elm"))
    assert (found.codes != -1).sum() == 2
    with pytest.raises(
        FtransferError, match="two labels for 60.png, an image with the same content as 61.png"
    ):
        given(task, write(tmp_path / "b.csv", "60.png,ash", "61.png,elm"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["60.png,aash", "61.png,xx"], r"no class 'aash'; did you mean 'ash'\? .*1 other .*'none of these'"),
        (["s60.png,ash", "61.png,elm"], r"lists 1 images that are not in the target .*did you mean 60.png\?"),
        (["other/1.jpg,ash", "other/2.jpg,elm"], "like 60.png; the labels may be of another run"),
        ([f"{i}.png,ash" for i in range(30, 105)], "30 images .*it labels 75 images, and the target has 45"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_near_name(task, tmp_path, lines, message):
    with pytest.raises(FtransferError, match=message) as problem:
        read_target_labels(task, write(tmp_path / "labels.csv", *lines))
    assert "\n" not in str(problem.value)


def test_labels_of_an_image_that_has_changed_are_refused(task, tmp_path):
    file = write(tmp_path / "labels.csv", f"60.png,ash,random,{60:064x}", header="path,label,why,sha256")
    assert given(task, file).codes[0] == 0
    write(file, f"60.png,ash,random,{7:064x}", header="path,label,why,sha256")
    with pytest.raises(FtransferError, match=r"60.png is not the image that was labelled .*another run"):
        given(task, file)


def test_labels_of_one_class_only_are_noted(task, tmp_path):
    counted, _ = read_target_labels(task, write(tmp_path / "labels.csv", "60.png,ash", "63.png,ash"))
    assert "all 2 target labels are 'ash': they say nothing about the other classes" in counted.notes


def test_a_class_may_be_called_none_of_these(tmp_path):
    X, y, labels = blobs()
    names = np.array(["ash", "none of these", "oak"])[labels]
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    task = load_task(features, "day", "night")
    file = write(tmp_path / "labels.csv", "60.png,none of these", "61.png,oak")
    assert read_target_labels(task, file)[1][:2].tolist() == [1, 2]
