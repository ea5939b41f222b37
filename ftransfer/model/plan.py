"""Check the plan of a skops file before anything is built from it.

The plan (``schema.json``) is a tree of nodes. A node names a loader and a type; the type counts only with the
loader that skops itself writes it with, and each node has exactly the form that this loader reads, so that what
is checked here is what skops builds.
"""

import hashlib
import importlib
import io
import json
from functools import cache
from typing import Any

import numpy as np
from sklearn.tree._tree import NODE_DTYPE

MAX_PLAN_BYTES = 64 * 2**20  # a forest of 1,000 trees takes 23 MB
MAX_PLAN_NODES = 400_000  # of which it has 62,000
MAX_PLAN_DEPTH = 200  # and 40 levels
PROTOCOL = 2  # of skops; older ones read with fewer checks
ADAPTERS = """
    adapt.coral.CORAL adapt.coral._CovariancePower adapt.gfk.GeodesicFlowKernel adapt.importance.ImportanceWeighted
    adapt.gradual.GradualSelfTraining adapt.selection.SourceSelected
    adapt.jda.JointDistributionAdaptation adapt.mixture.TargetMixture adapt.prior.PriorCorrected
    adapt.pseudo.PseudoLabelled adapt.scaler.DomainScaler adapt.share_scaler.ShareWeightedScaler
    adapt.subspace.SubspaceAlignment adapt.tca.TransferComponentAnalysis adapt.transport.OptimalTransport
    adapt.vote.TargetVote pipeline.AdaptationPipeline
"""
# estimators of scikit-learn whose prediction is plain NumPy, or whose arrays are checked (`objects`)
ESTIMATORS = {
    "compose": "TransformedTargetRegressor",
    "decomposition": "FactorAnalysis FastICA IncrementalPCA PCA TruncatedSVD",
    "discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "dummy": "DummyClassifier DummyRegressor",
    "ensemble": "AdaBoostClassifier BaggingClassifier ExtraTreesClassifier ExtraTreesRegressor "
    "RandomForestClassifier RandomForestRegressor",
    "feature_selection": "SelectFromModel VarianceThreshold",
    "linear_model": "LinearRegression LogisticRegression LogisticRegressionCV Ridge RidgeCV RidgeClassifier "
    "RidgeClassifierCV",
    "multiclass": "OneVsRestClassifier",
    "naive_bayes": "BernoulliNB GaussianNB",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing": "FunctionTransformer LabelBinarizer LabelEncoder MaxAbsScaler MinMaxScaler Normalizer "
    "PowerTransformer QuantileTransformer RobustScaler StandardScaler",
    "random_projection": "GaussianRandomProjection",
    "semi_supervised": "SelfTrainingClassifier",
    "svm": "LinearSVC LinearSVR NuSVC SVC SVR",
    "tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
}
TREE = "sklearn.tree._tree.Tree"
NUMBERS = (
    {f"numpy.{kind}{bits}" for kind, sizes in (("int", "8 16 32 64"), ("uint", "8 16 32 64")) for bits in sizes.split()}
    | {"numpy.float16", "numpy.float32", "numpy.float64", "numpy.bool", "numpy.bool_", "numpy.str_"}
)  # fmt: skip
# the types that skops writes with a loader of their own; all others are written as objects
LOADERS = {
    "DictNode": {"builtins.dict"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "SetNode": {"builtins.set"},
    "JsonNode": {"builtins.str"},
    "TypeNode": {"builtins.str", "builtins.int", "builtins.float", "builtins.bool", *NUMBERS},
    "DTypeNode": {"numpy.dtype"},
    "NdArrayNode": {"numpy.ndarray", *NUMBERS},
    "RandomStateNode": {"numpy.random.mtrand.RandomState"},
    "TreeNode": {TREE},
}
# only for types that a user has named: those with a loader of their own, and the loaders of all others
OF_USERS = {
    "BytesNode": ("builtins.bytes",),
    "BytearrayNode": ("builtins.bytearray",),
    "SliceNode": ("builtins.slice",),
    "DefaultDictNode": ("collections.defaultdict",),
    "PartialNode": ("functools.partial",),
    "OperatorFuncNode": ("operator.",),
    "MaskedArrayNode": ("numpy.ma.",),
    "RandomGeneratorNode": ("numpy.random._generator.Generator",),
    "SparseMatrixNode": ("scipy.sparse.",),
    "LossNode": ("sklearn._loss.", "sklearn.linear_model._sgd_fast."),
}
OPEN_LOADERS = ("ObjectNode", "FunctionNode", "TypeNode", "ConstructorFromReduceNode", "MethodNode")


@cache
def trusted_objects() -> frozenset[str]:
    """Name the estimators that a model file may hold, each by the module that defines it."""
    names = {f"ftransfer.{name}" for name in ADAPTERS.split()}
    for package, kinds in ESTIMATORS.items():
        module = importlib.import_module(f"sklearn.{package}")
        names |= {f"{getattr(module, kind).__module__}.{kind}" for kind in kinds.split()}
    return frozenset(names)


def read_plan(data: bytes) -> dict:
    """Parse ``schema.json``, after counting what is in it.

    Raises
    ------
    ValueError
        If it is too large, too deep or has too many nodes, or is of another protocol.
    """
    if len(data) > MAX_PLAN_BYTES:
        raise ValueError(f"its plan has {len(data) >> 20} MiB; at most {MAX_PLAN_BYTES >> 20} are read")
    if max(data.count(b"{"), data.count(b"["), data.count(b",") // 8) > 2 * MAX_PLAN_NODES:  # in strings, too
        raise ValueError(f"its plan has far more than {MAX_PLAN_NODES} nodes")
    # outside of strings there is no backslash in JSON, so the quotes that are left begin and end the strings
    text = np.frombuffer(data.replace(rb"\\", b"").replace(rb"\"", b""), dtype=np.uint8)
    outside = np.cumsum(text == ord('"'), dtype=np.uint8) % 2 == 0
    opened = outside & ((text == ord("{")) | (text == ord("[")))
    closed = outside & ((text == ord("}")) | (text == ord("]")))
    nodes, items = np.count_nonzero(opened), np.count_nonzero(outside & (text == ord(",")))
    depth = np.cumsum(opened.astype(np.int8) - closed.astype(np.int8), dtype=np.int32).max(initial=0)
    if nodes > MAX_PLAN_NODES or items > 8 * MAX_PLAN_NODES or depth > MAX_PLAN_DEPTH:
        raise ValueError(
            f"its plan has {nodes} nodes, {items} items and {depth} levels; at most {MAX_PLAN_NODES}, "
            f"{8 * MAX_PLAN_NODES} and {MAX_PLAN_DEPTH} are read"
        )
    plan = json.loads(data)
    if not isinstance(plan, dict) or type(plan.get("protocol")) is not int or plan["protocol"] != PROTOCOL:
        raise ValueError(f"it is not of skops protocol {PROTOCOL}")
    return plan


class Plan:
    """The plan of a model file, and the arrays that it refers to.

    Parameters
    ----------
    plan : dict
        From `read_plan`.
    members : dict of str to bytes
        What else is in the file.
    trusted : set of str
        Further types that the user vouches for.
    """

    def __init__(self, plan: dict, members: dict[str, bytes], trusted: set[str]) -> None:
        self.plan = plan
        self.members = members
        self.trusted = trusted
        self.foreign: set[str] = set()
        self.files: set[str] = set()
        self._seen: dict[int, bytes] = {}

    def check(self) -> None:
        """Walk over all nodes; collect the types that nobody vouches for, and the files that are referred to.

        Raises
        ------
        ValueError
            If a node is not of the form that its loader writes.
        """
        self._visit(self.plan)

    def _visit(self, node: Any) -> bytes:
        """Check a node; return a digest of what it stands for, whatever its ids."""
        _require(isinstance(node, dict), "a node")
        loader, module, kind, number = (node.get(f"__{key}__") for key in ("loader", "module", "class", "id"))
        _require(all(type(each) is str for each in (loader, module, kind)) and type(number) is int, "a node")
        name = f"{module}.{kind}"
        if not self._vouched_for(loader, name):
            self.foreign.add(name)
            return b""
        parts = self._parts(node, loader)
        digest = hashlib.sha256(repr((loader, name, parts)).encode("utf-8", "backslashreplace")).digest()
        # skops reads an id once: another content under it would be checked, and never be read
        if self._seen.setdefault(number, digest) != digest:
            raise ValueError("one id names two things")
        return digest

    def _vouched_for(self, loader: str, name: str) -> bool:
        if name in LOADERS.get(loader, ()) or (loader == "ObjectNode" and name in trusted_objects()):
            return True
        if loader == "FunctionNode" and name in _ufuncs():
            return True
        known = name in trusted_objects() or any(name in names for names in LOADERS.values())
        if name not in self.trusted or known:
            return False
        own = [key for key, names in OF_USERS.items() if name in names or name.startswith(_packages(names))]
        return loader in (own or OPEN_LOADERS)

    def _parts(self, node: dict, loader: str) -> object:
        """Check the form of a node; return digests of all that its loader reads in it."""
        if loader == "JsonNode":
            content = node["content"]
            # plain data is written as numbers and strings only: no list hides here from the count of nodes
            _require(type(content) is str and not content.lstrip().startswith(("[", "{")), "a value")
            return content
        if loader == "DictNode":
            content, types = node["content"], node["key_types"]
            _require(isinstance(content, dict) and types["__loader__"] == "ListNode", "a dict")
            _require(len(types["content"]) == len(content), "the keys of a dict")
            _require(all(each["__loader__"] == "TypeNode" for each in types["content"]), "the keys of a dict")
            return [self._visit(types), *((key, self._visit(value)) for key, value in content.items())]
        if loader in ("ListNode", "TupleNode", "SetNode"):
            return self._list(node)
        if loader == "NdArrayNode":
            return self._array(node)
        if loader == "TreeNode":
            self._check_tree(node)
            return [self._visit(node["__reduce__"]["args"]), self._visit(node["content"])]
        if loader == "ObjectNode":
            return None if node.get("content") is None else self._visit(node["content"])
        if loader in ("DTypeNode", "RandomStateNode"):
            return self._visit(node["content"])
        if loader in ("TypeNode", "FunctionNode"):
            return None
        return self._unknown(node)

    def _list(self, node: dict) -> list[bytes]:
        _require(isinstance(node["content"], list), "a list")
        return [self._visit(each) for each in node["content"]]

    def _array(self, node: dict) -> object:
        if node["type"] == "json":
            return ["json", self._visit(node["shape"]), *self._list(node)]
        _require(node["type"] == "numpy", "an array")
        # skops names the file of an array by its id; so none is read twice
        _require(node["file"] == f"{node['__id__']}.npy", "the file of an array")
        if node["file"] not in self.files:
            check_array_file(self.members[node["file"]])
            self.files.add(node["file"])
        return node["file"]

    def _unknown(self, node: Any) -> object:
        """Go through a node of a loader that only a user can vouch for: what is in it is that user's trust."""
        if isinstance(node, list):
            return [self._unknown(each) for each in node]
        if not isinstance(node, dict):
            return repr(node)
        if "file" in node:
            self.files.add(str(node["file"]))
        inner = [(key, each) for key, each in node.items() if key != "__id__"]
        return [
            (
                key,
                self._visit(each) if isinstance(each, dict) and "__loader__" in each else self._unknown(each),
            )
            for key, each in inner
        ]

    def _check_tree(self, node: dict) -> None:
        """See that a tree is made from what fits together: it believes what it is given, and walks along it.

        Children come after their parent, so that every path ends, and no index leads out of its array.
        """
        args, state = node["__reduce__"]["args"], node["content"]
        _require((args["__loader__"], state["__loader__"]) == ("TupleNode", "DictNode"), "a tree")
        _require(
            all(each["__class__"] == "str" for each in state["key_types"]["content"]), "the keys of a tree"
        )
        _require(len(args["content"]) == 3, "a tree")
        features, classes, outputs = args["content"]
        state = state["content"]
        _require(set(state) == {"max_depth", "node_count", "nodes", "values"}, "the parts of a tree")
        numbers = [features, outputs, state["max_depth"], state["node_count"]]
        arrays = [classes, state["nodes"], state["values"]]
        _require(all(each["__loader__"] == "JsonNode" for each in numbers), "a number of a tree")
        plain = ("NdArrayNode", "ndarray", "numpy")
        _require(
            all((each["__loader__"], each["__class__"], each["type"]) == plain for each in arrays),
            "an array of a tree",
        )
        for each in arrays:
            self._visit(each)
        check_tree(
            *(json.loads(each["content"]) for each in numbers),
            *(np.load(io.BytesIO(self.members[each["file"]]), allow_pickle=False) for each in arrays),
        )


def check_array_file(data: bytes) -> None:
    """See that an array file claims what it holds: numbers or strings, and as many as there are bytes for."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    _require(version in ((1, 0), (2, 0)), "the version of an array file")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    _require((dtype.kind in "fiubU" or dtype == NODE_DTYPE) and dtype.itemsize > 0, "the type of an array")
    _require(all(side >= 0 for side in shape) and len(shape) <= 8, "the shape of an array")
    size = dtype.itemsize
    for side in shape:  # Python's own numbers, which do not overflow
        size *= int(side)
    _require(size == len(data) - file.tell(), "the size of an array")


def check_tree(
    width: int, outputs: int, depth: int, count: int, classes: Any, nodes: np.ndarray, values: np.ndarray
) -> None:
    """See that the parts of a `sklearn.tree._tree.Tree` fit together."""
    whole = all(type(each) is int for each in (width, outputs, depth, count))
    _require(whole and outputs == 1 and 0 < width < 2**31 and 0 <= depth < 2**31, "a number of a tree")
    _require(classes.shape == (1,) and classes.dtype == np.intp and classes[0] > 0, "the classes of a tree")
    _require(nodes.dtype == NODE_DTYPE and nodes.shape == (count,) and count > 0, "the size of a tree")
    _require(values.dtype == np.float64 and values.shape == (count, 1, classes[0]), "the values of a tree")
    left, right, here = nodes["left_child"], nodes["right_child"], np.arange(count)
    inner = left != -1
    for child in (left[inner], right[inner]):
        _require(np.all((child > here[inner]) & (child < count)), "a child in a tree")
    feature = nodes["feature"][inner]
    _require(np.all((feature >= 0) & (feature < width)), "a feature in a tree")
    _require(np.isfinite(values).all(), "a value in a tree")


@cache
def _ufuncs() -> frozenset[str]:
    """Name NumPy's functions on single numbers: the only functions that a transformer may have in it."""
    names = [name for name in dir(np) if isinstance(getattr(np, name), np.ufunc)]
    return frozenset(
        f"{module}.{name}"
        for module in ("numpy", "numpy._core._multiarray_umath", "numpy.core._multiarray_umath")
        for name in names
    )


def _packages(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name.endswith("."))


def _require(fine: Any, what: str) -> None:
    if not fine:
        raise ValueError(f"{what} does not fit the rest")
