"""ftransfer finetune."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ftransfer.cli import complete, options, split_names
from ftransfer.cli.progress import progress_bar
from ftransfer.cli.text import in_columns, say
from ftransfer.errors import FtransferError


class Names(click.ParamType):
    """Names with commas between them."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Turn text into a tuple."""
        return value if isinstance(value, tuple) else tuple(split_names(value))


@click.command()
@click.argument("images", shell_complete=complete.paths, nargs=-1, required=True, metavar="IMAGES...")
@click.option(
    "--out",
    required=True,
    shell_complete=complete.paths,
    help="Checkpoint, .safetensors; .json and .html are written next to it.",
)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    shell_complete=complete.domains,
    help="Domain to train on; may be repeated.  [default: all]",
)
@options.backbone
@options.weights("Initial weights: DEFAULT, a name (IMAGENET1K_V1), a file, or random.")
@options.image_size
@click.option(
    "--take", type=Names(), default="", help="Layers to load from the weights: layer1,layer2.  [default: all]"
)
@click.option("--freeze-until", metavar="LAYER", help="Freeze all layers up to this one.")
@click.option(
    "--unfreeze-every",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Train only the head first, and unfreeze one block after every N epochs.",
)
@click.option(
    "--validation",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of the images for validation and early stopping.",
)
@click.option(
    "--test", type=float, default=0.0, show_default=True, help="Share of each domain held out as test set."
)
@click.option(
    "--test-split",
    metavar="NAME",
    help="Images in a folder of this name (test), or of this torchvision split, only count, too.",
)
@click.option("--labels-per-class", type=click.IntRange(1), help="Images to use per class.")
@click.option(
    "--label-column",
    "labels",
    multiple=True,
    help="Label column of a table; several give several heads.",
)
@options.domain_column
@options.path_column
@click.option(
    "--augment",
    "--rules",
    "rules",
    type=Names(),
    default="",
    help="Augmentations: flip,crop,shift,colour,channels,grey,invert,erase; fourier (colours of --target); mixup; "
    "cutmix; auto: choose them on held-out images.",
)
@click.option(
    "--rules-from",
    shell_complete=complete.paths,
    metavar="CHECKPOINT",
    help="Augmentations of this checkpoint.",
)
@click.option(
    "--transfer-loss",
    shell_complete=complete.words("l2sp", "features", "logits"),
    metavar="NAME",
    help="Add a term to the loss: l2sp (stay near the initial weights), features (near the teacher's embedding), "
    "logits (near its softened scores).",
)
@click.option("--transfer-weight", type=float, help="Weight of this term.  [default: 1, l2sp 0.01]")
@click.option(
    "--teacher",
    shell_complete=complete.backbones,
    help="Backbone to distil, of any input size.  [default: the network as it starts]",
)
@options.weights("As --weights; for logits, a checkpoint of the same classes.", "--teacher-weights")
@click.option("--temperature", type=float, help="Of --transfer-loss logits.  [default: 4]")
@click.option(
    "--target",
    shell_complete=complete.domains,
    metavar="DOMAIN",
    help="Domain to align, or whose colours fourier takes, without its labels.",
)
@click.option(
    "--align",
    shell_complete=complete.words("adversarial", "coral", "mmd"),
    metavar="NAME",
    help="Bring --target near while training: adversarial (DANN), coral (Deep CORAL) or mmd (several kernels).",
)
@click.option(
    "--self-supervised",
    shell_complete=complete.words("simclr"),
    metavar="NAME",
    help="Train without labels on the images of --domain: simclr.",
)
@click.option("--align-weight", type=float, help="Weight of this term of the loss.  [default: 1, coral 0.1]")
@click.option(
    "--adapt-bn",
    is_flag=True,
    help="Train nothing: re-estimate batch-norm statistics on the images of --domain. Needs no labels.",
)
@click.option("--epochs", type=click.IntRange(1), default=20, show_default=True)
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Epochs without improvement before stopping.",
)
@click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True)
@click.option(
    "--optimizer",
    shell_complete=complete.words("adamw", "sgd"),
    default="adamw",
    show_default=True,
    help="adamw or sgd.",
)
@click.option("--learning-rate", type=float, help="For the head and new layers.  [default: 0.001, sgd 0.03]")
@click.option(
    "--taken-rate",
    type=float,
    help="For loaded layers, as a fraction of that.  [default: 1 and 0.1 are trained, the better validation is kept]",
)
@click.option(
    "--class-weights",
    shell_complete=complete.words("none", "balanced"),
    default="none",
    show_default=True,
    help="none, or balanced.",
)
@click.option(
    "--precision",
    shell_complete=complete.words("float32", "bfloat16"),
    default="float32",
    show_default=True,
    help="float32, or bfloat16 if it is faster.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@options.device()
@options.allow_outside
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def finetune(
    images: Any,
    out: Any,
    device: Any,
    labels: tuple[str, ...],
    domain_column: str | None,
    path_column: str | None,
    rules: tuple[str, ...],
    rules_from: str | None,
    adapt_bn: tuple[str, ...],
    allow_outside: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a backbone further on the labelled images IMAGES; write a checkpoint that extract takes.

    IMAGES is as for extract; several folders, tables or splits are combined. A checkpoint of ftransfer
    finetune can be the start of another: its head is kept if the classes are the same, otherwise a new one is trained.
    After an interruption, run the same command again to resume.
    """
    columns = {"domain": domain_column, "path": path_column, "label": next(iter(labels), None)}
    table = _find(images, settings["domains"], labels, allow_outside=allow_outside, columns=columns)
    from ftransfer.backbone.backbone import Backbone
    from ftransfer.backbone.batch_norm import adapt_batch_norm
    from ftransfer.backbone.checkpoint import checkpoint_path, read_about, save_backbone
    from ftransfer.finetune.rules import read_rules
    from ftransfer.finetune.settings import Training
    from ftransfer.finetune.train import fine_tune

    if rules_from:
        rules = read_rules(rules_from)
    training = Training(labels=labels or ("label",), rules=rules, **settings)
    if adapt_bn and (training.align or training.transfer_loss):
        raise FtransferError(
            "--adapt-bn trains nothing, so that --align and --transfer-loss have no effect; leave one of them out"
        )
    if adapt_bn:
        table = table[table["domain"].isin(settings["domains"])] if settings["domains"] else table
        checkpoint_path(out)
        network = Backbone(training.backbone, training.weights, device=device)
        network.preset = Backbone(training.backbone, "random").preset  # as extract will take the checkpoint
        with progress_bar(0, "", "") as bar:
            results = adapt_batch_norm(table, network, progress=_show(bar))
        save_backbone(network, out, rules=read_about(training.weights).get("rules", []))
        say(json.dumps(results) if as_json else _describe_adapted(results, out))
        return
    try:
        with progress_bar(0, "", "") as bar:
            results = fine_tune(table, out, training, device=device, progress=_show(bar))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted: finished epochs are kept next to {out}; run the same command again to resume"
        ) from None
    say(json.dumps(results) if as_json else describe(results, out))


def _find(images: tuple[str, ...], domains: Any, labels: tuple[str, ...], **how: Any) -> Any:
    """List the images of all folders, tables and splits as one table, with further columns of labels."""
    import pandas as pd

    from ftransfer.images.find import find_images
    from ftransfer.images.table import read_label_columns

    tables = []
    for each in dict.fromkeys(images):
        one = domains[0] if len(domains) == 1 and _has_no_domains(each) else None
        table = find_images(each, domain=one, **how)
        if labels:
            table[list(labels)] = read_label_columns(each, labels)
        tables.append(table)
    return pd.concat(tables, ignore_index=True).drop_duplicates(["root", "path", "domain"], ignore_index=True)


def _has_no_domains(images: str) -> bool:
    """Whether IMAGES is <root>/<class>/*, of which --domain names the only domain."""
    root = Path(images).expanduser()
    return root.is_dir() and not any(root.glob("*/*/*"))


def _show(bar: Any) -> Callable[[str, int, int], None]:
    now = None

    def show(what: str, done: int, total: int) -> None:
        nonlocal now
        if what != now:
            now = what
            bar.reset(total)
            bar.set_description(what)
        bar.update(done - bar.n)

    return show


def describe(results: dict, out: Any) -> str:
    """Say in a few lines what was trained, and what it reaches."""
    from ftransfer.finetune.curves import accuracy_rows

    out, images, training = Path(out), results["images"], results["training"]
    best = results["history"][results["best_epoch"] - 1]
    lines = [
        f"{out}: {training['backbone']} from {training['weights']}, {images['train']} images, epoch {best['epoch']} "
        f"of {len(results['history'])} kept"
    ]
    for name in ("taken", "fresh", "frozen"):
        lines.append(f"  {name}: {_blocks(results[name])}")
    heads = [f"{len(names)} classes of {task}" for task, names in results["classes"].items()]
    origin = "of the checkpoint" if results["head_taken"] else "new"
    lines.append(f"  head: {origin}, {', '.join(heads)}" if heads else "  head: none, no labels were read")
    if results["rules_tried"]:
        from ftransfer.finetune.rules import describe_search

        lines.append(f"  rules: {describe_search(training['rules'], results['rules_tried'])}")
    if len(results["rates_tried"]) > 1:
        tried = [f"{each['taken_rate']:g}: {_validation(each)}" for each in results["rates_tried"]]
        lines.append(f"  taken rate: {training['taken_rate']:g} (validation of {', '.join(tried)})")
    lines += _describe_terms(results, best)
    if "validation_loss" in best and best["validation_accuracy"] is not None:
        lines.append(f"  validation: {best['validation_accuracy']:.1%} of {images['validation']}")
    if rows := accuracy_rows(results):
        lines += [f"  {line}" for line in in_columns(rows, right={2, 3, 4})]
    if results["unreadable"]:
        lines.append(f"{len(results['unreadable'])} images could not be read and were skipped:")
        lines += [f"  {path}: {reason}" for path, reason in results["unreadable"][:10]]
    lines.append(f"curves: {out.with_suffix('.html')}")
    size = f" --image-size {training['image_size']}" if training["image_size"] else ""
    command = (
        f"ftransfer extract IMAGES --backbone {training['backbone']} --weights {out}{size} --out FEATURES"
    )
    return "\n".join([*lines, f"next: {command}"])


def _describe_terms(results: dict, best: dict) -> list[str]:
    """Say what was added to the loss of the labels."""
    training, lines = results["training"], []
    for name in (training["transfer_loss"], training["align"]):
        if name:
            first = results["history"][0]["terms"][name]
            lines.append(
                f"  {name}: {first:.3g} in the first epoch, {best['terms'][name]:.3g} in the one kept"
            )
    if training["align"]:
        lines.append(
            f"  epoch chosen by source validation and target information ({best['target_information']:.2f} of 1), "
            f"without labels of {training['target']}"
        )
    return lines


def _validation(row: dict) -> str:
    """Say how an epoch validates: by accuracy, or by loss where there are no labels."""
    if row["validation_accuracy"] is None:
        return f"loss {row['validation_loss']:.3g}"
    return f"{row['validation_accuracy']:.1%}"


def _describe_adapted(results: dict, out: Any) -> str:
    end = "" if results["converged"] else f"; one more pass would move one by {min(results['changes']):.1%}"
    return (
        f"{out}: statistics of {results['layers']} batch-norm layers from {results['images']} images, in "
        f"{len(results['changes']) + 1} passes{end}"
    )


def _blocks(modules: list[str]) -> str:
    """Shorten a list of modules to their outermost names."""
    return ", ".join(dict.fromkeys(m.split(".")[0] for m in modules)) or "nothing"
