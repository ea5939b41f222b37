"""What goes into what: adapters in scikit-learn's containers, and containers around adaptation pipelines."""

import numpy as np
import pytest
import sklearn
from conftest import blobs
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.pipeline import make_pipeline as plain_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ftransfer import (
    CORAL,
    AdaptationPipeline,
    DomainKFold,
    DomainScaler,
    FtransferError,
    PseudoLabelled,
    load_scorer,
    make_pipeline,
)
from ftransfer.recipes import load_recipe
from ftransfer.search.steps import adaptation


@pytest.fixture(scope="module")
def rows():
    """Two sources and a target, each moved and stretched in its own way; y, the true labels, sample_domain."""
    X, y, labels = blobs()
    X = X.copy()
    half = np.flatnonzero(y != -1)[::2]
    X[half] = 3 * X[half] - 20
    X[y == -1] = 5 * X[y == -1] + 30
    domain = np.where(y == -1, -1, 1)
    domain[half] = 2
    return X, y, labels, domain


def nestings():
    columns = ColumnTransformer(
        [("left", DomainScaler(), [0, 1, 2, 3]), ("right", DomainScaler(), [4, 5, 6, 7])]
    )
    yield "pipeline", make_pipeline(plain_pipeline(DomainScaler(), PCA(6)), SVC())
    yield "pipeline with the classifier", make_pipeline(plain_pipeline(DomainScaler(), SVC()))
    yield "adaptation pipeline", make_pipeline(make_pipeline(StandardScaler(), DomainScaler()), SVC())
    yield (
        "union",
        make_pipeline(
            FeatureUnion([("a", DomainScaler()), ("b", plain_pipeline(DomainScaler(), PCA(2)))]), SVC()
        ),
    )
    yield "columns", make_pipeline(columns, SVC())
    yield "columns in a union", make_pipeline(FeatureUnion([("a", columns), ("b", "drop")], n_jobs=2), SVC())
    yield "supervised", make_pipeline(plain_pipeline(DomainScaler(), LinearDiscriminantAnalysis()))


@pytest.mark.parametrize(("kind", "pipeline"), list(nestings()))
def test_an_adapter_in_a_container_maps_each_row_by_its_own_domain(rows, kind, pipeline):
    X, y, labels, domain = rows
    fitted = pipeline.fit(X, y, sample_domain=domain)
    right = fitted.predict(X[y == -1]) == labels[y == -1]
    assert right.mean() > 0.95
    source = y != -1
    assert (fitted.predict_source(X[source], sample_domain=domain[source]) == y[source]).mean() > 0.95
    assert (fitted.predict_source(X, sample_domain=domain) == labels).mean() > 0.95
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert adaptation(pipeline) != "source only"


def test_a_union_of_one_gives_what_the_adapter_gives(rows):
    X, y, _, domain = rows
    alone = make_pipeline(DomainScaler(), CORAL()).fit_transform(X, y, sample_domain=domain)
    for nested in (plain_pipeline(DomainScaler(), CORAL()), make_pipeline(DomainScaler(), CORAL())):
        union = make_pipeline(FeatureUnion([("one", nested)]))
        np.testing.assert_allclose(union.fit_transform(X, y, sample_domain=domain), alone, rtol=1e-5)
        mapped = union.transform_source(X, sample_domain=domain)
        np.testing.assert_allclose(mapped, alone, rtol=1e-4, atol=1e-5)


def test_held_out_rows_of_one_source_need_no_domain_in_a_container():
    X, y, _ = blobs()
    X = np.where((y == -1)[:, None], X + 30, X)
    fitted = make_pipeline(FeatureUnion([("a", DomainScaler())]), SVC()).fit(X, y)
    source = y != -1
    assert (fitted.predict_source(X[source]) == y[source]).mean() > 0.95


def test_a_domain_is_known_in_the_container_only(rows):
    X, y, _, domain = rows
    scaler = make_pipeline(FeatureUnion([("a", DomainScaler())]), SVC()).fit(X, y, sample_domain=domain)
    scaler.predict_source(X, sample_domain=domain)
    assert DomainScaler().fit(X, y).sources_.tolist() == [1]


@pytest.mark.parametrize(
    "pipeline",
    [
        plain_pipeline(CORAL(), SVC()),
        plain_pipeline(StandardScaler(), DomainScaler(), LogisticRegression()),
        plain_pipeline(make_pipeline(StandardScaler(), CORAL()), SVC()),
        plain_pipeline(FeatureUnion([("a", CORAL())]), SVC()),
        plain_pipeline(CORAL(), SelectKBest(k=2), PseudoLabelled(SVC())),
        plain_pipeline(SelectKBest(k=2), make_pipeline(CORAL(), SVC())),
        plain_pipeline(CORAL(), SVC()).set_params(memory="cache"),
    ],
    ids=str,
)
def test_scikit_learns_own_pipeline_does_not_hand_the_target_to_a_classifier(rows, pipeline, tmp_path):
    X, y, _, _ = rows
    if pipeline.memory:
        pipeline.set_params(memory=str(tmp_path))
    with pytest.raises(FtransferError, match="scikit-learn's Pipeline passes the target rows to"):
        pipeline.fit(X, y)


def test_a_union_does_not_hand_the_target_to_a_selector(rows):
    X, y, _, _ = rows
    union = FeatureUnion([("a", CORAL()), ("b", SelectKBest(k=2))])
    with pytest.raises(
        FtransferError, match="scikit-learn's FeatureUnion passes the target rows to SelectKBest"
    ):
        make_pipeline(union, SVC()).fit(X, y)


def test_scikit_learns_own_pipeline_may_hold_what_reads_the_target(rows):
    X, y, labels, _ = rows
    for last in (PseudoLabelled(LogisticRegression()), make_pipeline(CORAL(), LogisticRegression())):
        assert plain_pipeline(DomainScaler(), last).fit(X, y).predict(X[y == -1]).min() >= 0
    assert plain_pipeline(DomainScaler(), PCA(2)).fit(X, y).transform(X).shape == (len(X), 2)
    assert Pipeline([("a", CORAL()), ("b", SVC())]).fit(
        X[y != -1], y[y != -1]
    )  # no target rows, and a warning


around = [
    lambda p, n: VotingClassifier([("a", p), ("b", p)], n_jobs=n),
    lambda p, n: StackingClassifier([("a", p), ("b", p)], n_jobs=n),
    lambda p, n: BaggingClassifier(p, n_estimators=2, n_jobs=n),
    lambda p, n: OneVsRestClassifier(p, n_jobs=n),
    lambda p, n: CalibratedClassifierCV(p, cv=2, n_jobs=n),
]


@pytest.mark.parametrize("wrap", around)
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_what_numbers_the_labels_anew_is_refused_around_an_adaptation_pipeline(rows, wrap, n_jobs):
    X, y, _, _ = rows
    ensemble = wrap(make_pipeline(DomainScaler(), LogisticRegression()), n_jobs)
    with pytest.raises(
        FtransferError,
        match=f"{type(ensemble).__name__} would treat -1, the label of the target rows, as a class",
    ):
        ensemble.fit(X, y)


@pytest.mark.parametrize("wrap", around)
def test_what_numbers_the_labels_anew_is_right_inside(rows, wrap):
    X, y, labels, domain = rows
    ensemble = wrap(LogisticRegression(), None)
    fitted = make_pipeline(DomainScaler(), ensemble).fit(X, y, sample_domain=domain)
    assert (fitted.predict(X[y == -1]) == labels[y == -1]).mean() > 0.95


def test_a_search_is_right_around_a_pipeline_and_refused_inside(rows):
    X, y, _, _ = rows
    pipeline = make_pipeline(DomainScaler(), LogisticRegression())
    search = GridSearchCV(
        pipeline, {"logisticregression__C": [0.1, 1]}, scoring=load_scorer("consistency"), cv=DomainKFold(2)
    )
    assert search.fit(X, y).best_estimator_.classes_.tolist() == [0, 1, 2]
    assert set(cross_val_predict(pipeline, X, y, cv=DomainKFold(2))) <= {0, 1, 2}
    with pytest.raises(FtransferError, match="GridSearchCV is fitted on the labelled rows, and CORAL in it"):
        make_pipeline(GridSearchCV(make_pipeline(CORAL(), SVC()), {"svc__C": [1]})).fit(X, y)


def test_nothing_changes_with_metadata_routing(rows):
    X, y, labels, domain = rows
    with sklearn.config_context(enable_metadata_routing=True):
        for kind, pipeline in nestings():
            fitted = pipeline.fit(X, y, sample_domain=domain)
            assert (fitted.predict_source(X, sample_domain=domain) == labels).mean() > 0.95, kind


def test_a_plain_pipeline_with_an_adapter_is_a_recipe_that_adapts(tmp_path):
    (tmp_path / "own.py").write_text(
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.svm import SVC\nfrom ftransfer import CORAL\n"
        "pipeline = make_pipeline(CORAL(), SVC())\ngrid = {'svc__C': [1.0, 10.0]}\n"
    )
    recipe = load_recipe(tmp_path / "own.py")
    assert isinstance(recipe.pipeline, AdaptationPipeline)
    assert adaptation(recipe.pipeline) == "CORAL"
    assert recipe.grid == {"svc__C": [1.0, 10.0]}


def test_a_pipeline_of_one_classifier_holds_no_adapter_before_it():
    pipeline = AdaptationPipeline([("pseudo", PseudoLabelled(SVC()))])
    assert pipeline[:-1].readers == []
    assert pipeline.readers == [pipeline.steps[0][1]]
    assert AdaptationPipeline([("none", "passthrough"), ("svc", SVC())]).readers == []


def test_a_column_a_class_is_refused(rows):
    X, y, _, _ = rows
    one_hot = np.eye(3)[y] * (y != -1)[:, None] - (y == -1)[:, None]
    for labels in (one_hot, one_hot.astype(int)):
        with pytest.raises(FtransferError, match=r"y has one column per class \(3 of them\)"):
            make_pipeline(DomainScaler(), SVC()).fit(X, labels)
