"""The house: what imports what, what ships, what an import costs."""

import ast
import configparser
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from numbers import Real

import pytest
from conftest import ROOT
from sklearn.utils._param_validation import Interval, StrOptions

import ftransfer
from ftransfer.cli import COMMANDS

# who may import whom; `errors`, `shipped` and `cells` are open to all
ARROWS = {
    "errors": set(),
    "shipped": set(),
    "cells": set(),
    "storage": set(),
    "images": {"storage"},
    "features": {"storage"},
    "backbone": {"images", "features", "storage"},
    "extract": {"backbone", "images", "features", "storage"},
    "finetune": {"backbone", "images", "features", "storage"},
    "adapt": set(),
    "pipeline": {"adapt"},
    "recipes": {"pipeline"},
    "task": {"adapt", "features", "storage"},
    "compare": {"features"},
    "scoring": {"adapt", "compare", "pipeline"},
    "search": {"adapt", "compare", "features", "pipeline", "recipes", "scoring", "storage", "task"},
    "model": {"scoring", "features", "images", "backbone", "extract", "storage"},
    "report": {"compare", "features", "finetune", "images", "model", "pipeline", "search", "storage", "task"},
    "regression": {
        "adapt",
        "features",
        "model",
        "pipeline",
        "recipes",
        "report",
        "scoring",
        "search",
        "storage",
        "task",
    },
    "cluster": {"backbone", "extract", "features", "images", "search", "storage", "task"},
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
    assert {name for f in files for name in imports_of(f)} - {module, "errors", "shipped", "cells"} <= ARROWS[
        module
    ]


def test_every_module_is_in_the_table_of_arrows():
    found = {m.name for m in pkgutil.iter_modules([str(ROOT / "ftransfer")])}
    assert found - {"cli", "__main__"} == set(ARROWS)


def test_nothing_imports_the_command_line():
    files = [
        f for f in (ROOT / "ftransfer").rglob("*.py") if "cli" not in f.parts and f.name != "__main__.py"
    ]
    assert files
    assert not [f for f in files if "cli" in imports_of(f)]


def sources():
    """Every module of the package, and its file, parsed."""
    for file in sorted((ROOT / "ftransfer").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        yield name, file, ast.parse(file.read_text())


def defined_in(tree):
    """Names that a module makes itself, or in a package names as its own in ``__all__``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["__all__"]:
            yield from (each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant))


def test_a_name_is_imported_from_the_module_that_defines_it_and_a_private_one_by_no_other():
    trees = {name: tree for name, _, tree in sources()}
    defined = {name: set(defined_in(tree)) for name, tree in trees.items()}
    wrong = []
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or node.module not in trees:
                continue
            for each in (alias.name for alias in node.names):
                private = each.startswith("_") and not each.endswith("__")
                is_module = f"{node.module}.{each}" in trees
                if not is_module and (private or each not in defined[node.module]):
                    wrong.append(f"{name} takes {each} from {node.module}")
    assert wrong == []


def lines_of_code(function, text):
    """Count the lines of a function without its docstring, comments and blank lines."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    left_out = range(first.lineno, first.end_lineno + 1) if documented else ()
    lines = ((n, text[n - 1].strip()) for n in range(function.lineno, function.end_lineno + 1))
    return sum(1 for n, line in lines if n not in left_out and line and not line.startswith("#"))


def parameters_of(function):
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")]) + bool(given.vararg) + bool(given.kwarg)


def test_functions_and_files_keep_within_the_limits_of_the_house():
    wrong = []
    for name, file, tree in sources():
        text = file.read_text().splitlines()
        if len(text) > 400:
            wrong.append(f"{name} has {len(text)} lines, more than 400")
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef):
                continue
            if (count := lines_of_code(node, text)) > 70:
                wrong.append(f"{name}.{node.name} has {count} lines of code, more than 70")
            of_a_command = any("click" in ast.unparse(each) for each in node.decorator_list)
            if node.name != "__init__" and not of_a_command and (count := parameters_of(node)) > 8:
                wrong.append(f"{name}.{node.name} has {count} parameters, more than 8")
    assert wrong == []


def test_few_modules_lie_beside_the_rooms():
    beside = [file for file in (ROOT / "ftransfer").glob("*.py") if not file.name.startswith("__")]
    assert len(beside) <= 12


def printed_by(code, *arguments, cwd=None):
    """Run code in a Python of its own, which has imported nothing yet; return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import ftransfer",
        "from ftransfer import CORAL, FeatureSet, load_pipeline, load_task, race; load_pipeline('coral_svm')",
        "import ftransfer.cli",
        "from ftransfer import Model, write_report; from ftransfer.model.file import import_skops; import_skops()",
    ],
)
def test_neither_torch_nor_fsspec_is_imported_before_it_is_needed(code):
    check = f"import sys; {code}; print({{'torch', 'dask', 'fsspec'}} & set(sys.modules))"
    assert printed_by(check) == "set()"


def test_help_typos_and_wrong_paths_are_answered_before_what_computes_is_imported(tmp_path):
    light = [
        ["--help"],
        ["fti"],
        ["completion", "bash"],
        ["fit", "nowhere"],
        *([name, "--help"] for name in COMMANDS),
    ]
    tables, images = {"numpy", "pandas"}, {"numpy", "pandas", "PIL"}
    cases = [
        *((words, set()) for words in light),
        (["info", "nowhere"], tables),
        (["extract", "nowhere", "--out", "x"], images),
        (["finetune", "nowhere", "--out", "x.safetensors"], images),
        (["fit", "nowhere", "--source", "a", "--target", "b"], images | {"scipy", "sklearn"}),
        (["predict", "nowhere", "x", "--out", "x.csv"], images | {"scipy", "sklearn"}),
    ]  # in one process: what a command may import, those after it may
    check = (
        "import json, sys\n"
        "from ftransfer.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "    found = {'numpy', 'pandas', 'PIL', 'scipy', 'sklearn', 'torch', 'jinja2'} & set(sys.modules)\n"
        "    print('\\nimported', *found)"
    )
    printed = printed_by(check, json.dumps([words for words, _ in cases]), cwd=tmp_path)
    imported = [set(line.split()[1:]) for line in printed.splitlines() if line.startswith("imported")]
    for (words, may), found in zip(cases, imported, strict=True):
        assert found <= may, words


def test_an_extraction_imports_neither_the_compiler_of_torch_nor_what_learns():
    check = (
        "import sys; from ftransfer import Backbone; from ftransfer.cli.extract import choose_rules; "
        "Backbone('small_cnn', 'random', device='cpu'); choose_rules(1, 'flip', None); "
        "print({'torch._dynamo', 'triton', 'sympy', 'sklearn', 'scipy'} & set(sys.modules))"
    )
    assert printed_by(check) == "set()"


def test_the_compiler_of_torch_is_there_once_torchvision_calls_it():
    check = (
        "import sys, ftransfer.backbone; "
        "asked = sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu'); "
        "from torch._dynamo.utils import is_compile_supported; print(asked == is_compile_supported('cpu'))"
    )
    assert printed_by(check) == "True"


def test_a_single_adapter_imports_no_other_and_what_these_need():
    check = (
        "import sys; from ftransfer import CORAL; "
        "print({'sklearn.cluster', 'sklearn.neighbors', 'ftransfer.adapt.pseudo'} & set(sys.modules))"
    )
    assert printed_by(check) == "set()"


def test_an_import_switches_nothing_on():
    check = (
        "import sklearn, warnings; before = sklearn.get_config(), list(warnings.filters); "
        "from ftransfer import CORAL, race, write_report; "
        "print(before[0] == sklearn.get_config())"
    )
    assert printed_by(check) == "True"


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
        "GradualSelfTraining",
        "ImportanceWeighted",
        "JointDistributionAdaptation",
        "OptimalTransport",
        "PriorCorrected",
        "PseudoLabelled",
        "ShareWeightedScaler",
        "SourceSelected",
        "SubspaceAlignment",
        "TargetMixture",
        "TransferComponentAnalysis",
        "AdaptationPipeline",
        "make_pipeline",
        "load_pipeline",
    ):
        assert ">>>" in getattr(ftransfer, name).__doc__, name


def test_the_long_description_stands_alone():
    """A package index shows it without the repository around it, so that a relative link would lead nowhere."""
    text = (ROOT / "docs" / "package-index.md").read_text("utf-8")
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
    assert "long_description = file: docs/package-index.md" in (ROOT / "setup.cfg").read_text("utf-8")


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = {f"ftransfer.{f.parent.name}" for f in (ROOT / "ftransfer").glob("*/__init__.py")}
    assert set(config["options"]["packages"].split()) == {
        "ftransfer",
        "ftransfer.pipelines",
        "ftransfer.data",
        *folders,
    }


@pytest.mark.parametrize("name", [n for n in ftransfer.__all__ if hasattr(getattr(ftransfer, n), "fit")])
def test_the_types_of_an_estimators_parameters_allow_what_its_constraints_do(name):
    kind = getattr(ftransfer, name)
    given = inspect.signature(kind.__init__).parameters
    for parameter, allowed in getattr(kind, "_parameter_constraints", {}).items():
        if parameter not in given or not isinstance(allowed, list):
            continue
        annotation = str(given[parameter].annotation)
        wanted = {"None"} if None in allowed else set()
        wanted |= {"str" for each in allowed if isinstance(each, StrOptions)}
        wanted |= {"float" for each in allowed if isinstance(each, Interval) and each.type is Real}
        assert "Any" in annotation or all(word in annotation for word in wanted), (parameter, annotation)
