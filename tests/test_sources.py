from dataclasses import replace

import numpy as np
import pytest
from conftest import blobs, write_feature_set
from sklearn.svm import SVC

from ftransfer import DomainScaler, load_task, make_pipeline, race, write_report
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.scoring.judge import Judge
from ftransfer.search.sources import learned_from, offer_sources, without_sources

NAMES = np.array(["ash", "elm", "oak"])
QUICK = [
    Recipe("plain", AdaptationPipeline([("svc", SVC())]), {"svc__C": [1.0]}),
    Recipe("scaled", make_pipeline(DomainScaler(), SVC()), [{"svc__C": [1.0]}, {"svc__C": [10.0]}]),
]


def features_of(folder, *, harmful, n=90):
    """Domains far and near with labels, and a target like near; the labels of far are wrong where it is harmful."""
    X, _, labels = blobs(n_source=2 * n, n_target=n)
    X[2 * n :] = (X[2 * n :] - 3.0) / 1.7  # undo the shift
    domains = np.repeat(["far", "near", "t"], n)
    if harmful:
        X[:n] = X[:n][::-1] * 2 + 1
        labels[:n] = np.random.default_rng(0).integers(0, 3, n)
    return write_feature_set(folder, X, NAMES[labels], domains)


def test_a_source_that_misleads_is_left_out_and_a_note_says_so(tmp_path):
    features = features_of(tmp_path / "f", harmful=True)
    task = load_task(features, ["far", "near"], "t")
    found = race(task, QUICK, jobs=1)
    assert found.task.sources == ("near",)
    assert found.task.sample_domain.tolist() == [1] * 90 + [-1] * 90
    assert found.table["params"][found.chosen]["sources"] == "near"
    assert found.task.notes[-1] == "only the source near was used; not used: far"
    assert found.table["params"].map(lambda p: p["sources"]).value_counts().to_dict() == {
        "far + near": 3,
        "far": 3,
        "near": 3,
    }
    results = write_report(found, features, tmp_path / "run")
    assert results["task"]["sources"] == ["near"]
    assert results["counted"]["recommended"] > 0.95
    together = race(task, QUICK, choose_sources=False, jobs=1)
    assert together.task.sources == ("far", "near")
    assert "sources" not in together.table["params"][0]


@pytest.mark.parametrize("search", ["grid", "random", "halving", "bayesian"])
def test_every_search_offers_each_source_alone(tmp_path, search):
    if search == "bayesian":
        pytest.importorskip("optuna", reason="Optuna is not installed: the extra [bayesian]")
    task = load_task(features_of(tmp_path / "f", harmful=False), ["far", "near"], "t")
    found = race(task, QUICK, search=search, n_trials=12, jobs=1)
    assert found.table["error"].eq("").all()
    offered = found.table["params"].map(lambda p: p["sources"])
    # halving may leave the best of all sources together alone
    assert offered.nunique() > 1 or (
        search == "halving" and "successive halving: 9 settings" in str(found.task.notes)
    )


def test_a_race_among_sources_goes_on_where_it_was(tmp_path):
    task = load_task(features_of(tmp_path / "f", harmful=True), ["far", "near"], "t")
    first, second = (race(task, QUICK, journal=tmp_path / "j", jobs=1) for _ in range(2))
    assert len((tmp_path / "j").read_text().splitlines()) == 1 + 9
    assert first.table["seconds"].tolist() == second.table["seconds"].tolist()
    assert first.chosen == second.chosen


def test_one_source_and_sources_that_lack_a_class_are_not_offered(tmp_path):
    task = load_task(features_of(tmp_path / "f", harmful=False), ["far", "near"], "t")
    assert offer_sources(QUICK, learned_from(task, {"sources": "far"})) == QUICK
    lacking = replace(task, y=np.where((task.sample_domain == 1) & (task.y == 2), 1, task.y))
    offered = [recipe.grid[0]["sources"] for recipe in offer_sources(QUICK, lacking)]
    assert offered == [["far + near", "near"]] * 2


def test_what_is_learned_from_is_a_task_of_its_own(tmp_path):
    task = load_task(features_of(tmp_path / "f", harmful=False), ["far", "near"], "t")
    assert learned_from(task, {}) is task
    assert learned_from(task, {"sources": "far + near"}) is task
    near = learned_from(task, {"sources": "near", "svc__C": 1.0})
    np.testing.assert_array_equal(near.X, task.X[task.sample_domain != 1])
    np.testing.assert_array_equal(near.y, task.y[task.sample_domain != 1])
    assert near.rows["domain"].tolist() == ["near"] * 90 + ["t"] * 90
    assert near.answers is task.answers
    assert without_sources({"sources": "near", "svc__C": 1.0}) == {"svc__C": 1.0}


def test_judges_of_other_sources_resample_the_target_alike(tmp_path):
    task = load_task(features_of(tmp_path / "f", harmful=False), ["far", "near"], "t")
    near = learned_from(task, {"sources": "near"})
    judges = [Judge(t.X, t.y, t.sample_domain) for t in (task, near)]
    np.testing.assert_array_equal(judges[0].target_weights, judges[1].target_weights)
    np.testing.assert_array_equal(judges[0].asked, judges[1].asked)
