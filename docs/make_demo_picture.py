"""Draw docs/demo.png from the folder that `ftransfer demo` leaves behind.

pip install matplotlib; ftransfer demo; python docs/make_demo_picture.py ftransfer-demo docs/demo.png
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

ADAPTATIONS = {
    "source only": "#8a6116",
    "per-domain scaling": "#0b5cad",
    "CORAL": "#116329",
    "SubspaceAlignment": "#7a3e9d",
    "PseudoLabelled": "#b3261e",
}
LABELS = {"SubspaceAlignment": "subspace alignment", "PseudoLabelled": "pseudo-labelling"}
CLASSIFIERS = {"logistic": "logistic regression", "forest": "random forest", "svm": "SVM"}


def row_of_digits(folder: Path, seed: int) -> np.ndarray:
    """Put one image of each class side by side, on squares of 32 pixels with a gap of 3."""
    rng = np.random.default_rng(seed)
    row = np.full((32, 10 * 35 - 3), 255, dtype=np.uint8)
    for digit in range(10):
        files = sorted((folder / str(digit)).glob("*.png"))
        image = Image.open(files[rng.integers(len(files))]).resize((32, 32), Image.Resampling.BILINEAR)
        row[:, digit * 35 : digit * 35 + 32] = np.asarray(image)
    return row


def main(demo: Path, out: Path) -> None:
    """Show both domains, and the target accuracy of the best setting of each recipe."""
    results = json.loads((demo / "run" / "results.json").read_text())
    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.1])
    titles = ["source: printed digits, labelled", "target: handwriting, no labels"]
    for axis, domain, title in zip(left.subplots(2, 1), ("printed", "handwritten"), titles, strict=True):
        rows = [row_of_digits(demo / "images" / domain, seed) for seed in range(3)]
        gap = np.full((3, rows[0].shape[1]), 255, dtype=np.uint8)
        axis.imshow(np.vstack([rows[0], gap, rows[1], gap, rows[2]]), cmap="gray")
        axis.set_title(title, fontsize=11, loc="left")
        axis.axis("off")
    axis = right.subplots()
    best, drawn = {}, set()
    for row in results["candidates"]:
        best.setdefault(row["pipeline"], row)
    for row in best.values():
        if row["adaptation"] not in ADAPTATIONS or row["pipeline"].rsplit("_", 1)[1] not in CLASSIFIERS:
            continue  # recipes that are not a pair of an adaptation and a classifier
        place = list(CLASSIFIERS).index(row["pipeline"].rsplit("_", 1)[1])
        offset = list(ADAPTATIONS).index(row["adaptation"])
        if (place, offset) in drawn:
            continue  # another recipe of the same adaptation and classifier has a higher score
        drawn.add((place, offset))
        x, height = place + 0.17 * (offset - 2), 100 * row["target_accuracy"]
        axis.bar(x, height, 0.155, color=ADAPTATIONS[row["adaptation"]])
        chosen = row["pipeline"] == results["recommendation"]["pipeline"]
        axis.text(x, height + 1, f"{height:.0f}", ha="center", fontsize=8, weight="bold" if chosen else None)
        if chosen:
            axis.annotate(
                "recommended,\nwithout target labels",
                (x, height + 7),
                (x - 0.1, 113),
                ha="center",
                fontsize=9,
                arrowprops={"arrowstyle": "-|>"},
            )
    for name, colour in ADAPTATIONS.items():
        axis.bar(0, 0, color=colour, label=LABELS.get(name, name))
    axis.set_xticks(range(3), CLASSIFIERS.values())
    axis.set_ylim(0, 130)
    axis.set_yticks(range(0, 101, 20))
    axis.set_title("accuracy on the handwritten digits, %", fontsize=11, loc="left")
    axis.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
