"""Write and read a model file: a zip of JSON and NumPy arrays by skops, from which no code is run.

skops checks the types that a file names. Two things it leaves open are checked here, since a model may come
from a stranger: what the file would unfold to in memory, and the arrays that compiled code of scikit-learn
indexes without looking (trees and support vector machines). Of scikit-learn only estimators are read whose
prediction is plain NumPy or checked here; others have to be trusted by name.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import skops.io
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.svm import SVC, NuSVC
from sklearn.tree import BaseDecisionTree
from sklearn.tree._tree import Tree

from ftransfer.errors import FtransferError
from ftransfer.storage.writing import write_whole, writing

MAX_BYTES = 2 * 2**30  # of all that is in the file, unpacked
MAX_SCHEMA_BYTES = 128 * 2**20
PROTOCOL = 2  # of skops; older ones read with fewer checks
ADAPTERS = """
    adapt.coral.CORAL adapt.coral._CovariancePower adapt.gfk.GeodesicFlowKernel adapt.importance.ImportanceWeighted
    adapt.jda.JointDistributionAdaptation adapt.mixture.TargetMixture adapt.prior.PriorCorrected
    adapt.pseudo.PseudoLabelled adapt.scaler.DomainScaler adapt.share_scaler.ShareWeightedScaler
    adapt.subspace.SubspaceAlignment adapt.tca.TransferComponentAnalysis adapt.transport.OptimalTransport
    pipeline.AdaptationPipeline
"""
ESTIMATORS = {
    "decomposition": "FactorAnalysis FastICA IncrementalPCA PCA TruncatedSVD",
    "discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "dummy": "DummyClassifier",
    "ensemble": "AdaBoostClassifier BaggingClassifier ExtraTreesClassifier RandomForestClassifier",
    "feature_selection": "SelectFromModel VarianceThreshold",
    "linear_model": "LogisticRegression LogisticRegressionCV RidgeClassifier RidgeClassifierCV",
    "multiclass": "OneVsRestClassifier",
    "naive_bayes": "BernoulliNB GaussianNB",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing": "FunctionTransformer LabelBinarizer LabelEncoder MaxAbsScaler MinMaxScaler Normalizer "
    "PowerTransformer QuantileTransformer RobustScaler StandardScaler",
    "random_projection": "GaussianRandomProjection",
    "semi_supervised": "SelfTrainingClassifier",
    "svm": "LinearSVC NuSVC SVC",
    "tree": "DecisionTreeClassifier ExtraTreeClassifier",
}
TRUSTED = [*(f"ftransfer.{name}" for name in ADAPTERS.split()), "sklearn.tree._tree.Tree"]
# how skops writes plain data; estimators are checked by name, and its other ways (methods, partial functions,
# operators, generators, sparse matrices) are no part of a model unless trusted by name
PLAIN = """
    DictNode ListNode TupleNode SetNode JsonNode TypeNode DTypeNode NdArrayNode RandomStateNode FunctionNode
""".split()  # noqa: SIM905


def write_model_file(content: dict, file) -> None:
    """Write plain data and fitted estimators, whole or not at all."""
    with writing(Path(file).parent):
        write_whole(Path(file), skops.io.dumps(content, compression=zipfile.ZIP_DEFLATED))


def read_model_file(file, trusted=()) -> dict:
    """Read what `write_model_file` wrote, or refuse it.

    Parameters
    ----------
    file : str or path
    trusted : list of str
        Further types that the file may hold. What is in them is not checked.

    Raises
    ------
    FtransferError
        If it is no model file, is damaged or too large, or holds a type that is not trusted.
    """
    file = Path(file)
    try:
        data = _read_bounded(file)
        strange = _foreign_types(data, {*TRUSTED, *trusted})
        if not strange:
            untrusted = skops.io.get_untrusted_types(data=data)
            strange = set(untrusted) - {*TRUSTED, *trusted}
    except FtransferError:
        raise
    except Exception as error:  # skops raises whatever it meets in a file that is none of its own
        raise _no_model(file, error) from error
    if strange:
        raise FtransferError(
            f"{file} holds types that are not trusted: {', '.join(sorted(strange))[:500]}; load it with "
            f"trusted=[...] (--trust TYPE) only if you know where it comes from"
        )
    try:
        content = skops.io.loads(data, trusted=[*TRUSTED, *trusted])
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        _check_objects(content)
    except Exception as error:
        raise _no_model(file, error) from error
    return content


def _no_model(file, error) -> FtransferError:
    return FtransferError(f"{file} is no model file, or damaged: {type(error).__name__}: {str(error)[:300]}")


def _read_bounded(file: Path) -> bytes:
    if not file.is_file():
        raise FtransferError(f"no model file {file}; ftransfer fit writes one into its run folder")
    size = file.stat().st_size
    if size <= MAX_BYTES:
        with zipfile.ZipFile(file) as archive:
            names = [member.filename for member in archive.infolist()]
            size = sum(member.file_size for member in archive.infolist())
            if size <= MAX_BYTES and archive.getinfo("schema.json").file_size <= MAX_SCHEMA_BYTES:
                if len(set(names)) < len(names):
                    raise ValueError("it holds a name twice")
                return file.read_bytes()
    raise FtransferError(f"{file} would unpack to {size / 2**20:.0f} MiB; at most {MAX_BYTES >> 20} are read")


def _foreign_types(data: bytes, allowed: set) -> set[str]:
    """Read the plan of a skops file as data: name the types in it that nobody vouches for."""
    archive = zipfile.ZipFile(io.BytesIO(data))
    plan = json.loads(archive.read("schema.json"))
    if plan.get("protocol") != PROTOCOL:
        raise ValueError(f"skops protocol {str(plan.get('protocol'))[:20]}, not {PROTOCOL}")
    foreign, seen = set(), {}

    def visit(part) -> int:
        """Hash what is in a part, whatever its ids."""
        if isinstance(part, list):
            return hash(tuple(map(visit, part)))
        if not isinstance(part, dict):
            return hash(part)
        content = hash(frozenset((key, visit(value)) for key, value in part.items() if key != "__id__"))
        if "__loader__" in part:
            # one id for two things would let a short file unfold without end
            if part.get("__id__") is not None and seen.setdefault(part["__id__"], content) != content:
                raise ValueError("one id names two things")
            if part["__loader__"] == "TreeNode":
                _check_tree(part, archive)
            name = f"{part['__module__']}.{part['__class__']}"
            if not _vouched_for(part["__loader__"], name) and name not in allowed:
                foreign.add(name)
        return content

    visit(plan)
    return foreign


def _check_tree(part: dict, archive: zipfile.ZipFile) -> None:
    """See that a tree is made from what fits together: it believes what it is given, and walks along it.

    Children come after their parent, so that every path ends, and no index leads out of its array.
    """
    features, classes, outputs = part["__reduce__"]["args"]["content"]
    state = part["content"]["content"]
    numbers = [features, outputs, state["max_depth"], state["node_count"]]
    arrays = [classes, state["nodes"], state["values"]]
    _require(all(each["__loader__"] == "JsonNode" for each in numbers), "a number of a tree")
    _require(
        all((each["__loader__"], each["type"]) == ("NdArrayNode", "numpy") for each in arrays),
        "an array of a tree",
    )
    width, outputs, depth, count = (json.loads(each["content"]) for each in numbers)
    classes, nodes, values = (
        np.load(io.BytesIO(archive.read(each["file"])), allow_pickle=False) for each in arrays
    )
    _require(
        type(width) is int and type(depth) is int and type(count) is int and outputs == 1,
        "a number of a tree",
    )
    _require(classes.shape == (1,) and classes.dtype == np.intp, "the classes of a tree")
    _require(
        nodes.shape == (count,) and count > 0 and values.shape == (count, 1, classes[0]), "the size of a tree"
    )
    left, right, here = nodes["left_child"], nodes["right_child"], np.arange(count)
    inner = left != -1
    for child in (left[inner], right[inner]):
        _require(np.all((child > here[inner]) & (child < count)), "a child in a tree")
    feature = nodes["feature"][inner]
    _require(np.all((feature >= 0) & (feature < width)), "a feature in a tree")
    _require(np.isfinite(values).all(), "a value in a tree")


def _vouched_for(loader: str, name: str) -> bool:
    if loader != "ObjectNode":
        return loader in PLAIN
    package, _, rest = name.removeprefix("sklearn.").partition(".")
    return name.startswith("sklearn.") and rest.rpartition(".")[2] in ESTIMATORS.get(package, "").split()


# ---------------------------------------------------------------- what is in the objects


def _check_objects(content) -> None:
    """Walk over all that was read, and refuse what compiled code would stumble over."""
    stack, seen = [content], set()
    while stack:
        each = stack.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, dict):
            stack += each.values()
        elif isinstance(each, list | tuple | set):
            stack += each
        elif isinstance(each, np.ndarray):
            _require(each.size <= max(each.nbytes, 1), "an array of nothing")
            stack += each.ravel().tolist() if each.dtype == object else []
        elif hasattr(each, "__dict__"):
            _check_estimator(each)
            stack.append(vars(each))


def _require(fine, what: str) -> None:
    if not fine:
        raise ValueError(f"{what} does not fit the rest")


def _check_estimator(each) -> None:
    kind, own = type(each).__name__, vars(each)
    for name in own:
        _require(not callable(getattr(type(each), name, None)), f"{kind}.{name}, in place of a method,")
    if isinstance(each, BaseDecisionTree) and "tree_" in own:
        width = own.get("n_features_in_")
        _require(type(own["tree_"]) is Tree and own["tree_"].n_features == width, f"the width of {kind}")
    elif isinstance(each, RandomForestClassifier | ExtraTreesClassifier) and "estimators_" in own:
        width = own.get("n_features_in_")
        _require(type(width) is int, f"{kind}.n_features_in_")
        for tree in own["estimators_"]:
            _require(getattr(tree, "n_features_in_", None) == width, f"the width of a tree of {kind}")
    elif isinstance(each, SVC | NuSVC) and "support_vectors_" in own:
        _check_support_vectors(own, kind)


def _check_support_vectors(own: dict, kind: str) -> None:
    vectors, counts = own["support_vectors_"], own["_n_support"]
    n, k = len(vectors), len(counts)
    pairs = k * (k - 1) // 2
    _require("_impl" not in own and own["kernel"] in ("linear", "poly", "rbf", "sigmoid"), f"{kind}.kernel")
    _require(own["_sparse"] is False, f"{kind}._sparse")
    _require(vectors.ndim == 2 and own["n_features_in_"] == vectors.shape[1], f"the width of {kind}")
    _require(k >= 2 and np.all(counts >= 0) and counts.sum() == n, f"{kind}._n_support")
    shapes = {"_dual_coef_": (k - 1, n), "_intercept_": (pairs,), "support_": (n,), "classes_": (k,)}
    for name, shape in shapes.items():
        _require(own[name].shape == shape, f"{kind}.{name}")
    for name in ("_probA", "_probB"):
        _require(own[name].shape in ((0,), (pairs,)), f"{kind}.{name}")
    for name in ("support_vectors_", "_dual_coef_", "_intercept_"):
        _require(own[name].dtype == np.float64 and np.isfinite(own[name]).all(), f"{kind}.{name}")
