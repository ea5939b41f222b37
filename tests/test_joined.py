import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import blobs, write_feature_set

from ftransfer import FeatureSet, FtransferError, JoinedFeatures, import_features, load_task, open_features
from ftransfer.cli import main


@pytest.fixture
def pair(tmp_path):
    """Two feature sets of the same 105 images, whose keys tell their content; the second in another order."""
    X, y, labels = blobs()
    names, domains = np.array(["ash", "elm", "oak"])[labels], np.where(y == -1, "night", "day")
    one = write_feature_set(tmp_path / "one", X, names, domains)
    layers = [{"name": "z", "width": 3}]
    two = FeatureSet.create(tmp_path / "two", {**one.fingerprint, "backbone": "other", "layers": layers})
    manifest = one.manifest.iloc[::-1]
    two.write_part(manifest["sha256"].tolist(), X[::-1, :3] + 7)
    two.write_manifest(manifest)
    return one, two


def test_embeddings_of_the_same_image_lie_side_by_side(pair):
    X, y, _ = blobs()
    joined = open_features([f.folder for f in pair])
    assert joined.width == 11
    assert joined.notes == []
    order = np.random.default_rng(0).permutation(105)
    np.testing.assert_array_equal(
        joined.load(joined.complete.iloc[order]), np.hstack([X, X[:, :3] + 7])[order]
    )
    task = load_task(joined, "day", "night")
    np.testing.assert_array_equal(task.X, np.hstack([X, X[:, :3] + 7]))
    np.testing.assert_array_equal(task.y, y)
    assert [layer["name"] for layer in joined.fingerprint["layers"]] == ["made up:out", "other:z"]


def test_images_that_one_set_lacks_are_left_out_and_noted(pair):
    one, two = pair
    manifest = two.manifest
    two.write_manifest(manifest[~manifest["path"].isin(["0.png", "7.png"])])
    joined = JoinedFeatures([one, two])
    assert len(joined.complete) == 103
    assert load_task(joined, "day", "night").notes == [f"2 images that are not in {two.folder} were dropped"]


def test_a_picture_that_changed_is_not_taken_for_the_one_of_its_name(pair):
    one, two = pair
    manifest = two.manifest
    two.write_part(["f" * 64], np.zeros((1, 3)))
    manifest.loc[manifest["path"] == "5.png", "sha256"] = "f" * 64
    two.write_manifest(manifest)
    assert "5.png" not in JoinedFeatures([one, two]).complete["path"].tolist()


def test_imported_embeddings_are_matched_by_domain_and_path(pair, tmp_path):
    one, _ = pair
    manifest = one.complete
    texts = np.arange(210.0).reshape(105, 2)
    names = {name: manifest[name][:100].to_numpy(dtype=str) for name in ("path", "domain")}
    np.savez(tmp_path / "texts.npz", X=texts[:100], **names)
    imported, _ = import_features([tmp_path / "texts.npz"], tmp_path / "texts")
    joined = JoinedFeatures([one, imported])
    assert joined.notes[:1] == [f"5 images that are not in {imported.folder} were dropped"]
    np.testing.assert_array_equal(joined.load(joined.complete)[:, 8:], texts[:100])


def test_sets_without_a_common_image_are_refused(pair, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    other, _ = import_features([tmp_path / "a.npy"], tmp_path / "other")
    with pytest.raises(FtransferError, match="no image is in all of .*matched by content"):
        JoinedFeatures([pair[0], other])


def test_one_folder_is_no_join(pair):
    assert isinstance(open_features(pair[0].folder), FeatureSet)
    assert isinstance(open_features([pair[0].folder, pair[0].folder]), FeatureSet)


def test_fit_takes_several_feature_sets(pair, tmp_path):
    command = ["fit", *(str(f.folder) for f in pair), "--source", "day", "--target", "night", "--json"]
    command += ["--pipeline", "coral_logistic", "--out", str(tmp_path / "run"), "--jobs", "1"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    task = json.loads(result.stdout)["task"]
    assert task["n_features"] == 11
    assert task["backbone"] == "made up + other"


def test_sets_of_unlike_scale_are_balanced_row_by_row_or_warned_of(tmp_path):
    X, y, labels = blobs()
    names, domains = np.array(["ash", "elm", "oak"])[labels], np.where(y == -1, "night", "day")
    one = write_feature_set(tmp_path / "one", X * 1000, names, domains)
    two = FeatureSet.create(tmp_path / "two", {**one.fingerprint, "backbone": "other"})
    two.write_part(one.manifest["sha256"].tolist(), X)
    two.write_manifest(one.manifest)
    joined = JoinedFeatures([one, two])
    rows = joined.complete
    unit = np.sqrt(8) * X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(joined.load(rows), np.hstack([unit, unit]), rtol=1e-6)
    np.testing.assert_array_equal(
        joined.load(rows.iloc[[7]]), joined.load(rows)[[7]]
    )  # of new images the same
    assert joined.notes == []
    raw = open_features([one.folder, two.folder], balance=False)
    np.testing.assert_array_equal(raw.load(raw.complete), np.hstack([(X * 1000), X]))
    assert "the feature sets differ in scale (median row length: " in raw.notes[0]
    assert joined.fingerprint != raw.fingerprint


def test_a_poor_set_of_large_numbers_does_not_drown_a_good_one(real, tmp_path):
    from sklearn.linear_model import LogisticRegression

    surf, lite = (np.load(real / "features" / f"office_{name}.npz") for name in ("surf", "lite0"))
    X, labels, domains = [], [], []
    for domain in ("amazon", "webcam"):  # the same counts of the same ten classes, in the same order
        parts = [np.float32(4) * surf["X"][surf["domain"] == domain], lite["X"][lite["domain"] == domain]]
        X.append([part.astype(np.float32) for part in parts])
        assert len(parts[0]) == len(parts[1])
        labels += lite["y"][lite["domain"] == domain].tolist()
        domains += [domain] * len(parts[0])
    poor, good = (np.concatenate(parts) for parts in zip(*X, strict=True))
    one = write_feature_set(tmp_path / "surf", poor, labels, domains)
    two = write_feature_set(tmp_path / "lite", good, labels, domains)

    def right(features):
        task = load_task(features, "amazon", "webcam")
        model = LogisticRegression(max_iter=500).fit(task.X[task.is_source], task.y[task.is_source])
        return task.answers.accuracy(model.predict(task.X_target))

    # 70.5 % joined as they are, 91.2 % the better alone, 91.9 % balanced
    raw, alone, balanced = (
        right(JoinedFeatures([one, two], balance=False)),
        right(two),
        right(JoinedFeatures([one, two])),
    )
    assert raw < alone - 0.15
    assert balanced > alone - 0.01
