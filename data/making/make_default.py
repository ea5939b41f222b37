"""Make the embedded default again: the digits, the weights of the small CNN, the table of the README.

    python data/making/make_default.py fonts       # the apt-get line, and how many faces each package gives
    python data/making/make_default.py digits      # writes digits.zip
    python data/making/make_default.py train       # writes small_cnn.safetensors; about 20 minutes on two CPU cores
    python data/making/make_default.py letters     # prints how many letters of faces it never saw it recognises
    python data/making/make_default.py evaluate    # prints how well labels carry from printed to handwritten digits

Needs Debian 12 with the packages of fonts.txt (the last part needs no fonts), and ftransfer installed.
"""

import argparse
import io
import json
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import fonts
import numpy as np
import torch
import torch.nn.functional as F
import training_images
from evaluation import print_table
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

from ftransfer.backbone.small_cnn import IMAGE_SIZE, MEAN, STD, SmallCNN, small_cnn

DATA = Path(__file__).parents[1]
DIGITS, WEIGHTS = DATA / "digits.zip", DATA / "small_cnn.safetensors"
SEED = 20240601
STEPS = 4000
BATCH = 128  # of letters, and as many procedural images


# ---------------------------------------------------------------- digits.zip


def write_digits() -> None:
    """Write the two domains, as a zip that is the same to the byte whenever it is written."""
    images = {**printed_digits(), **handwritten_digits()}
    with zipfile.ZipFile(DIGITS, "w", zipfile.ZIP_STORED) as archive:  # a PNG is compressed already
        for name in sorted(images):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            png = io.BytesIO()
            Image.fromarray(images[name]).save(png, format="PNG", optimize=True)
            archive.writestr(entry, png.getvalue())
    for domain in ("printed", "handwritten"):
        counts = Counter(name.split("/")[1] for name in images if name.startswith(domain))
        print(f"{domain}: {sum(counts.values())} images, by class {[counts[c] for c in sorted(counts)]}")


def printed_digits() -> dict[str, np.ndarray]:
    """Draw each digit twice from every face: as it is, and slightly turned, sheared, shrunk and shifted."""
    images = {}
    for face in fonts.list_faces("digits", "0123456789", at_least=10):
        font = fonts.open_font(face.path)
        for digit in "0123456789":
            large = fonts.draw(font, digit, ink=7 * IMAGE_SIZE // 2, side=4 * IMAGE_SIZE)
            rng = np.random.default_rng([SEED, *face.name.encode(), int(digit)])
            for kind, image in (("plain", large), ("varied", _disturb(large, rng))):
                small = Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)
                name = f"printed/{digit}/{face.name}-{kind}.png"
                if name in images:
                    raise SystemExit(f"two faces are called {face.name}: one would overwrite the other")
                images[name] = np.asarray(small)
    return images


def _disturb(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    angle, shear = rng.uniform(-0.14, 0.14), rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # from places in the result to places in the source; over 1 shrinks, so that no end is cut off
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(rng.uniform(1.0, 1.15, 2))
    centre = np.full(2, image.shape[0] / 2)
    shift = centre - matrix @ (centre + rng.uniform(-0.03, 0.03, 2) * image.shape[0])
    rows = np.column_stack([matrix, shift]).ravel()
    picture = Image.fromarray(image)
    return np.asarray(picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC))


def handwritten_digits() -> dict[str, np.ndarray]:
    """Return scikit-learn's 8 x 8 digits, 0 to 16 stretched to 0 to 255."""
    data = load_digits()
    pixels = (data.images * (255 / 16)).round().astype(np.uint8)
    return {f"handwritten/{data.target[i]}/{i:04d}.png": image for i, image in enumerate(pixels)}


# ---------------------------------------------------------------- small_cnn.safetensors


class TrainingBatches(Dataset):
    """Batch number i: 128 letters and signs, then 128 procedural images, augmented from the seed and i."""

    def __init__(self, letters, procedural):
        self.banks = [self._by_class(*letters), self._by_class(*procedural)]

    @staticmethod
    def _by_class(images, labels):
        return torch.from_numpy(images), [np.flatnonzero(labels == k) for k in range(labels.max() + 1)]

    def __len__(self):
        return STEPS

    def __getitem__(self, step):
        torch.set_num_threads(1)
        rng = np.random.default_rng([SEED, step])
        images, labels = [], []
        for bank, members in self.banks:
            # classes evenly, however many faces have the character
            chosen = rng.integers(len(members), size=BATCH)
            images.append(bank[[rng.choice(members[k]) for k in chosen]])
            labels.append(torch.from_numpy(chosen))
        noise = torch.Generator().manual_seed(SEED + step)
        return normalise(training_images.augment(torch.cat(images), IMAGE_SIZE, noise)), *labels


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Bring RGB in [0, 1], of shape (n, 3, side, side), to what the network expects."""
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def train() -> None:
    """Train from nothing and write the weights in half precision."""
    start = time.monotonic()
    torch.manual_seed(SEED)
    # one thread here and one process that augments beat two threads, on two cores
    torch.set_num_threads(1)
    letters, procedural = training_images.draw_letters("letters"), training_images.draw_procedural(SEED)
    _say(f"{len(letters[0])} letters and signs, {len(procedural[0])} procedural images", start)

    model = small_cnn().to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS)
    batches = TrainingBatches(letters, procedural)
    batches = DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8)
    count, losses = len(training_images.CHARACTERS), []
    for step, (images, letter, pattern) in enumerate(batches, start=1):
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(images.contiguous(memory_format=torch.channels_last)).float()
        # each half of the batch is scored within its own part of the head
        loss = F.cross_entropy(scores[:BATCH, :count], letter, label_smoothing=0.1)
        loss = loss + F.cross_entropy(scores[BATCH:, count:], pattern, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0 or step == STEPS:
            _say(f"step {step} of {STEPS}: loss {np.mean(losses[-200:]):.3f}", start)
    write_weights(model)
    _say(f"wrote {WEIGHTS.name}", start)


def print_letter_accuracy() -> None:
    """Count the letters recognised in the faces that training never saw, sharp and shrunk to 8 x 8."""
    torch.set_num_threads(1)
    model = small_cnn(load_file(WEIGHTS)).eval()
    images, labels = training_images.draw_letters("digits")
    sharp = torch.from_numpy(images)[:, None].float() / 255
    for name, side in (("32 x 32", IMAGE_SIZE), ("8 x 8", 8)):
        small = F.interpolate(sharp, size=(side, side), mode="bilinear", antialias=True)
        seen = F.interpolate(small, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear").expand(-1, 3, -1, -1)
        with torch.inference_mode():
            scores = torch.cat([model(part) for part in normalise(seen).split(500)])
        found = scores[:, : len(training_images.CHARACTERS)].argmax(1).numpy()
        print(f"letters and signs of unseen faces at {name}: {(found == labels).mean():.1%} of {len(labels)}")


def write_weights(model: SmallCNN) -> None:
    """Write the state dict, floating values in half precision."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    about = {
        "model": "ftransfer.backbone.small_cnn.SmallCNN",
        "trained on": "letters and signs from free fonts, and procedural images; no digit",
        "script": "data/making/make_default.py train",
        "seed": SEED,
        "steps": STEPS,
        "licence": "BSD-3-Clause",
        "torch": torch.__version__,
    }
    # one key only: several are written in an order that changes from run to run
    save_file({k: v.contiguous() for k, v in state.items()}, WEIGHTS, {"about": json.dumps(about)})
    WEIGHTS.chmod(0o644)  # safetensors makes it readable to its owner only


# ---------------------------------------------------------------- the command line


def list_fonts() -> None:
    """Print the line that installs the fonts, and each package with its licence and its faces."""
    print(fonts.install_line())
    wanted = {"digits": ("0123456789", 10), "letters": (training_images.CHARACTERS, 20)}
    for serves, (characters, at_least) in wanted.items():
        faces = Counter(face.package for face in fonts.list_faces(serves, characters, at_least))
        packages = fonts.read_packages(serves)
        print(f"\n{serves}: {len(packages)} packages, {sum(faces.values())} faces\n")
        print("| package | faces | licence |\n|---|---|---|")
        for package in packages:
            print(f"| {package.name} | {faces[package.name]} | {package.licence} |")


def _say(line: str, start: float) -> None:
    print(f"{(time.monotonic() - start) / 60:5.1f} min  {line}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the parts that are named."""
    parts = {
        "fonts": list_fonts,
        "digits": write_digits,
        "train": train,
        "letters": print_letter_accuracy,
        "evaluate": lambda: print_table(DIGITS, WEIGHTS),
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="+", choices=[*parts, "all"], help="what to make; all: each in turn")
    chosen = parser.parse_args().part
    for part in parts if "all" in chosen else chosen:
        parts[part]()


if __name__ == "__main__":
    main()
