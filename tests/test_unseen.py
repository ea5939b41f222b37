"""A target never seen: nothing of it fits, adapts or chooses, and source domains stand in for it."""

import json

import numpy as np
import pytest
from conftest import write_feature_set
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from test_cli import run

from ftransfer import (
    CORAL,
    DomainScaler,
    FeatureSet,
    FtransferError,
    PseudoLabelled,
    load_task,
    make_pipeline,
    race,
)
from ftransfer.model.confidence import fit_temperature
from ftransfer.pipeline import AdaptationPipeline
from ftransfer.recipes import Recipe
from ftransfer.search.unseen import HeldOutJudge

NAMES = np.array(["a", "b", "c"])
QUICK = [
    Recipe("plain", AdaptationPipeline([("svc", SVC())]), {"svc__C": [1.0, 10.0]}),
    Recipe("scaled", make_pipeline(DomainScaler(), SVC()), {}),
    Recipe("aligned", make_pipeline(DomainScaler(), CORAL(), SVC()), {"coral__ridge": [1.0]}),
]


def shifted(seed=0, each=45):
    """Rows of the domains s, t, u and v, which differ in where they lie."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, 8)) * 3
    labels = np.tile(np.arange(each) % 3, 4)
    domains = np.repeat(list("stuv"), each)
    offset = np.repeat(rng.normal(size=(4, 8)) * 4, each, axis=0)
    return (centers[labels] + offset + rng.normal(size=(4 * each, 8))).astype(np.float32), labels, domains


def write(folder, X, labels, domains):
    return write_feature_set(folder, X, NAMES[labels], domains)


def hold_out(features, sources=("s", "t", "u")):
    return load_task(features, list(sources), "v", leave_target_out=True)


def test_rows_and_labels_of_the_target_change_nothing_but_what_is_counted(tmp_path):
    X, labels, domains = shifted()
    other = X.copy()
    other[domains == "v"] = np.random.default_rng(9).normal(size=(45, 8)) * 50
    found = [
        race(hold_out(write(tmp_path / str(i), rows, given, domains)), QUICK, jobs=1)
        for i, (rows, given) in enumerate(
            [(X, labels), (other, np.where(domains == "v", (labels + 1) % 3, labels))]
        )
    ]
    tables = [f.table.drop(columns=["seconds", "target_accuracy"]) for f in found]
    assert tables[0].equals(tables[1])
    assert found[0].sentence == found[1].sentence
    np.testing.assert_array_equal(found[0].pipeline.predict(X), found[1].pipeline.predict(X))
    assert not np.allclose(found[0].table["target_accuracy"][:1], found[1].table["target_accuracy"][:1])


@pytest.mark.filterwarnings("ignore:no target rows")
def test_each_source_is_predicted_by_a_fit_on_the_others_as_if_it_were_the_target(tmp_path):
    X, labels, domains = shifted()
    task = hold_out(write(tmp_path / "f", X, labels, domains)).visible
    assert not (task.sample_domain < 0).any()
    pipeline = QUICK[2].pipeline
    judge = HeldOutJudge(task)
    predicted = judge.evidence(pipeline).predicted
    for code in (1, 2, 3):
        others = task.sample_domain != code
        fitted = make_pipeline(DomainScaler(), CORAL(), SVC())
        fitted.fit(task.X[others], task.y[others], sample_domain=task.sample_domain[others])
        np.testing.assert_array_equal(predicted[~others], fitted.predict(task.X[~others]))
    np.testing.assert_allclose(judge.source_weights.sum(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(judge.source_weights[:, task.sample_domain == 2].sum(axis=1), 1 / 3, rtol=1e-4)


def test_what_labels_the_target_does_not_race_and_the_notes_say_so(tmp_path):
    pseudo = Recipe("pseudo", make_pipeline(PseudoLabelled(SVC(probability=False))), {})
    found = race(hold_out(write(tmp_path / "f", *shifted())), [*QUICK, pseudo], jobs=1)
    assert set(found.table["pipeline"]) == {"plain", "scaled", "aligned"}
    said = " ".join(found.task.notes)
    assert "v was not used to fit, adapt or choose; the choice is by leaving out each source in turn" in said
    assert "not run, because it predicts labels for target rows: pseudo" in said
    assert found.scorer.name == "held_out_accuracy"


def test_probabilities_are_calibrated_on_domains_held_out(tmp_path):
    task = hold_out(write(tmp_path / "f", *shifted())).visible
    plain = make_pipeline(LogisticRegression()).fit(task.X, task.y)
    within = fit_temperature(plain, task.X, task.y, np.ones(len(task.y), dtype=int))
    assert fit_temperature(plain, task.X, task.y, task.sample_domain) > 2 * within


def test_with_one_source_only_what_needs_no_second_domain_races_and_it_says_what_it_is_worth(tmp_path):
    found = race(hold_out(write(tmp_path / "f", *shifted()), ["s"]), QUICK, jobs=1)
    assert set(found.table["adaptation"]) == {"source only"}
    assert found.sentence == "Train on the source without adaptation: plain."
    assert "with a single source no domain can be left out" in " ".join(found.task.notes)


def test_an_image_that_is_in_a_source_as_well_is_not_counted(tmp_path):
    X, labels, domains = shifted()
    features = write(tmp_path / "f", X, labels, domains)
    table = features.manifest
    table.loc[table["domain"] == "v", "sha256"] = [*table["sha256"][:5], *table["sha256"][-40:]]
    features.write_manifest(table)
    task = hold_out(features)
    assert (task.answers.codes == -1).sum() == 5
    assert "5 images of 'v' are also in a source: excluded from the accuracy" in task.notes


def test_a_score_or_labels_of_the_target_are_refused(tmp_path):
    task = hold_out(write(tmp_path / "f", *shifted()))
    with pytest.raises(FtransferError, match="with --leave-target-out the target is not used to choose"):
        race(task, QUICK, scorer="entropy")
    with pytest.raises(FtransferError, match="--classes shared would use the labels"):
        load_task(FeatureSet(tmp_path / "f"), "s", "v", classes="shared", leave_target_out=True)
    with pytest.raises(FtransferError, match="with --leave-target-out the target is not used to choose"):
        race(task, QUICK, target_labels=np.zeros(45, dtype=int))


def test_the_command_line_leaves_the_target_out_and_says_so(tmp_path):
    write(tmp_path / "f", *shifted())
    common = ("fit", tmp_path / "f", "--source", "s,t,u", "--target", "v", "--leave-target-out")
    common += ("--pipeline", "source_only_svm", "--pipeline", "scaled_svm", "--jobs", "1")
    result = run(*common, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "note: v was not used to fit, adapt or choose" in result.output
    assert "  target*" in result.output
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["task"]["unseen"]
    assert results["score"]["name"] == "held_out_accuracy"
    assert results["counted"]["recommended"] is not None
    page = (tmp_path / "run" / "report.html").read_text()
    assert "v was not used to fit" in page
    assert run(*common, "--use-target-labels", "3", "--out", tmp_path / "no").exit_code == 2
