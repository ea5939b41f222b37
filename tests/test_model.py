import pickle
import warnings

import numpy as np
import pytest
import skops.io
from conftest import blobs
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from ftransfer import DomainScaler, FtransferError, Model, list_recipes, load_pipeline, make_pipeline


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_comes_back_from_its_file_and_predicts_the_same(tmp_path, name):
    X, y, _ = blobs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pipeline = load_pipeline(name).fit(X, y)
    classes = np.array(["ash", "elm", "oak"])
    Model(pipeline, {"backbone": "b"}, classes, {"score": 0.5}).save(tmp_path / "m.skops")
    model = Model.load(tmp_path / "m.skops")
    np.testing.assert_array_equal(model.predict(X), classes[pipeline.predict(X)])
    assert model.recipe == {"backbone": "b"}
    assert model.chosen_by == {"score": 0.5}


def test_what_is_no_model_file_is_one_line(tmp_path):
    with pytest.raises(FtransferError, match="no model file .*nothing.skops"):
        Model.load(tmp_path / "nothing.skops")
    (tmp_path / "junk.skops").write_bytes(b"junk")
    with pytest.raises(FtransferError, match=r"junk.skops is no model file: BadZipFile"):
        Model.load(tmp_path / "junk.skops")
    skops.io.dump([1, 2], tmp_path / "list.skops")
    with pytest.raises(FtransferError, match=r"list.skops is no model file: TypeError"):
        Model.load(tmp_path / "list.skops")


class Trap:
    def __reduce__(self):
        return (print, ("code was run",))


def test_a_pickle_is_not_run_as_a_model(tmp_path, capsys):
    (tmp_path / "trap.skops").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(FtransferError, match="is no model file"):
        Model.load(tmp_path / "trap.skops")
    assert "code was run" not in capsys.readouterr().out


def test_an_unknown_type_is_refused_and_named(tmp_path):
    X, y, _ = blobs()
    pipeline = make_pipeline(DomainScaler(), FunctionTransformer(np.negative), SVC()).fit(X, y)
    Model(pipeline, {}, np.array(["a", "b", "c"])).save(tmp_path / "m.skops")
    skops_trusts = not skops.io.get_untrusted_types(file=tmp_path / "m.skops")
    assert not skops_trusts
    foreign = make_pipeline(DomainScaler(), Foreign()).fit(X, y)
    Model(foreign, {}, np.array(["a", "b", "c"])).save(tmp_path / "foreign.skops")
    with pytest.raises(
        FtransferError, match=r"types that are not trusted: test_model.Foreign; load it with trusted"
    ):
        Model.load(tmp_path / "foreign.skops")
    assert Model.load(tmp_path / "foreign.skops", trusted=["test_model.Foreign"]).predict(X).shape == (105,)


class Foreign(SVC):
    """An estimator that is not of scikit-learn."""
