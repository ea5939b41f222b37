"""The learning curves of a training: as one page that needs no network, and as a part of a report."""

from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT = 640, 200, 44
ACCURACY_NOTE = (
    "Before: a logistic regression on the features of the backbone as it started, fitted on the same images. "
    "After: the trained head. Test images do not train, except those marked unlabelled, whose labels do not."
)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - ftransfer</title>
<style>:root {{ color-scheme: light dark }} body {{ font: 16px/1.5 system-ui, sans-serif; }}
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem }} table {{ border-collapse: collapse }}
svg {{ width: 100%; height: auto }} svg text {{ font: 12px system-ui; fill: currentColor }}
td, th {{ text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #8886 }}</style></head>
<body><h1>{title}</h1><p>{summary}</p>{charts}<h2>Accuracy on test images</h2>{accuracy}<h2>Epochs</h2>{epochs}
<p>Taken from the source: {taken}. Fresh: {fresh}. Frozen: {frozen}.</p></body></html>
"""


def curves_page(title: str, results: dict) -> str:
    """Draw loss and accuracy by epoch, and list what was taken and what was counted.

    Parameters
    ----------
    title : str
    results : dict, as `fine_tune` returns it
    """
    history = results["history"]
    terms = _terms(history)
    columns = ["epoch", "loss", *terms, "accuracy", "validation_loss", "validation_accuracy"]
    columns += [*(["target_information"] if "target_information" in history[0] else []), "seconds"]
    return PAGE.format(
        title=escape(title),
        summary=escape(_summary(results)),
        charts=_charts(results, "h2"),
        accuracy=_accuracy(results),
        epochs=_table(
            [c.replace("_", " ") for c in columns],
            [
                [_text(terms[c][i] if c in terms else r.get(c)) for c in columns]
                for i, r in enumerate(history)
            ],
        ),
        **{k: escape(", ".join(results[k]) or "nothing") for k in ("taken", "fresh", "frozen")},
    )


def draw_curve(results: dict) -> str:
    """Draw loss and accuracy by epoch with a sentence, as HTML; plain tags and escaped text alone.

    Parameters
    ----------
    results : dict, as `fine_tune` returns it
    """
    accuracy = f"<h3>Accuracy on test images</h3>{_accuracy(results)}" if results.get("accuracy") else ""
    return f"<p>{escape(_summary(results))}</p>{_charts(results, 'h3')}{accuracy}"


def accuracy_rows(results: dict) -> list[list[str]]:
    """Put down the accuracy on the test images of each domain before and after, a row a domain and task.

    Parameters
    ----------
    results : dict, as `fine_tune` returns it

    Returns
    -------
    list of list of str, the header first; nothing where no row was counted
    """
    rows, trained = [], set(results["training"].get("domains") or ())
    target = results["training"].get("target")
    for domain, tasks in results["accuracy"].items():
        for task, after in tasks.items():
            before = results.get("before", {}).get(domain, {}).get(task)
            rows.append(
                [
                    f"{domain}, {task}" if len(results["classes"]) > 1 else domain,
                    "unlabelled" if domain == target else "yes" if domain in trained or not trained else "no",
                    str(after["of"]),
                    f"{before['accuracy']:.1%}" if before else "",
                    f"{after['accuracy']:.1%}",
                ]
            )
    header = ["test images of", "trained on", "images", "before: frozen features", "after"]
    return [header, *rows] if rows else []


def _accuracy(results: dict) -> str:
    rows = accuracy_rows(results)
    if not rows:
        return "<p>No test images.</p>"
    return _table(rows[0], rows[1:]) + f"<p>{ACCURACY_NOTE}</p>"


def _summary(results: dict) -> str:
    images, training = results["images"], results["training"]
    rules = f", varied by {', '.join(training['rules'])}" if training.get("rules") else ""
    text = (
        f"{training['backbone']} from {training['weights']}, {images['train']} images to train{rules} and "
        f"{images['validation']} to validate; epoch {results['best_epoch']} of {len(results['history'])} was kept, "
        f"after {results['seconds']} seconds in all."
    )
    if training.get("align"):
        text += (
            f" Aligned with {images.get('target', 0)} images of {training.get('target')} without labels "
            f"({training['align']}); the epoch was chosen by the accuracy on the source's validation images plus the "
            f"mutual information between the target's images and their predicted classes, which reads no label."
        )
    return text


def _terms(history: list[dict]) -> dict[str, list]:
    """Values of each term of the loss by epoch, before its weight; nothing where there is only that of the labels."""
    names = list(dict.fromkeys(name for row in history for name in row.get("terms") or {}))
    return {n: [(r.get("terms") or {}).get(n) for r in history] for n in names} if len(names) > 1 else {}


def _charts(results: dict, heading: str) -> str:
    history, charts = results["history"], ""
    drawn = {
        name: {
            "training": [r[name] for r in history],
            "validation": [r.get(f"validation_{name}") for r in history],
        }
        for name in ("loss", "accuracy")
    }
    drawn |= {f"loss term: {name}": {"training": values} for name, values in _terms(history).items()}
    if any("target_information" in r for r in history):
        drawn["target information"] = {"target": [r.get("target_information") for r in history]}
    for name, lines in drawn.items():
        title = escape(name)
        chart = _chart(title, lines, results["best_epoch"])
        charts += f"<{heading}>{title[:1].upper()}{title[1:]}</{heading}>{chart}"
    return charts


def _chart(name: str, lines: dict, best: int) -> str:
    known = [v for values in lines.values() for v in values if v is not None]
    if not known:
        return "<p>No labels.</p>"
    top = 1.0 if name == "accuracy" else max([0.0, *known]) or 1.0
    n = max(len(values) for values in lines.values())

    def place(epoch: int, value: float) -> str:
        x = LEFT + (WIDTH - LEFT - 90) * (epoch / max(1, n - 1))
        return f"{x:.1f},{10 + (HEIGHT - 40) * (1 - value / top):.1f}"

    parts = []
    for (line, values), colour in zip(lines.items(), ("#0b5cad", "#c2571a"), strict=False):
        points = [place(i, v) for i, v in enumerate(values) if v is not None]
        if points:
            x, y = points[-1].split(",")
            parts.append(
                f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
            parts.append(f'<text x="{float(x) + 8}" y="{float(y) + 4}">{line}</text>')
    if best:
        x = place(best - 1, 0).split(",")[0]
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="10" y2="{HEIGHT - 30}" stroke="#888" stroke-dasharray="3 3"/>'
        )
    for value in (0, top / 2, top):
        x, y = place(0, value).split(",")
        parts.append(f'<text x="{LEFT - 6}" y="{float(y) + 4}" text-anchor="end">{value:.2g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">epoch 1</text>')
    parts.append(f'<text x="{WIDTH - 90}" y="{HEIGHT - 8}" text-anchor="end">{n}</text>')
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width: 40rem" role="img"'
    return f'{head} aria-label="{name} by epoch">{"".join(parts)}</svg>'


def _table(header: list[str], rows: list[list]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(c)}</th>" for c in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
