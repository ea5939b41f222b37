"""The scripts in benchmarks/ run, and print the tables they promise."""

import io
import json
import re
import tarfile
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, blobs, write_feature_set
from PIL import Image
from scipy.io import savemat

from ftransfer import Backbone, list_scorers, load_task, race
from ftransfer.backbone.runtime import conversion_pays

pytestmark = pytest.mark.slow  # each starts a program of its own

METHODS = ["1-NN", "TCA", "JDA", "CORAL+SVM", "GFK"]


@pytest.fixture(scope="module")
def run(nursery):
    """Run a benchmark in a process of its own."""
    quiet = {"PYTHONWARNINGS": "ignore"}
    return lambda name, *arguments: nursery.run(ROOT / "benchmarks" / name, *arguments, env=quiet)


def table(text):
    """Split the lines of a printed table into words."""
    return [line.split() for line in text.splitlines()]


@pytest.fixture
def mat_files(tmp_path):
    """Folder with one .mat file a domain: histograms of 40 bins, ten classes, the names and keys as they vary."""
    rng = np.random.default_rng(0)
    rates = rng.gamma(0.5, 5, (10, 40))
    files = [
        ("amazon/Amazon_SURF_L10.mat", "fts", "labels"),
        ("amazon/Amazon_zscore_SURF_L10.mat", "Xt", "Yt"),  # to be left aside
        ("Caltech10_SURF_L10.mat", "fts", "labels"),
        ("dslr.mat", "feas", "label"),
        ("webcam.mat", "feas", "label"),
    ]
    folder = tmp_path / "surf"
    for name, features, label in files:
        labels = np.arange(40) % 10
        counts = rng.poisson(rates[labels] * rng.gamma(2, 0.5, 40))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        savemat(folder / name, {features: counts, label: labels[:, None] + 1})
    return folder


def test_published_prints_all_pairs_and_the_published_means(mat_files, run):
    result = run("published.py", mat_files)
    assert result.returncode == 0, result.stderr
    lines = table(result.stdout)
    assert lines[0] == ["pair", *METHODS]
    assert len({tuple(line[:3]) for line in lines[1:13]}) == 12
    accuracies = np.array([line[3:] for line in lines[1:13]], dtype=float)
    means = np.array(lines[13][1:], dtype=float)
    np.testing.assert_allclose(means, accuracies.mean(axis=0), atol=0.11)
    assert (means > 50).all()  # chance is ten
    assert lines[14] == ["published", "mean", "31.4", "46.2", "46.8", "48.2-48.8", "~44"]


def test_published_says_in_one_line_all_that_is_wrong_with_the_files(mat_files, run):
    (mat_files / "webcam.mat").unlink()
    savemat(mat_files / "dslr.mat", {"X": np.ones((3, 4))})
    (mat_files / "Caltech10_SURF_L10.mat").write_bytes(b"no matlab file")
    result = run("published.py", mat_files)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "no file for webcam" in line
    assert "dslr.mat: no key fts or feas and none of labels or label; keys found: X" in line
    assert "Caltech10_SURF_L10.mat: scipy.io.loadmat cannot read it" in line


def test_published_says_that_a_folder_does_not_exist(tmp_path, run):
    result = run("published.py", tmp_path / "nowhere")
    assert result.returncode == 1
    assert result.stderr == f"no folder at {tmp_path / 'nowhere'}\n"


def test_methods_prints_pairs_and_sorted_means_of_every_method_and_classifier(tmp_path, run):
    X, y, labels = blobs(n_features=50)
    names = np.array(["ash", "elm", "oak"])[labels]
    write_feature_set(tmp_path / "features", X, names, np.where(y == -1, "night", "day"))
    result = run("methods.py", tmp_path / "features", "--trees", 10)
    assert result.returncode == 0, result.stderr
    above, below = result.stdout.split("\n\n")
    lines = table(above)
    assert [line[:3] for line in lines[1:3]] == [["day", ">", "night"], ["night", ">", "day"]]
    means = np.array(lines[3][1:], dtype=float)
    columns = len(means)
    assert columns >= 8 * 3
    assert lines[0] == ["pair", *(str(i) for i in range(1, columns + 1))]
    ranked = table(below)[1:]
    assert len(ranked) == columns
    by_rank = [float(line[-1]) for line in ranked]
    assert by_rank == sorted(means.tolist(), reverse=True)
    assert [means[int(line[-2]) - 1] for line in ranked] == by_rank
    for method in ("source only", "per-domain scaling", "CORAL", "PseudoLabelled"):
        assert below.count(f"\n{method} ") == 3, method


def test_methods_names_the_folder_that_is_no_feature_set(tmp_path, run):
    result = run("methods.py", tmp_path / "nowhere")
    assert result.returncode == 1
    assert "nowhere" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(find_spec("skada") is None, reason='skada is not installed: pip install "skada==0.6"')
def test_adapt_speed_prints_seconds_and_ratios_with_one_thread_and_with_all(run):
    result = run("adapt_speed.py", "--quick", "--repeats", 1)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + 2 * 6
    assert "failed" not in result.stdout
    for line, threads in zip(lines[1:], ["1", "all"] * 6, strict=True):
        found, ours, theirs, ratio = line[44:].split("(")[0].split()
        assert found == threads
        assert float(ours) > 0
        assert float(theirs) > 0
        assert float(ratio) > 0


@pytest.mark.skipif(find_spec("skada") is None, reason='skada is not installed: pip install "skada==0.6"')
def test_adapt_speed_names_its_cases_where_none_is_meant(run):
    result = run("adapt_speed.py", "--quick", "--cases", "TCA")
    assert result.returncode == 1
    assert "no case begins with TCA; cases: CORAL 60+45 x 32," in result.stderr


@pytest.mark.skipif(find_spec("skada") is None, reason='skada is not installed: pip install "skada==0.6"')
def test_race_speed_prints_seconds_of_both_and_their_ratio(tmp_path, run):
    X, y, labels = blobs(n_source=200, n_target=150, n_features=100, shift=5.0)
    names = np.array(["ash", "elm", "oak"])[labels]
    write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    options = (
        "--source",
        "day",
        "--target",
        "night",
        "--repeats",
        1,
        "--folds",
        1,
        "--classifiers",
        "svm",
        "logistic",
    )
    result = run("race_speed.py", tmp_path / "f", *options)
    assert result.returncode == 0, result.stderr
    folds, ours, theirs, ratio = result.stdout.splitlines()[1].split("(")[0].split()
    assert folds == "1"
    assert float(ours) > 0
    assert float(theirs) > 0
    assert float(ratio) > 0


def test_selection_chooses_as_a_race_does_and_counts_against_source_only_and_the_oracle(tmp_path, run):
    X, y, labels = blobs(n_features=20, shift=5.0)
    names = np.array(["ash", "elm", "oak"])[labels]
    features = write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    quick = [f"--pipeline={name}" for name in ("source_only_svm", "scaled_svm", "coral_svm", "pseudo_svm")]
    result = run("selection.py", tmp_path / "f", "--scorer", "all", "--table", tmp_path / "all.csv", *quick)
    assert result.returncode == 0, result.stderr
    pairs, summary, scorers = (table(part) for part in result.stdout.split("\n\n"))
    assert [line[:3] for line in pairs[1:3]] == [["day", ">", "night"], ["night", ">", "day"]]
    found = race(load_task(features, "day", "night"), [n.split("=")[1] for n in quick])
    accuracy = 100 * found.table["target_accuracy"]
    a, c, d = map(float, pairs[1][3:6])
    assert c == pytest.approx(accuracy[found.chosen], abs=0.06)
    assert d == pytest.approx(accuracy.max(), abs=0.06)
    assert pairs[1][6] == found.table["pipeline"][found.chosen]
    assert max(a, c) <= d
    assert [line[0] for line in summary] == ["(a)", "(b)", "(b')", "(c)", "(d)", "from", "pairs"]
    assert {line[0] for line in scorers[1:]} == set(list_scorers())
    written = pd.read_csv(tmp_path / "all.csv")
    assert len(written) == 2 * len(found.table)
    assert set(list_scorers()) <= set(written)


def test_selection_takes_several_sources_and_a_target_with_dominant_classes(tmp_path, run):
    X, y, labels = blobs(n_source=90, n_target=60)
    domains = np.where(y == -1, "night", np.where(np.arange(150) % 2, "dawn", "day"))
    features = write_feature_set(tmp_path / "f", X, np.array(["ash", "elm", "oak"])[labels], domains)
    quick = ("--pipeline", "source_only_svm", "--pipeline", "scaled_svm", "--dominant", 1, "--labels", 5)
    result = run("selection.py", features.folder, "--sources", 2, *quick)
    assert result.returncode == 0, result.stderr
    lines = table(result.stdout)
    assert {tuple(line[:3]) for line in lines[1:4]} == {
        ("dawn+day", ">", "night"),
        ("dawn+night", ">", "day"),
        ("day+night", ">", "dawn"),
    }
    assert all(0 <= float(v) <= 100 for line in lines[1:4] for v in line[3:6])


def test_each_emoji_goes_to_one_vendor_and_the_class_of_what_it_shows(tmp_path, run):
    vendors = ("apple", "google", "twitter", "facebook")
    shows = {"animal-bug": "animal", "hand-prop": "hand", "sky & weather": "sky", "flag": None}
    emoji = [
        {"image": f"{i}.png", "subcategory": list(shows)[i % 4], **{f"has_img_{v}": True for v in vendors}}
        for i in range(80)
    ]
    picture = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(picture, "png")
    for vendor in vendors:
        with tarfile.open(tmp_path / f"emoji-datasource-{vendor}-1.0.0.tgz", "w:gz") as archive:
            for i in range(80):
                add(archive, f"package/img/{vendor}/64/{i}.png", picture.getvalue())
            add(archive, "package/emoji.json", json.dumps(emoji).encode())
    result = run("emoji_and_letters.py", tmp_path, tmp_path / "out")
    assert result.stderr.endswith("has no archive of fontsource-merriweather: npm pack it there\n")
    files = sorted((tmp_path / "out" / "emoji").rglob("*.png"), key=lambda file: int(file.stem))
    assert [int(file.stem) for file in files] == [i for i in range(80) if i % 4 < 3]
    assert all(file.parent.name == shows[emoji[int(file.stem)]["subcategory"]] for file in files)
    assert {file.parent.parent.name for file in files} == set(vendors)
    with Image.open(files[0]) as image:
        assert (image.size, image.getpixel((5, 5))) == ((128, 128), (255, 255, 255))
    assert len(run("emoji_and_letters.py", "--fonts").stdout.split()) == 80


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def test_the_proving_ground_counts_each_task_once_and_goes_on_where_it_was(tmp_path, run):
    X, y, labels = blobs(n_source=120, n_target=120, n_features=12, n_classes=5, shift=5.0)
    names = np.array(["ash", "elm", "fir", "oak", "yew"])[labels]
    write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    slow = [f"--without={text}" for text in ("forest", "svm", "coral", "subspace", "pseudo")]
    options = [tmp_path / "f", "--out", tmp_path / "out", "--rows", 60, "--only", "day > night", *slow]
    result = run("proving_ground.py", *options)
    assert result.returncode == 0, result.stderr
    done = result.stdout.split("\n\n")[0].splitlines()
    variants = [line.split(", ")[1].split("  ")[0] for line in done]
    assert len(variants) == len(set(variants)) == 4
    assert "as it is" in variants
    assert any(variant.startswith("only") for variant in variants)
    assert "all: 4 tasks" in result.stdout
    again = run("proving_ground.py", *options)
    assert again.stdout.strip() == result.stdout.split("\n\n", 1)[1].strip()


def test_a_few_labels_are_counted_by_number_and_by_how_they_were_chosen(tmp_path, run):
    X, y, labels = blobs(n_source=60, n_target=60, shift=5.0)
    names = np.array(["ash", "elm", "oak"])[labels]
    write_feature_set(tmp_path / "f", X, names, np.where(y == -1, "night", "day"))
    options = [
        tmp_path / "f",
        "--out",
        tmp_path / "out",
        "--numbers",
        20,
        "--draws",
        1,
        "--only",
        "day > night",
    ]
    result = run("few_labels.py", *options)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "part0.jsonl").read_text().splitlines()]
    assert [(row["way"], row["n"]) for row in rows] == [("random", 20), ("suggest", 20)]
    for row in rows:
        assert row["chosen"] == row["candidates"][row["pipeline"]] <= row["best"]
        low, high, value = row["interval"]
        assert low <= value <= high
    assert "all pairs" in result.stdout
    again = run("few_labels.py", *options, "--picture", tmp_path / "few.png")
    assert again.stdout.strip() == result.stdout[result.stdout.index("all pairs") :].strip()
    assert (tmp_path / "few.png").stat().st_size > 5000


def test_selection_names_the_recipe_that_is_not_there(tmp_path, run):
    result = run("selection.py", tmp_path, "--pipeline", "corral_svm")
    assert result.returncode == 1
    assert "did you mean 'coral_svm'" in result.stderr


def test_unseen_leaves_each_domain_out_in_turn(tmp_path, run):
    X, _, labels = blobs(n_source=60, n_target=45)
    domains, names = np.array(["a", "b", "c"])[np.arange(105) // 35], np.array(["x", "y", "z"])[labels]
    features = write_feature_set(tmp_path / "f", X, names, domains)
    quick = ("--pipeline", "source_only_svm", "--pipeline", "scaled_svm")
    result = run("unseen.py", features.folder, *quick)
    assert result.returncode == 0, result.stderr
    header, *rows, mean = table(result.stdout)
    assert header == ["target", "held", "out", "chosen", "source", "only", "hindsight", "recommended"]
    assert [row[0] for row in rows] == ["a", "b", "c"]
    shares = np.array([row[1:5] for row in rows], dtype=float)
    np.testing.assert_allclose(shares.mean(axis=0), np.array(mean[1:], dtype=float), atol=0.11)
    assert (shares[:, 1:3] <= shares[:, 3:] + 0.1).all()
    quick_task = load_task(features, ["a", "b"], "c", leave_target_out=True)
    found = race(quick_task, ["source_only_svm", "scaled_svm"], jobs=1)
    assert shares[2, 0] == pytest.approx(100 * found.table["score"][found.chosen], abs=0.1)
    two = write_feature_set(tmp_path / "two", X, names, np.where(domains == "a", "a", "b"))
    assert "three domains are needed" in run("unseen.py", two.folder).stderr


def test_backbones_compares_the_ranking_with_what_is_reached_on_the_target(tmp_path, run):
    X, y, labels = blobs(n_features=20, shift=1.0)
    names, domains = np.array(["ash", "elm", "oak"])[labels], np.where(y == -1, "night", "day")
    noise = np.random.default_rng(0).normal(size=(len(X), 4)).astype(np.float32)
    write_feature_set(tmp_path / "good", X, names, domains)
    write_feature_set(tmp_path / "noise", noise, names, domains)
    result = run("backbones.py", tmp_path / "noise", tmp_path / "good")
    assert result.returncode == 0, result.stderr
    *pairs, summary = (table(part) for part in result.stdout.strip().split("\n\n"))
    assert [pair[0] for pair in pairs] == [["day", "->", "night"], ["night", "->", "day"]]
    for pair in pairs:
        (rank, *_, plain, scaled), (_, *_, plain_noise, scaled_noise) = pair[2], pair[3]
        assert rank == "1"
        assert float(plain) > 80 > float(plain_noise)
        assert float(scaled) > 80 > float(scaled_noise)
    assert [line[0] for line in summary[2:]] == ["day", "night", "mean"]
    assert set(summary[-1][1:]) == {"1.00", "0.00"}


def test_backbones_says_which_folder_is_missing(tmp_path, run):
    result = run("backbones.py", tmp_path / "nowhere")
    assert result.returncode == 1
    assert "does not exist; make one" in result.stderr


def test_scale_prints_what_grows_with_the_number_of_images(run):
    result = run("scale.py", "--images", 8192, "--width", 8, "--classes", 3, "--components", 4)
    assert result.returncode == 0, result.stderr
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0].startswith("8192 files, found")
    assert "manifest, on disk" in result.stdout
    assert "Nystroem, 4 components, fit" in result.stdout
    assert "at least 8192 images" in run("scale.py", "--images", 5).stderr


def test_loading_is_timed_case_by_case(run):
    result = run("load.py", "--rows", 2000, "--width", 16, "--repeats", 1)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "2000 rows x 16, 0 MB"
    assert [line[:18].strip() for line in lines[2:]] == [
        "everything",
        "one domain",
        "one class",
        "5 % of the rows",
    ]
    assert all(float(line.split()[-1]) > 0 for line in lines[2:])


def test_confidence_is_counted_on_held_out_rows_of_every_pair(tmp_path, run):
    X, y, labels = blobs(n_source=60, n_target=60)
    domains = np.where(y == -1, "night", "day")
    write_feature_set(tmp_path / "f", X, np.array(["ash", "elm", "oak"])[labels], domains)
    write_feature_set(tmp_path / "g", -9 * X, [None] * len(X), ["elsewhere"] * len(X))
    recipes = ("scaled_logistic", "coral_svm")
    result = run("confidence.py", tmp_path / "f", tmp_path / "g", "--recipe", *recipes)
    lines = [line for line in table(result.stdout) if line[1:2] == [">"]]
    assert [" ".join(line[:4]) for line in lines] == [
        f"{pair}, {recipe}" for pair in ("day > night", "night > day") for recipe in recipes
    ], result.stderr
    for line in lines:
        source, target, raw, of_source, sure, far_source, far_target = map(float, line[4:11])
        assert min(source, target) > 70
        assert raw > 34
        assert 0 < sure <= 100
        assert max(far_source, far_target) < 15
        assert line[11] == "elsewhere"
        assert float(line[12]) > 50
    summary = [line.split() for line in result.stdout.splitlines()[-4:]]
    modest, too_sure = (np.array(line[-3:], dtype=float) for line in summary[1:3])
    assert (modest <= too_sure).all()


def test_extract_times_every_contender_on_the_same_images_and_compares_their_features(run):
    only = ("--only", "exact", "fast", "decode only, fast", "forward only, fast")
    result = run("extract.py", "--images", 500, "--models", "small_cnn", *only)
    assert result.returncode == 0, result.stderr
    first, _, _, *lines = result.stdout.splitlines()
    kilobytes = int(re.search(r"500 JPEGs of 640 x 480, (\d+) KB", first)[1])
    assert 70 < kilobytes <= 99
    *lines, share = lines
    assert re.fullmatch(r"small_cnn +fast +\d+% of the lower ceiling", share)
    rows = {line[12:36].strip(): line[36:].split() for line in lines}
    assert rows.pop("thingsvision")[0] == "skipped:"
    assert list(rows) == ["DataLoader", *only[1:]]
    assert all(float(number) > 0 for row in rows.values() for number in row[:3])
    assert float(rows["exact"][-2]) < 1e-5 < float(rows["fast"][-2]) < 0.1
    assert 0.99 < float(rows["fast"][-1]) <= 1


def test_extract_measures_what_an_image_takes_beside_its_floor_and_what_a_small_job_takes(run):
    small = ("--models", "small_cnn", "--tiers", "exact", "--rounds", 1)
    result = run("extract_costs.py", "running", "--images", 130, *small)
    assert result.returncode == 0, result.stderr
    decode, network, floor, running, share, _ = table(result.stdout)[1][2:]
    assert float(floor) == pytest.approx(float(decode) + float(network), abs=0.02)
    assert float(share[:-1]) / 100 == pytest.approx(float(floor) / float(running), abs=0.02)
    result = run("extract_costs.py", "start", "--images", 3, *small)
    assert result.returncode == 0, result.stderr
    for *_, imports, backbone, ready, images, drift, end, cpu, _ in table(result.stdout)[1:]:
        stages = [float(stage) for stage in (imports, backbone, ready, images, drift, end)]
        assert sum(stages) == pytest.approx(float(cpu), abs=0.05)
        assert stages[4] == 0  # the exact tier does not drift


def test_extract_computes_again_only_what_is_new(run):
    result = run("extract_costs.py", "more", "--images", 110, "--models", "small_cnn")
    assert result.returncode == 0, result.stderr
    _, *lines = table(result.stdout)
    assert [(line[1], line[-4]) for line in lines] == [("first", "110"), ("again", "0"), ("1", "2")]


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed: the extra [cpu]")
def test_extract_measures_when_a_conversion_is_repaid(run):
    result = run("extract_costs.py", "convert", "--models", "small_cnn")
    assert result.returncode == 0, result.stderr
    _, (name, operations, *seconds, repaid, rule) = table(result.stdout)
    assert (name, operations) == ("small_cnn", "0.05")
    assert all(float(s) > 0 for s in seconds)
    assert repaid == "never" or int(repaid) > 0
    backbone = Backbone(name, "random", device="cpu")
    assert conversion_pays(backbone, int(rule))
    assert not conversion_pays(backbone, int(rule) - 1)


def test_extract_measures_the_peak_of_memory(run):
    result = run("extract_costs.py", "memory", "--counts", 50, 100)
    assert result.returncode == 0, result.stderr
    for line, count in zip(table(result.stdout)[1:], [50, 100], strict=True):
        images, before, peak = map(int, line)
        assert images == count
        assert 0 < before <= peak


def test_extract_says_that_a_folder_holds_no_photographs(tmp_path, run):
    result = run("extract.py", "--photographs", tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"no .jpg in {tmp_path}\n"


def test_transfer_modes_counts_every_way_on_the_same_rows(pictures, tmp_path, run):
    small = (
        "--backbone",
        "small_cnn",
        "--freeze-until",
        "block2",
        "--epochs",
        1,
        "--out",
        tmp_path / "a.csv",
    )
    result = run("transfer_modes.py", pictures, "--source", "day", "--target", "night", *small)
    assert result.returncode == 0, result.stderr
    first, header, *lines = result.stdout.splitlines()
    assert first == "day > night, small_cnn: 24 images, 1 seeds"
    assert header.split() == ["way", "source", "target", "seconds"]
    rows = pd.read_csv(tmp_path / "a.csv")
    assert [line[:44].strip() for line in lines] == list(rows["way"])
    assert len(set(rows["way"])) == len(rows) == 37
    assert {
        "frozen, source only",
        "AdaBN, source only",
        "fine-tuned on source, CORAL",
        "fine-tuned on source, coral",
        "fine-tuned on source, coral, weight 1",
    } <= set(rows["way"])
    for column, of in (("source", 3), ("target", 6)):  # pictures that are kept for counting
        assert all(
            min(abs(accuracy - right / of) for right in range(of + 1)) < 1e-6 for accuracy in rows[column]
        )


def test_transfer_modes_names_the_domain_that_is_not_there(pictures, run):
    result = run("transfer_modes.py", pictures, "--source", "day", "--target", "nihgt")
    assert result.returncode == 1
    assert result.stderr == "no domain nihgt; domains found: day, night\n"


def test_the_benchmark_of_regression_tells_what_choosing_was_worth(run):
    done = run("regression.py", "--seeds", "1", "--only", "diabetes, other units")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("diabetes, other units")]
    source_only, _, _, chosen, _, best = map(float, line.split()[-6:])
    assert source_only + 0.1 < chosen <= best
    assert "1 races: against source only better by more than 0.02 in 1" in done.stdout


def test_race_scale_prints_cpu_seconds_and_memory_of_a_whole_race(run):
    result = run(
        "race_scale.py", "--rows", 2000, "--width", 16, "--classes", 2, "--search", "halving", "--report"
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["loaded", "raced", "predicted"]
    assert [line.split()[0] for line in lines[3:5]] == ["reported", "report.html"]
    assert lines[-1].startswith("of all target rows: 0.")
    assert "at least 2000 rows" in run("race_scale.py", "--rows", 10).stderr


def test_the_benchmark_of_classifiers_has_a_row_for_each(run, tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    X = rng.normal(size=(200, 6)) + 3 * y[:, None]
    np.savez(tmp_path / "f.npz", X=X, y=y, domain=np.repeat(["a", "b"], 100))
    result = run("classifiers.py", tmp_path / "f.npz", "--pair", "a", "b")
    assert result.returncode == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["a-b", "mean", "fit,", "s"]
    assert len(rows) == 7
    assert all(float(row.split()[-2]) > 95 for row in rows)
