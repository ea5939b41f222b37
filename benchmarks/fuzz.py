"""Damage model files, feature sets, tables and images in every way of chance, and see that each is refused or works.

Each case changes one file, reads it and predicts with it, in a process that is watched: an error that is no
FtransferError, a crash, a hang and much memory are failures, printed with the case's number.
``python benchmarks/fuzz.py --cases 20000`` takes about a quarter of an hour; the tests run 120. ``--only nodes``
changes the nodes of a model file alone (`fuzz_nodes`): of a pipeline of each recipe that ships, and of others.
``python benchmarks/fuzz.py --only nodes --cases 100000``, half an hour of a quiet core: 67,213 refused, 32,787 work, no
crash, hang or other error.
"""

import argparse
import faulthandler
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from fuzz_nodes import LOADERS, NAMES, damage_nodes
from fuzz_reading import attack_image, attack_import, make_reading
from numpy.random import RandomState
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC

from ftransfer import (
    CORAL,
    FeatureSet,
    FtransferError,
    GeodesicFlowKernel,
    ImportanceWeighted,
    Model,
    OptimalTransport,
    PriorCorrected,
    ShareWeightedScaler,
    TargetMixture,
    TransferComponentAnalysis,
    find_images,
    list_recipes,
    load_pipeline,
    load_task,
    make_pipeline,
)

TARGETS = ["model", "nodes", "table", "fingerprint", "part", "manifest", "image", "import"]
PATIENCE, MOST_MEMORY = 60, 2.0  # seconds that a case may take; GiB
OTHERS = {
    "boosted": [AdaBoostClassifier(n_estimators=2)],
    "bagged": [BaggingClassifier(SVC(), n_estimators=2)],
    "one_vs_rest": [QuantileTransformer(n_quantiles=9), OneVsRestClassifier(LinearSVC())],
    "extra": [PCA(4), ExtraTreesClassifier(2, max_depth=3)],
    "transport": [OptimalTransport(), QuadraticDiscriminantAnalysis(reg_param=0.1)],
    "kernels": [TransferComponentAnalysis(3), NuSVC(nu=0.1)],
    "weighted": [StandardScaler(), ImportanceWeighted(LogisticRegression())],
    "mixture": [ShareWeightedScaler(), TargetMixture()],
    "prior": [CORAL(), PriorCorrected(LogisticRegression())],
    "dummy": [GeodesicFlowKernel(), DummyClassifier(strategy="uniform", random_state=RandomState(0))],
}
RECIPES = [*list_recipes(), *OTHERS]
# fmt: off
ODD = [
    None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 1e308, float("nan"), float("inf"), "", "x", "../../etc/passwd",
    "\x00", "1e999", "[" * 50, [], {}, [[]], {"__loader__": "ListNode"}, "9" * 5000, "null", "NaN",
]
# fmt: on


# ---------------------------------------------------------------- what is attacked


def make(folder: Path) -> None:
    """Write a small feature set, and a model of each kind of pipeline."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    X = (rng.normal(size=(90, 6)) + 4 * np.eye(6)[labels]).astype(np.float32)
    X[50:] = X[50:] * 1.5 + 1
    layers = [{"name": "out", "width": 6}]
    fingerprint = {
        "format": 1,
        "backbone": "made up",
        "weights": "sha256:0",
        "layers": layers,
        "dtype": "float32",
    }
    features = FeatureSet.create(folder / "features", fingerprint)
    keys = [f"{i:064x}" for i in range(90)]
    features.write_part(keys[:60], X[:60])
    features.write_part(keys[60:], X[60:])
    table = pd.DataFrame(
        {"root": "r", "path": [f"{i}.png" for i in range(90)], "sha256": keys, "status": "ok"}
    )
    table["label"], table["domain"] = (
        np.array(["ash", "elm", "oak"])[labels],
        np.repeat(["day", "night"], [50, 40]),
    )
    features.write_manifest(table)
    table[["path", "label", "domain"]].to_parquet(folder / "table.parquet")
    table[["path", "label", "domain"]].to_csv(folder / "table.csv")
    make_reading(folder)
    task = load_task(features, "day", "night")
    model = None
    for name in RECIPES:
        pipeline = make_pipeline(*OTHERS[name]) if name in OTHERS else load_pipeline(name)
        if name.endswith("forest"):
            pipeline[-1].set_params(n_estimators=2, max_depth=3)
        pipeline.fit(task.X, task.y, sample_domain=task.sample_domain)
        model = (
            replace(model, pipeline=pipeline) if model else Model.of(pipeline, task, features, {"score": 0.5})
        )
        model.save(folder / f"{name}.skops")


# ---------------------------------------------------------------- how it is attacked


def damage_bytes(chance: random.Random, data: bytes) -> bytes:
    """Flip, cut, repeat or insert bytes."""
    data, how = bytearray(data), chance.randrange(4)
    at = chance.randrange(len(data) + 1)
    if how == 0:
        for _ in range(chance.choice([1, 2, 8, 64])):
            if data:
                data[chance.randrange(len(data))] = chance.choice(
                    [0, 1, 127, 128, 255, chance.randrange(256)]
                )
    elif how == 1:
        del data[at : at + chance.choice([1, 8, len(data)])]
    elif how == 2:
        data[at:at] = data[at : at + chance.choice([1, 8, 1000])]
    else:
        data[at:at] = chance.randbytes(chance.choice([1, 8, 1000]))
    return bytes(data)


def damage_json(chance: random.Random, data: bytes) -> bytes:
    """Change one or two values somewhere in a JSON document."""
    document = json.loads(data)
    for _ in range(chance.choice([1, 1, 2])):
        places = list(_places(document))
        if not places:
            break
        inside, key = chance.choice(places)
        how = chance.randrange(5)
        if how == 0:
            del inside[key]
        elif how == 1:
            other, there = chance.choice(places)
            inside[key] = json.loads(json.dumps(other[there])) if there in _keys(other) else None
        elif key in ("__class__", "__module__") or (
            how == 2 and isinstance(inside, dict) and "__class__" in inside
        ):
            inside["__module__"], _, inside["__class__"] = chance.choice(NAMES).rpartition(".")
        elif key == "__loader__":
            inside[key] = chance.choice(LOADERS) + "Node"
        elif key == "content" and isinstance(inside[key], str):
            inside[key] = json.dumps(chance.choice(ODD))
        else:
            inside[key] = chance.choice(ODD)
    return json.dumps(document).encode()


def _keys(inside):
    return inside.keys() if isinstance(inside, dict) else range(len(inside))


def _places(document):
    stack = [document]
    while stack:
        inside = stack.pop()
        for key in list(_keys(inside)) if isinstance(inside, dict | list) else ():
            yield inside, key
            stack.append(inside[key])


def damage_array(chance: random.Random, data: bytes) -> bytes:
    """Change numbers in an array, its shape or its type; or only claim another shape."""
    array = np.load(io.BytesIO(data))
    how = chance.randrange(5)
    if how == 0 and array.size:
        array = array.copy()
        part = array[chance.choice(array.dtype.names)] if array.dtype.names else array
        for _ in range(chance.choice([1, 3])):
            odd = chance.choice(
                [-2, -1, 0, 1, 7, 10**6, 2**31 - 1, -(2**31), float("nan"), float("inf"), 1e300]
            )
            with np.errstate(all="ignore"):
                part.flat[chance.randrange(part.size)] = np.array(odd).astype(part.dtype)
    elif how == 1:
        array = np.resize(array, chance.choice([(0,), (1,), (2, 2), (1, 6), (500,), (), (array.size, 2)]))
    elif how == 2:
        array = np.full(array.shape, chance.choice([0, -1, 1.5, 2**40])).astype(
            chance.choice(["f4", "f8", "i4", "i8", "U3", "?"])
        )
    elif how == 3:
        out = io.BytesIO()
        shape = chance.choice([(10**12,), (2**62, 4), (10**9, 10**9), (0, 2**60), (-1,)])
        kind = chance.choice(["<f8", "<U0", "|V0", "<i4", "|O"])
        np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
        return out.getvalue() + data[128:]
    else:
        return damage_bytes(chance, data)
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def damage_model(chance: random.Random, data: bytes) -> bytes:
    """Change the zip itself, or a member of it."""
    if chance.random() < 0.15:
        return damage_bytes(chance, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    arrays = [name for name in members if name.endswith(".npy")]
    how = chance.random()
    name = chance.choice(arrays)
    if how < 0.45:
        members["schema.json"] = damage_json(chance, members["schema.json"])
    elif how < 0.85:
        members[name] = damage_array(chance, members[name])
    elif how < 0.92:
        members[name] = members[chance.choice(arrays)]
    else:
        del members[chance.choice(list(members))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def damage_part(chance: random.Random, data: bytes) -> bytes:
    """Change bytes of a part, or write one of another schema."""
    if chance.random() < 0.6:
        return damage_bytes(chance, data)
    rows = chance.choice([0, 1, 60])
    kinds = [pa.binary(32), pa.binary(), pa.string(), pa.int64(), pa.binary(0)]
    lists = [pa.list_(pa.float32(), w) for w in (0, 1, 5, 6, 7)] + [
        pa.list_(pa.float32()),
        pa.list_(pa.float64(), 6),
    ]
    columns = {
        "sha256": pa.nulls(rows, chance.choice(kinds)),
        "embedding": pa.nulls(rows, chance.choice(lists)),
    }
    if chance.random() < 0.3:
        del columns[chance.choice(list(columns))]
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def damage_manifest(chance: random.Random, data: bytes) -> bytes:
    """Change bytes of a manifest, or values and types in it."""
    if chance.random() < 0.5:
        return damage_bytes(chance, data)
    table = pd.read_parquet(io.BytesIO(data)).astype(object)
    column = chance.choice(list(table.columns))
    how = chance.randrange(3)
    if how == 0:
        table = table.drop(columns=column)
    elif how == 1:
        table[column] = [
            chance.choice(["zz", "", None, "0" * 64, "\x00", "f" * 63, "é" * 64]) for _ in range(len(table))
        ]
    else:
        table[column] = chance.choice([2**63 - 1, -1, 1.5, True, b"\xff\xfe", float("inf")])
    out = io.BytesIO()
    try:
        table.to_parquet(out)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return b""
    return out.getvalue()


def damage_table(chance: random.Random, data: bytes, suffix: str) -> bytes:
    """Change bytes of a table of images, or values in it."""
    if suffix == ".csv" and chance.random() < 0.5:
        odd = chance.choice(
            ["/etc/passwd", "../up.png", "http://x/y.png", "a\0b", "", '"', "a" * 5000, "nan"]
        )
        return data.replace(b"7.png", odd.encode(), chance.choice([1, 9]))
    return damage_bytes(chance, data) if suffix == ".csv" else damage_manifest(chance, data)


# ---------------------------------------------------------------- one case


def attack(case: int, made: Path, work: Path, only: str | None = None) -> str:
    """Damage one file and use it; return what came of it. Whatever else than FtransferError is raised is a find."""
    chance = random.Random(case)
    what = only or chance.choice(["model"] * 4 + TARGETS)
    try:
        if what in ("model", "nodes"):
            attack_model(
                chance, made, work / "model.skops", damage_model if what == "model" else damage_nodes
            )
        elif what == "image":
            return attack_image(chance, made, work, damage_bytes)
        elif what == "import":
            attack_import(chance, made, work, damage_bytes, damage_array)
        elif what == "table":
            file = work / chance.choice(["table.csv", "table.parquet"])
            file.write_bytes(damage_table(chance, (made / file.name).read_bytes(), file.suffix))
            assert all(Path(root) == work for root in find_images(file)["root"])
        else:
            features = work / "features"
            shutil.copytree(made / "features", features)
            if what == "part":
                file, damage = chance.choice(sorted((features / "parts").iterdir())), damage_part
            elif what == "manifest":
                file, damage = features / "manifest.parquet", damage_manifest
            else:
                file, damage = features / "fingerprint.json", chance.choice([damage_bytes, damage_json])
            file.write_bytes(damage(chance, file.read_bytes()))
            found = FeatureSet(features)
            found.done()
            task = load_task(found, "day", "night")
            assert np.isfinite(task.X).all()
    except FtransferError as error:
        return "refused" if len(str(error)) < 2000 else f"failed: an error of {len(str(error))} letters"
    return "works"


def attack_model(chance: random.Random, made: Path, file: Path, damage) -> None:
    """Damage a model, read it and predict with it."""
    file.write_bytes(damage(chance, (made / f"{chance.choice(RECIPES)}.skops").read_bytes()))
    model = Model.load(file)
    rows = np.random.default_rng(chance.getrandbits(32)).normal(size=(9, model.width))
    assert set(model.describe(rows.astype(np.float32))["label"]) <= set(model.classes)


def run_cases(first: int, last: int, only: str | None = None) -> None:
    """Run cases in this process; say on standard output what came of each."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        made.mkdir()
        make(made)
        for case in range(first, last):
            work = Path(folder) / "work"
            work.mkdir()
            print(case, end=" ", flush=True)
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            try:
                print(attack(case, made, work, only), flush=True)
            except BaseException:
                print("failed", flush=True)
                traceback.print_exc()
            shutil.rmtree(work)
    faulthandler.cancel_dump_traceback_later()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("memory", "fine" if memory < MOST_MEMORY else f"failed: {memory:.1f} GiB", flush=True)


def watch(first: int, cases: int, only: str | None = None) -> list[str]:
    """Run the cases in processes of their own; return the failures."""
    failures, counts, case, last = [], {}, first, first + cases
    while case < last:
        command = [sys.executable, __file__, "--run", str(case), str(last)]
        command += ["--only", only] if only else []
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        begun = False
        for line in child.stdout:
            name, _, outcome = line.strip().partition(" ")
            if not name.isdigit() and name != "memory":
                failures.append(f"{case} printed {line.strip()[:100]}")
                continue
            begun = True
            counts[outcome] = counts.get(outcome, 0) + 1
            if name.endswith("000"):
                print(f"{name}: {counts}", file=sys.stderr, flush=True)
            failures += [line.strip()] if "failed" in outcome else []
            case = int(name) + 1 if name != "memory" else case
        if child.wait():
            if not begun:
                raise SystemExit("what is to be attacked could not be made: see above")
            failures.append(f"{case} ended the process with {child.returncode}")
            case += 1
    print(f"{cases} cases from {first}: {counts}")
    return failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="Number of the first case, to see one again.")
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--run", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_cases(*options.run, options.only)
    else:
        found = watch(options.first, options.cases, options.only)
        print("\n".join(found) or "no failure")
        sys.exit(bool(found))
