"""What the small CNN is trained on: letters and signs from fonts, and procedural classes; never a digit.

Both kinds are grey squares of 48 x 48 pixels, made once; `augment` turns a batch of them into what the
network sees, differently each time.
"""

import math

import fonts
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

SIDE = 48
INK = 38  # of SIDE, so that a glyph can grow and turn without losing its ends

# 126 classes. Every glyph is drawn equally large, so of letters that differ in size only (C c, V v, and in
# Greek and Cyrillic most of those that look Latin) one stays. Left out because, in some face or at 8 x 8
# pixels, they are a digit: O o Q and their kin in Greek and Cyrillic, Ø ø Θ θ (0), I l | / \ (1), Z z (2),
# З з Э э ξ (3), Ч ч (4), S s ς § $ (5), b б Б ь ъ σ ∂ (6), B ß β В в ð δ (8), g q (9), and whatever contains
# digits: % ½ ² and so on.
LATIN = "ACDEFGHJKLMNPRTUVWXYadefhijmnrtuyÆæŒœÞÅÇÑÜçéñûĞŁł"
GREEK = "ΓΔΛΞΠΣΦΨΩαγεζηλμπτφψω"
CYRILLIC = "ДЖИЙЛЦШЩЫЮЯЄЇЉЊЂЏҐф"
SIGNS = "!?&@#*+=<>([{^~«¿¡¶©®¢£¥€±÷¬†‡™≠≤∞√∫◊"
CHARACTERS = LATIN + GREEK + CYRILLIC + SIGNS
PROCEDURAL = 100
PER_PROCEDURAL_CLASS = 80


def draw_letters(serves: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw every character of `CHARACTERS` from every face.

    Parameters
    ----------
    serves : str
        ``"letters"`` for training; ``"digits"`` for letters of the faces that training never sees.

    Returns
    -------
    images : ndarray of shape (n, 48, 48), uint8
    labels : ndarray of shape (n,), int64
        Positions in `CHARACTERS`.
    """
    images, labels = [], []
    for face in fonts.list_faces(serves, CHARACTERS, at_least=20):
        font = fonts.open_font(face.path)
        drawn = {c: fonts.draw(font, c, INK, SIDE) for c in CHARACTERS if fonts.has(font, c)}
        for character, image in drawn.items():
            # a face without lower case draws capitals or small capitals in its place: a wrong label
            if character.islower() and _alike(image, drawn.get(character.upper())):
                continue
            images.append(image)
            labels.append(CHARACTERS.index(character))
    return np.stack(images), np.array(labels)


def _alike(image, other) -> bool:
    return other is not None and np.abs(image.astype(float) - other).mean() < 6


# ---------------------------------------------------------------- procedural classes


def draw_procedural(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw 100 classes: 40 fractals, 30 textures, 30 kinds of dead leaves, each with its own parameters.

    Returns
    -------
    images : ndarray of shape (8000, 48, 48), uint8
    labels : ndarray of shape (8000,), int64
        0 to 99.
    """
    makers = [_fractal_class] * 40 + [_texture_class] * 30 + [_leaves_class] * 30
    images, labels = [], []
    for label, maker in enumerate(makers):
        rng = np.random.default_rng([seed, label])
        draw = maker(rng)
        for _ in range(PER_PROCEDURAL_CLASS):
            images.append(draw(rng))
            labels.append(label)
    return np.stack(images), np.array(labels)


def _fractal_class(rng):
    """An iterated function system: two to four contractions; each picture disturbs them a little."""
    count = rng.integers(2, 5)
    while True:
        maps = rng.uniform(-1, 1, (count, 2, 3))
        # the mean contraction decides between dust and a blot; this band gives branches and curls
        contraction = np.abs(np.linalg.det(maps[:, :, :2])).sum()
        if np.linalg.norm(maps[:, :, :2], 2, axis=(1, 2)).max() < 0.95 and 0.5 < contraction < 1.2:
            break

    def draw(rng):
        system = maps + rng.normal(0, 0.03, maps.shape)
        points = rng.uniform(-1, 1, (400, 2))
        seen = []
        for step in range(50):
            chosen = system[rng.integers(count, size=len(points))]
            points = np.einsum("nij,nj->ni", chosen[:, :, :2], points) + chosen[:, :, 2]
            if step >= 15:
                seen.append(points)
        seen = np.concatenate(seen)
        low, high = np.percentile(seen, [1, 99], axis=0)
        pixels = ((seen - (low + high) / 2) / max((high - low).max(), 1e-6) * INK + SIDE / 2).astype(int)
        pixels = pixels[((pixels >= 0) & (pixels < SIDE)).all(axis=1)]
        density = np.zeros((SIDE, SIDE))
        np.add.at(density, (pixels[:, 1], pixels[:, 0]), 1)
        return _to_grey(np.minimum(density / 4, 1))

    return draw


def _texture_class(rng):
    """Noise of one frequency band and direction, bent by one of three curves."""
    frequency = rng.uniform(0.04, 0.25)
    bandwidth = rng.uniform(0.01, 0.05)
    angle = rng.uniform(0, math.pi)
    sharpness = rng.choice([0.0, 2.0, 8.0])
    curve = [lambda x: x > 0.3, np.abs, lambda x: x][rng.integers(3)]
    fy, fx = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    radius, direction = np.hypot(fy, fx), np.arctan2(fy, fx)

    def draw(rng):
        band = np.exp(-(((radius - frequency * rng.uniform(0.9, 1.1)) / bandwidth) ** 2) / 2)
        turned = direction - angle - rng.normal(0, 0.1)
        band = band * np.exp(sharpness * (np.cos(2 * turned) - 1))
        noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIDE, SIDE))) * band).real
        texture = curve(noise / noise.std()).astype(float)
        return _to_grey((texture - texture.min()) / np.ptp(texture))

    return draw


def _leaves_class(rng):
    """Dead leaves: shapes of one kind laid over one another, each with its own grey."""
    corners = int(rng.integers(2, 7))  # 2 stands for ellipses
    smallest, largest = np.sort(rng.uniform(2, 16, 2))
    aspect, angle, spread = rng.uniform(0.25, 1), rng.uniform(0, math.pi), rng.uniform(0, 0.8)
    greys = np.sort(rng.integers(0, 256, rng.integers(2, 6)))

    def draw(rng):
        # twice as large and then halved, for smooth edges
        picture = Image.new("L", (2 * SIDE, 2 * SIDE), int(greys[0]))
        pencil = ImageDraw.Draw(picture)
        around = np.linspace(0, 2 * math.pi, 24 if corners == 2 else corners, endpoint=False)
        for _ in range(int(4 * SIDE**2 / (smallest + largest) ** 2 / aspect)):
            size = 2 * rng.uniform(smallest, largest)
            turn = angle + rng.normal(0, spread)
            x, y = size * np.cos(around), aspect * size * np.sin(around)
            outline = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
            outline += rng.uniform(0, 2 * SIDE, 2)
            pencil.polygon([tuple(corner) for corner in outline], fill=int(rng.choice(greys)))
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))

    return draw


def _to_grey(values: np.ndarray) -> np.ndarray:
    return (values * 255).round().astype(np.uint8)


# ---------------------------------------------------------------- augmentation


def augment(images: torch.Tensor, side: int, rng: torch.Generator) -> torch.Tensor:
    """Vary grey images in stroke, shape, resolution, colour and noise.

    Parameters
    ----------
    images : tensor of shape (n, 48, 48), uint8
        Bright on black.
    side : int
        Side of what comes out, in pixels.
    rng : torch.Generator

    Returns
    -------
    tensor of shape (n, 3, side, side), float32 in [0, 1]
    """
    x = images[:, None].float() / 255
    x = _vary_stroke(x, rng)
    x = _warp(x, side, rng)
    x = _resample(x, rng)
    x = _blur(x, rng)
    # the range within an image is what resampling shrinks most: thin strokes pale; give some of it back
    peak = x.amax((2, 3), keepdim=True).clamp_min(0.2)
    x = torch.where(_uniform(x, rng) < 0.7, x / peak, x) ** torch.exp(_uniform(x, rng, -0.6, 0.6))
    x = _colour(x, rng)
    x = _erase(x, rng)
    noise = torch.randn(x.shape, generator=rng) * _uniform(x, rng, -0.08, 0.1).clamp_min(0)
    return (x + noise).clamp(0, 1)


def _uniform(x, rng, low=0.0, high=1.0, channels=1):
    """One number an image (and channel), shaped to be broadcast over the batch."""
    return torch.rand(len(x), channels, 1, 1, generator=rng) * (high - low) + low


def _vary_stroke(x, rng):
    """Grow or thin the strokes by up to two pixels of 48."""
    amount = _uniform(x, rng, -1.6, 2.2)
    grown, thinned = [x], [x]
    for _ in range(2):
        grown.append(F.max_pool2d(grown[-1], 3, 1, 1))
        thinned.append(-F.max_pool2d(-thinned[-1], 3, 1, 1))

    def between(steps, amount):
        first = steps[0] + (steps[1] - steps[0]) * amount.clamp(0, 1)
        return first + (steps[2] - steps[1]) * (amount - 1).clamp(0, 1)

    varied = torch.where(amount > 0, between(grown, amount), between(thinned, -amount))
    # a hairline must not vanish altogether
    kept = varied.sum((1, 2, 3), keepdim=True) > 0.4 * x.sum((1, 2, 3), keepdim=True)
    return torch.where(kept, varied, x)


def _warp(x, side, rng):
    """Scale, turn, shear, shift and bend, while sampling at the side that the network sees."""
    n = len(x)
    one = lambda low, high: _uniform(x, rng, low, high).flatten()  # noqa: E731
    angle = torch.randn(n, generator=rng).clamp(-2, 2) * 0.16
    scale, stretch, shear = one(0.72, 1.2), torch.exp(one(-0.25, 0.25)), one(-0.35, 0.35)
    sx, sy = scale * stretch, scale / stretch
    cos, sin = torch.cos(angle), torch.sin(angle)
    # from places in the result to places in the source: (-1, -1) and (1, 1) are the corners
    across = [cos * sx, (shear * cos - sin) * sy, one(-0.1, 0.1)]
    down = [sin * sx, (shear * sin + cos) * sy, one(-0.1, 0.1)]
    matrix = torch.stack(across + down, 1).view(n, 2, 3)
    grid = F.affine_grid(matrix, (n, 1, side, side), align_corners=False)
    for knots, strength in ((4, 0.16), (7, 0.06)):
        bend = torch.randn(n, 2, knots, knots, generator=rng) * _uniform(x, rng, 0, strength)
        bend = F.interpolate(bend, size=(side, side), mode="bicubic", align_corners=True)
        grid = grid + bend.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def _resample(x, rng):
    """Shrink half of the images to between 8 and 20 pixels and enlarge them again, as small originals are."""
    side = x.shape[-1]
    which = torch.randint(0, 10, (len(x),), generator=rng)
    for number, small in enumerate((8, 8, 10, 13, 20)):
        chosen = which == number
        if chosen.any():
            shrunk = F.interpolate(x[chosen], size=(small, small), mode="area")
            x[chosen] = F.interpolate(shrunk, size=(side, side), mode="bilinear", align_corners=False)
    return x


def _blur(x, rng):
    blurred = F.avg_pool2d(F.avg_pool2d(x, 3, 1, 1), 3, 1, 1)
    return x + (blurred - x) * (_uniform(x, rng, -1.5, 1)).clamp_min(0)


def _colour(x, rng):
    """Lay the grey values between two colours, bright on dark or dark on bright."""
    ends = torch.rand(2, len(x), 3, 1, 1, generator=rng)
    grey = _uniform(x, rng) < 0.5
    ends = torch.where(grey, ends[:, :, :1].expand_as(ends), ends)
    pure = (_uniform(x, rng) < 0.4).expand_as(ends[0])
    dark, bright = ends.amin(0) * 0.4, 1 - (1 - ends.amax(0)) * 0.5
    dark, bright = torch.where(pure, 0.0, dark), torch.where(pure, 1.0, bright)
    flip = _uniform(x, rng) < 0.5
    ink, ground = torch.where(flip, dark, bright), torch.where(flip, bright, dark)
    return ground + (ink - ground) * x


def _erase(x, rng):
    """Cover a fifth of the images with a small rectangle of a random grey."""
    place = torch.arange(x.shape[-1]).float()
    boxes = []
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        centre, half = _uniform(x, rng, 0, x.shape[-1]), _uniform(x, rng, 2, 6)
        boxes.append((place.view(shape) - centre).abs() < half)
    covered = boxes[0] & boxes[1] & (_uniform(x, rng) < 0.2)
    return torch.where(covered, _uniform(x, rng), x)
