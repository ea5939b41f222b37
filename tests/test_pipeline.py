import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import ROOT, blobs
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel, SelectKBest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from ftransfer import (
    CORAL,
    AdaptationPipeline,
    DomainScaler,
    FtransferError,
    PseudoLabelled,
    list_recipes,
    load_pipeline,
    load_recipe,
    make_pipeline,
)


def expected_failures(estimator):
    if not hasattr(estimator, "classes_") and estimator.steps[-1][0] == "logisticregression":
        # scikit-learn leaves its own semi-supervised classifiers out of this check by name, for the same reason
        return {
            "check_classifiers_classes": "trains on the classes -1 and 1 and on strings; here -1 marks the target"
        }
    return {}


@pytest.mark.filterwarnings(
    "ignore:no target rows", "ignore:n_components", "ignore::sklearn.exceptions.ConvergenceWarning"
)
@parametrize_with_checks(
    [
        make_pipeline(DomainScaler(), CORAL()),
        make_pipeline(DomainScaler(), CORAL(), Ridge()),
        make_pipeline(DomainScaler(), LogisticRegression()),
    ],
    expected_failed_checks=expected_failures,
)
def test_pipelines_pass_scikit_learns_checks(estimator, check):
    check(estimator)


# ------------------------------------------------------------ which rows each step sees


class Recorder(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        self.seen_, self.weights_ = y, sample_weight
        return super().fit(X, y, sample_weight)


def test_the_last_step_is_fitted_on_labelled_rows_only():
    X, y, _ = blobs()
    fitted = make_pipeline(DomainScaler(), Recorder()).fit(X, y, recorder__sample_weight=np.arange(len(y)))
    np.testing.assert_array_equal(fitted[-1].seen_, y[y != -1])
    np.testing.assert_array_equal(fitted[-1].weights_, np.flatnonzero(y != -1))


@pytest.mark.parametrize(
    "last",
    [
        SVC(),
        plain_pipeline(StandardScaler(), SVC()),
        GridSearchCV(SVC(), {"C": [1.0]}, cv=2),
        AdaptationPipeline([("svc", SVC())]),
    ],
    ids=lambda e: type(e).__name__,
)
def test_no_last_step_takes_the_target_for_a_class(last):
    X, y, _ = blobs()
    fitted = make_pipeline(DomainScaler(), last).fit(X, y)
    assert fitted.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("last", [LabelSpreading(), SelfTrainingClassifier(LogisticRegression())], ids=str)
def test_semi_supervised_last_steps_see_all_rows(last):
    X, y, labels = blobs()
    fitted = make_pipeline(DomainScaler(), last).fit(X, y)
    assert len(
        fitted[-1].transduction_ if hasattr(fitted[-1], "transduction_") else fitted[-1].labeled_iter_
    ) == len(X)
    assert fitted.score(X[y == -1], labels[y == -1]) > 0.9


def test_unsupervised_transformers_see_every_row_and_supervised_ones_the_labelled():
    X, y, _ = blobs()
    fitted = make_pipeline(PCA(3), LinearDiscriminantAnalysis(), SVC()).fit(X, y)
    np.testing.assert_allclose(fitted["pca"].mean_, X.mean(0), rtol=1e-5)
    assert fitted["lineardiscriminantanalysis"].classes_.tolist() == [0, 1, 2]
    chosen = make_pipeline(SelectKBest(k=2), SVC()).fit(X, y)["selectkbest"]
    np.testing.assert_allclose(chosen.scores_, SelectKBest(k=2).fit(X[y != -1], y[y != -1]).scores_)
    model = (
        make_pipeline(SelectFromModel(LogisticRegression()), SVC()).fit(X, y)["selectfrommodel"].estimator_
    )
    assert model.classes_.tolist() == [0, 1, 2]


def test_fit_leaves_the_given_steps_unfitted():
    X, y, _ = blobs()
    scaler, svc = DomainScaler(), SVC()
    fitted = make_pipeline(scaler, svc).fit(X, y)
    assert not hasattr(scaler, "sources_")
    assert not hasattr(svc, "classes_")
    assert fitted.named_steps["domainscaler"].sources_.tolist() == [1]
    assert fitted[0] is fitted["domainscaler"]
    assert fitted[:1].transform(X).shape == X.shape


# ------------------------------------------------------------ at home in scikit-learn


def test_a_plain_grid_search_runs_over_it():
    X, y, labels = blobs()
    grid = {"coral__ridge": [0.1, 1.0], "svc__C": [1.0, 10.0]}
    splits = list(StratifiedKFold(3).split(X, y))
    search = GridSearchCV(make_pipeline(DomainScaler(), CORAL(), SVC()), grid, cv=splits, error_score="raise")
    search.fit(X, y)
    assert search.best_estimator_.score(X[y == -1], labels[y == -1]) > 0.9
    assert cross_validate(make_pipeline(CORAL(), SVC()), X, y, error_score="raise")["test_score"].shape == (
        5,
    )


def test_held_out_source_rows_are_predicted_by_the_sources_own_map():
    X, y, _ = blobs(n_source=120, shift=8.0)
    train, held_out = np.r_[0:60, 120:165], np.arange(60, 120)
    fitted = make_pipeline(DomainScaler(), CORAL(), LogisticRegression()).fit(X[train], y[train])
    right = np.mean(fitted.predict_source(X[held_out]) == y[held_out])
    assert right > 0.9
    assert right > np.mean(fitted.predict(X[held_out]) == y[held_out]) + 0.2
    probability = fitted.predict_source(X[held_out], method="predict_proba")
    np.testing.assert_array_equal(probability.argmax(1), fitted.predict_source(X[held_out]))


def test_fit_predict_maps_each_row_by_its_own_domain():
    X, y, labels = blobs(shift=8.0)
    assert np.mean(make_pipeline(DomainScaler(), SVC()).fit_predict(X, y) == labels) > 0.95


def test_sample_domain_passes_through_without_and_with_metadata_routing():
    X, y, _ = blobs(n_source=80)
    domain = np.r_[1 + np.arange(80) % 2, np.full(45, -1)]
    pipeline = make_pipeline(StandardScaler(), DomainScaler(), SVC())
    plain = clone(pipeline).fit(X, y, sample_domain=domain)
    assert plain["domainscaler"].sources_.tolist() == [1, 2]
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(pipeline).fit(X, y, sample_domain=domain)
        np.testing.assert_array_equal(routed.predict(X), plain.predict(X))
        search = GridSearchCV(pipeline, {"svc__C": [1.0]}, cv=2, error_score="raise")
        search.fit(X, y, sample_domain=domain)
        assert search.best_estimator_["domainscaler"].sources_.tolist() == [1, 2]


def test_regressors_predict_a_shifted_target():
    X, y = make_regression(200, 5, noise=1.0, random_state=0)
    moved = X.copy()
    moved[100:] = moved[100:] * 3 + 10
    given = y.copy()
    given[100:] = np.nan
    adapted = make_pipeline(DomainScaler(), Ridge()).fit(moved, given)
    assert adapted.score(moved[100:], y[100:]) > 0.9
    assert make_pipeline(StandardScaler(), Ridge()).fit(moved, given).score(moved[100:], y[100:]) < 0


def test_memory_gives_the_same_and_spares_the_transformers(tmp_path):
    X, y, _ = blobs()
    plain = make_pipeline(DomainScaler(), CORAL(), SVC()).fit(X, y)
    cached = make_pipeline(DomainScaler(), CORAL(), SVC(), memory=str(tmp_path)).fit(X, y).fit(X, y)
    np.testing.assert_array_equal(cached.predict(X), plain.predict(X))
    assert any(tmp_path.rglob("output.pkl"))


def test_tables_keep_their_names():
    X, y, _ = blobs(n_features=3)
    table = pd.DataFrame(X, columns=list("abc"))
    fitted = make_pipeline(DomainScaler(), CORAL(), SVC()).fit(table, y)
    assert fitted.feature_names_in_.tolist() == list("abc")
    assert fitted[:-1].get_feature_names_out().tolist() == list("abc")
    assert "coral" in fitted._repr_html_()


def test_wrong_fit_parameters_are_named():
    X, y, _ = blobs()
    with pytest.raises(FtransferError, match="with the steps domainscaler, svc; given sample_weight"):
        make_pipeline(DomainScaler(), SVC()).fit(X, y, sample_weight=np.ones(len(y)))


def test_no_target_rows_are_warned_of_once():
    X, y, _ = blobs()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_pipeline(DomainScaler(), CORAL(), SVC()).fit(X[:60], y[:60])
    assert [str(w.message).split(":")[0] for w in caught] == ["no target rows"]


# ------------------------------------------------------------ recipes


def test_nineteen_recipes_ship():
    kinds, classifiers = ("coral", "scaled", "source_only", "subspace"), ("forest", "logistic", "svm")
    others = [
        "pseudo_logistic",
        "pseudo_svm",
        "pseudo_shares",
        "mixture_scaled",
        "mixture_shares",
        "prior_svm",
    ]
    others += ["source_only_standardised_svm"]
    assert list_recipes() == sorted([f"{k}_{c}" for k in kinds for c in classifiers] + others)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_fits_and_predicts(name):
    X, y, labels = blobs(shift=0.5)
    recipe = load_recipe(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # more components than these few features
        fitted = recipe.pipeline.fit(X, y)
    assert fitted.score(X[y == -1], labels[y == -1]) > 0.8
    assert recipe.grid
    assert recipe.summary.endswith(".")


def test_a_recipe_of_ones_own_loads_by_path(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("from sklearn.svm import SVC\npipeline = SVC()\ngrid = {'C': [1.0, 2.0]}\n")
    recipe = load_recipe(file)
    assert recipe.name == "mine"
    assert recipe.grid == [{"source_only__C": [1.0, 2.0]}]
    assert isinstance(load_pipeline(str(file)), AdaptationPipeline)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid = {}", "lacks pipeline"),
        ("pipeline = 3\ngrid = {}", "no estimator"),
        ("1 / 0", "fails: ZeroDivisionError"),
        (
            "from sklearn.svm import SVC\npipeline = SVC()\ngrid = {'c': [1]}",
            "no parameter of the pipeline .* 'c'",
        ),
        ("from sklearn.svm import SVC\npipeline = SVC()\ngrid = {'C': 1}", "must give C a list of values"),
        (
            "from sklearn.svm import SVC\npipeline = SVC()\ngrid = 1",
            "must be a dict or a list of dicts; given int",
        ),
    ],
)
def test_a_faulty_recipe_is_refused(tmp_path, text, message):
    file = tmp_path / "faulty.py"
    file.write_text(text)
    with pytest.raises(FtransferError, match=message):
        load_recipe(file)


def test_an_unknown_recipe_suggests_the_near_one():
    with pytest.raises(FtransferError, match="no pipeline 'coral_smv'; did you mean 'coral_svm'"):
        load_recipe("coral_smv")
    with pytest.raises(FtransferError, match="no recipe at nowhere/mine.py"):
        load_recipe("nowhere/mine.py")


def test_recipes_are_ordinary_imports_from_the_checkout(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from pipelines.coral_forest import grid, pipeline

    assert isinstance(pipeline[-1], RandomForestClassifier)
    assert "coral__ridge" in grid


# ------------------------------------------------------------ the weight of labelled target rows


def labelled_target_rows():
    X, y, labels = blobs(shift=4.0)
    domain = np.where(y == -1, -1, 1)
    known = np.flatnonzero(domain < 0)[:9]
    given = y.copy()
    given[known] = labels[known]
    return X, given, domain, known


def test_a_weight_counts_each_labelled_target_row_as_so_many_for_the_last_step_alone():
    X, y, domain, known = labelled_target_rows()
    weighted = make_pipeline(DomainScaler(), CORAL(), LogisticRegression())
    weighted.set_params(target_weight=3).fit(X, y, sample_domain=domain)
    mapped = weighted[:-1].fit_transform(X, y, sample_domain=domain)
    rows = np.r_[np.flatnonzero(y != -1), known, known]
    by_hand = LogisticRegression().fit(mapped[rows], y[rows])
    np.testing.assert_allclose(weighted[-1].coef_, by_hand.coef_, atol=1e-3)
    once = make_pipeline(DomainScaler(), CORAL(), LogisticRegression()).fit(X, y, sample_domain=domain)
    np.testing.assert_array_equal(once[0].target_center_, weighted[0].target_center_)
    assert np.abs(once[-1].coef_ - weighted[-1].coef_).max() > 1e-3


def test_a_weight_reaches_what_learns_from_target_rows_and_changes_nothing_without_labelled_ones():
    X, y, domain, _ = labelled_target_rows()
    for weight in (1, 5):
        pipeline = make_pipeline(DomainScaler(), PseudoLabelled()).set_params(target_weight=weight)
        assert len(pipeline.fit(X, y, sample_domain=domain)[-1].transduction_) == len(y) + 9 * (weight - 1)
        bare = np.where(domain < 0, -1, y)
        plain = clone(pipeline).set_params(target_weight=1).fit(X, bare, sample_domain=domain)
        np.testing.assert_array_equal(
            clone(pipeline).fit(X, bare, sample_domain=domain).predict_proba(X), plain.predict_proba(X)
        )
    with pytest.raises(ValueError, match="target_weight == 0, must be >= 1"):
        pipeline.set_params(target_weight=0).fit(X, y, sample_domain=domain)
