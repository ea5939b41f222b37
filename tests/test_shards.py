"""Images in shards, read in place: WebDataset and Parquet with a column of images."""

import io
import json
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from ftransfer import FeatureSet, FtransferError, find_images
from ftransfer.cli import main
from ftransfer.images.read import is_still_there, read_bytes, stat_image


def contents(pictures, domain):
    return {p.parent.name + "/" + p.stem: p.read_bytes() for p in sorted((pictures / domain).rglob("*.png"))}


def write_tar(file, members):
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(pictures, tmp_path):
    """Two domains as WebDataset: day with classes in .cls files, night with them in .json files."""
    root = tmp_path / "shards"
    for domain in ("day", "night"):
        (root / domain).mkdir(parents=True)
        members = {}
        for i, (name, content) in enumerate(contents(pictures, domain).items()):
            label = name.split("/")[0]
            members[f"{i:03d}.png"] = content
            if domain == "day":
                members[f"{i:03d}.cls"] = label.encode()
            else:
                members[f"{i:03d}.json"] = json.dumps({"label": label, "domain": domain}).encode()
        write_tar(root / domain / "000.tar", members)
    return root


def write_parquet(file, pictures, domain, **more):
    """Write images as Hugging Face does: a struct of bytes and path, labels as numbers, their names in the schema."""
    found = contents(pictures, domain)
    names = sorted({name.split("/")[0] for name in found})
    images = [{"bytes": content, "path": name} for name, content in found.items()]
    labels = [names.index(name.split("/")[0]) for name in found]
    labels[0] = -1
    table = pa.table({"image": images, "label": labels, **more})
    noted = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(noted)}), file, row_group_size=5)


def test_a_folder_of_tar_files_is_read_in_place(shards, pictures):
    table = find_images(shards)
    assert table["domain"].value_counts().to_dict() == {"day": 12, "night": 12}
    assert table["path"].iloc[0] == "day/000.tar#000.png"
    assert sorted(set(table["label"])) == ["ash", "elm", "oak"]
    for domain in ("day", "night"):
        rows = table[table["domain"] == domain]
        assert [read_bytes(*row) for row in rows[["root", "path"]].to_numpy()] == list(
            contents(pictures, domain).values()
        )
    one = find_images(shards / "night" / "000.tar")  # its own domains
    assert set(one["domain"]) == {"night"}
    with pytest.raises(FtransferError, match="does not give the domain of every image.*--domain NAME"):
        find_images(shards / "day" / "000.tar")
    assert set(find_images(shards / "day" / "000.tar", domain="x")["domain"]) == {"x"}


def test_parquet_with_a_column_of_images_is_read_in_place(pictures, tmp_path):
    (tmp_path / "hf").mkdir()
    write_parquet(tmp_path / "hf" / "train.parquet", pictures, "day")
    table = find_images(tmp_path / "hf" / "train.parquet", domain="day")
    assert table["path"].tolist()[:2] == ["train.parquet#00", "train.parquet#01"]
    assert table["label"].tolist()[:5] == [None, "ash", "ash", "ash", "elm"]
    given = [read_bytes(*row) for row in table[["root", "path"]].to_numpy()]
    assert given == list(contents(pictures, "day").values())
    write_parquet(tmp_path / "hf" / "b.parquet", pictures, "night", place=["night"] * 12)
    table = find_images(tmp_path / "hf" / "b.parquet", columns={"domain": "place"})
    assert set(table["domain"]) == {"night"}
    assert len(find_images(tmp_path / "hf", domain="d")) == 24
    plain = tmp_path / "plain.parquet"
    pd.DataFrame({"path": ["pictures/day/ash/0.png"], "domain": ["a"]}).to_parquet(plain)
    assert find_images(plain)["path"].tolist() == ["pictures/day/ash/0.png"]


def test_shards_give_the_features_of_the_files(shards, pictures, tmp_path):
    for images, out in ((shards, "a"), (pictures, "b")):
        command = ["extract", str(images), "--backbone", "small_cnn", "--out", str(tmp_path / out)]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    a, b = FeatureSet(tmp_path / "a"), FeatureSet(tmp_path / "b")
    np.testing.assert_array_equal(a.to_numpy(), b.to_numpy())
    assert a.complete["label"].tolist() == b.complete["label"].tolist()


def test_shards_in_a_store_give_what_they_give_on_disk(shards, pictures, tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="the extra [remote]")
    write_parquet(shards / "night" / "hf.parquet", pictures, "night")
    url, memory = f"memory://shards-{tmp_path.name}", fsspec.filesystem("memory")
    for file in shards.rglob("*.*"):
        memory.pipe_file(f"{url}/{file.relative_to(shards)}", file.read_bytes())
    there, here = find_images(url), find_images(shards)
    columns = ["path", "label", "domain"]
    pd.testing.assert_frame_equal(there[columns], here[columns])
    assert there["size"].iloc[0] == (shards / "day" / "000.tar").stat().st_size
    for a, b in zip(there.to_dict("records"), here.to_dict("records"), strict=True):
        assert read_bytes(a["root"], a["path"]) == read_bytes(b["root"], b["path"])
    assert is_still_there(url, "day/000.tar#000.png")
    assert not is_still_there(url, "day/001.tar#000.png")
    assert set(find_images(f"{url}/night/000.tar")["domain"]) == {"night"}
    with pytest.raises(FileNotFoundError, match="has no image 999.png"):
        read_bytes(url, "day/000.tar#999.png")
    with pytest.raises(FileNotFoundError):
        read_bytes(url, "day/001.tar#000.png")


def test_a_compressed_tar_is_refused_with_the_next_step_or_passed_over(shards):
    (shards / "day" / "001.tar.gz").write_bytes(b"")
    assert find_images(shards).attrs["passed_over"] == {"compressed .tar": 1}
    with pytest.raises(
        FtransferError, match=r"001.tar.gz is a compressed tar, .*unpack it into a .tar or a folder"
    ):
        find_images(shards / "day" / "001.tar.gz", domain="d")
    (shards / "day" / "000.tar").unlink()
    with pytest.raises(FtransferError, match=r"no images found.*1 compressed .tar \(unpack them: gunzip"):
        find_images(shards / "day")


def test_what_is_not_in_a_shard_is_missing_and_not_another_image(shards, tmp_path):
    root = str(shards / "day")
    assert stat_image(root, "000.tar#000.png")[0] == (shards / "day" / "000.tar").stat().st_size
    assert is_still_there(root, "000.tar#000.png")
    assert not is_still_there(root, "001.tar#000.png")
    with pytest.raises(FileNotFoundError, match=r"000.tar has no image 999.png"):
        read_bytes(root, "000.tar#999.png")
    (shards / "day" / "000.tar#000.png").write_bytes(b"a file of that name")
    assert read_bytes(root, "000.tar#000.png") == b"a file of that name"
    (tmp_path / "torn.tar").write_bytes(b"no tar")
    with pytest.raises(FtransferError, match="torn.tar cannot be read as a shard of images"):
        find_images(tmp_path / "torn.tar", domain="d")
    write_tar(tmp_path / "none.tar", {"a.txt": b"x"})
    with pytest.raises(FtransferError, match="none.tar holds no images"):
        find_images(tmp_path / "none.tar", domain="d")
    write_tar(tmp_path / "bad.tar", {"a.png": b"x", "a.json": b"{"})
    with pytest.raises(FtransferError, match="the .json beside a.png cannot be read"):
        find_images(tmp_path / "bad.tar", domain="d")


def test_heic_and_avif_are_read(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: the extra [heif]")
    from PIL import Image, features

    from ftransfer.images.pixels import decode

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = [200, 40, 40]
    heif = pillow_heif.from_pillow(Image.fromarray(pixels))
    heif.save(tmp_path / "a.HEIC", quality=95)
    assert len(find_images(tmp_path, domain="d")) == 1
    image = np.asarray(decode((tmp_path / "a.HEIC").read_bytes())).astype(int)
    assert image.shape == (40, 60, 3)
    assert abs(image - pixels).mean() < 8
    if features.check("avif"):
        Image.fromarray(pixels).save(tmp_path / "b.avif")
        assert abs(np.asarray(decode((tmp_path / "b.avif").read_bytes())).astype(int) - pixels).mean() < 8
