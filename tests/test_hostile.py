"""Files from strangers: each is refused in one line or does no harm; nothing in them is run, followed or believed."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
import skops.io
from conftest import ROOT, blobs, write_feature_set
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from test_cli import run
from test_search import QUICK

from ftransfer import (
    FeatureSet,
    FtransferError,
    Model,
    find_images,
    load_pipeline,
    load_task,
    make_pipeline,
    race,
    write_report,
)
from ftransfer.features.imports import import_features
from ftransfer.model import file as model_file
from ftransfer.model import plan as model_plan
from ftransfer.task import read_target_labels

FINGERPRINT = {"backbone": "b", "weights": "sha256:0", "layers": [{"name": "x", "width": 8}]}
CLASSES = np.array(["ash", "elm", "oak"])


def fitted(name):
    X, y, _ = blobs()
    pipeline = load_pipeline(name)
    if name.endswith("forest"):
        pipeline.set_params(randomforestclassifier__n_estimators=2)
    return pipeline.fit(X, y)


@pytest.fixture(scope="module")
def forest(tmp_path_factory):
    """A model file with trees in it."""
    file = tmp_path_factory.mktemp("forest") / "forest.skops"
    Model(fitted("scaled_forest"), FINGERPRINT, CLASSES).save(file)
    return file


def rewrite(source, file, change):
    """Copy a model file with its members changed: change(name, content) gives the new content, or None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return file


# ---------------------------------------------------------------- model files: types


class Trap:
    def __reduce__(self):
        return (print, ("code was run",))


@pytest.mark.parametrize("name", ["model.skops", "model.pkl"])
def test_a_pickle_named_as_a_model_is_not_run(tmp_path, name, capsys):
    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    result = run("predict", tmp_path / name, tmp_path, "--out", tmp_path / "p.csv")
    assert result.exit_code == 1
    assert "is not a model file, or is damaged: BadZipFile" in result.output
    assert "code was run" not in result.output + capsys.readouterr().out


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        ("ObjectNode", "subprocess.Popen"),
        ("FunctionNode", "os.system"),
        ("TypeNode", "subprocess.Popen"),
        ("MethodNode", "builtins.eval"),
        ("OperatorFuncNode", "operator.methodcaller"),
        ("PartialNode", "functools.partial"),
        ("ConstructorFromReduceNode", "subprocess.Popen"),
        ("LossNode", "subprocess.Popen"),
        ("ObjectNode", "sklearn.cluster._kmeans.KMeans"),
        ("ObjectNode", "sklearn.neighbors._kd_tree.KDTree"),
    ],
)
def test_a_type_that_nobody_vouches_for_is_named_and_not_even_imported(forest, tmp_path, loader, name):
    module, _, kind = name.rpartition(".")
    node = {
        "__loader__": loader,
        "__module__": module,
        "__class__": kind,
        "__id__": 1,
        "content": {"obj": {}},
    }

    def change(member, content):
        if member == "schema.json":
            plan = json.loads(content)
            plan["content"]["origin"] = node
            return json.dumps(plan)
        return content

    with pytest.raises(
        FtransferError,
        match=f"types that are not trusted: {name}; if you trust its origin, load it with trusted=",
    ):
        Model.load(rewrite(forest, tmp_path / "m.skops", change))


def test_all_that_is_vouched_for_is_there():
    for package, names in model_plan.ESTIMATORS.items():
        module = __import__(f"sklearn.{package}", fromlist=["x"])
        assert all(hasattr(module, name) for name in names.split()), package


def test_an_estimator_from_elsewhere_can_be_trusted_on_the_command_line(tmp_path):
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.preprocessing import MinMaxScaler

    X, y, labels = blobs()
    features = write_feature_set(tmp_path / "f", X, CLASSES[labels], np.where(y == -1, "night", "day"))
    pipeline = make_pipeline(MinMaxScaler(clip=True), MultinomialNB()).fit(X, y)
    Model(pipeline, features.fingerprint, CLASSES).save(tmp_path / "m.skops")
    command = ("predict", tmp_path / "m.skops", tmp_path / "f", "--out", tmp_path / "p.csv")
    refused = run(*command)
    assert refused.exit_code == 1
    assert "not trusted: sklearn.naive_bayes.MultinomialNB" in refused.output
    assert run(*command, "--trust", "sklearn.naive_bayes.MultinomialNB").exit_code == 0


# ---------------------------------------------------------------- model files: what compiled code would stumble over


def damage_nodes(field, value):
    def change(member, content):
        if member.endswith(".npy"):
            array = np.load(io.BytesIO(content))
            if array.dtype.names and field in array.dtype.names:
                array[field][0] = value
                out = io.BytesIO()
                np.save(out, array)
                return out.getvalue()
        return content

    return change


@pytest.mark.parametrize(
    ("field", "value"),
    [("left_child", 0), ("left_child", 10**9), ("right_child", -7), ("feature", 8), ("feature", -3)],
)
def test_a_tree_that_leads_out_of_its_arrays_or_in_circles_is_refused(forest, tmp_path, field, value):
    with pytest.raises(
        FtransferError, match=r"damaged: ValueError: a (child|feature) in a tree does not fit"
    ):
        Model.load(rewrite(forest, tmp_path / "m.skops", damage_nodes(field, value)))


def test_a_forest_that_takes_fewer_features_than_its_trees_is_refused(tmp_path):
    pipeline = fitted("scaled_forest")
    pipeline[-1].n_features_in_ = 3
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match="the width of a tree of RandomForestClassifier does not fit"):
        Model.load(tmp_path / "m.skops")


@pytest.mark.parametrize("name", ["predict", "_validate_X_predict"])
def test_an_attribute_in_place_of_a_method_is_refused(tmp_path, name):
    pipeline = fitted("scaled_forest")
    setattr(pipeline[-1], name, np.add)
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    with pytest.raises(
        FtransferError, match=f"RandomForestClassifier.{name}, in place of a method, does not fit"
    ):
        Model.load(tmp_path / "m.skops")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_n_support", np.array([-5, 5, 10], dtype=np.int32)),
        ("_n_support", np.array([10**8] * 3, dtype=np.int32)),
        ("_dual_coef_", np.zeros((2, 1))),
        ("_intercept_", np.zeros(1)),
        ("_probA", np.zeros(1)),
        ("support_vectors_", np.zeros((4, 2))),
        ("support_vectors_", np.full((4, 8), np.nan)),
        ("kernel", "precomputed"),
        ("_impl", "epsilon_svr"),
        ("_sparse", True),
        ("n_features_in_", 2),
    ],
)
def test_a_support_vector_machine_whose_arrays_do_not_fit_is_refused(tmp_path, name, value):
    pipeline = fitted("coral_svm")
    setattr(pipeline[-1], name, value)
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match="SVC.* does not fit the rest"):
        Model.load(tmp_path / "m.skops")


# ---------------------------------------------------------------- model files: nodes that are not what they say


def nodes_of(plan):
    """All nodes in a plan."""
    stack = [plan]
    while stack:
        each = stack.pop()
        if isinstance(each, dict) and "__loader__" in each:
            yield each
        stack += each.values() if isinstance(each, dict) else each if isinstance(each, list) else []


def plan_changed(source, file, change, extra=None):
    """Copy a model file with its plan changed in place by change(nodes, members), and members added."""
    with zipfile.ZipFile(source) as old:
        members = {name: old.read(name) for name in old.namelist()}
    plan = json.loads(members["schema.json"])
    change(list(nodes_of(plan)), members)
    members["schema.json"] = json.dumps(plan).encode()
    with zipfile.ZipFile(file, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return file


def first(nodes, **wanted):
    return next(each for each in nodes if all(each[f"__{key}__"] == value for key, value in wanted.items()))


def bad_nodes(members, node):
    """Break the children of a tree, in the file of its nodes."""
    array = np.load(io.BytesIO(members[node["file"]]))
    array["left_child"][0] = 10**9
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def a_tree_under_another_loader(nodes, members):
    tree = first(nodes, loader="TreeNode")
    members[tree["content"]["content"]["nodes"]["file"]] = bad_nodes(
        members, tree["content"]["content"]["nodes"]
    )
    tree["__loader__"] = "LossNode"


def a_tree_without_nodes(nodes, members):
    tree = first(nodes, loader="TreeNode")
    tree.update(__loader__="ConstructorFromReduceNode", content=tree.pop("__reduce__")["args"])


def a_sparse_matrix_named_as_an_adapter(nodes, members):
    scaler = first(nodes, **{"class": "DomainScaler"})
    matrix = sp.csr_matrix(np.eye(8))
    matrix.indices[:] = 10**9
    out = io.BytesIO()
    sp.save_npz(out, matrix)
    members["1.npz"] = out.getvalue()
    node = {"__loader__": "SparseMatrixNode", "__module__": "ftransfer.adapt.coral", "__class__": "CORAL"}
    scaler["content"]["content"]["target_center_"] = node | {"__id__": 1, "type": "scipy", "file": "1.npz"}


def a_container_with_two_contents(nodes, members):
    tree = first(nodes, loader="TreeNode")
    state = tree["content"]
    bad = json.loads(json.dumps(state))
    for i, each in enumerate(nodes_of(bad)):
        each["__id__"] = 10**6 + i
    bad["content"]["nodes"]["file"] = "1000000.npy"
    members["1000000.npy"] = bad_nodes(members, state["content"]["nodes"])
    state["content"] |= {"main": bad, "default_factory": bad["content"]["node_count"]}
    state.update(__loader__="DefaultDictNode", __module__="ftransfer.adapt.coral", __class__="CORAL")


def a_partial_named_as_a_pipeline(nodes, members):
    forest = first(nodes, **{"class": "RandomForestClassifier"})
    empty = {"__class__": "dict", "__module__": "builtins", "__loader__": "DictNode", "content": {}}
    empty |= {"key_types": {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}}
    empty["key_types"] |= {"content": [], "__id__": 10**6}
    args = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": []}
    func = {"__class__": "make_pipeline", "__module__": "ftransfer.pipeline", "__loader__": "FunctionNode"}
    func |= {"__class__": "AdaptationPipeline", "__id__": 10**6 + 1}
    content = {"func": func, "args": args | {"__id__": 10**6 + 2}, "kwds": empty | {"__id__": 10**6 + 3}}
    content["namespace"] = empty | {"__id__": 10**6 + 3}
    forest.update(__loader__="PartialNode", __module__="ftransfer.pipeline", __class__="AdaptationPipeline")
    forest["content"] = content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (a_tree_under_another_loader, "not trusted: sklearn.tree._tree.Tree;"),
        (a_tree_without_nodes, "not trusted: sklearn.tree._tree.Tree;"),
        (a_sparse_matrix_named_as_an_adapter, "not trusted: ftransfer.adapt.coral.CORAL;"),
        (a_container_with_two_contents, "damaged: ValueError: a tree does not fit the rest"),
        (a_partial_named_as_a_pipeline, "not trusted: ftransfer.pipeline.AdaptationPipeline;"),
    ],
)
def test_a_type_counts_only_with_its_own_loader(forest, tmp_path, change, message):
    with pytest.raises(FtransferError, match=message):
        Model.load(plan_changed(forest, tmp_path / "m.skops", change))


def test_a_name_that_a_user_trusts_lets_no_other_loader_in(forest, tmp_path):
    for change in (a_tree_under_another_loader, a_tree_without_nodes, a_sparse_matrix_named_as_an_adapter):
        file = plan_changed(forest, tmp_path / "m.skops", change)
        with pytest.raises(FtransferError, match="types that are not trusted"):
            Model.load(file, trusted=["sklearn.tree._tree.Tree", "ftransfer.adapt.coral.CORAL"])


def test_a_sparse_matrix_that_a_user_trusts_has_its_indices_in_range(tmp_path):
    pipeline = fitted("scaled_logistic")
    pipeline[-1].coef_ = sp.csr_matrix(pipeline[-1].coef_)
    pipeline[-1].coef_.indices[3] = 10**6
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match=r"not trusted: scipy.sparse._csr.csr_matrix"):
        Model.load(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match="indices must be < 8"):
        Model.load(tmp_path / "m.skops", trusted=["scipy.sparse._csr.csr_matrix"])


def test_a_function_of_numpy_in_a_transformer_is_read(tmp_path):
    X, y, _ = blobs()
    pipeline = make_pipeline(FunctionTransformer(np.tanh), LogisticRegression()).fit(X, y)
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    assert Model.load(tmp_path / "m.skops").pipeline[0].func is np.tanh


def test_a_random_generator_whose_state_points_out_of_its_array_is_refused(tmp_path):
    pipeline = fitted("scaled_forest")
    pipeline[-1].random_state = np.random.RandomState(0)
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    assert Model.load(tmp_path / "m.skops")

    def change(nodes, members):
        state = first(nodes, loader="RandomStateNode")["content"]["content"]["state"]
        state["content"]["pos"]["content"] = "1000000"
        state["content"]["pos"]["__id__"] = 10**6

    with pytest.raises(FtransferError, match="the state of a random generator does not fit"):
        Model.load(plan_changed(tmp_path / "m.skops", tmp_path / "n.skops", change))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("coef_", np.zeros((3, 2, 8)), "coef_"),
        ("coef_", np.zeros((3, 4)), "coef_"),
        ("intercept_", np.zeros((5, 3)), "intercept_"),
        ("n_jobs", 10**9, "n_jobs"),
        ("classes_", np.zeros(3, dtype=[("a", "f8")]), "the type of an array"),
    ],
)
def test_an_estimator_whose_arrays_do_not_fit_is_refused(tmp_path, name, value, message):
    pipeline = fitted("scaled_logistic")
    setattr(pipeline[-1], name, value)
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match=f"{message} does not fit the rest"):
        Model.load(tmp_path / "m.skops")


# ---------------------------------------------------------------- model files: size


def test_a_zip_bomb_is_refused_before_it_is_unpacked(forest, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.skops", "w", zipfile.ZIP_DEFLATED) as bomb:
        with zipfile.ZipFile(forest) as good:
            bomb.writestr("schema.json", good.read("schema.json"))
        for i in range(3):
            # a deflated gigabyte of zeros is a megabyte; it is written as such, not compressed here
            info = zipfile.ZipInfo(f"{i}.npy")
            bomb.writestr(info, b"0")
            info.file_size = 2**30
    with pytest.raises(FtransferError, match="would unpack to 3072 MiB; at most 64 are read from"):
        Model.load(tmp_path / "bomb.skops")


def test_an_array_that_claims_to_be_huge_is_refused(forest, tmp_path):
    def change(member, content):
        if not member.endswith(".npy"):
            return content
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, {"descr": "<U0", "fortran_order": False, "shape": (2**60,)})
        return out.getvalue()

    with pytest.raises(FtransferError, match="is not a model file, or is damaged"):
        Model.load(rewrite(forest, tmp_path / "m.skops", change))


def test_a_plan_that_unfolds_without_end_is_refused(forest, tmp_path):
    def change(member, content):
        if member != "schema.json":
            return content
        plan = json.loads(content)
        kind = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
        node = {**kind, "__id__": 0, "content": []}
        for i in range(1, 60):
            node = {**kind, "__id__": i, "content": [node, {**kind, "__id__": i - 1, "content": []}]}
        plan["content"]["origin"] = node
        return json.dumps(plan)

    with pytest.raises(FtransferError, match="one id names two things"):
        Model.load(rewrite(forest, tmp_path / "m.skops", change))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (b'{"a": [' + b"{}," * 500_000 + b"{}]}", "its plan has 500003 nodes"),
        (b'{"a": [' + b"{}," * 5_000_000 + b"{}]}", "its plan has far more than 400000 nodes"),
        (b"[" * 500 + b"]" * 500, "500 levels"),
        (b"[" + b"1," * 4_000_000 + b"1]", "4000000 items"),
        (b'["' + b"{" * 500 + b'"]', "it is not of skops protocol 2"),
        (b'{"protocol": "\\\\\\""}', "it is not of skops protocol 2"),
    ],
)
def test_a_plan_is_counted_before_it_is_parsed(forest, tmp_path, plan, message):
    file = rewrite(
        forest, tmp_path / "m.skops", lambda name, content: plan if name == "schema.json" else content
    )
    with pytest.raises(FtransferError, match=message):
        Model.load(file)


def test_a_model_prints_nothing_of_its_own(tmp_path, capsys):
    X, _, _ = blobs()
    pipeline = fitted("scaled_forest")
    pipeline[-1].set_params(verbose=9)
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    Model.load(tmp_path / "m.skops").predict(X)
    assert capsys.readouterr() == ("", "")


def test_a_pipeline_that_fails_in_another_way_than_by_its_data_is_one_line(tmp_path):
    X, y, _ = blobs()
    pipeline = make_pipeline(DummyClassifier()).fit(X, y)
    pipeline[-1]._strategy = "none such"  # of which scikit-learn makes a NameError
    Model(pipeline, FINGERPRINT, CLASSES).save(tmp_path / "m.skops")
    with pytest.raises(FtransferError, match="the model's pipeline cannot predict: UnboundLocalError"):
        Model.load(tmp_path / "m.skops").predict(X)


def test_a_list_hidden_in_a_value_is_refused(forest, tmp_path):
    def change(nodes, members):
        first(nodes, loader="JsonNode")["content"] = " [" + "{}," * 10 + "{}]"

    with pytest.raises(FtransferError, match="a value does not fit the rest"):
        Model.load(plan_changed(forest, tmp_path / "m.skops", change))


def test_a_member_that_unpacks_to_more_than_it_says_is_read_no_further(forest, tmp_path):
    file = tmp_path / "m.skops"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("schema.json", bytes(10**7))
        new.filelist[0].file_size = 100
    with pytest.raises(FtransferError, match="is not a model file, or is damaged"):
        Model.load(file)


def test_a_zip_that_lists_a_million_members_is_refused_before_it_is_read(forest, tmp_path):
    data = bytearray(forest.read_bytes())
    data[-10:-6] = (10**8).to_bytes(4, "little")
    (tmp_path / "m.skops").write_bytes(data)
    with pytest.raises(FtransferError, match="it lists too many members"):
        Model.load(tmp_path / "m.skops")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", np.array(["one"])),
        ("classes", np.array([1, 2, 3])),
        ("classes", None),
        ("fingerprint", {"layers": [{"name": "x", "width": -8}]}),
        ("fingerprint", {"layers": [{"name": "x", "width": 10**12}]}),
        ("fingerprint", {"layers": [{"name": None, "width": 8}]}),
        ("fingerprint", []),
        ("temperature", float("nan")),
        ("temperature", "hot"),
        ("familiar", {"domains": [np.zeros((9, 3), np.float32)], "limits": [1.0]}),
        ("familiar", {"domains": [], "limits": [1.0]}),
        ("pipeline", None),
        ("format", 2),
        ("origin", 5),
    ],
)
def test_a_model_file_with_a_wrong_value_is_refused(tmp_path, key, value):
    content = {"format": 1, "pipeline": fitted("scaled_svm"), "fingerprint": FINGERPRINT, "classes": CLASSES}
    content |= {"chosen_by": {}, "origin": "", "temperature": 1.0, "familiar": None, key: value}
    model_file.write_model_file(content, tmp_path / "m.skops")
    with pytest.raises(FtransferError, match="is not a model file, or is damaged"):
        Model.load(tmp_path / "m.skops")


def test_a_pipeline_that_knows_more_classes_than_the_model_is_refused_at_the_first_row():
    X, _, _ = blobs()
    with pytest.raises(FtransferError, match="predicts classes that it has no names for"):
        Model(fitted("scaled_svm"), FINGERPRINT, CLASSES[:2]).predict(X)


# ---------------------------------------------------------------- feature sets

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["layers", "name", "width", "x"]), inner)
    ),
    max_leaves=8,
)
layers = st.fixed_dictionaries(
    {}, optional={"name": json_values | st.text(), "width": json_values | st.integers()}
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values | st.fixed_dictionaries({"layers": st.lists(layers, max_size=3) | json_values}))
def test_any_json_as_a_fingerprint_is_refused_or_has_a_width(tmp_path, fingerprint):
    (tmp_path / "fingerprint.json").write_text(json.dumps(fingerprint))
    try:
        features = FeatureSet(tmp_path)
    except FtransferError as error:
        assert "fingerprint.json cannot be read" in str(error)  # noqa: PT017
    else:
        assert features.width == sum(layer["width"] for layer in fingerprint["layers"]) > 0
        assert features.manifest.empty


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 200))
def test_any_bytes_in_a_fingerprint_are_refused_or_read(tmp_path, junk, at):
    good = json.dumps(FINGERPRINT).encode()
    (tmp_path / "fingerprint.json").write_bytes(good[:at] + junk + good[at:])
    try:
        assert FeatureSet(tmp_path).width > 0
    except FtransferError as error:
        assert len(str(error)) < 1000  # noqa: PT017


@pytest.mark.parametrize(
    "fingerprint", ["[" * 10**5, '{"layers": [{"name": "x", "width": 1e999}]}', "9" * 10**5]
)
def test_a_fingerprint_too_deep_or_too_large_is_refused(tmp_path, fingerprint):
    (tmp_path / "fingerprint.json").write_text(fingerprint)
    with pytest.raises(FtransferError, match="fingerprint.json cannot be read"):
        FeatureSet(tmp_path)


def parts_of_other_kinds():
    keys, rows = pa.nulls(3, pa.binary(32)), pa.nulls(3, pa.list_(pa.float32(), 8))
    yield "no keys", pa.table({"embedding": rows})
    yield "short keys", pa.table({"sha256": pa.nulls(3, pa.binary(8)), "embedding": rows})
    yield "text", pa.table({"sha256": ["a", "b", "c"], "embedding": ["a", "b", "c"]})
    yield "another width", pa.table({"sha256": keys, "embedding": pa.nulls(3, pa.list_(pa.float32(), 9))})
    yield "another type", pa.table({"sha256": keys, "embedding": pa.nulls(3, pa.list_(pa.float64(), 8))})
    yield "lists of any length", pa.table({"sha256": keys, "embedding": pa.nulls(3, pa.list_(pa.float32()))})


@pytest.mark.parametrize(("kind", "table"), list(parts_of_other_kinds()))
def test_a_part_of_another_schema_counts_for_nothing(feature_set, kind, table):
    before = feature_set.done()
    with pa.ipc.new_file(feature_set.folder / "parts" / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, feature_set.folder / "parts" / "y.arrow")
    assert feature_set.done() == before
    assert feature_set.load(feature_set.complete).shape == (105, 8)


def test_rows_marked_as_missing_make_a_part_damaged_wherever_they_are(feature_set):
    (file,) = (feature_set.folder / "parts").iterdir()
    with pa.memory_map(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    keys, rows = (table[name].combine_chunks() for name in ("sha256", "embedding"))
    mask = pa.array(np.arange(len(keys)) == 3)
    inner = pa.FixedSizeListArray.from_arrays(pa.array([None] + [0.0] * (8 * len(keys) - 1), pa.float32()), 8)
    odd = [(pc.if_else(mask, None, keys), rows), (keys, pc.if_else(mask, None, rows)), (keys, inner)]
    for columns in odd:
        file.unlink()
        file = file.with_name("0" * 64 + ".arrow")
        changed = pa.table(dict(zip(table.column_names, columns, strict=True)))
        with pa.ipc.new_file(file, changed.schema) as writer:
            writer.write_table(changed)
        assert feature_set.done() == set()
        assert any(
            "rows without" in why or "checksum does not match" in why for why in feature_set.verify().wrong
        )
        for command in (["info"], ["fit", "--source", "day", "--target", "night"], ["compare"]):
            result = run(command[0], feature_set.folder, *command[1:])
            assert result.exception is None or isinstance(result.exception, SystemExit), result.exception


KINDS = [
    "parts/a.arrow",
    "manifest.parquet",
    "fingerprint.json",
    "origin.txt",
    "training.json",
    ".lock",
    "runtimes.json",
]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", KINDS)
def test_what_is_no_file_in_a_feature_set_is_told_or_set_aside_and_nothing_waits(
    tmp_path, make, name, nursery
):
    if name == "fingerprint.json":
        (tmp_path / "features").mkdir()
    else:
        write_feature_set(tmp_path / "features", np.ones((2, 2)), ["a", "b"], ["day", "night"])
    (tmp_path / "features" / name).unlink(missing_ok=True)
    make(tmp_path / "features" / name)
    code = f"""
from ftransfer import FeatureSet, FtransferError
for use in (lambda f: f.done(), lambda f: f.manifest, lambda f: f.origin, lambda f: f.training, lambda f: f.verify(),
            lambda f: FeatureSet.create(f.folder, f.fingerprint)):
    try:
        use(FeatureSet({str(tmp_path / "features")!r}))
    except FtransferError as error:
        print(error)
"""
    done = nursery.run("-c", code, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    if name in ("manifest.parquet", "fingerprint.json", ".lock"):
        assert f"features/{name}" in done.stdout or "has no fingerprint.json" in done.stdout
    if name in ("manifest.parquet", "parts/a.arrow"):
        assert (tmp_path / "features" / f"{name}.damaged").exists()


def header(*shape, kind="<f4"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
    return out.getvalue()


def test_an_array_that_claims_more_than_its_file_holds_is_one_line(tmp_path):
    for i, claim in enumerate([header(10**9, 10**6), header(10**12, 4, kind="<U0"), header(2**62, 4)]):
        (tmp_path / f"{i}.npy").write_bytes(claim)
        with zipfile.ZipFile(tmp_path / f"{i}.npz", "w") as archive:
            archive.writestr("X.npy", claim)
        for kind in ("npy", "npz"):
            with pytest.raises(FtransferError, match="declares .* values, .* GiB, but holds 128 bytes"):
                import_features([tmp_path / f"{i}.{kind}"], tmp_path / "out")
    (tmp_path / "x.npy").write_bytes(header(2, 2) + bytes(16))
    with pytest.raises(FtransferError, match="claims"):
        import_features([tmp_path / "x.npy"], tmp_path / "out", labels=[tmp_path / "0.npy"])


def test_a_header_of_an_array_that_is_no_python_and_a_text_that_is_no_unicode_are_one_line(tmp_path):
    whole = header(2, 2) + bytes(16)
    for i, bad in enumerate(
        [whole.replace(b"{", b"("), whole.replace(b"'descr'", b"\\descr\0"), b"PK" + whole]
    ):
        (tmp_path / f"{i}.npy").write_bytes(bad)
        with zipfile.ZipFile(tmp_path / f"{i}.npz", "w") as archive:
            archive.writestr("X.npy", bad)
        for kind in ("npy", "npz"):
            with pytest.raises(FtransferError, match="is not an array, or damaged"):
                import_features([tmp_path / f"{i}.{kind}"], tmp_path / "out")
    np.savez(tmp_path / "x.npz", X=np.ones((2, 2)), y=np.array([2**31 - 1] * 2, np.uint32).view("U1"))
    with pytest.raises(FtransferError, match="cannot be read as a table"):
        import_features([tmp_path / "x.npz"], tmp_path / "out")


def test_a_small_table_that_would_grow_to_gigabytes_is_refused_before_it_is_read(tmp_path):
    archive = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("X.npy", "w") as content:
        content.write(header(2**18, 1100))
        for _ in range(1100):
            content.write(bytes(2**20))
    with pq.ParquetWriter(tmp_path / "b.parquet", pa.schema([("x", pa.float64())])) as writer:
        for _ in range(30):
            writer.write_table(pa.table({"x": np.zeros(5 * 10**6)}))
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**5, np.int32)), pa.array(["x" * 20_000]))
    pq.write_table(pa.table({"path": texts, "x": np.zeros(10**5)}), tmp_path / "c.parquet")
    for name, read in [("a.npz", 0), ("b.parquet", 0), ("c.parquet", 0), ("b.parquet", 1), ("c.parquet", 1)]:
        with pytest.raises(FtransferError, match="would grow from .* to .* GiB"):
            find_images(tmp_path / name) if read else import_features([tmp_path / name], tmp_path / "out")
    X = np.ones((1000, 500), np.float32)  # equal numbers are no bomb
    np.savez_compressed(tmp_path / "d.npz", X=X)
    assert import_features([tmp_path / "d.npz"], tmp_path / "out")[1] == 1


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npy"])
def test_a_pipe_in_place_of_a_table_is_told(feature_set, tmp_path, name):
    os.mkfifo(tmp_path / name)
    task = load_task(feature_set, "day", "night")
    for read in (
        find_images,
        lambda file: read_target_labels(task, file),
        lambda f: import_features([f], "x"),
    ):
        with pytest.raises(FtransferError, match=f"not a file|is a single file|no file '{name}'"):
            read(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_infinite_feature_is_named_and_nothing_is_predicted(tmp_path, value):
    X, y, labels = blobs()
    X[70, 3] = value
    features = write_feature_set(tmp_path / "f", X, CLASSES[labels], np.where(y == -1, "night", "day"))
    Model(fitted("scaled_svm"), features.fingerprint, CLASSES).save(tmp_path / "m.skops")
    result = run("predict", tmp_path / "m.skops", tmp_path / "f", "--out", tmp_path / "p.csv")
    assert result.exit_code == 1
    assert "the embedding of 70.png in" in result.output
    assert not (tmp_path / "p.csv").exists()
    with pytest.raises(FtransferError, match="row 70 holds NaN or infinity"):
        Model.load(tmp_path / "m.skops").predict(X)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("sha256", "../../etc/passwd", "a hash is not a SHA-256"),
        ("sha256", "g" * 64, "a hash is not a SHA-256"),
        ("sha256", "A" * 64, "a hash has capital letters"),
        ("sha256", None, "a path, a domain or a hash is missing"),
        ("domain", None, "a path, a domain or a hash is missing"),
        ("status", "fine", "a status is not ok, pending or error"),
        ("size", 2.0**80, "cannot be read"),
        ("mtime", "soon", "cannot be read"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(feature_set, column, value, message):
    table = pd.read_parquet(feature_set.folder / "manifest.parquet").astype({column: object})
    table[column] = value
    table.to_parquet(feature_set.folder / "manifest.parquet")
    with pytest.raises(FtransferError, match=message):
        feature_set.manifest  # noqa: B018


# ---------------------------------------------------------------- tables and pictures


@pytest.mark.parametrize("path", ["http://example.org/a.png", "file:///etc/passwd", "s3://bucket/a.png"])
@pytest.mark.parametrize("allowed", [False, True])
def test_a_table_cannot_name_remote_images(pictures, path, allowed):
    (pictures / "list.csv").write_text(f"path,domain\nday/ash/0.png,a\n{path},a\n")
    with pytest.raises(FtransferError, match="which is not a file; download remote images first"):
        find_images(pictures / "list.csv", allow_outside=allowed)


def test_a_table_cannot_lead_out_by_a_link_or_an_empty_byte(pictures, tmp_path):
    (pictures / "link").symlink_to("/etc")
    pd.DataFrame({"path": ["link/passwd"], "domain": "a"}).to_csv(pictures / "list.csv")
    with pytest.raises(FtransferError, match="which is outside"):
        find_images(pictures / "list.csv")
    pd.DataFrame({"path": ["day\0"], "domain": "a"}).to_parquet(pictures / "list.parquet")
    with pytest.raises(FtransferError, match="which is not a file"):
        find_images(pictures / "list.parquet")


def test_predict_keeps_a_table_inside_its_folder_too(forest, pictures, tmp_path):
    (pictures / "list.csv").write_text("path\n/etc/passwd\n")
    result = run("predict", forest, pictures / "list.csv", "--out", tmp_path / "p.csv")
    assert result.exit_code == 1
    assert "allow this with --allow-outside" in result.output


def test_a_pixel_bomb_is_a_row_with_its_reason(pictures, tmp_path):
    def chunk(kind, content):
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    size = (60_000).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    (pictures / "day" / "ash" / "bomb.png").write_bytes(bomb)
    result = run(
        "extract", pictures, "--out", tmp_path / "f", "--backbone", "small_cnn", "--weights", "random"
    )
    assert result.exit_code == 0, result.output
    assert "bomb.png: too many pixels" in result.output


def test_html_in_names_is_shown_as_text(tmp_path):
    X, y, labels = blobs()
    evil = np.array(
        ["<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "'\"><svg onload=alert(3)>"]
    )
    domains = np.where(y == -1, "<b onclick=alert(4)>t</b>", "<i>s</i>")
    features = write_feature_set(tmp_path / "<u>f", X, evil[labels], domains)
    manifest = features.manifest
    manifest["path"] = "<a href=javascript:alert(5)>" + manifest["path"]
    features.write_manifest(manifest)
    task = load_task(features, "<i>s</i>", "<b onclick=alert(4)>t</b>")
    write_report(race(task, QUICK), features, tmp_path / "run", command="ftransfer fit '<q>'")
    page = (tmp_path / "run" / "report.html").read_text()
    for tag in (
        "<script>alert",
        "<img src=x",
        "<svg onload",
        "<b onclick",
        "<i>s",
        "<u>f",
        "<a href=java",
        "<q>",
    ):
        assert tag not in page, tag
    assert "&lt;img src=x" in page


# ---------------------------------------------------------------- chance


@pytest.mark.slow
@pytest.mark.parametrize("only", [(), ("--only", "nodes")])
def test_damage_by_chance_is_refused_or_harmless(only):
    """Some cases of `benchmarks/fuzz.py`, in a process of their own: a crash there is seen here."""
    fuzz = ROOT / "benchmarks" / "fuzz.py"
    command = [sys.executable, str(fuzz), "--cases", "120", "--first", "500000", *only]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    assert "'refused'" in result.stdout
    assert "'works'" in result.stdout


def test_skops_itself_would_have_believed_a_tree_in_circles(forest, tmp_path):
    """The check is ours to keep as long as this holds."""
    file = rewrite(forest, tmp_path / "m.skops", damage_nodes("left_child", 0))
    assert skops.io.load(file, trusted=[*model_plan.trusted_objects(), model_plan.TREE])
