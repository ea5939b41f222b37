from dataclasses import replace

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC

from ftransfer import (
    CORAL,
    DomainScaler,
    FtransferError,
    ImportanceWeighted,
    RaceSettings,
    SubspaceAlignment,
    draw_target_labels,
    list_recipes,
    load_task,
    make_pipeline,
    race,
)
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.contest import with_baselines
from ftransfer.search.sample import thin
from ftransfer.search.settings import RaceOptions
from ftransfer.search.steps import adaptation, step_of

QUICK = [
    Recipe("plain", AdaptationPipeline([("svc", SVC())]), {"svc__C": [1.0, 10.0]}),
    Recipe("scaled", make_pipeline(DomainScaler(), SVC()), {}),
    Recipe("aligned", make_pipeline(DomainScaler(), CORAL(), SVC()), {"coral__ridge": [1.0]}),
]


def test_a_shifted_target_is_worth_adapting_to(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=90, shift=8.0)
    features = write_feature_set(
        tmp_path / "f", X, np.array(["a", "b", "c"])[labels], np.where(y == -1, "t", "s")
    )
    found = race(load_task(features, "s", "t"), QUICK, jobs=1)
    assert found.table["rank"].tolist() == [1, 2, 3, 4]
    assert found.table["score"].is_monotonic_decreasing
    assert found.table["adaptation"][found.chosen] != "source only"
    assert np.mean(found.pipeline.predict(X[90:]) == labels[90:]) > 0.9
    assert found.table["target_accuracy"][found.chosen] > 0.9
    assert found.best_of_each["source_accuracy"].notna().all()


def test_equal_domains_are_answered_with_do_not_adapt(tmp_path):
    X, y, labels = blobs(n_source=90, n_target=90)
    X[90:] = (X[90:] - 3.0) / 1.7  # undo the shift
    features = write_feature_set(
        tmp_path / "f", X, np.array(["a", "b", "c"])[labels], np.where(y == -1, "t", "s")
    )
    found = race(load_task(features, "s", "t"), QUICK)
    assert not found.adapt
    assert found.sentence.startswith("Do not adapt: plain")


def test_nothing_is_chosen_by_the_targets_labels(tmp_path):
    X, y, labels = blobs(shift=4.0)
    names, domains = np.array(["a", "b", "c"]), np.where(y == -1, "t", "s")
    tables = []
    for i, given in enumerate([names[labels], np.where(y == -1, names[(labels + 1) % 3], names[labels])]):
        found = race(load_task(write_feature_set(tmp_path / str(i), X, given, domains), "s", "t"), QUICK)
        tables.append(found.table.drop(columns=["seconds", "target_accuracy"]))
    pd.testing.assert_frame_equal(*tables)


def test_what_is_sent_to_workers_holds_no_label_of_the_target(tmp_path):
    """Byte for byte: all that `bind` is given, which `race_on_cluster` sends, and each trial."""
    X, y, labels = blobs(shift=4.0)
    names, domains = np.array(["a", "b", "c"]), np.where(y == -1, "t", "s")
    sent = []

    def spy(work, *shared):
        given = []
        sent.append((cloudpickle.dumps((work, shared)), given))
        return lambda trial: given.append(cloudpickle.dumps(trial)) or work(*shared, trial)

    for i in range(2):
        shown = np.where(y == -1, names[(labels + i) % 3], names[labels])
        features = write_feature_set(tmp_path / str(i), X, shown, domains)
        table = features.manifest
        table["label:other"] = shown[::-1]
        features.write_manifest(table)
        task, some = draw_target_labels(load_task(features, "s", "t"), 9, random_state=i)
        found = race(task, QUICK, target_labels=some, jobs=1, bind=spy)
        assert found.table["target_accuracy"].notna().all()
    assert len(sent) == 2
    assert len(sent[0][1]) == 4
    assert sent[0] == sent[1]


def test_settings_are_given_as_one_object_or_each_by_its_name(shifted_task):
    settings = RaceSettings(search="random", n_trials=4, jobs=1)
    one, other = race(shifted_task, QUICK, settings=settings), race(shifted_task, QUICK, **vars(settings))
    assert one.table.drop(columns="seconds").equals(other.table.drop(columns="seconds"))
    assert race(shifted_task, QUICK, settings=settings, scorer="entropy").scorer.name == "entropy"
    assert set(RaceOptions.__annotations__) == set(RaceSettings.__dataclass_fields__)
    with pytest.raises(TypeError, match="unexpected keyword argument 'job'"):
        race(shifted_task, QUICK, job=1)


class OwnLabels(LogisticRegression):
    """A user's own method: fitted once on the source, then on its own labels of the target, too."""

    self_labelling = True

    def fit(self, X, y, sample_domain=None):
        source = y != -1
        labels = LogisticRegression().fit(X[source], y[source]).predict(X)
        return super().fit(X, np.where(source, y, labels))


class OwnSpreading(LabelSpreading):
    """A user's own class, derived from one of scikit-learn's semi-supervised ones."""


@pytest.mark.parametrize(
    ("last", "step"),
    [
        (OwnLabels(), "self-labelling"),
        (OwnSpreading(), "self-labelling"),
        (SelfTrainingClassifier(LogisticRegression()), "self-labelling"),
        (LabelPropagation(), "self-labelling"),
        (ImportanceWeighted(), "alignment"),
        (LogisticRegression(), "per-domain scaling"),
    ],
)
def test_what_labels_the_target_itself_is_a_step_of_its_own_whoever_wrote_it(last, step):
    assert step_of(make_pipeline(DomainScaler(), last)) == step
    assert step_of(make_pipeline(CORAL(), last)) == (step if step == "self-labelling" else "alignment")


def test_a_users_own_method_that_labels_the_target_races_as_one(shifted_task):
    recipes = [*QUICK, Recipe("own", make_pipeline(DomainScaler(), OwnLabels()), {})]
    found = race(shifted_task, recipes, jobs=1)
    assert found.table.set_index("pipeline")["step"]["own"] == "self-labelling"
    assert found.table["error"].eq("").all()
    assert "OwnLabels (own) " in found.reason
    assert found.steps[-1].step == "self-labelling"


def test_a_candidate_that_fails_is_a_row_with_its_error(feature_set):
    broken = Recipe("broken", make_pipeline(DomainScaler(), SVC()), {"svc__C": [-1.0]})
    found = race(load_task(feature_set, "day", "night"), [*QUICK, broken])
    last = found.table.iloc[-1]
    assert last["pipeline"] == "broken"
    assert np.isnan(last["score"])
    assert "InvalidParameterError" in last["error"]


def test_a_race_that_fails_altogether_says_why(feature_set):
    broken = [Recipe(r.name, r.pipeline, {"svc__C": [-1.0]}) for r in QUICK]
    with pytest.raises(FtransferError, match="every candidate failed; the first: .*InvalidParameterError"):
        race(load_task(feature_set, "day", "night"), broken)


def test_the_baselines_are_always_in_the_race():
    names = [r.name for r in with_baselines(["coral_svm"])]
    assert names[0] == "coral_svm"
    assert {"source_only_svm", "source_only_forest", "scaled_logistic"} <= set(names)
    assert [r.name for r in with_baselines(None)] == list_recipes()
    assert [r.name for r in with_baselines(QUICK)] == ["plain", "scaled", "aligned"]


def test_adaptations_are_named_by_the_steps_that_read_the_target():
    assert adaptation(make_pipeline(SVC())) == "source only"
    assert adaptation(make_pipeline(DomainScaler(), SVC())) == "per-domain scaling"
    assert adaptation(make_pipeline(DomainScaler(), CORAL(), SVC())) == "CORAL"
    assert adaptation(make_pipeline(SubspaceAlignment(), CORAL(), SVC())) == "SubspaceAlignment + CORAL"


@pytest.fixture(scope="module")
def shifted_task(tmp_path_factory):
    X, y, labels = blobs(n_source=150, n_target=120, shift=4.0)
    folder = tmp_path_factory.mktemp("search") / "f"
    names = np.array(["a", "b", "c"])[labels]
    return load_task(write_feature_set(folder, X, names, np.where(y == -1, "t", "s")), "s", "t")


@pytest.mark.parametrize("search", ["grid", "random", "halving", "bayesian"])
@pytest.mark.parametrize("scorer", ["consistency", "ensemble"])
def test_every_search_adapts_to_a_shifted_target(shifted_task, search, scorer):
    if search == "bayesian":
        pytest.importorskip("optuna", reason="Optuna is not installed: the extra [bayesian]")
        if scorer == "ensemble":
            with pytest.raises(FtransferError, match="so it cannot guide a Bayesian search"):
                race(shifted_task, QUICK, search=search, scorer=scorer)
            return
    found = race(shifted_task, QUICK, search=search, scorer=scorer, n_trials=6, jobs=2)
    assert found.table["adaptation"][found.chosen] != "source only"
    assert found.table["target_accuracy"][found.chosen] > 0.9
    assert {"source only", "per-domain scaling"} <= set(found.table["adaptation"])


def test_halving_says_how_many_settings_it_tried_on_how_many_rows(shifted_task):
    recipe = Recipe("aligned", QUICK[2].pipeline, {"coral__ridge": [10.0**p for p in range(-3, 6)]})
    found = race(shifted_task, [*QUICK[:2], recipe], search="halving", jobs=1)
    assert "successive halving: 12 settings on 33% of the rows, then " in found.task.notes[-1]
    assert 3 <= len(found.table) < 12


def test_a_budget_ends_the_race_but_tries_every_step_of_the_guard(shifted_task):
    recipe = Recipe("aligned", QUICK[2].pipeline, {"coral__ridge": np.logspace(-2, 2, 50).tolist()})
    found = race(shifted_task, [*QUICK[:2], recipe], budget=1e-9, jobs=1)
    assert set(found.table["adaptation"]) == {"source only", "per-domain scaling", "CORAL"}
    assert len(found.table) == 3
    assert "the time budget was used up: 50 settings were not tried" in found.task.notes
    ended = race(shifted_task, [*QUICK[:2], recipe], search="halving", budget=1e-9, jobs=1)
    assert len(ended.table) >= 2


def test_progress_reaches_what_was_announced(shifted_task):
    for search, budget in (("grid", None), ("halving", None), ("grid", 1e-9)):
        announced, done = [], []
        race(
            shifted_task,
            QUICK,
            search=search,
            budget=budget,
            jobs=1,
            announce=announced.append,
            progress=done.append,
        )
        assert sum(done) == announced[0]


def test_fewer_rows_keep_domains_and_classes_in_proportion_and_groups_whole(shifted_task):
    groups = pd.array([f"g{i // 3}" for i in range(270)], dtype="string")
    task = replace(shifted_task, rows=shifted_task.rows.assign(group=groups))
    some, more = thin(task, 1 / 9), thin(task, 1 / 3)
    for part, share in ((some, 1 / 9), (more, 1 / 3)):
        for domain in (-1, 1):
            left, of = (part.sample_domain == domain).sum(), (task.sample_domain == domain).sum()
            assert abs(left - share * of) <= 10
        assert (part.rows["group"].value_counts() == 3).all()
        assert len(part.answers.codes) == (part.sample_domain < 0).sum()
        assert set(part.y) == set(task.y)
    assert set(some.rows["path"]) <= set(more.rows["path"])


def test_the_results_have_the_columns_of_scikit_learns_cv_results(shifted_task):
    broken = Recipe("broken", make_pipeline(DomainScaler(), SVC()), {"svc__C": [-1.0]})
    found = race(shifted_task, [*QUICK, broken], jobs=1)
    results = found.cv_results_
    frame = pd.DataFrame(results)
    splits = frame.filter(regex=r"^split\d+_test_score$")
    assert splits.shape == (5, 200)
    assert {"params", "param_svc__C", "param_coral__ridge", "mean_test_score", "std_test_score"} <= set(frame)
    assert (
        frame["rank_test_score"].tolist()
        == frame["test_score"].rank(ascending=False, method="min", na_option="bottom").astype(int).tolist()
    )
    assert frame["mean_test_score"].to_numpy() == pytest.approx(splits.mean(axis=1).to_numpy(), nan_ok=True)
    assert frame["std_test_score"].to_numpy() == pytest.approx(
        splits.std(axis=1, ddof=0).to_numpy(), nan_ok=True
    )
    aligned = frame[frame["pipeline"] == "aligned"].iloc[0]
    assert aligned["param_coral__ridge"] == 1.0
    assert results["param_svc__C"].mask.tolist() == ["svc__C" not in p for p in frame["params"]]
    assert splits.iloc[-1].isna().all()  # the one that failed, last
    low, high = splits.quantile([0.025, 0.975], axis=1).to_numpy()
    assert low == pytest.approx(found.table["low"].to_numpy(), nan_ok=True)
    assert high == pytest.approx(found.table["high"].to_numpy(), nan_ok=True)
