import numpy as np
import pandas as pd
import pytest
from conftest import blobs, write_feature_set
from sklearn.svm import SVC

from ftransfer import (
    CORAL,
    DomainScaler,
    FtransferError,
    SubspaceAlignment,
    list_recipes,
    load_task,
    make_pipeline,
    race,
)
from ftransfer.pipeline import AdaptationPipeline, Recipe
from ftransfer.search import adaptation, recommend, with_baselines

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


def candidates(source_only, scaled, adapted, noise):
    rng = np.random.default_rng(0)
    rows = [("a", "source only", source_only), ("b", "per-domain scaling", scaled), ("c", "CORAL", adapted)]
    table = pd.DataFrame(rows, columns=["pipeline", "adaptation", "score"])
    table["resampled"] = [score + noise * rng.normal(size=200) for score in table["score"]]
    return table.sort_values("score", ascending=False).reset_index(drop=True)


@pytest.mark.parametrize(
    ("scores", "noise", "answer"),
    [
        ((0.5, 0.6, 0.7), 0.01, "Adapt with CORAL: c."),
        ((0.5, 0.6, 0.61), 0.01, "Scale each domain by itself and leave it at that: b."),
        ((0.5, 0.4, 0.7), 0.01, "Adapt with CORAL: c."),
        ((0.5, 0.51, 0.52), 0.2, "Do not adapt: a"),
        ((0.7, 0.6, 0.5), 0.01, "Do not adapt: a"),
    ],
)
def test_a_step_is_taken_only_where_it_is_worth_more_than_its_error(scores, noise, answer):
    table = candidates(*scores, noise)
    chosen, sentence, reason = recommend(table)
    assert sentence.startswith(answer)
    assert sentence.split(": ")[1][0] == table["pipeline"][chosen]
    assert "standard error" in reason
