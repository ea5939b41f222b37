"""Settings as points over two parameters, where these have too many values for a heat map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from markupsafe import Markup

from ftransfer.report.pictures import fill, join, short

SIDE, LEFT, ROOM = 240, 44, 10


def draw_scatter(
    points: Sequence[Sequence[Any]], rows: str, columns: str, said: str, ends: tuple[float, float]
) -> Markup:
    """Draw settings as points over two parameters, the larger the higher the score.

    Parameters
    ----------
    points : sequence of (value, value, score)
        The first value on the vertical axis.
    rows, columns : str
        Names of the vertical and the horizontal parameter.
    said : str
        What they are, for readers who do not see the picture.
    ends : tuple of float
        Lowest and highest score.
    """
    ys, xs = (_axis([point[i] for point in points]) for i in (0, 1))
    parts = [
        fill('<rect class="frame" x="{}" y="0" width="{}" height="{}"/>', LEFT, SIDE, SIDE),
        fill('<text class="soft" x="0" y="{}">{} ↑</text>', SIDE + 34, rows),
        fill('<text class="soft" x="{}" y="{}" text-anchor="end">{} →</text>', LEFT + SIDE, SIDE + 34, columns),
    ]  # fmt: skip
    for value, share in ys.ticks:
        parts.append(_label(short(value, 6), x=LEFT - 4, y=_down(share) + 4, anchor="end"))
    for value, share in xs.ticks:
        parts.append(_label(short(value, 8), x=_across(share), y=SIDE + 16, anchor="middle"))
    room = (ends[1] - ends[0]) or 1.0
    drawn = sorted(zip(xs.places, ys.places, (p[2] for p in points), strict=True), key=lambda each: each[2])
    for x, y, score in drawn:
        kind = Markup(' class="best"' if score == ends[1] else "")
        radius = 2 + 5 * (score - ends[0]) / room
        circle = '<circle{} cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>'
        parts.append(fill(circle, kind, _across(x), _down(y), radius))
    return fill(
        '<svg class="pair" viewBox="0 0 {} {}" role="img" aria-label="{} {}; the highest score is {:.3f}">{}</svg>',
        LEFT + SIDE + 4, SIDE + 40, len(points), said, ends[1], join(parts),
    )  # fmt: skip


def _label(text: str, *, x: float, y: float, anchor: str) -> Markup:
    return fill('<text class="soft" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>', x, y, anchor, text)


def _across(share: float) -> float:
    return LEFT + ROOM + (SIDE - 2 * ROOM) * share


def _down(share: float) -> float:
    return ROOM + (SIDE - 2 * ROOM) * (1 - share)


@dataclass(frozen=True)
class Axis:
    """Where values lie on an axis, from 0 to 1, and which are written beside it."""

    places: list[float]
    ticks: list[tuple[Any, float]]


def _axis(values: Sequence[Any]) -> Axis:
    """Place numbers by size, by their logarithm where they span a decade; other values side by side."""
    if not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        names = sorted({str(v) for v in values})
        shares = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
        every = -(-len(names) // 6)
        return Axis([shares[str(v)] for v in values], list(shares.items())[::every])
    low, high = float(min(values)), float(max(values))
    log = low > 0 and high >= 10 * low
    size = math.log if log else float
    room = (size(high) - size(low)) or 1.0
    middle = math.sqrt(low * high) if log else (low + high) / 2
    ticks = [(v, (size(v) - size(low)) / room) for v in (low, middle, high)]
    return Axis([(size(float(v)) - size(low)) / room for v in values], ticks)
