"""The pictures of the page: SVG that reads in light and dark, with the same said in words.

Each function gives markup with everything escaped. Colours are the page's CSS variables.
"""

import math
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any

import numpy as np
from markupsafe import Markup

from ftransfer.search.steps import BASELINES

# Twelve hues for classes, found by random search: each at least 3:1 against the paper, and as far apart for readers
# with protanopia or deuteranopia (Machado et al. 2009) as the eight of Okabe and Ito.
HUES = [  # light theme, dark theme
    ("#f36b14", "#eaa27d"),
    ("#034f92", "#7387fe"),
    ("#23ab48", "#49c504"),
    ("#cd24ff", "#e303c5"),
    ("#793606", "#a18702"),
    ("#319fcb", "#41b2b8"),
    ("#d1193c", "#d00101"),
    ("#24754e", "#0c7000"),
    ("#f060ac", "#fc87e1"),
    ("#3f0ae6", "#8d03ff"),
    ("#7e62a4", "#b76d88"),
    ("#900c68", "#066696"),
]
SIDE = 480


def fill(template: str, *values: Any, **named: Any) -> Markup:
    """Format markup, escaping what is put in."""
    return Markup(template).format(*values, **named)


def join(parts: Iterable[str]) -> Markup:
    """Join pieces of markup."""
    return Markup("\n").join(parts)


def fraction(value: float, low: float, high: float) -> str:
    """Place a value on a scale, in percent of its width, cut off at the ends."""
    return f"{100 * min(1.0, max(0.0, (value - low) / (high - low))):.2f}%"


def scale(values: Iterable[float]) -> tuple[float, float]:
    """Choose the ends of a scale, never one value: 0 and 1 where all lie between, else a little beyond them.

    >>> scale([1.0, 1.0000001]), scale([-2.0, -2.0])
    ((0.0, 1.0), (-2.1, -1.9))
    """
    values = [v for v in values if v is not None]
    low, high = min(values), max(values)
    least = 1e-5 * max(1.0, abs(low), abs(high))  # less than this is the rounding of float32 over many rows
    if low >= -least and high <= 1 + least:
        return 0.0, 1.0
    room = 0.05 * (high - low if high - low > least else max(abs(low), abs(high)))
    return low - room, high + room


def ticks(low: float, high: float, wanted: int = 6) -> list[tuple[float, str]]:
    """Choose round numbers between the ends of a scale: two or more, about `wanted`, with as many digits as they need.

    >>> ticks(0.0, 1.0, 3), ticks(-2.4, 1.3, 4)
    ([(0.0, '0.0'), (0.5, '0.5'), (1.0, '1.0')], [(-2.0, '-2'), (-1.0, '-1'), (0.0, '0'), (1.0, '1')])
    """

    def multiples(power: int, factor: int) -> tuple[int, int]:
        step = factor * 10.0**power
        return math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)

    middle = math.floor(math.log10((high - low) / wanted))
    tried = [(power, factor) for power in (middle - 1, middle, middle + 1) for factor in (1, 2, 5)]
    counts = {each: last - first + 1 for each in tried for first, last in [multiples(*each)]}
    power, factor = min((t for t in tried if counts[t] > 1), key=lambda t: abs(counts[t] - wanted))
    first, last = multiples(power, factor)
    places = [i * factor * 10.0**power for i in range(first, last + 1)]
    return [(place, f"{place:,.{max(0, -power)}f}") for place in places]


def tenths(shares: Sequence[float]) -> tuple[float, float]:
    """Choose the ends of a scale of shares: the tenths around them, never one value.

    >>> tenths([0.62, 0.8]), tenths([1.0, 1.0])
    ((0.6, 0.8), (0.9, 1.0))
    """
    low = min(math.floor(10 * min(shares)), 9)
    return low / 10, max(math.ceil(10 * max(shares)), low + 1) / 10


def draw_race(best: list[dict]) -> Markup:
    """Draw the best of each recipe: a bar for its score with its 95 % interval, a circle for what was counted.

    Fluid: positions are in percent, so that text keeps its size on a phone. A score outside 0 to 1 has no place to
    begin a bar, and what was counted no place on its scale: then a block marks the score alone.

    Parameters
    ----------
    best : list of dict
        Rows of the race, best first; ``chosen`` marks the recommended one.
    """
    rows = [row for row in best if row["score"] is not None]
    low, high = scale([row[key] for row in rows for key in ("score", "low", "high")])
    shares = (low, high) == (0.0, 1.0)
    step, top = 40, 6
    bottom = top + step * len(rows)
    parts = []
    for tick, text in ticks(low, high):
        x = fraction(tick, low, high)
        anchor = "start" if x == "0.00%" else "end" if x == "100.00%" else "middle"
        parts.append(
            fill(
                '<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{bottom}"/>'
                '<text class="soft" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>',
                x=x, top=top, bottom=bottom, y=bottom + 16, anchor=anchor, text=text,
            )
        )  # fmt: skip
    for i, row in enumerate(rows):
        y = top + step * i
        kind = "chosen" if row["chosen"] else "base" if row["adaptation"] in BASELINES else "other"
        at = fraction(row["score"], low, high)
        mark = {"chosen": " – recommended", "base": " – baseline", "other": ""}[kind]
        parts.append(
            fill(
                '<g class="{kind}"><text x="0" y="{text}">{name}<tspan class="soft">{mark}</tspan></text>'
                '<text x="100%" y="{text}" text-anchor="end">{score:.3f}</text>'
                '<rect x="{x}" y="{bar}" width="{width}" height="12" rx="2"/>',
                kind=kind, text=y + 14, name=row["pipeline"], mark=mark, score=row["score"], bar=y + 20,
                x=0 if shares else at, width=at if shares else 6,
            )
        )  # fmt: skip
        if row["low"] is not None:
            ends = {"a": fraction(row["low"], low, high), "b": fraction(row["high"], low, high)}
            whisker = '<line class="whisker" x1="{a}" x2="{b}" y1="{y}" y2="{y}"/>'
            parts.append(fill(whisker, **ends, y=y + 26))
        if row["target_accuracy"] is not None and shares:
            x = fraction(row["target_accuracy"], low, high)
            parts.append(fill('<circle class="counted" cx="{}" cy="{}" r="5"/>', x, y + 26))
        parts.append(Markup("</g>"))
    said = "; ".join(f"{row['pipeline']} {row['score']:.3f}" for row in rows)
    return fill(
        '<svg class="fluid" height="{}" role="img" aria-label="Score of the best setting of each recipe: {}">{}</svg>',
        bottom + 24, said, join(parts),
    )  # fmt: skip


def draw_curve(curve: dict, ends: tuple[float, float]) -> Markup:
    """Draw the score over one parameter, and what was counted as a broken line.

    Parameters
    ----------
    curve : dict
        ``pipeline, parameter, points``, as `numbers.curves` gives it.
    ends : tuple of float
        Of the vertical scale.
    """
    points = curve["points"]
    width, height, left, top = 240, 100, 34, 8
    xs = np.linspace(left + 14, width - 16, len(points))

    def at(value: float) -> float:
        return top + (height - top) * (ends[1] - value) / (ends[1] - ends[0])

    parts = [
        fill(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/><text class="soft" x="{3}" y="{4:.1f}" '
            'text-anchor="end">{5}</text>',
            left, width, at(tick), left - 5, at(tick) + 4, text,
        )
        for tick, text in ticks(*ends, 3)
    ]  # fmt: skip
    others = [(x, at(s)) for x, p in zip(xs, points, strict=True) for s in p.get("scores", ())[1:]]
    if others:  # of each value all settings but the best
        dots = join(fill('<circle cx="{:.1f}" cy="{:.1f}" r="2"/>', x, y) for x, y in others)
        parts.append(fill('<g class="all">{}</g>', dots))
    for key, kind in (("target_accuracy", "counted"), ("score", "score")):
        known = [(x, at(p[key])) for x, p in zip(xs, points, strict=True) if p[key] is not None]
        if known:
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in known)
            dots = join(fill('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"/>', x, y) for x, y in known)
            parts.append(fill('<g class="{}"><polyline points="{}"/>{}</g>', kind, line, dots))
    every = -(-len(points) // 6)
    for i, (x, point) in enumerate(zip(xs, points, strict=True)):
        if i % every == 0:
            text = short(point["value"], 32 // len(points[:6]))
            parts.append(fill('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>', x, height + 18, text))
    said = "; ".join(f"{p['value']}: {p['score']:.3f}" for p in points)
    return fill(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Score of {} over {}: {}">\n{}\n</svg>',
        width, height + 26, curve["pipeline"], curve["parameter"], said, join(parts),
    )  # fmt: skip


def short(value: Any, length: int) -> str:
    """Cut out the middle of a text that is too long for its place: names often differ at their ends."""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def shorten(names: Sequence[str], length: int) -> list[str]:
    """Cut names to a length so that no two look the same: from where they begin to differ, else with a number.

    >>> shorten(["mug", "a red mug seen from above, on a table", "a red mug seen from below, on a table"], 14)
    ['mug', '…above, on a …', '…below, on a …']
    """
    cut = [short(name, length) for name in names]
    for which in {text for text in cut if cut.count(text) > 1}:
        places = [i for i, text in enumerate(cut) if text == which]
        shared = commonprefix([names[i] for i in places])
        same = shared.rfind(" ") + 1 if " " in shared[-length // 2 :] else len(shared)
        ways = [
            [f"…{names[i][same : same + length - 2]}…" for i in places],
            [f"{short(names[i], length - 4)} {n}" for n, i in enumerate(places, 1)],
        ]
        for i, text in zip(places, ways[len(set(ways[0])) < len(places)], strict=True):
            cut[i] = text
    return cut


def draw_reliability(found: dict) -> Markup:
    """Draw how often the model is right against how sure it is, over the count of images that are so sure.

    Parameters
    ----------
    found : dict
        As `numbers.calibration` gives it.
    """
    side, left, strip = 300, 34, 50
    most = max(b["count"] for b in found["bins"])
    parts = []
    for tick in np.linspace(0, 1, 6):
        x, y = left + side * tick, 10 + side * (1 - tick)
        parts.append(
            fill(
                '<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text class="soft" x="{label}" y="{base:.1f}" text-anchor="end">{tick:.1f}</text>'
                '<text class="soft" x="{x:.1f}" y="{below}" text-anchor="middle">{tick:.1f}</text>',
                left=left, right=left + side, y=y, label=left - 6, base=y + 4, tick=tick, x=x,
                below=side + strip + 30,
            )
        )  # fmt: skip
    parts.append(fill('<line class="ideal" x1="{}" y1="{}" x2="{}" y2="10"/>', left, 10 + side, left + side))
    for b in found["bins"]:
        if not b["count"]:
            continue
        x, width = left + side * b["low"] + 2, side * (b["high"] - b["low"]) - 4
        tall = max(1.0, strip * b["count"] / most)
        parts.append(
            fill(
                '<rect class="bin" data-bin="{bin}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"/>'
                '<rect class="amount" data-bin="{bin}" x="{x:.1f}" y="{below:.1f}" width="{w:.1f}" '
                'height="{tall:.1f}"/>'
                '<circle class="dot" cx="{sure:.1f}" cy="{y:.1f}" r="4"/>',
                bin=f"{b['low']:.1f} {b['high']:.1f} {b['count']}", x=x, w=width,
                y=10 + side * (1 - b["right"]), h=side * b["right"],
                below=14 + side, tall=tall, sure=left + side * b["sure"],
            )
        )  # fmt: skip
    said = "; ".join(
        f"{b['count']} images with {b['sure']:.2f}: {b['right']:.1%} correct"
        for b in found["bins"]
        if b["count"]
    )
    return fill(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="Accuracy by confidence of the model. {}">\n{}\n'
        '<text x="{}" y="{}" text-anchor="middle">confidence of the model</text></svg>',
        left + side + 12, side + strip + 56, said, join(parts), left + side / 2, side + strip + 50,
    )  # fmt: skip


def fit(points: np.ndarray) -> np.ndarray:
    """Fit points of shape (n, 2) into the square of the picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, high - low, 1.0)
    places = np.round(14 + (SIDE - 28) * (points - low) / room, 1)
    places[:, 1] = SIDE - places[:, 1]
    return places


def draw_points(
    points: np.ndarray,
    is_source: np.ndarray,
    labels: np.ndarray,
    shown: dict[int, str],
    wrong: np.ndarray,
    said: str,
) -> Markup:
    """Draw rows in the plane: source rows as dots, target rows as triangles, hollow where counted as wrong.

    Parameters
    ----------
    points : array of shape (n, 2)
    is_source : array of shape (n,), bool
    labels : array of shape (n,), int
        Class that each row is coloured by.
    shown : dict
        Names of the classes that have a colour, in the order of the hues; the others are grey.
    wrong : array of shape (n,), bool
    said : str
        For readers who do not see the picture.
    """
    places = fit(points)
    hues = {code: i for i, code in enumerate(shown)}
    texts = dict(zip(shown, shorten(list(shown.values()), 18), strict=True))
    parts: list[str] = []
    names: list[str] = []
    boxes: list[tuple[float, float, float]] = []
    for code in [None, *shown]:
        of_class = ~np.isin(labels, list(shown)) if code is None else labels == code
        kind = "c-grey" if code is None else f"c{hues[code]}"
        shapes = (
            ("dots", of_class & is_source, "M{:g} {:g}h0"),
            ("solid", of_class & ~is_source & ~wrong, TRIANGLE),
        )
        shapes += (("hollow", of_class & ~is_source & wrong, TRIANGLE),)
        for shape, rows, path in shapes:
            if rows.any():
                d = "".join(path.format(*place) for place in places[rows].tolist())
                parts.append(fill('<path class="{} {}" d="{}"/>', kind, shape, d))
        if code is not None and of_class.any():
            # the name stands at the row nearest to the middle of the class: a mean may lie between two clusters
            inside = places[of_class]
            x, y = inside[np.abs(inside - np.median(inside, axis=0)).sum(axis=1).argmin()]
            half = min(
                SIDE / 2, 6 + 4.2 * len(texts[code])
            )  # about half its width, which the picture has to hold
            x = min(max(x, half), SIDE - half)
            y = _free_height(x, y, half, boxes)
            boxes.append((x, y, half))
            names.append(fill('<text class="{}" x="{:g}" y="{:g}">{}</text>', kind, x, y, texts[code]))
    return fill(
        '<svg class="points" viewBox="0 0 {0} {0}" role="img" aria-label="{1}">\n{2}\n<g class="names">{3}</g></svg>',
        SIDE, said, join(parts), join(names),
    )  # fmt: skip


def _free_height(x: float, y: float, half: float, boxes: list[tuple[float, float, float]]) -> float:
    """Move a name up or down until it covers no other: `boxes` are middles and half widths of those that stand."""
    line = 16
    tried = [y - 6 + step * line for n in range(SIDE // line) for step in (n, -n)]
    for at in tried:
        free = all(
            abs(at - other) >= line or abs(x - middle) >= half + width for middle, other, width in boxes
        )
        if free and line <= at <= SIDE - 4:
            return at
    return y


TRIANGLE = "M{:g} {:g}m0-4.2l3.8 6.6h-7.6z"


def draw_change(before: float | None, after: float | None) -> Markup:
    """Draw a change between two shares as a small arrow's shaft: hollow before, filled after. For a table's cell."""
    if before is None or after is None:
        return Markup("")
    return fill(
        '<svg class="change" width="104" height="14" aria-hidden="true">'
        '<line class="grid" x1="2" x2="102" y1="7" y2="7"/>'
        '<line class="{kind}" x1="{a:.1f}" x2="{b:.1f}" y1="7" y2="7"/><circle class="was" cx="{a:.1f}" cy="7" r="4"/>'
        '<circle class="is" cx="{b:.1f}" cy="7" r="4"/></svg>',
        kind="up" if after >= before else "down", a=2 + 100 * before, b=2 + 100 * after,
    )  # fmt: skip
