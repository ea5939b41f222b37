"""Terms added to the loss of a training: what each moves, that a kill changes nothing, and what it never reads."""

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from ftransfer import Backbone, FtransferError, Training, find_images, fine_tune
from ftransfer.cli import main
from ftransfer.features.training import read_training
from ftransfer.finetune.align import Adversarial, DeepCoral, Discrepancy, information, strength
from ftransfer.finetune.curves import draw_curve
from ftransfer.finetune.network import Network
from ftransfer.finetune.objective import Seen
from ftransfer.finetune.transfer import NearScores

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"backbone": "small_cnn", "batch_size": 8, "epochs": 2, "validation": 0.25, "taken_rate": 1.0}
ALIGNED = {"domains": ("day",), "target": "night", "epochs": 4}


@pytest.fixture
def table(pictures):
    return find_images(pictures)


def train(table, out, **settings):
    return fine_tune(table, out, Training(**SMALL | settings))


def distance(file, weights="DEFAULT"):
    """How far the weights of the backbone, without its statistics, lie from where they began."""
    state, begun = load_file(file), Backbone("small_cnn", weights).network.state_dict()
    kinds = [k for k in begun if k.endswith(("weight", "bias"))]
    return float(sum((state[k] - begun[k].float()).square().sum() for k in kinds))


def seen(source, target, scores=None, pull=1.0):
    """Stand for what a network makes of source and target rows."""
    embedded = torch.cat([source, target]).requires_grad_()
    is_target = torch.arange(len(embedded)) >= len(source)
    return Seen(np.arange(len(embedded)), embedded, scores or [embedded], is_target, pull)


def draw(n, shift=0.0, scale=1.0, seed=0):
    return shift + scale * torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- knowledge transfer


def test_l2sp_keeps_weights_near_where_they_began_the_more_it_weighs(table, tmp_path):
    found = {}
    for weight in (None, 0.01, 10.0):
        out = tmp_path / f"{weight}.safetensors"
        terms = {"transfer_loss": "l2sp", "transfer_weight": weight} if weight else {}
        results = train(table, out, epochs=6, patience=0, **terms)
        found[weight] = distance(out)
        assert set(results["history"][0]["terms"]) == {"labels", *(["l2sp"] if weight else [])}
    assert found[10.0] < found[0.01] < found[None]
    assert found[10.0] < 0.5 * found[None]


def test_features_without_a_teacher_keep_the_embedding_of_the_network_as_it_starts(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", transfer_loss="features", epochs=6, patience=0)
    terms = [row["terms"]["features"] for row in results["history"]]
    assert terms[-1] < 0.8 * terms[0]
    assert results["training"]["teacher"] is None


def test_a_teacher_of_another_input_size_sees_the_pictures_in_its_own_way(table, tmp_path, monkeypatch):
    sizes, embed = [], Backbone.embed
    monkeypatch.setattr(Backbone, "embed", lambda self, b: (sizes.append(b.shape[2:]), embed(self, b))[1])
    teacher = {"teacher": "squeezenet1_1", "teacher_weights": "random"}
    results = train(table, tmp_path / "a.safetensors", **teacher, transfer_weight=0.5)
    assert (224, 224) in sizes
    assert results["training"]["transfer_loss"] == "features"
    row = results["history"][0]
    assert row["loss"] == pytest.approx(row["terms"]["labels"] + 0.5 * row["terms"]["features"])


def test_a_student_learns_the_teachers_classes_from_unlabelled_images(table, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    train(table[table["domain"] == "day"], teacher, epochs=12, patience=0, learning_rate=0.01)
    unlabelled = table[table["domain"] == "night"].assign(label=None)
    told = {
        "teacher": "small_cnn",
        "teacher_weights": str(teacher),
        "transfer_loss": "logits",
        "temperature": 2.0,
    }
    student = tmp_path / "student.safetensors"
    results = train(
        unlabelled, student, weights="random", **told, epochs=12, learning_rate=0.01, validation=0.0
    )
    assert results["classes"] == {"label": ["ash", "elm", "oak"]}
    terms = [row["terms"]["logits"] for row in results["history"]]
    assert terms[-1] < 0.3 * terms[0]
    night = train(
        table,
        tmp_path / "b.safetensors",
        weights=str(student),
        domains=("day",),
        epochs=1,
        learning_rate=1e-9,
    )
    assert night["accuracy"]["night"]["label"]["accuracy"] > 0.9


def test_soft_scores_are_compared_at_the_temperature_and_equal_ones_cost_nothing():
    told, ours = draw(5), draw(5, seed=1).requires_grad_()
    batch = Seen(np.array([2, 0]), ours[:2], [ours[:2]], torch.zeros(2, dtype=torch.bool), 1.0)
    p, q = (told[[2, 0]] / 3).softmax(1), (ours[:2] / 3).softmax(1)
    expected = 9 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(NearScores([told], 3.0)(batch), expected)
    assert float(NearScores([told], 3.0)(batch._replace(scores=[told[[2, 0]]]))) == pytest.approx(0, abs=1e-6)


# ---------------------------------------------------------------- alignment


def test_discrepancies_are_zero_for_equal_domains_and_pull_unequal_ones_together():
    for term in (DeepCoral(), Discrepancy()):
        assert float(term(seen(draw(40), draw(40))).detach()) == pytest.approx(0, abs=1e-6)
        batch = seen(draw(40), draw(40, shift=3.0, scale=2.0, seed=1))
        before = term(batch)
        (gradient,) = torch.autograd.grad(before, batch.embedded)
        moved = batch.embedded.detach() - 0.5 * gradient / gradient.norm()
        assert float(term(seen(moved[:40], moved[40:])).detach()) < float(before.detach())
        weak = batch._replace(strength=0.25)
        (quarter,) = torch.autograd.grad(term(weak), weak.embedded)
        torch.testing.assert_close(quarter, 0.25 * gradient)


def test_deep_coral_is_the_equation_of_its_paper():
    batch = seen(draw(40), draw(30, scale=2.0, seed=1))
    between = np.cov(draw(40).numpy().T) - np.cov(draw(30, scale=2.0, seed=1).numpy().T)
    assert float(DeepCoral()(batch).detach()) == pytest.approx((between**2).sum() / (4 * 9), rel=1e-5)


def test_an_adversary_learns_forwards_and_the_network_backwards():
    network = Network("small_cnn", "random", {"label": ["a", "b"]})
    network.backbone.widths = [3]
    term = Adversarial(network, seed=0)
    batch = seen(draw(8), draw(8, shift=2.0, seed=1), pull=0.5)
    gradients = torch.autograd.grad(term(batch), [batch.embedded, *term.parameters()], retain_graph=True)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(
        term.domains(batch.embedded).squeeze(1), batch.is_target.float()
    )
    expected = torch.autograd.grad(plain, [batch.embedded, *term.parameters()])
    torch.testing.assert_close(gradients[0], -0.5 * expected[0])
    for ours, theirs in zip(gradients[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert (strength(0), round(strength(0.5), 3)) == (0, 0.987)


def test_information_is_highest_for_sure_and_equal_classes():
    sure = 50 * torch.eye(4).repeat(3, 1)
    assert information(sure) == pytest.approx(1)
    assert information(torch.zeros(12, 4)) == pytest.approx(0)
    assert information(sure[[0, 0, 0]]) == pytest.approx(0)


@pytest.mark.parametrize("align", ["adversarial", "coral", "mmd"])
def test_labels_of_the_target_change_nothing_but_the_count(table, tmp_path, align):
    poisoned, night = table.copy(), table["domain"] == "night"
    poisoned.loc[night, "label"] = ["palm", None, "ash"] * 4
    found = {}
    for name, images in {
        "true": table,
        "none": table.assign(label=table["label"].mask(night)),
        "false": poisoned,
    }.items():
        results = train(images, tmp_path / f"{name}.safetensors", align=align, **ALIGNED)
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in results["history"]]
        found[name] = (tmp_path / f"{name}.safetensors").read_bytes(), history, results["best_epoch"]
        assert results["images"] == {"train": 9, "validation": 3, "target": 12, "test": 0}
        assert (results["accuracy"] == {}) == (name == "none")
    assert found["true"] == found["none"] == found["false"]
    aligned = load_file(tmp_path / "true.safetensors")
    train(table, tmp_path / "plain.safetensors", domains=("day",), epochs=4)
    plain = load_file(tmp_path / "plain.safetensors")
    assert not torch.equal(aligned["block3.conv2.weight"], plain["block3.conv2.weight"])


def test_a_test_share_of_the_target_neither_trains_nor_depends_on_its_labels(table, tmp_path):
    settings = {**ALIGNED, "align": "coral", "test": 0.25, "epochs": 1}
    results = train(table, tmp_path / "a.safetensors", **settings)
    assert results["images"] == {"train": 6, "validation": 3, "target": 9, "test": 6}
    assert results["accuracy"]["night"]["label"]["of"] == 3


class Killed(BaseException):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize(
    "settings",
    [
        {"transfer_loss": "l2sp", "optimizer": "sgd"},
        {"transfer_loss": "features", "taken_rate": None},
        {**ALIGNED, "align": "adversarial", "freeze_until": "block1"},
        {**ALIGNED, "align": "mmd", "rules": ("flip",)},
    ],
)
def test_a_training_with_terms_that_is_killed_and_goes_on_ends_with_the_same_bytes(table, tmp_path, settings):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    settings = Training(**{**SMALL, "epochs": 4, "patience": 0, **settings})
    expected = fine_tune(table, whole, settings)
    for epoch in ("epoch 2 of 4", "epoch 4 of 4", "epoch 3 of 4, taken rate 0.1"):

        def stop(what, done, total, epoch=epoch):
            if what.startswith(epoch):
                raise Killed

        if settings.taken_rate or "rate" not in epoch:
            if epoch.startswith("epoch 3") and settings.taken_rate:
                continue
            with pytest.raises(Killed):
                fine_tune(table, parts, settings, progress=stop)
    results = fine_tune(table, parts, settings)
    assert [row["terms"] for row in results["history"]] == [row["terms"] for row in expected["history"]]
    assert whole.read_bytes() == parts.read_bytes()
    assert len(results["rates_tried"]) == (1 if settings.taken_rate else 2)


# ---------------------------------------------------------------- rate, report, mistakes


def test_the_rate_of_taken_layers_with_the_better_validation_is_kept(table, tmp_path):
    results = train(table, tmp_path / "a.safetensors", taken_rate=None, epochs=4)
    merits = {
        r["taken_rate"]: (r["validation_accuracy"], -r["validation_loss"]) for r in results["rates_tried"]
    }
    assert set(merits) == {1.0, 0.1}
    kept = results["training"]["taken_rate"]
    assert merits[kept] == max(merits.values())
    alone = train(table, tmp_path / "b.safetensors", taken_rate=kept, epochs=4)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert [r["loss"] for r in results["history"]] == [r["loss"] for r in alone["history"]]
    nothing = train(table, tmp_path / "c.safetensors", taken_rate=None, weights="random")
    assert len(nothing["rates_tried"]) == 1


def test_the_report_draws_every_term_of_the_loss(table, tmp_path):
    terms = {"transfer_loss": "l2sp", "align": "mmd"}
    results = train(table, tmp_path / "a.safetensors", **ALIGNED, **terms)
    page = (tmp_path / "a.html").read_text()
    for title in ("Loss term: labels", "Loss term: l2sp", "Loss term: mmd", "Target information"):
        assert title in page
    assert "12 images of night without labels (mmd)" in page
    kept = read_training(str(tmp_path / "a.json"))
    assert draw_curve(kept).count("<svg") == 6
    kept = json.loads((tmp_path / "a.json").read_text())
    kept["history"][0]["terms"] = {"<script>": "1"}
    (tmp_path / "a.json").write_text(json.dumps(kept))
    assert read_training(str(tmp_path / "a.json")) is None
    assert results["history"][0]["target_information"] <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transfer_loss": "l2"}, "no transfer loss 'l2'; did you mean 'l2sp'"),
        (
            {"transfer_loss": "l2sp", "teacher": "resnet18"},
            "stays near the initial weights and has no teacher",
        ),
        ({"transfer_loss": "l2sp", "weights": "random"}, "and --weights random loads none"),
        ({"transfer_loss": "features", "weights": "random"}, "with --weights random needs a --teacher"),
        ({"transfer_loss": "logits"}, "the teacher small_cnn with the weights DEFAULT has no class names"),
        ({"teacher_weights": "a.pth"}, "--teacher-weights are those of --teacher; name it as well"),
        ({"transfer_weight": 2.0}, "--transfer-weight is the weight of --transfer-loss; add"),
        (
            {"transfer_loss": "l2sp", "transfer_weight": -1.0},
            "transfer weight must be a number above 0, not -1.0",
        ),
        ({"transfer_loss": "l2sp", "temperature": 2.0}, "--temperature is that of --transfer-loss logits"),
        ({"align": "mdm", "target": "night"}, "no alignment 'mdm'; did you mean 'mmd'"),
        ({"align": "mmd"}, "--align mmd needs --target DOMAIN"),
        ({"target": "night"}, "--target night is the domain that --align brings near; add --align"),
        ({"align_weight": 1.0}, "--align-weight is the weight of --align; add --align"),
        (
            {"align": "mmd", "target": "day", "domains": ("day",)},
            "day is the target and cannot be a source as well",
        ),
        ({"align": "mmd", "target": "nihgt"}, "no domain 'nihgt'; did you mean 'night'"),
    ],
)
def test_mistakes_are_named(table, tmp_path, settings, message):
    with pytest.raises(FtransferError, match=message):
        train(table, tmp_path / "a.safetensors", **settings)


def test_a_teacher_of_other_classes_is_refused(table, tmp_path):
    train(table.assign(label=table["domain"]), tmp_path / "a.safetensors", epochs=1)
    told = {
        "teacher": "small_cnn",
        "teacher_weights": str(tmp_path / "a.safetensors"),
        "transfer_loss": "logits",
    }
    with pytest.raises(
        FtransferError, match="scores other classes than the 3 of label of the training images; use a"
    ):
        train(table, tmp_path / "b.safetensors", **told)


def test_the_command_aligns_and_says_how_the_epoch_was_chosen(pictures, tmp_path):
    out = tmp_path / "a.safetensors"
    command = [
        "finetune",
        pictures,
        "--out",
        out,
        "--backbone",
        "small_cnn",
        "--epochs",
        "2",
        "--batch-size",
        "8",
    ]
    command += ["--target", "night", "--align", "coral", "--align-weight", "0.5", "--transfer-loss", "l2sp"]
    result = CliRunner().invoke(main, [str(c) for c in command])
    assert result.exit_code == 0, result.output
    assert "  taken rate: " in result.output
    assert "  coral: " in result.output
    assert "epoch chosen by source validation and target information (" in result.output
    assert re.search(r"night +unlabelled +12 ", result.output)


def test_statistics_alone_cannot_be_aligned_with_a_loss(pictures, tmp_path):
    command = [
        "finetune",
        pictures,
        "--out",
        tmp_path / "a.safetensors",
        "--backbone",
        "small_cnn",
        "--adapt-bn",
    ]
    result = CliRunner().invoke(main, [str(c) for c in [*command, "--target", "night", "--align", "mmd"]])
    assert result.exit_code == 1
    assert result.output == (
        "error: --adapt-bn trains nothing, so that --align and --transfer-loss have no effect; leave one of them out\n"
    )
