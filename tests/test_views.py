import hashlib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from ftransfer import Backbone, FeatureSet, FtransferError, extract_features, find_images, load_task
from ftransfer.cli import main
from ftransfer.images.pixels import decode
from ftransfer.images.read import read_bytes
from ftransfer.images.styles import read_styles
from ftransfer.images.views import (
    AUGMENTATIONS,
    describe_views,
    fourier_style,
    make_views,
    pack_styles,
    restyle,
    unpack_styles,
)
from ftransfer.scoring.folds import DomainKFold

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
ONE, OTHER = (hashlib.sha256(name).hexdigest() for name in (b"one", b"other"))


def same(a, b):
    return a.size == b.size and a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def backbone():
    return Backbone("small_cnn")


@pytest.fixture
def viewed(pictures, tmp_path, backbone):
    return extract_features(
        find_images(pictures), tmp_path / "f", backbone, batch_size=7, views=describe_views(3)
    )


@pytest.mark.parametrize("augment", [*AUGMENTATIONS, ",".join(AUGMENTATIONS)])
def test_an_image_has_the_same_views_in_every_run_and_another_image_others(augment):
    views = describe_views(9, augment)
    first, again, other = (make_views(NOISE, key, views) for key in (ONE, ONE, OTHER))
    assert same(first[0], NOISE)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not all(same(a, b) for a, b in zip(first, other, strict=True))
    assert len({view.tobytes() for view in first}) > 1


def test_a_shuffle_of_channels_keeps_each_and_a_crop_is_part_of_the_image():
    for view in make_views(NOISE, ONE, describe_views(6, "channels"))[1:]:
        channels = [channel.tobytes() for channel in view.split()]
        assert sorted(channels) == sorted(channel.tobytes() for channel in NOISE.split())
    for view in make_views(NOISE, ONE, describe_views(6, "crop"))[1:]:
        assert 0.45 <= view.width * view.height / (30 * 40) <= 1
    tiny = Image.new("RGB", (1, 1))
    assert all(
        view.size == (1, 1) for view in make_views(tiny, ONE, describe_views(4, ",".join(AUGMENTATIONS)))
    )


def test_the_commands_name_every_augmentation_alike():
    names = ",".join(AUGMENTATIONS)
    for command in ("extract", "finetune"):
        (told,) = (p.help for p in main.get_command(None, command).params if p.name in ("augment", "rules"))
        assert names in told


def test_an_augmentation_does_what_it_says_as_often_as_it_says():
    grey, inverted = (make_views(NOISE, ONE, describe_views(30, name))[1:] for name in ("grey", "invert"))
    assert 2 < sum(same(view, NOISE.convert("L").convert("RGB")) for view in grey) < 20
    assert 2 < sum(same(view, ImageOps.invert(NOISE)) for view in inverted) < 20
    covered = [np.mean(np.asarray(v) == 128) for v in make_views(NOISE, ONE, describe_views(30, "erase"))]
    assert {round(share, 1) for share in covered} == {0.0, 0.3}
    for view in make_views(NOISE, ONE, describe_views(6, "shift"))[1:]:
        assert set(view.tobytes()) <= set(NOISE.tobytes())


def test_one_view_is_the_image_as_it_is_and_wrong_names_are_refused():
    assert describe_views(1) is None
    assert make_views(NOISE, ONE, None) == [NOISE]
    with pytest.raises(FtransferError, match="no augmentation 'flipp'; did you mean 'flip'"):
        describe_views(2, "flipp")
    with pytest.raises(FtransferError, match="2 views need an augmentation"):
        describe_views(2, "")


def test_each_row_holds_the_views_of_its_picture_the_plain_one_first(viewed, pictures, tmp_path, backbone):
    rows = viewed.complete
    plain = extract_features(find_images(pictures), tmp_path / "plain", backbone)
    np.testing.assert_allclose(viewed.load(rows), plain.load(plain.complete), rtol=1e-4, atol=1e-5)
    assert viewed.fingerprint == plain.fingerprint
    for i in (0, 23):
        row = rows.loc[i]
        made = make_views(decode(read_bytes(row["root"], row["path"])), row["sha256"], describe_views(3))
        for view, image in enumerate(made):
            embedded = backbone.embed(backbone.preprocess(image)[None])[0]
            np.testing.assert_allclose(viewed.load(rows, view=view)[i], embedded, rtol=1e-4, atol=1e-5)
    assert viewed.verify().wrong == []


def test_other_views_are_another_fingerprint(viewed, pictures, backbone):
    again = extract_features(find_images(pictures), viewed.folder, backbone, views=describe_views(3))
    assert again.summary.computed == 0
    for views in (None, describe_views(4), describe_views(3, "flip")):
        with pytest.raises(FtransferError, match="was computed with other settings: views"):
            extract_features(find_images(pictures), viewed.folder, backbone, views=views)


def test_a_task_has_all_views_of_the_source_and_the_target_as_it_is(viewed):
    task = load_task(viewed, "day", "night")
    rows = viewed.complete
    day, night = rows[rows["domain"] == "day"], rows[rows["domain"] == "night"]
    parts = [viewed.load(day, view=view) for view in range(3)]
    np.testing.assert_array_equal(task.X, np.concatenate([*parts, viewed.load(night)]))
    assert (
        task.y.tolist()
        == [0] * 4 + [1] * 4 + [2] * 4 + task.y[12:24].tolist() + task.y[:12].tolist() + [-1] * 12
    )
    assert len(task.rows) == len(task.X) == 48
    assert "3 views of each source image; target images unchanged" in task.notes
    groups = task.rows["group"].to_numpy()
    for train, test in DomainKFold(3).split(task.X, task.y, groups):
        assert not set(groups[train]) & set(groups[test])


def test_a_batch_that_holds_no_image_is_refused(pictures, tmp_path, backbone):
    with pytest.raises(
        FtransferError, match="a batch of 2 is too small for an image with 3 views; increase --batch-size"
    ):
        extract_features(
            find_images(pictures), tmp_path / "f", backbone, batch_size=2, views=describe_views(3)
        )


def test_the_command_line_makes_views(pictures, tmp_path):
    command = ["extract", str(pictures), "--out", str(tmp_path / "f"), "--backbone", "small_cnn"]
    command += ["--views", "2", "--augment", "flip,channels"]
    result = CliRunner().invoke(main, [*command, "--dry-run"])
    assert "24 to compute" in result.output
    assert CliRunner().invoke(main, command).exit_code == 0
    features = FeatureSet(tmp_path / "f")
    assert features.views == {"count": 2, "augment": ["flip", "channels"], "release": 1}
    assert "0 to compute, 24 cached or duplicate" in CliRunner().invoke(main, [*command, "--dry-run"]).output
    assert "2 views" in CliRunner().invoke(main, ["info", str(tmp_path / "f")]).output


def test_a_batch_too_small_for_the_views_is_refused_before_anything_is_written(pictures, tmp_path):
    with pytest.raises(FtransferError, match="a batch of 4 is too small for an image with 6 views"):
        extract_features(
            find_images(pictures),
            tmp_path / "f",
            Backbone("small_cnn", "random"),
            views=describe_views(6),
            batch_size=4,
        )
    assert not (tmp_path / "f").exists()


# ------------------------------------------------------------ the look of another domain


def photograph(seed, size=(37, 29), light=90):
    rng = np.random.default_rng(seed)
    pixels = (
        light + 40 * np.sin(np.arange(size[0])[None, :, None] / 5) + rng.normal(0, 20, (size[1], size[0], 3))
    )
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_fourier_takes_the_amplitudes_of_low_frequencies_and_leaves_phases_and_high_ones():
    image, other = photograph(0), photograph(1, size=(64, 48), light=160)
    styled = restyle(image, fourier_style(other))
    np.testing.assert_allclose(
        fourier_style(styled), fourier_style(other), atol=0.3
    )  # rounded to bytes, and clipped
    assert abs(np.asarray(styled).mean() - np.asarray(other).mean()) < 1
    before, after = (np.fft.fft2(np.asarray(each, float), axes=(0, 1)) for each in (image, styled))
    np.testing.assert_allclose(np.abs(after[5:-5, 5:-5]), np.abs(before[5:-5, 5:-5]), rtol=0.2, atol=40)
    assert np.abs(np.angle(after[1, 1] / before[1, 1])).max() < 0.2


def test_an_image_with_its_own_look_and_a_tiny_one_stay_as_they_are():
    image = photograph(2)
    same = np.asarray(restyle(image, fourier_style(image)), int)
    assert np.abs(same - np.asarray(image)).max() <= 1
    tiny = Image.new("RGB", (4, 90), (9, 8, 7))
    assert restyle(tiny, fourier_style(image)) is tiny


def test_styles_are_kept_as_text():
    styles = [fourier_style(photograph(seed)) for seed in range(3)]
    np.testing.assert_allclose(unpack_styles(pack_styles(styles)), np.stack(styles), rtol=1e-3)


def test_views_take_the_look_of_the_domain_that_is_named_and_only_with_its_images(pictures, tmp_path):
    runner, out = CliRunner(), tmp_path / "features"
    command = [
        "extract",
        pictures,
        "--backbone",
        "small_cnn",
        "--views",
        2,
        "--augment",
        "fourier",
        "--out",
        out,
    ]
    result = runner.invoke(main, [str(each) for each in command])
    assert result.exit_code == 1
    assert (
        "fourier needs images of the target, whose colours it takes: --style-domain DOMAIN" in result.output
    )
    result = runner.invoke(main, [str(each) for each in [*command, "--style-domain", "night"]])
    assert result.exit_code == 0, result.output
    features = FeatureSet(out)
    table = find_images(pictures)
    assert features.views["styles"] == pack_styles(read_styles(table, "night"))
    rows = features.manifest[features.manifest["domain"] == "day"]
    plain, view = features.load(rows, view=0), features.load(rows, view=1)
    assert (np.abs(plain - view).max(axis=1) > 0).mean() > 0.5
    result = runner.invoke(main, [str(each) for each in [*command, "--style-domain", "day"]])
    assert result.exit_code == 1
    assert max(map(len, result.output.splitlines())) < 300
    with pytest.raises(FtransferError, match="no domain 'nigth'; did you mean 'night'"):
        read_styles(table, "nigth")


def test_what_mixes_labels_is_not_for_views():
    with pytest.raises(
        FtransferError, match="mixup mixes the labels of two images, and a view has one label"
    ):
        describe_views(2, "flip,mixup")
