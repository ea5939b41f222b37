"""New images and feature sets through a model: the same labels whichever way, streamed, resumed, refused."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import blobs, draw, write_feature_set
from PIL import Image
from test_cli import run

import ftransfer.model.predict
from ftransfer import (
    Backbone,
    FeatureSet,
    FtransferError,
    Model,
    extract_features,
    find_images,
    load_pipeline,
    load_task,
)
from ftransfer.features.statistics import read_statistics
from ftransfer.model.new_images import find_backbone
from ftransfer.model.predict import write_predictions


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folder with pictures of day and night, their features by the untrained small backbone, and a run."""
    home = tmp_path_factory.mktemp("home")
    for d, domain in enumerate(["day", "night"]):
        for c, label in enumerate(["ash", "elm", "oak"]):
            for i in range(4):
                draw(home / "pictures" / domain / label / f"{i}.png", c, seed=100 * d + 10 * c + i)
    backbone = Backbone("small_cnn", "random")
    write_run(extract_features(find_images(home / "pictures"), home / "f", backbone), home / "run")
    return home


@pytest.fixture(scope="module")
def trained(home):
    """The run folder."""
    return home / "run"


@pytest.fixture
def pictures(home):
    """Folder of the pictures, in place of the one that other tests may change."""
    return home / "pictures"


def write_run(features, folder, recipe="scaled_svm"):
    task = load_task(features, "day", "night")
    pipeline = load_pipeline(recipe).fit(task.X, task.y, sample_domain=task.sample_domain)
    folder.mkdir()
    Model.of(pipeline, task, features, {"score": 0.5}).save(folder / "model.skops")
    return folder


def test_every_new_image_gets_a_label_and_an_unreadable_one_its_reason(trained, tmp_path):
    for i in range(6):
        draw(tmp_path / "new" / "deep" / "er" / f"{i}.png", i % 3, seed=900 + i)
    (tmp_path / "new" / "torn.png").write_bytes(b"no picture")
    result = run("predict", trained, tmp_path / "new", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'p.csv'}: 6 images labelled" in result.output
    assert "1 could not be read (column error)" in result.output
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table) == ["root", "path", "label", "probability", "distance", "far", "error"]
    assert (
        table["label"].tolist()
        == ["ash", "elm", "oak", "ash", "elm", "oak", np.nan][:6] + table["label"].tolist()[6:]
    )
    torn = table.set_index("path").loc["torn.png"]
    assert torn["error"] == "not an image that Pillow can read"
    assert torn[["label", "probability", "far"]].isna().all()
    assert table["probability"].dropna().between(1 / 3, 1).all()


def test_features_give_the_same_labels_as_their_images(home, trained, pictures, tmp_path):
    night = ("--domain", "night", "--out", tmp_path / "a.csv", "--json")
    by_features = run("predict", trained / "model.skops", home / "f", *night)
    by_images = run("predict", trained, pictures / "night", "--out", tmp_path / "b.csv", "--json")
    assert by_features.exit_code == by_images.exit_code == 0, by_features.output + by_images.output
    assert json.loads(by_features.output)["images"] == json.loads(by_images.output)["images"] == 12
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    pd.testing.assert_frame_equal(a.drop(columns=["root", "path"]), b.drop(columns=["root", "path"]))
    model = Model.load(trained)
    folder = model.predict(pictures / "night")
    files = sorted((pictures / "night").rglob("*.png"))
    assert folder.tolist() == a["label"].tolist() == model.predict(files).tolist()
    assert model.predict([Image.open(files[0]), str(files[5])]).tolist() == a["label"].tolist()[::5][:2]
    assert model.predict(files[7])[0] == a["label"][7]


def test_an_unreadable_image_is_named_where_there_is_no_table(trained, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no picture")
    with pytest.raises(FtransferError, match=r"torn.png cannot be read: not an image"):
        Model.load(trained).predict([tmp_path / "torn.png"])


def test_chunks_change_nothing_and_a_second_run_computes_nothing(trained, pictures, tmp_path, monkeypatch):
    first = run("predict", trained, pictures, "--out", tmp_path / "p.csv")
    parts = sorted((tmp_path / "p.features" / "parts").iterdir())
    whole = (tmp_path / "p.csv").read_bytes()
    monkeypatch.setattr(ftransfer.model.predict, "CHUNK", 5)
    again = run("predict", trained, pictures, "--out", tmp_path / "p.csv")
    assert first.output == again.output
    assert (tmp_path / "p.csv").read_bytes() == whole
    assert sorted((tmp_path / "p.features" / "parts").iterdir()) == parts


def test_no_more_than_a_chunk_of_features_is_in_memory(tmp_path, monkeypatch):
    X, y, labels = blobs()
    features = write_feature_set(
        tmp_path / "f", X, np.array(["a", "b", "c"])[labels], np.where(y == -1, "night", "day")
    )
    model, seen, load = Model.load(write_run(features, tmp_path / "run")), [], FeatureSet.load
    monkeypatch.setattr(ftransfer.model.predict, "CHUNK", 25)
    monkeypatch.setattr(FeatureSet, "load", lambda self, rows: seen.append(len(rows)) or load(self, rows))
    progress = []
    did = write_predictions(model, features, tmp_path / "p.csv", progress=progress.append)
    assert seen == progress == [25, 25, 25, 25, 5]
    assert did.images == sum(did.labels.values()) == len(pd.read_csv(tmp_path / "p.csv")) == 105


def test_features_of_another_fingerprint_are_refused_with_the_difference(trained, pictures, tmp_path):
    extract_features(find_images(pictures), tmp_path / "g", Backbone("small_cnn", "random", ["block2"]))
    result = run("predict", trained, tmp_path / "g", "--out", tmp_path / "p.csv")
    assert result.exit_code == 1
    assert "was computed with other settings than the model's features: " in result.output
    assert "layers is block2 there, flatten in the model" in result.output
    assert not (tmp_path / "p.csv").exists()


def test_another_decoder_is_only_noted(home, trained, tmp_path):
    ours = FeatureSet(home / "f")
    other = FeatureSet.create(tmp_path / "f", ours.fingerprint | {"decoder": "pillow 1.0"})
    rows = ours.complete.query("status == 'ok'")
    other.write_part(rows["sha256"].tolist(), ours.load(rows))
    other.write_manifest(ours.manifest)
    result = run("predict", trained, tmp_path / "f", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0
    assert "note: these images were decoded by pillow 1.0, those of the model by pillow" in result.output


def test_weights_are_found_by_their_hash_and_asked_for_by_name(trained, tmp_path):
    model = Model.load(trained)
    assert model.origin == "random, seed 0"
    assert find_backbone(model.fingerprint, model.origin).fingerprint == model.fingerprint
    assert find_backbone(model.fingerprint).fingerprint == model.fingerprint
    other = model.fingerprint | {"weights": "sha256:0123456789abcdef"}
    with pytest.raises(
        FtransferError,
        match=r"small_cnn with the hash sha256:0123.*, from mine.pth; DEFAULT is .*--weights FILE",
    ):
        find_backbone(other, "mine.pth")
    with pytest.raises(FtransferError, match=r"DEFAULT is sha256:"):
        find_backbone(model.fingerprint, weights="DEFAULT")
    with pytest.raises(FtransferError, match=r"made by the backbone ../../etc/passwd, unknown here"):
        find_backbone(model.fingerprint | {"backbone": "../../etc/passwd"})


def test_published_weights_are_looked_for_in_the_cache(tmp_path, monkeypatch):
    import torch
    from torchvision import models

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = models.SqueezeNet1_1_Weights.DEFAULT.url.rsplit("/", 1)[1]
    (tmp_path / "checkpoints").mkdir()
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "checkpoints" / name)
    fingerprint = Backbone("squeezenet1_1", tmp_path / "checkpoints" / name).fingerprint
    assert find_backbone(fingerprint, "a-file-that-went-away.pth").fingerprint == fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere", "{pictures}"], "{tmp}/nowhere does not exist"),
        (["{tmp}", "{pictures}"], "{tmp}/model.skops does not exist; ftransfer fit writes model.skops"),
        (["{pictures}/day/ash/0.png", "{pictures}"], "is not a model file, or is damaged: BadZipFile"),
        (["{run}", "{pictures}/dya"], "no folder or table 'dya'; did you mean 'day'"),
        (["{run}", "{set}", "--domain", "nigth"], "no domain 'nigth'; did you mean 'night'"),
        (["{run}", "{set}", "--out", "/proc/x/p.csv"], "cannot write to /proc/x/p.csv"),
        (["{run}", "{pictures}", "--weights", "{tmp}/none.pth"], "no weights '{tmp}/none.pth'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(arguments, message, home, trained, pictures, tmp_path):
    names = {"tmp": tmp_path / "empty", "run": trained, "pictures": pictures, "set": home / "f"}
    names["tmp"].mkdir()
    out = [] if "--out" in arguments else ["--out", tmp_path / "p.csv"]
    result = run("predict", *(a.format(**names) for a in arguments), *out)
    assert result.exit_code == 1, result.output
    assert message.format(**names) in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_wrong_usage_is_exit_code_2():
    assert run("predict", "run").exit_code == 2
    assert "Missing option '--out'" in run("predict", "run", "images").output


def test_ctrl_c_while_labelling_leaves_the_former_table(trained, pictures, tmp_path, monkeypatch):
    (tmp_path / "p.csv").write_text("former")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "describe", interrupt)
    result = run("predict", trained, pictures, "--out", tmp_path / "p.csv")
    assert result.exit_code == 130
    assert f"interrupted: {tmp_path / 'p.csv'} is unchanged" in result.output
    assert (tmp_path / "p.csv").read_text() == "former"
    assert not list(tmp_path.glob(".p.csv.*"))


def test_ctrl_c_while_extracting_keeps_what_was_computed_and_the_next_run_goes_on(
    trained, tmp_path, monkeypatch
):
    import ftransfer.cli.predict

    monkeypatch.setattr(
        "ftransfer.backbone.runtime.joblib.cpu_count", lambda: 1
    )  # three batches under way at most
    for i in range(400):
        draw(tmp_path / "new" / f"{i}.png", i % 3, i)
    bar = ftransfer.cli.predict.progress_bar

    def impatient(total, *words):
        made = bar(total, *words)
        counted = []

        def update(n):
            counted.append(n)
            if sum(counted) > 40:
                raise KeyboardInterrupt

        made.update = update
        return made

    monkeypatch.setattr(ftransfer.cli.predict, "progress_bar", impatient)
    command = ("predict", trained, tmp_path / "new", "--out", tmp_path / "p.csv")
    stopped = run(*command)
    assert stopped.exit_code == 130
    kept = len(FeatureSet(tmp_path / "p.features").done())
    assert 0 < kept < 400
    assert f"interrupted: {kept} of 400 images are kept in {tmp_path / 'p.features'}" in stopped.output
    assert not (tmp_path / "p.csv").exists()
    monkeypatch.setattr(ftransfer.cli.predict, "progress_bar", bar)
    assert run(*command).exit_code == 0
    assert pd.read_csv(tmp_path / "p.csv")["label"].notna().sum() == 400


def test_rows_unlike_any_in_training_are_flagged_and_held_out_ones_are_not(tmp_path):
    X, y, labels = blobs(n_source=300, n_target=240)
    domains = np.where(y == -1, "night", "day")
    held_out = np.arange(len(X)) % 4 == 0
    kept = write_feature_set(
        tmp_path / "f", X[~held_out], np.array([*"abc"])[labels][~held_out], domains[~held_out]
    )
    model = Model.load(write_run(kept, tmp_path / "run"))
    told = model.describe(X[held_out])
    assert told["far"].mean() <= 0.05
    assert told["distance"].between(0.01, 2).all()
    elsewhere = np.random.default_rng(1).normal(size=(50, 8)) - X.mean(axis=0) * 3
    assert model.describe(elsewhere)["far"].mean() >= 0.9
    write_feature_set(tmp_path / "g", elsewhere.astype(np.float32), [None] * 50, ["d"] * 50)
    result = run("predict", tmp_path / "run", tmp_path / "g", "--out", tmp_path / "p.csv")
    assert "of them are far from the training data (column far)" in result.output


@pytest.mark.slow
def test_of_real_photographs_and_cartoons_few_are_flagged_but_digits_are(real, tmp_path):
    from ftransfer.shipped import shipped_folder

    weights = real / "weights" / "squeezenet1_1.pth"
    backbone = Backbone("squeezenet1_1", weights)
    table = find_images(real / "pacs").query("domain != 'sketch'").reset_index(drop=True)
    known = table.index % 5 != 0
    features = extract_features(table[known], tmp_path / "f", backbone)
    task = load_task(features, "photo", "cartoon")
    pipeline = load_pipeline("coral_logistic").fit(task.X, task.y, sample_domain=task.sample_domain)
    model = Model.of(pipeline, task, features, {})
    held_out = [f"{root}/{path}" for root, path in table.loc[~known, ["root", "path"]].to_numpy()]
    assert model.describe(held_out, weights=weights)["far"].mean() <= 0.08
    with zipfile.ZipFile(shipped_folder("data") / "digits.zip") as digits:
        names = [name for name in digits.namelist() if name.startswith("handwritten/")][::40]
        digits.extractall(tmp_path / "digits", names)
    assert model.describe(tmp_path / "digits", weights=weights)["far"].mean() >= 0.9


# ---------------------------------------------------------------- batch-norm statistics of the target


@pytest.fixture(scope="module")
def adapted(home):
    """Folder with features of which night has batch-norm statistics of its own, and a run from day to night."""
    out = home / "adapted"
    small = ("--backbone", "small_cnn", "--adapt-bn", "night", "--out", out / "f")
    result = run("extract", home / "pictures", *small)
    assert result.exit_code == 0, result.output
    write_run(FeatureSet(out / "f"), out / "run")
    return out


def test_a_model_takes_the_statistics_of_its_target_along(adapted, pictures, tmp_path):
    night = ("--domain", "night", "--out", tmp_path / "a.csv")
    assert run("predict", adapted / "run", adapted / "f", *night).exit_code == 0
    result = run("predict", adapted / "run", pictures / "night", "--out", tmp_path / "b.csv")
    assert result.exit_code == 0, result.output
    told = ["label", "probability", "distance", "far"]
    a, b = pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "b.csv")
    pd.testing.assert_frame_equal(a[told], b[told])
    again = run("predict", adapted / "run", tmp_path / "b.features", "--out", tmp_path / "c.csv")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    model = Model.load(adapted / "run")
    files = sorted((pictures / "night").rglob("*.png"))
    assert model.predict(files).tolist() == a["label"].tolist()
    wanted = model.fingerprint["batch_norm"]["night"]
    assert model.fingerprint_of_new["batch_norm"] == {"new": wanted}
    plain = extract_features(find_images(pictures), tmp_path / "plain", Backbone("small_cnn"))
    refused = run("predict", adapted / "run", plain.folder, "--out", tmp_path / "d.csv")
    assert refused.exit_code == 1
    assert "was computed with other settings than the model" in refused.output


def test_a_target_as_it_was_is_embedded_so_whatever_was_adapted_in_the_source(adapted, pictures, tmp_path):
    features = FeatureSet(adapted / "f")
    task = load_task(features, "night", "day")
    pipeline = load_pipeline("scaled_svm").fit(task.X, task.y)
    model = Model.of(pipeline, task, features, {})
    assert model.statistics is None
    assert model.fingerprint_of_new == Backbone("small_cnn").fingerprint
    expected = task.classes[pipeline.predict(task.X_target)]
    assert model.predict(pictures / "day").tolist() == expected.tolist()


def test_statistics_that_are_not_there_or_damaged_are_said_in_one_line(adapted, pictures, tmp_path):
    model = Model.load(adapted / "run")
    with pytest.raises(
        FtransferError, match="run the same ftransfer extract --adapt-bn again, then ftransfer fit"
    ):
        find_backbone(model.fingerprint_of_new, model.origin)
    other = {name: values + 1 for name, values in model.statistics.items()}
    with pytest.raises(
        FtransferError, match="its batch-norm statistics are not those that its fingerprint names"
    ):
        find_backbone(model.fingerprint_of_new, model.origin, statistics=other)
    with pytest.raises(
        FtransferError, match="its batch-norm statistics are not those that its fingerprint names"
    ):
        find_backbone(
            model.fingerprint_of_new, model.origin, statistics={"nothing": np.zeros(1, dtype=np.float32)}
        )
    other = {name: values * np.nan for name, values in model.statistics.items()}
    replace(model, statistics=other).save(tmp_path / "model.skops")
    with pytest.raises(FtransferError, match="its batch-norm statistics are damaged"):
        Model.load(tmp_path)
    (file,) = (adapted / "f" / "adapted").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:50])
    with pytest.raises(FtransferError, match="cannot be read .* run the same ftransfer extract again"):
        read_statistics(FeatureSet(adapted / "f"), "night")
    file.write_bytes(content)


def test_a_target_that_was_adapted_to_is_not_one_never_seen(adapted):
    features = FeatureSet(adapted / "f")
    with pytest.raises(FtransferError, match="so it is not unseen; do not use --adapt-bn for it"):
        load_task(features, "day", "night", leave_target_out=True)
    assert load_task(features, "night", "day", leave_target_out=True).unseen
