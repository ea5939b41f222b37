"""The scripts in benchmarks/ run, and print the tables they promise."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import ROOT, blobs, write_feature_set
from scipy.io import savemat

METHODS = ["1-NN", "TCA", "JDA", "CORAL+SVM", "GFK"]


def run(name, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
    )


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


def test_published_prints_all_pairs_and_the_published_means(mat_files):
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


def test_published_says_in_one_line_all_that_is_wrong_with_the_files(mat_files):
    (mat_files / "webcam.mat").unlink()
    savemat(mat_files / "dslr.mat", {"X": np.ones((3, 4))})
    (mat_files / "Caltech10_SURF_L10.mat").write_bytes(b"no matlab file")
    result = run("published.py", mat_files)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "no file for webcam" in line
    assert "dslr.mat: no key fts or feas and none of labels or label; keys found: X" in line
    assert "Caltech10_SURF_L10.mat: scipy.io.loadmat cannot read it" in line


def test_published_says_that_a_folder_does_not_exist(tmp_path):
    result = run("published.py", tmp_path / "nowhere")
    assert result.returncode == 1
    assert result.stderr == f"no folder at {tmp_path / 'nowhere'}\n"


def test_methods_prints_pairs_and_sorted_means_of_every_method_and_classifier(tmp_path):
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


def test_methods_names_the_folder_that_is_no_feature_set(tmp_path):
    result = run("methods.py", tmp_path / "nowhere")
    assert result.returncode == 1
    assert "nowhere" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(find_spec("skada") is None, reason='skada is not installed: pip install "skada==0.6"')
@pytest.mark.slow
def test_adapt_speed_prints_seconds_and_ratios_with_one_thread_and_with_all():
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
def test_adapt_speed_names_its_cases_where_none_is_meant():
    result = run("adapt_speed.py", "--quick", "--cases", "TCA")
    assert result.returncode == 1
    assert "no case begins with TCA; cases: CORAL 60+45 x 32," in result.stderr
