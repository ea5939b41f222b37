import os
import shutil
import time

import pytest
import torch
from conftest import draw

from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images
from ftransfer.backbone import small_cnn
from ftransfer.extract.plan import Plan, plan_extraction
from ftransfer.images.read import stat_image


@pytest.fixture(scope="module")
def backbone():
    return Backbone("small_cnn")


@pytest.fixture
def later(monkeypatch):
    """The clock is ten seconds ahead, so that no picture was changed just now."""
    clock = time.time_ns
    monkeypatch.setattr("ftransfer.images.read.time.time_ns", lambda: clock() + 10**10)


@pytest.fixture
def extracted(pictures, tmp_path, backbone, later):
    return extract_features(find_images(pictures), tmp_path / "f", backbone)


def plan_and_do(pictures, out, backbone) -> tuple[Plan, FeatureSet]:
    """Make a plan, which changes nothing, and check it against what an extraction then does."""
    table = find_images(pictures)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    plan = plan_extraction(table, out, backbone.fingerprint)
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    features = extract_features(table, out, backbone)
    did = features.summary
    assert (plan.images, plan.compute, plan.replaced) == (did.images, did.computed, did.replaced)
    assert plan.reuse == did.reused
    return plan, features


def test_at_first_every_picture_is_to_be_computed_once(pictures, tmp_path, backbone):
    shutil.copy(pictures / "day" / "ash" / "0.png", pictures / "day" / "ash" / "twin.png")
    plan = plan_extraction(find_images(pictures), tmp_path / "f", backbone.fingerprint)
    assert plan == Plan(images=25, compute=24, reuse=1)
    assert not (tmp_path / "f").exists()


def test_an_unchanged_image_is_not_even_read(pictures, extracted, backbone, monkeypatch):
    monkeypatch.setattr("ftransfer.extract.plan.read_bytes", None)
    assert plan_extraction(find_images(pictures), extracted.folder, backbone.fingerprint).reuse == 24


def test_one_changed_byte_in_an_image_recomputes_that_image(pictures, extracted, backbone):
    before = {row.path: row.sha256 for row in extracted.complete.itertuples()}
    file = pictures / "day" / "ash" / "1.png"
    time.sleep(0.01)  # the clock of a file system ticks
    stat = file.stat()
    with open(file, "r+b") as image:  # a byte of the last chunk's checksum; size and time stay as they were
        image.seek(-1, os.SEEK_END)
        image.write(b"x")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    plan, features = plan_and_do(pictures, extracted.folder, backbone)
    assert (plan.compute, plan.reuse) == (1, 23)
    after = {row.path: row.sha256 for row in features.complete.itertuples()}
    assert [path for path in after if after[path] != before[path]] == ["day/ash/1.png"]


def test_added_moved_doubled_and_deleted_images(pictures, extracted, backbone):
    draw(pictures / "day" / "ash" / "new.png", 0, 999)
    (pictures / "day" / "ash" / "0.png").rename(pictures / "night" / "oak" / "moved.png")
    shutil.copy(pictures / "day" / "ash" / "1.png", pictures / "day" / "ash" / "twin.png")
    (pictures / "day" / "elm" / "0.png").unlink()
    plan, features = plan_and_do(pictures, extracted.folder, backbone)
    assert (plan.compute, plan.reuse, plan.gone) == (1, 24, 2)
    manifest = features.complete.set_index("path")
    assert "day/elm/0.png" not in manifest.index
    assert manifest.loc["night/oak/moved.png", ["label", "domain"]].tolist() == ["oak", "night"]


def test_labels_and_domains_follow_the_folders_without_computing(pictures, extracted, backbone):
    (pictures / "day" / "ash").rename(pictures / "day" / "yew")
    (pictures / "night").rename(pictures / "dusk")
    plan, features = plan_and_do(pictures, extracted.folder, backbone)
    assert (plan.compute, plan.gone) == (0, 16)
    manifest = features.complete
    assert set(manifest["label"]) == {"ash", "elm", "oak", "yew"}
    assert manifest["domain"].value_counts().to_dict() == {"day": 12, "dusk": 12}
    as_one = plan_extraction(find_images(pictures, labels=False), extracted.folder, backbone.fingerprint)
    assert (as_one.compute, as_one.relabelled) == (0, 24)


def test_a_damaged_part_and_an_unreadable_image_are_in_the_plan(pictures, extracted, backbone):
    (part,) = (extracted.folder / "parts").glob("*.arrow")
    part.write_bytes(part.read_bytes()[:-1])
    (pictures / "day" / "ash" / "0.png").unlink()
    (pictures / "day" / "ash" / "0.png").symlink_to("nowhere")
    plan, _ = plan_and_do(pictures, extracted.folder, backbone)
    assert plan.unreadable == [("day/ash/0.png", "No such file or directory")]
    assert plan.damaged[0] == f"parts/{part.name} is damaged: its checksum does not match"
    assert "1 cannot be opened:\n  day/ash/0.png: No such" in str(plan)


def test_one_changed_number_in_the_weights_is_another_fingerprint(pictures, extracted, backbone, tmp_path):
    state = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    name = next(name for name in state if name.endswith("weight"))
    state[name].view(torch.uint8).reshape(-1)[0] ^= 1
    torch.save(state, tmp_path / "w.pt")
    other = Backbone("small_cnn", tmp_path / "w.pt")
    with pytest.raises(
        FtransferError, match=r"was computed with other settings: weights is .* there, .* now; a feature set"
    ):
        plan_extraction(find_images(pictures), extracted.folder, other.fingerprint)
    assert extract_features(find_images(pictures), tmp_path / "g", other).summary.computed == 24
    torch.save(backbone.network.state_dict(), tmp_path / "same.pt")
    same = Backbone("small_cnn", tmp_path / "same.pt")
    assert plan_extraction(find_images(pictures), extracted.folder, same.fingerprint).compute == 0


def test_one_changed_number_in_the_preprocessing_is_another_fingerprint(pictures, extracted, monkeypatch):
    monkeypatch.setattr(small_cnn, "MEAN", (0.5, 0.5, 0.500001))
    with pytest.raises(FtransferError, match=r"other settings: preprocessing.mean is .* there, .* now"):
        plan_extraction(find_images(pictures), extracted.folder, Backbone("small_cnn").fingerprint)


def test_a_file_that_was_just_changed_is_read_again(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"x")
    assert stat_image(str(tmp_path), "a.png") == (1, None)
    assert stat_image(str(tmp_path), "b.png") == (None, None)
    assert stat_image("torchvision:CIFAR10:train:/", "00") == (None, None)
