"""Count how well labels carry from the printed digits to the handwritten ones, on the shipped files alone.

The adaptations are written out here in a few lines of numpy, apart from the package's own, so that the
table depends on nothing but the two files, numpy and scikit-learn.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ftransfer.backbone.small_cnn import IMAGE_SIZE, MEAN, STD, small_cnn

# Set beforehand, the same in every row; nothing is searched for.
CLASSIFIERS = {
    "logistic regression (C=0.01)": LogisticRegression(C=0.01, max_iter=1000),
    "random forest (300 trees)": RandomForestClassifier(n_estimators=300, random_state=0),
    "SVM (RBF, C=1)": SVC(C=1.0),
}
RIDGE = 10.0
COMPONENTS = 40


def read_domain(archive: Path, domain: str) -> tuple[np.ndarray, np.ndarray]:
    """Read one domain's images as the network wants them before normalisation.

    Returns
    -------
    images : ndarray of shape (n, 3, 32, 32), float32 in [0, 1]
    labels : ndarray of shape (n,), int
    """
    images, labels = [], []
    with zipfile.ZipFile(archive) as files:
        for name in sorted(n for n in files.namelist() if n.startswith(f"{domain}/")):
            image = Image.open(io.BytesIO(files.read(name))).convert("RGB")
            image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
            images.append(np.asarray(image, np.float32).transpose(2, 0, 1) / 255)
            labels.append(int(name.split("/")[1]))
    return np.stack(images), np.array(labels)


def embed(images: np.ndarray, weights: Path) -> np.ndarray:
    """Pool the network's last maps: float32 of shape (n, 192)."""
    model = small_cnn(load_file(weights)).eval()  # widened to float32 as it is loaded
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    x = (torch.from_numpy(images) - mean) / std
    with torch.inference_mode():
        parts = [model.block3(model.block2(model.block1(model.stem(part)))) for part in x.split(500)]
    return torch.cat([part.mean((2, 3)) for part in parts]).numpy()


def as_they_are(source, target):
    """Leave pixels in [0, 1]: dividing by the source's deviations would blow up its empty margins."""
    return source, target


def by_the_source(source, target):
    """Standardise both domains by the source: no adaptation."""
    scaler = StandardScaler().fit(source)
    return scaler.transform(source), scaler.transform(target)


def by_domain(source, target):
    """Standardise each domain by itself."""
    return StandardScaler().fit_transform(source), StandardScaler().fit_transform(target)


def coral(source, target):
    """Scale by domain, then give the source the target's covariance (Sun et al. 2016, algorithm 1)."""
    source, target = by_domain(source, target)
    whiten = _power(np.cov(source, rowvar=False), -0.5)
    colour = _power(np.cov(target, rowvar=False), 0.5)
    return source @ whiten @ colour, target


def _power(covariance, exponent):
    values, vectors = np.linalg.eigh(covariance + RIDGE * np.eye(len(covariance)))
    return (vectors * values**exponent) @ vectors.T


def subspace_alignment(source, target):
    """Scale by domain, then turn the source's principal axes onto the target's (Fernando et al. 2013)."""
    source, target = by_domain(source, target)
    source_axes, target_axes = _principal_axes(source), _principal_axes(target)
    return source @ source_axes @ (source_axes.T @ target_axes), target @ target_axes


def _principal_axes(X):
    return np.linalg.svd(X, full_matrices=False)[2][:COMPONENTS].T


def print_table(archive: Path, weights: Path) -> None:
    """Print, in Markdown, the share of handwritten digits that each way gets right, in percent."""
    torch.set_num_threads(1)
    source, y_source = read_domain(archive, "printed")
    target, y_target = read_domain(archive, "handwritten")
    # the three colours are equal: one of them is the picture
    pixels = [images[:, 0].reshape(len(images), -1) for images in (source, target)]
    embedded = [embed(images, weights) for images in (source, target)]
    rows = [
        ("raw pixels, source only", pixels, as_they_are),
        ("raw pixels, per-domain scaling", pixels, by_domain),
        ("small_cnn, source only", embedded, by_the_source),
        ("small_cnn, per-domain scaling", embedded, by_domain),
        (f"small_cnn, scaling and CORAL (ridge {RIDGE:g})", embedded, coral),
        (f"small_cnn, scaling and subspace alignment ({COMPONENTS})", embedded, subspace_alignment),
    ]
    print(f"{len(y_source)} printed images with labels, {len(y_target)} handwritten without\n")
    print(f"| | {' | '.join(CLASSIFIERS)} |\n|---{'|--:' * len(CLASSIFIERS)}|")
    for name, (X_source, X_target), adapt in rows:
        X_fit, X_seen = adapt(X_source, X_target)
        predicted = [c.fit(X_fit, y_source).predict(X_seen) for c in CLASSIFIERS.values()]
        _print_row(name, [(p == y_target).mean() for p in predicted])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    for name, (_, X_target) in (("raw pixels", pixels), ("small_cnn", embedded)):
        models = [make_pipeline(StandardScaler(), c) for c in CLASSIFIERS.values()]
        scores = [cross_val_score(m, X_target, y_target, cv=folds).mean() for m in models]
        _print_row(f"{name}, trained on target labels (5 folds)", scores)


def _print_row(name, accuracies):
    print(f"| {name} | {' | '.join(f'{100 * a:.1f}' for a in accuracies)} |", flush=True)
