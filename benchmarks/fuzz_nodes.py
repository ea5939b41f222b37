"""Change the nodes of a model file: loader, type, reference, key, array. `fuzz.py` uses what this makes."""

import contextlib
import io
import json
import random
import zipfile

import numpy as np

LOADERS = """
    Dict List Tuple Set Json Type DType NdArray RandomState Function Object Tree Loss Method Partial Bytes Bytearray
    OperatorFunc RandomGenerator SparseMatrix ConstructorFromReduce DefaultDict Slice MaskedArray
""".split()  # noqa: SIM905
NAMES = """
    builtins.eval os.system subprocess.Popen pickle.loads ftransfer.model.model.Model
    builtins.dict builtins.list builtins.tuple builtins.set builtins.str builtins.map
    numpy.ndarray
    numpy.float64 numpy.int32 numpy.str_ numpy.dtype numpy.add numpy.random.mtrand.RandomState
    scipy.sparse._csr.csr_matrix collections.defaultdict functools.partial sklearn.svm._classes.SVC
    sklearn.svm._classes.NuSVC sklearn.svm._classes.LinearSVC sklearn.tree._tree.Tree
    sklearn.tree._classes.DecisionTreeClassifier sklearn.tree._classes.ExtraTreeClassifier
    sklearn.ensemble._forest.RandomForestClassifier sklearn.ensemble._forest.ExtraTreesClassifier
    sklearn.ensemble._bagging.BaggingClassifier sklearn.ensemble._weight_boosting.AdaBoostClassifier
    sklearn.linear_model._logistic.LogisticRegression sklearn.dummy.DummyClassifier
    sklearn.preprocessing._data.StandardScaler sklearn.preprocessing._data.QuantileTransformer
    sklearn.multiclass.OneVsRestClassifier sklearn.pipeline.Pipeline sklearn.pipeline.FeatureUnion
    ftransfer.adapt.coral.CORAL ftransfer.adapt.transport.OptimalTransport ftransfer.pipeline.AdaptationPipeline
""".split()  # noqa: SIM905
VALUES = [
    "null",
    "true",
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "1000",
    "2147483648",
    "9223372036854775808",
    "1e308",
    "NaN",
]
VALUES += [
    "Infinity",
    '""',
    '"x"',
    '"linear"',
    '"precomputed"',
    '"uniform"',
    '"stratified"',
    "[]",
    "9" * 5000,
]
NUMBERS = [-2, -1, 0, 1, 2, 7, 1000, 10**6, 2**31 - 1, -(2**31), 2**62, np.nan, np.inf, 1e300, 1e-320]
KINDS = ["f2", "f4", "f8", ">f8", "i1", "i4", "i8", ">i8", "u8", "?", "U3", "c16", "M8[s]", "f8,i8", "V8"]


def damage_nodes(chance: random.Random, data: bytes) -> bytes:
    """Return a model file with one to three of its nodes changed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    plan = json.loads(members.pop("schema.json"))
    for _ in range(chance.choice([1, 1, 2, 3])):
        nodes = list(_nodes(plan))
        node = _pick(chance, nodes)
        change = chance.choice(
            [_loader, _type, _other, _other, _value, _key, _length, _array, _array, _array]
        )
        with contextlib.suppress(
            ValueError, LookupError, TypeError
        ):  # of what an earlier change left of a node
            change(chance, node, nodes, members)
        if chance.random() < 0.9:  # else one id names two things, which is seen at once
            _number_anew(chance, node, members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", json.dumps(plan))
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def _pick(chance, nodes) -> dict:
    """Prefer what compiled code reads: arrays, trees, estimators."""
    heavy = ("NdArrayNode", "TreeNode", "ObjectNode", "TupleNode")
    chosen = [each for each in nodes if each["__loader__"] in heavy]
    return chance.choice(chosen if chosen and chance.random() < 0.6 else nodes)


def _nodes(plan):
    stack = [plan]
    while stack:
        each = stack.pop()
        if isinstance(each, dict) and "__loader__" in each:
            yield each
        stack += each.values() if isinstance(each, dict) else each if isinstance(each, list) else []


def _loader(chance, node, nodes, members):
    node["__loader__"] = chance.choice(LOADERS) + "Node"


def _type(chance, node, nodes, members):
    if chance.random() < 0.5:
        node["__module__"], _, node["__class__"] = chance.choice(NAMES).rpartition(".")
    else:
        other = chance.choice(nodes)
        node.update({key: other[key] for key in ("__module__", "__class__", "__loader__")})


def _other(chance, node, nodes, members):
    """Put a copy of another node in its place, or of another of its kind."""
    alike = [each for each in nodes if each["__loader__"] == node["__loader__"]]
    other = json.loads(json.dumps(chance.choice(alike if chance.random() < 0.7 else nodes)))
    keep = {key: node[key] for key in ("protocol", "_skops_version") if key in node}
    node.clear()
    node.update(other | keep)


def _value(chance, node, nodes, members):
    values = [each for each in nodes if each["__loader__"] == "JsonNode"]
    each = chance.choice(values)
    each["content"] = chance.choice(VALUES)
    _number_anew(chance, each, members)


def _key(chance, node, nodes, members):
    """Rename, drop or add an attribute."""
    dicts = [each for each in nodes if each["__loader__"] == "DictNode" and each["content"]]
    if not dicts:
        return
    each, giver = chance.choice(dicts), chance.choice(dicts)
    old, new = chance.choice(list(each["content"])), chance.choice(list(giver["content"]))
    how = chance.randrange(3)
    if how == 0:
        each["content"][new] = each["content"].pop(old)
    elif how == 1:
        del each["content"][old]
    else:
        each["content"][chance.choice([new, "predict", "_impl", "tree_", "steps_"])] = json.loads(
            json.dumps(giver["content"][new])
        )
    types = each["key_types"]["content"]
    if types and chance.random() < 0.9:
        each["key_types"]["content"] = [types[0]] * len(each["content"])
    _number_anew(chance, each, members)


def _length(chance, node, nodes, members):
    lists = [each for each in nodes if isinstance(each.get("content"), list) and each["content"]]
    each = chance.choice(lists)
    how = chance.randrange(3)
    if how == 0:
        del each["content"][chance.randrange(len(each["content"]))]
    elif how == 1:
        each["content"] *= chance.choice([2, 3, 30])
    else:
        chance.shuffle(each["content"])
    _number_anew(chance, each, members)


def _array(chance, node, nodes, members):
    """Change the numbers, shape or type of an array, or take another's."""
    arrays = [each for each in nodes if each.get("file") in members]
    each = chance.choice(arrays)
    how = chance.randrange(5)
    if how == 0:
        name = chance.choice(arrays)["file"]
    else:
        array = np.load(io.BytesIO(members[each["file"]])).copy()
        with np.errstate(all="ignore"):
            array = [_numbers, _shape, _kind, _numbers][how - 1](chance, array)
        out = io.BytesIO()
        np.save(out, array)
        name = f"{chance.getrandbits(60)}.npy"
        members[name] = out.getvalue()
    each["file"] = name
    _number_anew(chance, each, members)


def _numbers(chance, array):
    part = array[chance.choice(array.dtype.names)] if array.dtype.names else array
    for _ in range(chance.choice([1, 1, 3]) if part.size else 0):
        part.flat[chance.randrange(part.size)] = np.array(chance.choice(NUMBERS)).astype(part.dtype)
    return array


def _shape(chance, array):
    shapes = [(0,), (1,), (), (2, 2), (1, 6), (array.size, 2), (500,), (3,), (2,), (0, 6), (6, 0), (3, 1, 6)]
    shapes += [(*array.shape, 1), array.shape[::-1], (*array.shape[:-1], 1 + (array.shape or (1,))[-1])]
    array = np.resize(array, chance.choice(shapes)) if array.size else array
    return np.asfortranarray(array) if chance.random() < 0.3 else array


def _kind(chance, array):
    kind = chance.choice(KINDS)
    plain = array.dtype.kind in "fiub" and "," not in kind
    return array.astype(kind) if plain else np.zeros(array.shape, kind)


def _number_anew(chance, node, members):
    """Give a node, and all that is in it, ids of their own, and copies of their arrays."""
    for each in _nodes(node):
        each["__id__"] = chance.getrandbits(60)
        if each.get("type") == "numpy" and each.get("file") in members:
            name = f"{each['__id__']}.npy"
            members[name] = members[each["file"]]
            each["file"] = name
