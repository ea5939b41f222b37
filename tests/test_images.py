import io
import os
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ftransfer import FeatureSet, FtransferError, find_images
from ftransfer.images.pixels import decode
from ftransfer.images.read import looks_like_photographs, read_bytes
from ftransfer.images.readers import reason_of


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


def test_a_folder_is_listed_for_each_link_to_it_and_circles_are_passed_over(pictures):
    (pictures / "day" / "ash" / "again").symlink_to(pictures)
    (pictures / "dusk").symlink_to(pictures / "day")
    (pictures / "night" / "yew").symlink_to(pictures / "day" / "elm")
    table = find_images(pictures)
    assert table["domain"].value_counts().to_dict() == {"day": 12, "dusk": 12, "night": 16}
    assert (table["label"] == "yew").sum() == 4
    assert table.attrs["passed_over"] == {"linked folder in a circle": 2}


def test_a_folder_that_cannot_be_read_is_not_passed_over(pictures, monkeypatch):
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
    with pytest.raises(FtransferError, match="is a single file"):
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
    with pytest.raises(FtransferError, match="which is outside .*--allow-outside"):
        find_images(pictures / "list.csv")
    assert len(find_images(pictures / "list.csv", allow_outside=True)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,domain\na,b\n",
            "needs a column 'path'; its columns: file, domain; choose another with --path-column",
        ),
        ("path,y,label,domain\na,1,2,b\n", "columns 'label' and 'y', .*choose one: --label-column"),
        ("path,y,domain\na,1,b\nc,-1,b\n", "labels -1 and 1, but -1 marks a row without a label"),
        ("path\nday/ash/0.png\n", "has no column 'domain'"),
        ("path,domain\nday/ash/0.png,\n", "has rows without a domain"),
        ("path,domain\n,a\n", "rows without a path; the first is row 1"),
        ("path,domain\n", "has no rows"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(FtransferError, match=message):
        find_images(tmp_path / "list.csv")


def test_columns_may_have_other_names_separators_and_blanks(pictures):
    (pictures / "list.csv").write_text("file; klass; place\nday/ash/0.png; tree ; a\nnight/elm/1.png;;b\n")
    columns = {"path": "file", "label": "klass", "domain": "place"}
    table = find_images(pictures / "list.csv", columns=columns)
    assert table["path"].tolist() == ["day/ash/0.png", "night/elm/1.png"]
    assert table["label"].tolist() == ["tree", None]
    assert table["domain"].tolist() == ["a", "b"]
    (pictures / "list.tsv").write_text("path\ty\tdomain\nday/ash/0.png\t1.0\ta\nnight/elm/1.png\t3.0\tb\n")
    assert find_images(pictures / "list.tsv")["label"].tolist() == ["1", "3"]
    (pictures / "blanks.csv").write_text("path, label, domain\nday/ash/0.png, tree, a\n")
    assert find_images(pictures / "blanks.csv").iloc[0, 1:].tolist() == ["day/ash/0.png", "tree", "a"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_only_an_empty_cell_of_a_table_is_missing(pictures, kind):
    words = ["NA", "None", "null", None]
    given = pd.DataFrame({"path": [f"day/ash/{i}.png" for i in range(4)], "label": words, "domain": "NA"})
    file = pictures / f"list.{kind}"
    if kind == "parquet":
        given.to_parquet(file)
    else:
        given.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    table = find_images(file)
    assert table["label"].tolist() == words
    assert set(table["domain"]) == {"NA"}


def test_integer_labels_with_gaps_stay_integers(pictures):
    given = pd.DataFrame({"path": ["day/ash/0.png", "day/ash/1.png"], "label": [3, None], "domain": "d"})
    for file in (pictures / "list.csv", pictures / "list.parquet"):
        given.to_parquet(file) if file.suffix == ".parquet" else given.to_csv(file, index=False)
        assert find_images(file)["label"].tolist() == ["3", None]


def test_a_list_of_paths_and_labels_is_read_as_domainnet_has_it(pictures):
    draw(pictures / "day" / "ash" / "my cat.png", 0, 0)
    (pictures / "list.txt").write_text("day/ash/0.png 0\nnight/elm/1.png 1\nday/ash/my cat.png\n")
    table = find_images(pictures / "list.txt")
    assert table["path"].tolist() == ["day/ash/0.png", "night/elm/1.png", "day/ash/my cat.png"]
    assert table["label"].tolist() == ["0", "1", None]
    assert table["domain"].tolist() == ["day", "night", "day"]
    assert set(find_images(pictures / "list.txt", domain="d")["domain"]) == {"d"}


@pytest.mark.skipif(sys.platform == "win32", reason="backslashes are separators there")
def test_backslashes_between_folders_are_understood(pictures):
    (pictures / "list.csv").write_text("path,domain\nday\\ash\\0.png,a\n")
    assert find_images(pictures / "list.csv")["path"].tolist() == ["day/ash/0.png"]


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


def test_files_of_another_checksum_are_not_called_missing(tmp_path):
    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"half")
    url, datasets.CIFAR10.url = datasets.CIFAR10.url, "http://127.0.0.1:9/cifar.tar.gz"
    try:
        with pytest.raises(
            FtransferError,
            match="files in .*cifar-10-batches-py are incomplete or do not match torchvision's checksum",
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


# ------------------------------------------------------------ bad images, and odd ones


def encode(image, kind, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
TURNED = Image.Exif()
TURNED[274] = 5  # mirrored and turned
ODD = {
    "jpeg": encode(NOISE, "JPEG"),
    "jpeg, turned": encode(NOISE, "JPEG", exif=TURNED),
    "png, turned": encode(NOISE, "PNG", exif=TURNED),
    "cmyk": encode(NOISE.convert("CMYK"), "JPEG"),
    "cmyk, turned": encode(NOISE.convert("CMYK"), "JPEG", exif=TURNED),
    "grey and alpha": encode(NOISE.convert("LA"), "PNG"),
    "alpha": encode(NOISE.convert("RGBA"), "PNG"),
    "palette with alpha": encode(NOISE.convert("P"), "PNG", transparency=bytes(range(256))),
    "animated": encode(NOISE, "GIF", save_all=True, append_images=[ImageOps.invert(NOISE)]),
    "1 bit": encode(NOISE.convert("1"), "TIFF"),
    "1 x 1": encode(NOISE.crop((0, 0, 1, 1)), "PNG"),
    "webp": encode(NOISE, "WEBP"),
    "tiff, compressed": encode(NOISE, "TIFF", compression="tiff_lzw"),
    "jpeg 2000": encode(NOISE, "JPEG2000"),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("name", ODD)
def test_the_pixels_are_those_of_torchvisions_own_preset_turned_upright(name, tmp_path):
    from torchvision.datasets.folder import pil_loader
    from torchvision.models import ResNet50_Weights

    preset = ResNet50_Weights.DEFAULT.transforms()
    theirs = preset(ImageOps.exif_transpose(Image.open(io.BytesIO(ODD[name]))).convert("RGB"))
    assert (preset(decode(ODD[name])) == theirs).all()
    if "turned" not in name:
        (tmp_path / "image").write_bytes(ODD[name])
        assert (preset(pil_loader(tmp_path / "image")) == theirs).all()
    else:
        assert decode(ODD[name]).size == (30, 40)


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(ODD)), data=st.data())
def test_a_damaged_image_gives_pixels_or_a_reason(name, data):
    content = bytearray(ODD[name])
    content = content[: data.draw(st.integers(1, len(content)))]
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(content)).mode
    except ValueError as error:
        found = str(error)
    assert found


FLOAT, WHOLE = (Image.fromarray(np.ones((2, 2), kind)) for kind in (np.float32, np.int32))
REFUSED = {
    "floating-point numbers without a known range": encode(FLOAT, "TIFF"),
    "32-bit whole numbers without a known range": encode(WHOLE, "TIFF"),
    "not an image that Pillow can read": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "9000 x 1 pixels: over 500 times as long as wide": encode(Image.new("RGB", (9000, 1)), "PNG"),
    "too many pixels": encode(Image.new("1", (30000, 30000)), "PNG"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_be_silently_wrong_or_too_large_is_refused(message):
    with pytest.raises(ValueError, match=message):
        decode(REFUSED[message])


@pytest.mark.skipif(sys.platform == "win32", reason="names and special files of POSIX")
def test_every_odd_file_is_listed_and_read_or_listed_with_its_reason(tmp_path):
    folder = tmp_path / "day" / "ash"
    draw(folder / "new\nline.png", 0, 0)
    draw(folder / "back\\slash.png", 0, 1)
    draw(folder / "back\\udcffslash.png", 0, 2)
    draw(folder / "wrong.jpg", 0, 3)
    byte = os.fsencode(folder) + b"/back\xffslash.png"
    with open(byte, "wb") as file:
        file.write(png(NOISE))
    os.makedirs(os.fsencode(tmp_path) + b"/day/\xfe")
    (tmp_path / "day" / os.fsdecode(b"\xfe") / "x.png").write_bytes(png(NOISE))
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere")
    table = find_images(tmp_path)
    assert sorted(table["label"].unique()) == ["\\udcfe", "ash"]
    pd.DataFrame(table).to_parquet(tmp_path / "table.parquet")  # what is listed can be stored

    def read(path):
        try:
            return decode(read_bytes(str(tmp_path), path)).tobytes()
        except (OSError, ValueError) as error:
            return reason_of(error)

    seen = {path: read(path) for path in table["path"]}
    reasons = {path.rsplit("/", 1)[1]: text for path, text in seen.items() if isinstance(text, str)}
    assert sorted(reasons) == ["dangling.png", "folder.jpg", "pipe.png"]
    assert reasons["pipe.png"] == "a pipe, a socket or a device, not a file"
    assert reasons["folder.jpg"] == "a folder, not a file"
    assert (
        len(set(seen.values())) == 8
    )  # the two that hold the same noise, five of their own, three reasons ...
    assert seen["day/ash/back\\udcffslash.png"] == NOISE.tobytes()
    assert seen["day/ash/back\\\\udcffslash.png"] != NOISE.tobytes()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_file_without_permission_is_listed_with_its_reason(tmp_path):
    draw(tmp_path / "a.png", 0, 0)
    (tmp_path / "a.png").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything: be nobody meanwhile
    try:
        with pytest.raises(PermissionError, match="Permission denied"):
            read_bytes(str(tmp_path), "a.png")
    finally:
        os.seteuid(user)


def test_no_bad_image_stops_a_run_and_each_is_listed(tmp_path):
    from ftransfer.cli import main

    folder = tmp_path / "images" / "day" / "ash"
    draw(folder / "good.png", 0, 0)
    bad = {
        "empty.png": b"",
        "torn.jpg": ODD["jpeg"][:300],
        "text.jpg": b"GIF of a cat",
        "new\nline.jpg": b"x",
    }
    bad |= {f"refused{i}.png": content for i, content in enumerate(REFUSED.values())}
    for name, content in {**bad, **{f"{name}.jpg": content for name, content in ODD.items()}}.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to("nowhere")
    command = ["extract", str(tmp_path / "images"), "--out", str(tmp_path / "f"), "--backbone", "small_cnn"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert f"{len(bad) + 2} could not be read" in result.output
    assert r"new\nline.jpg: not an image" in result.output
    listed = FeatureSet(tmp_path / "f").manifest.set_index("path")["error"].dropna()
    assert {path.removeprefix("day/ash/") for path in listed.index} == {*bad, "folder.jpg", "dangling.jpg"}
    assert CliRunner().invoke(main, [*command, "--strict"]).exit_code == 1


def test_a_large_jpeg_decoded_at_a_fraction_of_its_size_gives_nearly_the_same_small_picture():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (30, 42, 3), dtype=np.uint8)).resize(
        (2100, 1500), Image.BICUBIC
    )
    grain = rng.normal(0, 4, (1500, 2100, 1))
    photo = Image.fromarray((np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8))
    content = io.BytesIO()
    photo.save(content, "JPEG", quality=90)
    whole, reduced = decode(content.getvalue()), decode(content.getvalue(), 464)
    assert whole.size == (2100, 1500)
    assert reduced.size == (1050, 750)  # a quarter would be narrower than 464
    small = [np.asarray(image.resize((224, 224), Image.BILINEAR)).astype(int) for image in (whole, reduced)]
    difference = np.abs(small[0] - small[1])
    assert difference.mean() < 1  # grey levels
    assert difference.max() < 16


def test_pictures_in_memory_are_held_to_the_rule_of_files(tmp_path):
    from ftransfer.model.new_images import _file

    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for picture in (Image.fromarray(grey), Image.frombytes("I;16B", (8, 8), grey.astype(">u2").tobytes())):
        with open(_file(picture, tmp_path, 0), "rb") as file:
            np.testing.assert_array_equal(np.asarray(decode(file.read()))[..., 0], grey // 257)
    for kind, numbers in ((np.float32, "floating-point"), (np.int32, "32-bit whole")):
        picture = Image.fromarray(grey.astype(kind))
        with pytest.raises(
            FtransferError, match=rf"image 3 \(from 0\) cannot be used: its pixels are {numbers}"
        ):
            _file(picture, tmp_path, 3)
