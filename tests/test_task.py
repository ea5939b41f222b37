import numpy as np
import pytest
from conftest import blobs, write_feature_set

from ftransfer import FtransferError, load_task


def test_source_rows_have_labels_and_target_rows_have_none(feature_set):
    task = load_task(feature_set, "day", "night")
    X, y, labels = blobs()
    np.testing.assert_array_equal(task.X, X)
    np.testing.assert_array_equal(task.y, y)
    assert task.classes.tolist() == ["ash", "elm", "oak"]
    assert task.sample_domain.tolist() == [1] * 60 + [-1] * 45
    assert "label" not in task.rows.columns
    np.testing.assert_array_equal(task.answers.codes, labels[60:])
    assert task.answers.accuracy(labels[60:]) == 1.0


def test_nothing_but_the_answers_changes_with_the_targets_labels(tmp_path):
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])
    domains = np.where(y == -1, "night", "day")
    turned = np.where(y == -1, names[(labels + 1) % 3], names[labels])
    bare = [None if d == "night" else n for d, n in zip(domains, names[labels], strict=True)]
    tasks = [
        load_task(write_feature_set(tmp_path / str(i), X, given, domains), "day", "night")
        for i, given in enumerate([names[labels], turned, bare])
    ]
    for task in tasks[1:]:
        np.testing.assert_array_equal(task.X, tasks[0].X)
        np.testing.assert_array_equal(task.y, tasks[0].y)
        assert task.rows.equals(tasks[0].rows)
        assert task.rows.columns.tolist() == tasks[0].rows.columns.tolist()
    assert not tasks[2].answers
    assert np.isnan(tasks[2].answers.accuracy(labels[60:]))


def test_rows_hold_no_column_of_labels(feature_set):
    table = feature_set.manifest
    table["label:sex"] = np.where(np.arange(len(table)) % 2, "f", "m")
    table["label:age"] = np.where(np.arange(len(table)) % 3, "old", "young")
    feature_set.write_manifest(table)
    tasks = [load_task(feature_set, "day", "night", label=name) for name in (None, "label", "sex")]
    for task in tasks:
        assert not [name for name in task.rows if name.startswith("label")]
    assert tasks[2].classes.tolist() == ["f", "m"]


def test_what_fits_may_see_of_a_task_holds_no_answer(feature_set):
    task = load_task(feature_set, "day", "night")
    assert task.answers
    assert not task.visible.answers
    assert len(task.visible.answers.codes) == 45
    np.testing.assert_array_equal(task.visible.X, task.X)


def test_several_sources_are_numbered_apart(tmp_path):
    X, y, labels = blobs(n_source=60)
    domains = np.array(["photo"] * 30 + ["cartoon"] * 30 + ["sketch"] * 45)
    features = write_feature_set(tmp_path / "f", X, np.array(["a", "b", "c"])[labels], domains)
    task = load_task(features, ["photo", "cartoon"], "sketch")
    assert task.sources == ("cartoon", "photo")
    assert task.sample_domain.tolist() == [2] * 30 + [1] * 30 + [-1] * 45


def test_wrong_domains_are_named(feature_set):
    with pytest.raises(FtransferError, match="no domain 'nigth'; did you mean 'night'"):
        load_task(feature_set, "day", "nigth")
    with pytest.raises(FtransferError, match="'day' is both source and target"):
        load_task(feature_set, "day", "day")


@pytest.fixture
def open_set(tmp_path):
    """The source has ash, elm, oak; the target elm, oak, yew."""
    X, y, labels = blobs()
    names = np.where(
        y == -1, np.array(["elm", "oak", "yew"])[labels], np.array(["ash", "elm", "oak"])[labels]
    )
    return write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))


def test_a_class_on_one_side_only_is_refused_with_the_choices(open_set):
    with pytest.raises(
        FtransferError, match="only the source has ash; only the target has yew.*--classes shared"
    ):
        load_task(open_set, "day", "night")


def test_shared_all_and_named_classes(open_set):
    shared = load_task(open_set, "day", "night", classes="shared")
    assert shared.classes.tolist() == ["elm", "oak"]
    assert (shared.is_source.sum(), (~shared.is_source).sum()) == (40, 30)
    assert shared.notes == ["15 target images with labels of other classes were skipped"]
    everything = load_task(open_set, "day", "night", classes="all")
    assert everything.classes.tolist() == ["ash", "elm", "oak"]
    assert sorted(set(everything.answers.codes)) == [-2, 1, 2]
    assert everything.answers.accuracy(everything.answers.codes.clip(0)) == pytest.approx(2 / 3)
    named = load_task(open_set, "day", "night", classes=["oak", "elm"])
    assert named.classes.tolist() == ["elm", "oak"]
    with pytest.raises(FtransferError, match="no class 'aok'; did you mean 'oak'"):
        load_task(open_set, "day", "night", classes=["aok", "elm"])
    with pytest.raises(FtransferError, match="at least two classes are needed; there are: elm"):
        load_task(open_set, "day", "night", classes=["elm"])


def test_unlabelled_source_and_unreadable_rows_are_left_out_and_noted(tmp_path):
    X, y, labels = blobs()
    names = [None if i < 3 else "ab"[label % 2] for i, label in enumerate(labels)]
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    manifest = features.manifest
    manifest.loc[104, ["status", "error"]] = ["error", "no image"]
    features.write_manifest(manifest)
    task = load_task(features, "day", "night")
    assert len(task.X) == 101
    assert task.notes == [
        "1 unreadable images were skipped",
        "3 source images without a label were skipped",
    ]


def test_a_source_without_labels_is_refused(tmp_path):
    X, y, _ = blobs()
    features = write_feature_set(tmp_path / "f", X, [None] * len(X), np.where(y == -1, "night", "day"))
    with pytest.raises(FtransferError, match="no labelled image of source 'day'"):
        load_task(features, "day", "night")


def test_labels_that_are_written_differently_are_the_same_class(tmp_path):
    X, y, labels = blobs()
    source, target = np.array(["caf\u00e9", "elm", "oak"]), np.array(["cafe\u0301", " elm", "oak "])
    names = np.where(y == -1, target[labels], source[labels])
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    task = load_task(features, "day", "night")
    assert task.classes.tolist() == ["caf\u00e9", "elm", "oak"]
    np.testing.assert_array_equal(task.answers.codes, labels[60:])


@pytest.fixture
def digits(tmp_path):
    """The source has "0 - zero" and so on, as torchvision's MNIST; the target 0, 1, 2, as its USPS."""
    X, y, labels = blobs()
    words = np.array(["0 - zero", "1 - one", "2 - two"])[labels]
    names = np.where(y == -1, labels.astype(str), words)
    return write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "usps", "mnist")), tmp_path


def test_classes_that_are_called_differently_are_said_and_may_be_named_alike(digits):
    features, folder = digits
    with pytest.raises(FtransferError, match=r"'0 - zero' may be '0': rename one with --label-map FILE"):
        load_task(features, "mnist", "usps")
    (folder / "map.csv").write_text("from,to\n0 - zero,0\n1 - one,1\n2 - two,2\n")
    task = load_task(features, "mnist", "usps", label_map=folder / "map.csv")
    assert task.classes.tolist() == ["0", "1", "2"]
    for text, message in (
        ("from,to\n0 - zeros,0\n", "no class of the label map '0 - zeros'; did you mean '0 - zero'"),
        ("old,new\na,b\n", "needs the columns from and to; it has old, new"),
        ("from,to\na,\n", "row 1 is incomplete"),
        ("from,to\na,b\na,c\n", "maps 'a' to two names, 'b' and 'c'"),
    ):
        (folder / "bad.csv").write_text(text)
        with pytest.raises(FtransferError, match=message):
            load_task(features, "mnist", "usps", label_map=folder / "bad.csv")
    with pytest.raises(FtransferError, match="the label map .* cannot be read"):
        load_task(features, "mnist", "usps", label_map=folder / "none.csv")


def test_copies_of_source_images_are_counted_apart(tmp_path):
    X, y, labels = blobs()
    features = write_feature_set(
        tmp_path / "f", X, np.array(["ash", "elm", "oak"])[labels], np.where(y == -1, "night", "day")
    )
    manifest = features.manifest
    manifest.loc[60:79, "sha256"] = manifest.loc[:19, "sha256"].to_numpy()
    features.write_manifest(manifest)
    task = load_task(features, "day", "night")
    assert task.notes == ["20 images of 'night' are also in a source: excluded from the accuracy"]
    right = labels[60:].copy()
    right[30:] = (right[30:] + 1) % 3
    assert task.answers.accuracy(right) == pytest.approx(10 / 25)
    assert task.answers.describe_copies(right) == [
        "copies of source images among the target's: 100.0% correct of 20; 40.0% of the others, as reported"
    ]
    assert (
        load_task(
            write_feature_set(tmp_path / "g", X, labels.astype(str), manifest["domain"]), "day", "night"
        ).notes
        == []
    )


def test_words_for_missing_are_labels_of_the_target_too(tmp_path):
    from ftransfer.task import read_target_labels

    X, y, labels = blobs()
    names = np.array(["NA", "None", "oak"])[labels]
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    task = load_task(features, "day", "night")
    path = task.rows["path"].iloc[-3:]
    (tmp_path / "labels.csv").write_text(
        "path, label\n" + "".join(f"{p}, {n}\n" for p, n in zip(path, ["NA", "None", ""], strict=True))
    )
    _, given = read_target_labels(task, tmp_path / "labels.csv")
    assert given[-3:].tolist() == [0, 1, -1]


def test_a_path_of_two_images_needs_its_folder_beside_it(tmp_path):
    from ftransfer.task import read_target_labels

    X, y, labels = blobs()
    features = write_feature_set(tmp_path / "f", X, labels.astype(str), np.where(y == -1, "night", "day"))
    manifest = features.manifest
    manifest.loc[103, ["root", "path"]] = ["one", "same.png"]
    manifest.loc[104, ["root", "path"]] = ["two", "same.png"]
    features.write_manifest(manifest)
    task = load_task(features, "day", "night")
    (tmp_path / "labels.csv").write_text("path,label\nsame.png,0\n")
    with pytest.raises(FtransferError, match="same.png is the path of several images .* add the column root"):
        read_target_labels(task, tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_text("root,path,label\ntwo,same.png,0\n")
    assert read_target_labels(task, tmp_path / "labels.csv")[1][-2:].tolist() == [-1, 0]
