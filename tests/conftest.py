"""What several test files share: small images, small feature sets, where real images lie."""

import os
import signal
from importlib import import_module
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # beside another, threads that compute together wait for each other
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# a test meets no network that another run converted, and leaves none
os.environ["FTRANSFER_NETWORKS_GB"] = "0"

# in the background of a shell Ctrl-C is ignored, and would be in the processes that tests start
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from PIL import Image

from ftransfer import FeatureSet, FtransferError

ROOT = Path(__file__).resolve().parent.parent

# The same cases in every run, so that what fails here fails there; FTRANSFER_CHANCE=1 looks for new ones.
settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("chance", print_blob=True)
settings.load_profile("chance" if os.environ.get("FTRANSFER_CHANCE") else "same")


def draw(path: Path, label: int, seed: int, size=(40, 32)) -> None:
    """Write a picture whose colour tells its class and whose noise tells its seed."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (size[1], size[0], 3))
    pixels[..., label % 3] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path):
    """Folder <domain>/<class>/*.png: domains day and night, classes ash, elm, oak, four pictures each."""
    root = tmp_path / "pictures"
    for d, domain in enumerate(["day", "night"]):
        for c, label in enumerate(["ash", "elm", "oak"]):
            for i in range(4):
                draw(root / domain / label / f"{i}.png", c, seed=100 * d + 10 * c + i)
    return root


def blobs(n_source=60, n_target=45, n_features=8, n_classes=3, shift=3.0, seed=0):
    """Source and target rows of the same classes, the target shifted and stretched."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(n_classes, n_features)) * 3
    labels = np.r_[np.arange(n_source) % n_classes, np.arange(n_target) % n_classes]
    X = centers[labels] + rng.normal(size=(len(labels), n_features))
    X[n_source:] = X[n_source:] * 1.7 + shift
    y = labels.copy()
    y[n_source:] = -1
    return X.astype(np.float32), y, labels


def write_feature_set(folder, X, labels, domains, layers=None) -> FeatureSet:
    """Write rows as a feature set, as an extraction would have; a label may be None. `layers`: {name: width}."""
    layers = layers or {"out": X.shape[1]}
    fingerprint = {
        "format": 1,
        "backbone": "made up",
        "weights": "sha256:0",
        "layers": [{"name": name, "width": width} for name, width in layers.items()],
        "dtype": "float32",
    }
    features = FeatureSet.create(folder, fingerprint)
    keys = [f"{i:064x}" for i in range(len(X))]
    features.write_part(keys, X)
    table = pd.DataFrame({"root": "made up", "path": [f"{i}.png" for i in range(len(X))], "sha256": keys})
    table["label"], table["domain"], table["status"] = labels, domains, "ok"
    features.write_manifest(table)
    return features


@pytest.fixture
def feature_set(tmp_path):
    """Feature set with the domains day (60 rows) and night (45), and the classes ash, elm, oak."""
    X, y, labels = blobs()
    names = np.array(["ash", "elm", "oak"])[labels]
    return write_feature_set(tmp_path / "features", X, names, np.where(y == -1, "night", "day"))


KNOWN = {}


def remember(patch, module, name):
    """Answer a function of a module from what it gave for the same arguments in any test."""
    function = getattr(import_module(module), name)

    def answer(*given, **named):
        key = name, joblib.hash((given, named))
        if key not in KNOWN:
            KNOWN[key] = function(*given, **named)
        return KNOWN[key]

    patch.setattr(f"{module}.{name}", answer)


@pytest.fixture(scope="module", autouse=True)
def shared_numbers(request):
    """Compute what takes most of the time of races and reports on few rows once for the same rows.

    These are functions of the rows alone; tests of the panel itself compute their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ not in ("test_panel", "test_scoring"):
            remember(patch, "ftransfer.scoring.judge", "seat_panel")
        if request.module.__name__.startswith("test_report"):
            remember(patch, "ftransfer.report.numbers", "compare_domains")
            remember(patch, "ftransfer.report.plane", "lay_out")
        else:  # the others look at neither
            request.getfixturevalue("short_reports")
        yield


@pytest.fixture
def waiting(monkeypatch):
    """How many images were read and not dealt with yet, at each that is read; and how many were, for `progress`."""
    from ftransfer.images import readers

    begun, ended, waiting, read_bytes = [], [], [], readers.read_bytes

    def read(root, path):
        begun.append(path)
        waiting.append(len(begun) - sum(ended))
        return read_bytes(root, path)

    monkeypatch.setattr(readers, "read_bytes", read)
    return waiting, ended


@pytest.fixture
def one_thread():
    """Tiny layers gain nothing from threads, which on a busy machine wait for one another."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def real():
    """Folder of the real images and weights; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("FTRANSFER_REAL", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; FTRANSFER_REAL names their folder")
    return folder


@pytest.fixture(scope="session")
def nursery():
    """Where programs are started that import what takes long."""
    from nursery import Nursery

    started = Nursery()
    yield started
    started.close()


@pytest.fixture(scope="session")
def newcomer(tmp_path_factory, nursery):
    """A folder in which the pages' commands are run, each once, whichever page names it."""
    from pages import Newcomer

    base = tmp_path_factory.getbasetemp()
    return Newcomer((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "newcomer", nursery)


@pytest.fixture(scope="module")
def short_reports():
    """Leave out of reports what takes longest and other tests look at: the distances, and the plane."""

    def refuse(*_, **__):
        raise FtransferError("not measured in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftransfer.report.numbers.compare_domains", refuse)
        patch.setattr("ftransfer.report.section.draw_plane", lambda race: None)
        yield
