import io

import numpy as np
import pandas as pd
import pytest
from conftest import draw
from PIL import Image

from ftransfer import FtransferError, find_images
from ftransfer.images import decode, looks_like_photographs, read_bytes


def png(image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# ------------------------------------------------------------ folders


def test_domain_and_class_come_from_the_folders(pictures):
    table = find_images(pictures)
    assert table.columns.tolist() == ["root", "path", "label", "domain"]
    assert len(table) == 24
    assert table.iloc[0].tolist() == [str(pictures), "day/ash/0.png", "ash", "day"]
    assert table.groupby("domain")["label"].nunique().to_dict() == {"day": 3, "night": 3}


def test_class_folders_take_the_domain_that_is_named(pictures):
    table = find_images(pictures / "day", domain="noon")
    assert set(table["domain"]) == {"noon"}
    assert sorted(set(table["label"])) == ["ash", "elm", "oak"]


def test_images_without_class_folders_are_unlabelled(pictures):
    draw(pictures / "phone" / "a.jpg", 0, 0)
    table = find_images(pictures)
    assert table[table["domain"] == "phone"]["label"].isna().all()
    flat = find_images(pictures / "phone", domain="phone")
    assert flat["label"].isna().all()
    assert find_images(pictures, labels=False)["label"].isna().all()


def test_deeper_folders_belong_to_their_class(pictures):
    draw(pictures / "day" / "ash" / "monday" / "x.png", 0, 0)
    table = find_images(pictures)
    assert table.set_index("path").loc["day/ash/monday/x.png", "label"] == "ash"


def test_hidden_files_and_other_files_are_no_images(pictures):
    (pictures / "day" / "ash" / "notes.txt").write_text("x")
    (pictures / "day" / "ash" / ".hidden.png").write_bytes(b"x")
    (pictures / "day" / ".git").mkdir()
    draw(pictures / "day" / ".git" / "x.png", 0, 0)
    assert len(find_images(pictures)) == 24


def test_links_that_lead_in_circles_are_followed_once(pictures):
    (pictures / "day" / "ash" / "again").symlink_to(pictures)
    (pictures / "dusk").symlink_to(pictures / "day")
    assert len(find_images(pictures)) == 24


def test_a_folder_that_cannot_be_read_is_not_passed_over(pictures, monkeypatch):
    import os

    scan = os.scandir

    def refuse(path):
        if str(path).endswith("elm"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FtransferError, match=r"cannot read the folder .*elm: Permission denied"):
        find_images(pictures)


def test_class_folders_without_a_domain_are_refused(pictures):
    with pytest.raises(FtransferError, match="has no <domain>/<class>/ folders.*--domain NAME"):
        find_images(pictures / "day")


def test_domain_folders_with_a_domain_named_are_refused(pictures):
    with pytest.raises(FtransferError, match="looks like <domain>/<class>.*leave out --domain"):
        find_images(pictures, domain="day")


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(FtransferError, match="no images found in .*it is empty"):
        find_images(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FtransferError, match=r"it holds only \.txt"):
        find_images(tmp_path)


def test_a_wrong_path_suggests_the_near_one(pictures):
    with pytest.raises(FtransferError, match="did you mean 'pictures'"):
        find_images(str(pictures).replace("pictures", "picture"))
    with pytest.raises(FtransferError, match="is one file"):
        find_images(pictures / "day" / "ash" / "0.png")


# ------------------------------------------------------------ tables


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_names_paths_labels_and_domains(pictures, kind):
    given = pd.DataFrame(
        {"path": ["day/ash/0.png", "night/elm/1.png"], "label": ["tree", None], "domain": ["a", "b"]}
    )
    file = pictures / f"list.{kind}"
    given.to_csv(file, index=False) if kind == "csv" else given.to_parquet(file)
    table = find_images(file)
    assert table["label"].tolist() == ["tree", None]
    assert table["domain"].tolist() == ["a", "b"]
    assert read_bytes(*table.loc[0, ["root", "path"]]) == (pictures / "day/ash/0.png").read_bytes()


@pytest.mark.parametrize("path", ["../outside.png", "/etc/passwd", "day/../../x.png"])
def test_a_table_cannot_lead_out_of_its_folder_unless_asked(pictures, path):
    (pictures / "list.csv").write_text(f"path,domain\n{path},a\n")
    with pytest.raises(FtransferError, match="which lies outside .*--allow-outside"):
        find_images(pictures / "list.csv")
    assert len(find_images(pictures / "list.csv", allow_outside=True)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,domain\na,b\n", "needs a column 'path'; its columns: file, domain"),
        ("path\nday/ash/0.png\n", "has no column 'domain'"),
        ("path,domain\nday/ash/0.png,\n", "has rows without a domain"),
        ("path,domain\n,a\n", "rows without a path, the first is row 1"),
        ("path,domain\n", "has no rows"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(FtransferError, match=message):
        find_images(tmp_path / "list.csv")


# ------------------------------------------------------------ data sets of torchvision


def write_cifar(folder, name):
    """Write a tiny data set in CIFAR's own file format, with checksums that torchvision is told to expect."""
    import hashlib
    import pickle

    from torchvision import datasets

    make = getattr(datasets, name)
    rng = np.random.default_rng(0)
    base = folder / make.base_folder
    base.mkdir(parents=True)
    key = "labels" if name == "CIFAR10" else "fine_labels"
    changes = {}
    for attribute in ("train_list", "test_list"):
        entries = []
        for file, _ in getattr(make, attribute):
            batch = {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), key: [0, 1, 2, 3]}
            (base / file).write_bytes(pickle.dumps(batch))
            entries.append([file, hashlib.md5((base / file).read_bytes()).hexdigest()])
        changes[attribute] = entries
    classes = [f"class{i}" for i in range(100)]
    meta = {**make.meta}
    (base / meta["filename"]).write_bytes(pickle.dumps({meta["key"]: classes}))
    meta["md5"] = hashlib.md5((base / meta["filename"]).read_bytes()).hexdigest()
    return make, {**changes, "meta": meta}


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_cifar_is_read_by_torchvisions_own_loader(tmp_path, monkeypatch, name):
    make, changes = write_cifar(tmp_path, name)
    for attribute, value in changes.items():
        monkeypatch.setattr(make, attribute, value)
    table = find_images(f"torchvision:{name}:test:{tmp_path}")
    assert len(table) == 4
    assert table["label"].tolist() == ["class0", "class1", "class2", "class3"]
    assert set(table["domain"]) == {name}
    image = decode(read_bytes(*table.loc[2, ["root", "path"]]))
    np.testing.assert_array_equal(np.asarray(image), make(tmp_path, train=False).data[2])
    assert len(find_images(f"torchvision:{name}::{tmp_path}", domain="small")) == 4 * len(
        changes["train_list"]
    )


def test_a_data_set_that_is_not_there_says_where_to_put_it(tmp_path):
    # port 9 on this machine: nobody answers, so no request leaves it
    from torchvision import datasets

    url, datasets.CIFAR10.url = datasets.CIFAR10.url, "http://127.0.0.1:9/cifar.tar.gz"
    try:
        with pytest.raises(
            FtransferError, match="CIFAR10 is not in .*cannot be downloaded.*put its files there"
        ):
            find_images(f"torchvision:CIFAR10:train:{tmp_path}")
    finally:
        datasets.CIFAR10.url = url


def test_an_unknown_data_set_or_split_suggests_the_near_one(tmp_path):
    with pytest.raises(FtransferError, match="no torchvision data set 'CIFAR1'; did you mean 'CIFAR10"):
        find_images("torchvision:CIFAR1")
    with pytest.raises(FtransferError, match="no split 'tset'; did you mean 'test'"):
        find_images(f"torchvision:CIFAR10:tset:{tmp_path}")


def test_a_data_set_without_a_download_works_the_same(tmp_path):
    for c, label in enumerate(["ash", "elm"]):
        draw(tmp_path / label / "0.png", c, c)
    table = find_images(f"torchvision:ImageFolder::{tmp_path}")
    assert table["label"].tolist() == ["ash", "elm"]


# ------------------------------------------------------------ decoding


def test_exif_orientation_is_applied():
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(2, 8, 3))
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    assert decode(buffer.getvalue()).size == (2, 8)


def test_16_bit_grey_is_scaled_and_not_clipped():
    values = np.array([[0, 257 * 128, 65535]], dtype=np.uint16)
    assert np.asarray(decode(png(Image.fromarray(values))))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = Image.new("RGB", (4, 4), "red").convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG")
    assert decode(buffer.getvalue()).mode == "RGB"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"GIF of a cat", "not an image that Pillow can read"),
        (png(Image.new("RGB", (50, 50)))[:60], "truncated|broken|Truncated"),
    ],
)
def test_what_is_no_image_says_why(content, message):
    with pytest.raises((OSError, ValueError), match=message):
        decode(content)


def test_a_pixel_bomb_is_refused():
    image = png(Image.new("1", (20000, 20000)))
    with pytest.raises(ValueError, match="too many pixels|pixels; at most"):
        decode(image)


def test_photographs_are_told_from_glyphs(tmp_path, pictures):
    assert not looks_like_photographs(find_images(pictures))
    for i in range(4):
        draw(tmp_path / "photo" / "a" / f"{i}.jpg", 0, i, size=(300, 200))
    assert looks_like_photographs(find_images(tmp_path / "photo", domain="photo"))
