import numpy as np
import pytest
from conftest import blobs
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline as make_plain_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ftransfer import (
    CORAL,
    DomainKFold,
    DomainScaler,
    FtransferError,
    PseudoLabelled,
    best_by_rank,
    list_scorers,
    load_scorer,
    make_pipeline,
)
from ftransfer.scoring.ensemble import combine_by_rank
from ftransfer.scoring.judge import Evidence, Judge, Score, probability_of
from ftransfer.scoring.reverse import carried_back

SINGLE = [name for name in list_scorers() if name != "ensemble"]


class Says:
    """Stand in for a fitted pipeline: given labels and probabilities for the target rows, whatever they are."""

    def __init__(self, labels, probability=None, classes=(0, 1, 2)):
        self.labels, self.probability, self.classes_ = np.asarray(labels), probability, np.array(classes)

    def predict(self, X):
        return self.labels

    def predict_proba(self, X):
        return self.probability


@pytest.fixture
def task():
    X, y, labels = blobs(n_source=90, n_target=90, shift=6.0)
    return X, y, labels[y == -1]


def score(name, judge, pipeline):
    return load_scorer(name).judge(judge.evidence(pipeline))


# ---------------------------------------------------------------- consistency


def test_right_labels_score_high_and_wrong_ones_low(task):
    X, y, truth = task
    judge = Judge(X, y)
    assert score("consistency", judge, Says(truth)).value > 0.9
    turned = score("consistency", judge, Says((truth + 1) % 3))
    assert turned.value < 0.2, "clusters kept, names turned"
    shuffled = np.random.default_rng(0).permutation(truth)
    assert abs(score("consistency", judge, Says(shuffled)).value) < 0.2, "as often right as by chance"
    assert score("consistency", judge, Says(truth)).parts["agreement"] > 0.9


def test_the_more_labels_are_wrong_the_lower_the_score(task):
    X, y, truth = task
    judge, wrong = Judge(X, y), np.random.default_rng(0).permutation(len(truth))
    scores = [
        score(
            "consistency", judge, Says(np.where(np.isin(np.arange(90), wrong[:n]), (truth + 1) % 3, truth))
        ).value
        for n in (0, 9, 30, 60)
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 0.5


@pytest.mark.parametrize(
    ("name", "worth"), [("consistency", 0.0), ("information", 0.0), ("mixval", 0.5), ("circular", 1 / 3)]
)
def test_one_label_for_all_is_worth_nothing(name, worth, task):
    X, y, _ = task
    one = make_pipeline(DomainScaler(), DummyClassifier(strategy="constant", constant=0)).fit(X, y)
    assert score(name, Judge(X, y), one).value == pytest.approx(worth, abs=1e-6)


@pytest.mark.parametrize("d", [4, 200])
def test_labels_are_carried_back_by_a_ridge_classifier(d):
    X, y, labels = blobs(n_source=60, n_target=60, n_features=d)
    Z = DomainScaler().fit_transform(X, y)
    predicted = np.random.default_rng(0).permutation(labels[60:])
    ridge = RidgeClassifier(alpha=0.2 * d).fit(Z[60:], predicted)
    expected = np.mean([np.mean(ridge.predict(Z[:60])[y[:60] == c] == c) for c in range(3)])
    found = carried_back(Judge(X, y), predicted)[0]
    assert found == pytest.approx(expected, abs=0.021)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", SINGLE)
def test_a_score_never_looks_at_the_targets_labels(name, task):
    X, y, truth = task
    domain = np.where(y == -1, -1, 1)
    pipeline = make_pipeline(DomainScaler(), LogisticRegression()).fit(X, y)
    with_labels = np.where(y == -1, np.r_[np.zeros(90, int), truth], y)
    found = [
        load_scorer(name).judge(Judge(X, given, domain).evidence(pipeline)) for given in (y, with_labels)
    ]
    assert found[0].value == found[1].value


@pytest.mark.parametrize("name", SINGLE)
def test_the_bootstrap_surrounds_the_score(name, task):
    X, y, _ = task
    X = X + np.random.default_rng(1).normal(0, 3, X.shape)
    pipeline = make_pipeline(DomainScaler(), LogisticRegression()).fit(X, y)
    found = score(name, Judge(X, y), pipeline)
    assert found.resampled.shape == (200,)
    assert 0 < found.resampled.std() < abs(found.value)
    assert abs(found.resampled.mean() - found.value) < 3 * found.resampled.std()


@pytest.mark.parametrize("name", SINGLE)
def test_a_grid_search_chooses_by_it_with_rows_in_any_order(name):
    X, y, labels = blobs(n_source=90, n_target=90, shift=6.0)
    order = np.random.default_rng(0).permutation(len(X))
    pipeline, guess, svc = make_pipeline(DomainScaler(), SVC()), DummyClassifier(), SVC()
    search = GridSearchCV(pipeline, {"svc": [guess, svc]}, scoring=load_scorer(name), cv=DomainKFold(3))
    search.fit(X[order], y[order])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    if name == "neighbourhood_density":
        assert search.best_params_ == {"svc": guess}, (
            "nothing is denser than the same prediction for all rows"
        )
    else:
        assert search.best_params_ == {"svc": svc}
        assert np.mean(search.predict(X[90:]) == labels[90:]) > 0.9


def test_plain_accuracy_would_count_target_rows_as_wrong(task):
    X, y, _ = task
    pipeline = make_pipeline(DomainScaler(), SVC())
    plain = cross_validate(pipeline, X, y, cv=DomainKFold(3))["test_score"]
    ours = cross_validate(pipeline, X, y, cv=DomainKFold(3), scoring=load_scorer("source_accuracy"))[
        "test_score"
    ]
    assert plain.max() < 0.51
    assert ours.min() > 0.9


def test_grid_search_ranks_by_several_scorers_at_once(task):
    X, y, _ = task
    scorers = {name: load_scorer(name) for name in SINGLE}
    search = GridSearchCV(
        make_pipeline(DomainScaler(), CORAL(), LogisticRegression()),
        {"coral__ridge": [1e-3, 10.0]},
        scoring=scorers,
        refit=best_by_rank,
        cv=DomainKFold(3),
    ).fit(X, y)
    assert {f"mean_test_{name}" for name in SINGLE} <= set(search.cv_results_)
    assert search.best_index_ == best_by_rank(search.cv_results_)
    assert clone(search).get_params()["scoring"].keys() == scorers.keys()


def test_best_by_rank_takes_the_best_mean_rank_and_nan_for_the_worst():
    results = {
        "mean_test_a": np.array([0.9, 0.8, 0.1]),
        "mean_test_b": np.array([np.nan, 5.0, 1.0]),
        "params": None,
    }
    assert best_by_rank(results) == 1


def test_names_that_are_wrong_are_mended():
    with pytest.raises(FtransferError, match="no scorer 'consistancy'; did you mean 'consistency'"):
        load_scorer("consistancy")
    with pytest.raises(
        FtransferError, match="the ensemble ranks a complete set of candidates .* refit=best_by_rank"
    ):
        load_scorer("ensemble")(None, None, None)


def test_rows_without_a_target_cannot_be_scored(task):
    X, y, _ = task
    with pytest.raises(FtransferError, match="needs target rows, with y == -1; there are none"):
        load_scorer("entropy")(SVC(), X[:90], y[:90])


def test_a_plain_pipeline_with_an_adapter_is_refused(task):
    X, y, _ = task
    plain = make_plain_pipeline(DomainScaler(), PseudoLabelled(SVC())).fit(X, y)
    with pytest.raises(
        FtransferError, match="Pipeline would transform source rows as if .* AdaptationPipeline"
    ):
        load_scorer("source_accuracy")(plain, X, y)


def test_an_estimator_that_reads_no_target_is_fitted_on_the_source_alone(task):
    X, y, _ = task
    plain = make_plain_pipeline(StandardScaler(), SVC()).fit(X[:90], y[:90])
    judge = Judge(X, y)
    assert score("source_accuracy", judge, plain).value > 0.9
    assert 0 <= score("circular", judge, plain).value <= 1


def test_several_sources_are_each_mapped_by_their_own_map():
    X, y, labels = blobs(n_source=120, n_target=60, shift=0.0)
    domain = np.where(y == -1, -1, np.where(np.arange(180) % 2, 2, 1))
    X[domain == 2] += 50
    pipeline = make_pipeline(DomainScaler(), SVC()).fit(X, y, sample_domain=domain)
    judge = Judge(X, y, domain)
    for name in ("source_accuracy", "deep_embedded", "circular", "consistency"):
        assert score(name, judge, pipeline).value > 0.8, name


def test_a_grid_search_tells_several_sources_apart_by_metadata_routing():
    X, y, _ = blobs(n_source=120, n_target=60, shift=0.0)
    domain = np.where(y == -1, -1, np.where(np.arange(180) % 2, 2, 1))
    X[domain == 2] += 50
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(DomainScaler(), SVC()),
            {"svc__C": [1.0, 10.0]},
            scoring={name: load_scorer(name) for name in ("source_accuracy", "consistency")},
            refit="consistency",
            cv=DomainKFold(3),
            error_score="raise",
        ).fit(X, y, sample_domain=domain)
    assert search.cv_results_["mean_test_source_accuracy"].min() > 0.9


def test_a_grid_search_keeps_groups_together_with_metadata_routing(task):
    X, y, _ = task
    groups = np.arange(len(y)) // 5
    searches = []
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            search = GridSearchCV(
                make_pipeline(DomainScaler(), SVC()),
                {"svc__C": [1.0, 10.0]},
                scoring=load_scorer("consistency"),
                cv=DomainKFold(3),
                error_score="raise",
            )
            searches.append(search.fit(X, y, groups=groups).cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*searches)


@pytest.mark.parametrize("name", SINGLE)
def test_a_regression_has_no_classes_to_compare(task, name):
    X, y, _ = task
    values = np.where(y == -1, np.nan, y + 0.25)
    regression = make_pipeline(DomainScaler(), Ridge()).fit(X, values)
    with pytest.raises(FtransferError, match="a score compares classes, and y holds numbers such as 0.25"):
        load_scorer(name)(regression, X, values)


def test_labels_need_not_be_numbered_from_zero(task):
    X, y, truth = task
    other = np.where(y == -1, -1, y * 10 + 5)
    for name in SINGLE:
        pipelines = [
            make_pipeline(DomainScaler(), LogisticRegression()).fit(X, given) for given in (y, other)
        ]
        found = [
            score(name, Judge(X, given), p).value for given, p in zip((y, other), pipelines, strict=True)
        ]
        assert found[0] == pytest.approx(found[1]), name


# ---------------------------------------------------------------- by the papers' words


def test_entropy_and_information_are_what_their_formulas_say(task):
    X, y, truth = task
    P = np.random.default_rng(0).dirichlet([1, 1, 1], 90)
    entropy = -(P * np.log(P)).sum(axis=1).mean()
    share = P.mean(axis=0)
    judge, says = Judge(X, y), Says(P.argmax(axis=1), P)
    assert score("entropy", judge, says).value == pytest.approx(-entropy, rel=1e-5)
    expected = -(share * np.log(share)).sum() - entropy
    assert score("information", judge, says).value == pytest.approx(expected, rel=1e-5)


def test_neighbourhood_density_is_that_of_the_paper(task):
    X, y, truth = task
    P = np.random.default_rng(0).dirichlet([1, 1, 1], 90)
    unit = P / np.linalg.norm(P, axis=1, keepdims=True)
    S = np.exp(unit @ unit.T / 0.05)
    np.fill_diagonal(S, 0)
    S /= S.sum(axis=1, keepdims=True)
    expected = -np.sum(S * np.log(S, out=np.zeros_like(S), where=S > 0), axis=1).mean()
    assert score("neighbourhood_density", Judge(X, y), Says(truth, P)).value == pytest.approx(
        expected, rel=1e-5
    )


def test_importance_weighting_listens_to_the_rows_that_the_target_is_like():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(0, 1, (400, 1)), rng.normal(1.0, 0.5, (400, 1))].astype(np.float32)
    y = np.r_[rng.integers(0, 2, 400), np.full(400, -1)]
    right = X[:400, 0] > 0.5  # right where the target lies, wrong elsewhere
    evidence = Evidence(Judge(X, y), SVC().fit(X[:400], y[:400]))
    evidence.source_labels = np.where(right, y[:400], 1 - y[:400])
    plain, weighted, embedded = (
        load_scorer(name).judge(evidence).value
        for name in ("source_accuracy", "importance_weighted", "deep_embedded")
    )
    assert plain == pytest.approx(right.mean(), abs=1e-5)
    assert plain < 0.4
    assert weighted > 0.7
    assert embedded > 0.7


def test_circular_validation_fits_the_other_way_round(task):
    X, y, truth = task
    pipeline = make_pipeline(DomainScaler(), LogisticRegression()).fit(X, y)
    turned = np.r_[np.full(90, -1), pipeline.predict(X[90:])]
    expected = np.mean(clone(pipeline).fit(X, turned).predict(X[:90]) == y[:90])
    assert score("circular", Judge(X, y), pipeline).value == pytest.approx(expected, abs=1e-6)


def test_mixtures_keep_their_label_where_clusters_are_far_apart_and_not_under_random_labels(task):
    X, y, truth = task
    judge = Judge(X, y)
    good = score("mixval", judge, make_pipeline(DomainScaler(), SVC()).fit(X, y)).value
    shuffled = np.r_[np.random.default_rng(0).permutation(y[:90]), y[90:]]
    bad = score("mixval", judge, make_pipeline(DomainScaler(), SVC(C=100)).fit(X, shuffled)).value
    assert good > bad + 0.05


def test_a_classifier_without_probabilities_gives_the_softmax_of_its_decisions():
    X, y, labels = blobs(n_source=60)
    svc = SVC().fit(X[:60], labels[:60])
    P = probability_of(svc, X)
    assert P.shape == (105, 3)
    np.testing.assert_allclose(P.sum(axis=1), 1)
    np.testing.assert_array_equal(P.argmax(axis=1), svc.decision_function(X).argmax(axis=1))
    two = SVC().fit(X[:60], labels[:60] > 0)
    np.testing.assert_array_equal(probability_of(two, X).argmax(axis=1) == 1, two.decision_function(X) > 0)


# ---------------------------------------------------------------- folds


@pytest.mark.parametrize("name", ["mixval", "consistency", "density", "entropy", "information"])
def test_a_score_does_not_depend_on_the_order_of_the_rows(name, task):
    if name not in SINGLE:
        name = next(each for each in SINGLE if name in each)
    X, y, _ = task
    pipeline = make_pipeline(DomainScaler(), SVC()).fit(X, y)
    order = np.random.default_rng(1).permutation(len(y))
    there, back = (
        score(name, Judge(X[rows], y[rows]), pipeline).value for rows in (np.arange(len(y)), order)
    )
    assert back == pytest.approx(there, rel=1e-5)


def test_copies_of_a_row_are_not_its_neighbours(task):
    X, y, _ = task
    doubled = np.r_[X, X[90:], X[90:]], np.r_[y, y[90:], y[90:]]
    once, thrice = Judge(X, y), Judge(*doubled)
    there = once.X_target[once.neighbours]
    for copy in range(3):
        of_copy = thrice.X_target[thrice.neighbours[90 * copy : 90 * (copy + 1)]]
        np.testing.assert_array_equal(of_copy, there)
    assert Judge(np.r_[X[:90], np.repeat(X[90:91], 5, axis=0)], y[:95]).neighbours.shape == (5, 0)


def test_folds_hold_both_domains_all_classes_and_whole_groups():
    y = np.r_[np.arange(60) % 3, np.full(60, -1)]
    groups = np.arange(120) // 4
    for train, test in DomainKFold(3).split(np.zeros((120, 1)), y, groups):
        assert set(y[test]) == set(y[train]) == {-1, 0, 1, 2}
        assert not set(groups[train]) & set(groups[test])
    assert DomainKFold(3).get_n_splits() == 3


def test_held_out_rows_are_never_of_a_group_that_was_fitted_on():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(30, 4)), 4, axis=0)  # four copies of each row, labels at random
    X, y = np.r_[X, X].astype(np.float32), np.r_[np.repeat(rng.integers(0, 2, 30), 4), np.full(120, -1)]
    forest = make_plain_pipeline(RandomForestClassifier(30, random_state=0)).fit(X[:120], y[:120])
    leaky = score("source_accuracy", Judge(X, y), forest).value
    honest = score("source_accuracy", Judge(X, y, groups=np.arange(240) // 4), forest).value
    assert leaky > 0.95
    assert honest < 0.75


def test_source_accuracy_says_which_class_has_too_few_rows(task):
    X, y, _ = task
    y = y.copy()
    y[np.flatnonzero(y == 2)[2:]] = 0
    pipeline = make_pipeline(SVC()).fit(X, y)
    with pytest.raises(FtransferError, match="class 2 has only 2 source rows"):
        score("source_accuracy", Judge(X, y), pipeline)


# ---------------------------------------------------------------- ensemble and label shift


def test_the_ensemble_averages_ranks_and_leaves_failures_out():
    def scores(a, b):
        return {"a": Score(a, np.full(200, a)), "b": Score(b, np.full(200, b))}

    found = combine_by_rank([scores(0.9, 10.0), None, scores(0.5, 30.0), scores(0.1, 20.0)])
    assert found[1] is None
    assert [found[i].value for i in (0, 2, 3)] == [0.5, 0.75, 0.25]
    np.testing.assert_array_equal(found[2].resampled, 0.75)
    assert found[2].parts == {"a": 0.5, "b": 30.0}
    assert combine_by_rank([None]) == [None]
