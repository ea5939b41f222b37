"""Draw docs/methods/*.png: what each method does to the two domains of its page's own snippet.

    pip install -e ".[docs,picture,ot]"; python docs/make_method_pictures.py

The first Python block of a page is run; its picture shows the block's `X`, its `labels` and its fitted `pipeline`.
"""

import re
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from PIL import Image
from sklearn.base import clone

FOLDER = Path(__file__).resolve().parent / "methods"
COLOURS = np.array(
    ["#0072b2", "#d55e00", "#009e73"]
)  # of Okabe and Ito: colour-blind readers tell them apart
TINTS = ListedColormap(["#cfe3f1", "#f9dfd0", "#cbeadf"])
SOURCE = {"marker": "o", "s": 22, "linewidths": 0.5, "edgecolors": "white"}
TARGET = {"marker": "x", "s": 22, "linewidths": 1.3}


def draw(page: Path) -> None:
    """Run the page's snippet, and draw its domains before and after."""
    names = {"print": lambda *_, **__: None}
    exec(re.search(r"```python\n(.*?)```", page.read_text(), re.S)[1], names)
    X, y, labels, pipeline = (names[key] for key in ("X", "y", "labels", "pipeline"))
    source, (*steps, (_, last)) = y != -1, pipeline.steps_
    plain = clone(getattr(last, "estimator", last)).fit(X[source], y[source])
    mapped = clone(pipeline[:-1]).fit_transform(X, y) if steps else X
    figure = plt.figure(figsize=(7.6, 4.1), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    show(left, "source only", X, labels, source, plain)
    method = type(last if hasattr(last, "estimator") else steps[-1][1]).__name__
    moved = X[source] if method == "OptimalTransport" else None
    weights = getattr(last, "sample_weight_", None)
    show(right, method, mapped, labels, source, last, weights, moved)
    figure.legend(
        handles=legend(), loc="outside lower center", ncols=5, frameon=False, fontsize=10.5, columnspacing=1.2
    )
    save(figure, page.with_suffix(".png"))


def show(axis, title, rows, labels, source, classifier, weights=None, moved_from=None):
    """Both domains, the source as large as its weights and with its ways, over what a classifier makes of the plane."""
    if (width := rows.shape[1]) == 1:  # a line: the domains one above the other
        rows = np.c_[rows, source + np.random.default_rng(0).uniform(-0.3, 0.3, len(rows))]
    ends = rows if moved_from is None else np.vstack([rows, moved_from])
    low, high = ends.min(axis=0), ends.max(axis=0)
    low, high = low - 0.06 * (high - low), high + 0.06 * (high - low)
    x, y = np.meshgrid(np.linspace(low[0], high[0], 300), np.linspace(low[1], high[1], 300))
    found = classifier.predict(np.c_[x.ravel(), y.ravel()][:, :width]).reshape(x.shape)
    axis.pcolormesh(x, y, found, cmap=TINTS, vmin=0, vmax=2, zorder=0)
    for start, end in () if moved_from is None else zip(moved_from, rows[source], strict=True):
        axis.plot(*np.c_[start, end], color="#777777", linewidth=0.4, zorder=1)
    size = {} if weights is None else {"s": SOURCE["s"] * weights}
    axis.scatter(*rows[source].T, c=COLOURS[labels[source]], **(SOURCE | size))
    axis.scatter(*rows[~source].T, c=COLOURS[labels[~source]], **TARGET)
    accuracy = np.mean(classifier.predict(rows[~source, :width]) == labels[~source])
    axis.set_title(f"{title}: accuracy {accuracy:.0%}", fontsize=12)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    axis.spines[:].set_color("#999999")


def legend() -> list[Line2D]:
    """What marks and colours mean."""
    marks = [("o", "source, with labels"), ("x", "target, its labels hidden")]
    classes = [
        Line2D([], [], marker="s", linestyle="", color=c, label=f"class {k}") for k, c in enumerate(COLOURS)
    ]
    return [
        Line2D([], [], marker=m, linestyle="", color="#444444", label=text) for m, text in marks
    ] + classes


def save(figure, file: Path) -> None:
    """Write a small PNG: few colours are enough."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=140)
    plt.close(figure)
    Image.open(buffer).convert("RGB").quantize(64, method=Image.Quantize.MEDIANCUT).save(file, optimize=True)


if __name__ == "__main__":
    for each in sorted(FOLDER.glob("*.md")):
        if each.stem != "index":
            draw(each)
            print(f"{each.stem}.png: {each.with_suffix('.png').stat().st_size / 1024:.0f} KB")
