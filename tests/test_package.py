"""The house: what imports what, what ships, what an import costs."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest
from conftest import ROOT

import ftransfer

ARROWS = {
    "errors": set(),
    "shipped": set(),
    "small_cnn": set(),
    "storage": {"errors"},
    "images": {"errors", "storage"},
    "pixels": set(),
    "gpu": {"errors"},
    "jpeg": {"pixels"},
    "shortcuts": {"jpeg", "pixels"},
    "readers": {"errors", "images", "jpeg", "pixels", "storage", "views"},
    "runtime": {"errors", "gpu", "shortcuts"},
    "backbone": {"errors", "shipped", "small_cnn", "gpu", "pixels", "readers", "runtime", "shortcuts"},
    "parts": {"errors", "storage"},
    "verify": {"errors", "parts"},
    "learning_curves": {"storage"},
    "features": {"errors", "learning_curves", "parts", "verify", "storage"},
    "plan": {"features", "images", "verify", "storage"},
    "views": {"errors"},
    "fidelity": {"images", "pixels", "runtime"},
    "devices": {"errors", "features", "gpu", "plan", "runtime"},
    "engine": {
        "backbone",
        "errors",
        "features",
        "images",
        "pixels",
        "plan",
        "readers",
        "runtime",
        "shortcuts",
        "storage",
    },
    "extract": {"backbone", "devices", "engine", "features", "fidelity", "plan", "runtime"},
    "convert": {"errors", "features", "parts", "storage"},
    "join": {"errors", "features", "storage"},
    "adapted": {"errors", "features", "storage"},
    "finetune": {
        "adapted",
        "errors",
        "images",
        "backbone",
        "features",
        "extract",
        "learning_curves",
        "pixels",
        "storage",
    },
    "task": {"errors", "features", "adapt"},
    "adapt": {"errors"},
    "pipeline": {"errors", "adapt", "shipped"},
    "scoring": {"errors", "adapt", "label_shift", "pipeline"},
    "strategy": {"errors", "pipeline"},
    "sources": {"pipeline", "task"},
    "journal": {"features", "scoring", "strategy", "task"},
    "trials": {"adapt", "journal", "pipeline", "scoring", "sources", "strategy", "task", "unseen"},
    "search": {
        "errors",
        "guard",
        "label_shift",
        "pipeline",
        "scoring",
        "sources",
        "strategy",
        "task",
        "trials",
        "unseen",
    },
    "cluster": {
        "backbone",
        "engine",
        "errors",
        "extract",
        "features",
        "fidelity",
        "images",
        "plan",
        "runtime",
        "search",
        "storage",
    },
    "unseen": {"guard", "scoring", "task"},
    "report": {
        "errors",
        "features",
        "guard",
        "images",
        "learning_curves",
        "model",
        "pipeline",
        "pixels",
        "search",
        "similarity",
        "storage",
    },
    "guard": {"errors", "label_shift", "task"},
    "distances": set(),
    "label_shift": {"errors"},
    "similarity": {"errors", "features", "distances", "label_shift"},
    "transferability": {"errors", "features"},
    "model": {"adapted", "errors", "features", "model_file", "confidence", "predict", "storage"},
    "model_file": {"errors", "features"},
    "confidence": {"scoring"},
    "predict": {"errors", "images", "backbone", "features", "extract", "storage"},
}


def imports_of(file):
    """Modules of this package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ftransfer":
            names = (
                [node.module] if node.module != "ftransfer" else [f"ftransfer.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "ftransfer"]
        yield from (name.split(".")[1] for name in names if "." in name)


@pytest.mark.parametrize("module", ARROWS)
def test_modules_import_only_what_the_design_allows(module):
    place = ROOT / "ftransfer" / module
    files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert {name for f in files for name in imports_of(f)} - {module} <= ARROWS[module]


def test_every_module_is_in_the_table_of_arrows():
    found = {m.name for m in pkgutil.iter_modules([str(ROOT / "ftransfer")])}
    assert found - {"cli", "__main__"} == set(ARROWS)


def test_nothing_imports_the_command_line():
    files = [
        f for f in (ROOT / "ftransfer").rglob("*.py") if "cli" not in f.parts and f.name != "__main__.py"
    ]
    assert files
    assert not [f for f in files if "cli" in imports_of(f)]


@pytest.mark.parametrize(
    "code",
    [
        "import ftransfer",
        "from ftransfer import CORAL, FeatureSet, load_pipeline, load_task, race; load_pipeline('coral_svm')",
        "import ftransfer.cli",
        "from ftransfer.cli.fit import fit",
    ],
)
def test_neither_torch_nor_fsspec_is_imported_before_it_is_needed(code):
    check = f"import sys; {code}; print(not {{'torch', 'fsspec'}}.isdisjoint(sys.modules))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_an_import_switches_nothing_on():
    check = (
        "import sklearn, warnings; before = sklearn.get_config(), list(warnings.filters); "
        "from ftransfer import CORAL, race, write_report; "
        "print(before[0] == sklearn.get_config())"
    )
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True"


def test_all_public_names_are_there():
    for name in ftransfer.__all__:
        assert getattr(ftransfer, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ftransfer.nonsense  # noqa: B018


def modules():
    for info in pkgutil.walk_packages(ftransfer.__path__, "ftransfer."):
        if "__main__" not in info.name and not info.name.startswith(
            ("ftransfer.data", "ftransfer.pipelines")
        ):
            yield info.name


@pytest.mark.parametrize("name", list(modules()))
def test_the_examples_in_docstrings_are_right(name):
    if name == "ftransfer.adapt.transport":
        pytest.importorskip("ot", reason="POT is not installed: the extra [ot]")
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_every_estimator_has_an_example():
    for name in (
        "CORAL",
        "DomainScaler",
        "GeodesicFlowKernel",
        "ImportanceWeighted",
        "JointDistributionAdaptation",
        "OptimalTransport",
        "PseudoLabelled",
        "SubspaceAlignment",
        "TransferComponentAnalysis",
        "AdaptationPipeline",
        "make_pipeline",
        "load_pipeline",
    ):
        assert ">>>" in getattr(ftransfer, name).__doc__, name
