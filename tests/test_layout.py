"""Which folders are domains and classes, and what is passed over on the way to the images."""

import json

import pytest
from click.testing import CliRunner
from conftest import draw
from PIL import Image

from ftransfer import FtransferError, find_images
from ftransfer.cli import main


def make(root, *paths):
    for seed, path in enumerate(paths):
        draw(root / path, 0, seed)
    return root


def found(table):
    return sorted({(row.domain, row.label) for row in table.itertuples()}, key=str)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["amazon/images/mug/0.png", "dslr/images/pen/0.png"], [("amazon", "mug"), ("dslr", "pen")]),
        (
            ["a/train/cat/0.png", "a/test/cat/1.png", "b/train/dog/0.png", "b/test/dog/1.png"],
            [("a", "cat"), ("b", "dog")],
        ),
        (["a/images/train/cat/0.png", "a/images/val/dog/0.png"], [("a", "cat"), ("a", "dog")]),
        (["images/a/cat/0.png", "images/b/dog/0.png"], [("a", "cat"), ("b", "dog")]),
        (["train/a/cat/0.png", "train/b/cat/0.png", "test/a/cat/0.png"], [("a", "cat"), ("b", "cat")]),
        (["train/cat/0.png", "validation/cat/0.png"], [("train", "cat"), ("validation", "cat")]),  # VisDA
        (["train/plane/0.png", "train/train/0.png"], [("train", "plane"), ("train", "train")]),  # its trains
        (["a/cat/train/0.png", "a/cat/test/0.png"], [("a", "cat")]),
        (["a/cat/001/0.png", "a/dog/001/0.png"], [("a", "cat"), ("a", "dog")]),  # films of a class
        (["a/cat/monday/0.png", "a/dog/0.png"], [("a", "cat"), ("a", "dog")]),
        (["a/images/0.png", "b/cat/0.png"], [("a", None), ("b", "cat")]),
    ],
)
def test_folders_that_are_neither_domain_nor_class_are_seen_through(tmp_path, paths, expected):
    assert found(find_images(make(tmp_path / "root", *paths))) == sorted(expected, key=str)


def test_what_was_seen_through_is_said(tmp_path):
    table = find_images(make(tmp_path / "root", "amazon/images/mug/0.png"))
    assert table.attrs["notes"] == ["folders called images were not treated as domains or classes"]
    one = find_images(tmp_path / "root" / "amazon", domain="amazon")
    assert found(one) == [("amazon", "mug")]


def test_folders_two_deep_that_may_be_either_are_refused_until_the_layout_is_said(tmp_path):
    root = make(
        tmp_path / "root", "a/left/cat/0.png", "a/left/dog/0.png", "a/right/cat/0.png", "a/right/dog/0.png"
    )
    with pytest.raises(FtransferError, match=r"are the classes left, right, or cat, dog\? Use --layout"):
        find_images(root)
    assert found(find_images(root, layout="domain/*/class")) == [("a", "cat"), ("a", "dog")]
    assert found(find_images(root, layout="domain/class/*")) == [("a", "left"), ("a", "right")]
    assert found(find_images(root, layout="*/domain/class")) == found(find_images(root / "a"))
    assert found(find_images(root / "a", layout="*/class", domain="d")) == [("d", "cat"), ("d", "dog")]
    swapped = find_images(root / "a", layout="<class>/<domain>")
    assert found(swapped) == [("cat", "left"), ("cat", "right"), ("dog", "left"), ("dog", "right")]
    for layout, message in (("domain/klass", "gives each folder level"), ("class", "has no level 'domain'")):
        with pytest.raises(FtransferError, match=message):
            find_images(root, layout=layout)
    with pytest.raises(FtransferError, match="4 images in .* are above the domain level"):
        find_images(root, layout="*/*/*/domain")


def test_splits_beside_classes_are_refused(tmp_path):
    root = make(tmp_path / "root", "a/train/cat/0.png", "a/dog/0.png")
    with pytest.raises(FtransferError, match=r"a/train holds folders, unlike its neighbour dog.*--layout"):
        find_images(root)


def test_litter_is_left_out_and_said(tmp_path):
    root = make(
        tmp_path / "root",
        "day/ash/0.png",
        "day/ash/@eaDir/0.png/thumb.jpg",
        "day/@eaDir/x.jpg",
        "#recycle/day/old.jpg",
        "__MACOSX/day/._0.png",
        "day/ash/.ipynb_checkpoints/0-checkpoint.png",
    )
    (root / "day" / "ash" / "._0.png").write_bytes(b"x")
    (root / "day" / "ash" / "Thumbs.db").write_bytes(b"x")
    table = find_images(root)
    assert found(table) == [("day", "ash")]
    assert table.attrs["passed_over"] == {
        "@eaDir/": 2,
        "#recycle/": 1,
        "__MACOSX/": 1,
        ".ipynb_checkpoints/": 1,
        "._*": 1,
        "thumbs.db": 1,
    }


def test_what_looks_like_a_picture_and_is_not_read_is_counted_by_kind(tmp_path):
    root = make(tmp_path / "root", "day/ash/0.png", "day/ash/.hidden.png")
    folder = root / "day" / "ash"
    for i in range(2):
        (folder / f"{i}.CR2").write_bytes(b"x")
    Image.new("RGB", (4, 4)).save(folder / "photo", "JPEG")
    Image.new("RGB", (4, 4)).save(folder / "photo.jpg_large", "JPEG")
    Image.new("RGB", (4, 4)).save(folder / "photo.jfif", "JPEG")
    (folder / "notes.md").write_text("x")
    (folder / "LICENSE").write_text("x")
    table = find_images(root)
    assert len(table) == 2
    expected = {".cr2": 2, "hidden": 1, "JPEG without suffix": 1, "JPEG named .jpg_large": 1}
    assert table.attrs["passed_over"] == expected
    command = ["extract", str(root), "--out", str(tmp_path / "f"), "--backbone", "small_cnn"]
    dry = CliRunner().invoke(main, [*command, "--dry-run", "--json"])
    assert json.loads(dry.stdout)["passed_over"] == expected
    said = CliRunner().invoke(main, command)
    assert "2 .cr2" in next(line for line in said.output.splitlines() if line.startswith("skipped: "))
    with pytest.raises(FtransferError, match=r"is a single file; .*skipped: 1 \.cr2"):
        find_images(folder / "0.CR2")


def test_an_extraction_into_its_own_images_or_of_no_readable_image_fails(tmp_path):
    root = make(tmp_path / "root", "day/ash/0.png")
    command = ["extract", str(root), "--backbone", "small_cnn", "--out"]
    for more in (["--dry-run"], []):
        result = CliRunner().invoke(main, [*command, str(root), *more])
        assert result.exit_code == 1
        assert "is not empty and not a feature set (day)" in result.output
    (root / "list.csv").write_text("path,domain\nday/gone.png,a\nday/lost.png,a\n")
    result = CliRunner().invoke(main, ["extract", str(root / "list.csv"), *command[2:], str(tmp_path / "f")])
    assert result.exit_code == 1
    assert "none of the 2 images could be read; " in result.output
