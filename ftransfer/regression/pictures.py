"""The pictures of a regression's page: SVG that reads in light and dark, with the same said in words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from ftransfer.report.pictures import fill, fraction, join

SIDE, LEFT, BOTTOM = 360, 70, 40  # of a scatter: side of the field, room for the ticks
MOST_POINTS = 1000


def draw_scatter(truth: np.ndarray, predicted: np.ndarray, ends: tuple[float, float], said: str) -> Markup:
    """Draw predicted against true labels, with the diagonal; of many points a sample.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n_rows,)
    ends : (float, float)
        Of both axes.
    said : str
        The same in words.
    """
    rows = np.random.default_rng(0).permutation(len(truth))[:MOST_POINTS]

    def place(values: Any) -> Any:
        return SIDE * np.clip((np.asarray(values) - ends[0]) / (ends[1] - ends[0]), 0, 1)

    parts = [
        fill('<rect class="field" x="{}" y="0" width="{s}" height="{s}"/>', LEFT, s=SIDE),
        fill('<line class="ideal" x1="{}" y1="{s}" x2="{}" y2="0"/>', LEFT, LEFT + SIDE, s=SIDE),
    ]
    for x, y in zip(place(truth[rows]), place(predicted[rows]), strict=True):
        parts.append(fill('<circle cx="{:.1f}" cy="{:.1f}" r="2.5"/>', LEFT + x, SIDE - y))
    for tick in round_ticks(*ends):
        at = float(place(tick))
        parts.append(
            fill(
                '<text class="soft" x="{:.1f}" y="{}" text-anchor="middle">{:.4g}</text>'
                '<text class="soft" x="{}" y="{:.1f}" text-anchor="end">{:.4g}</text>',
                LEFT + at, SIDE + 17, tick, LEFT - 6, SIDE - at + 4, tick,
            )
        )  # fmt: skip
    parts.append(
        fill('<text x="{}" y="{}" text-anchor="middle">true</text>', LEFT + SIDE / 2, SIDE + BOTTOM - 5)
    )
    parts.append(
        fill(
            '<text x="14" y="{y}" text-anchor="middle" transform="rotate(-90 14 {y})">predicted</text>',
            y=SIDE / 2,
        )
    )
    view = f"-2 -8 {LEFT + SIDE + 20} {SIDE + BOTTOM + 8}"
    return fill(
        '<svg class="scatter" viewBox="{}" role="img" aria-label="{}">{}</svg>', view, said, join(parts)
    )


def draw_boxes(groups: Mapping[str, np.ndarray], *, zero: bool) -> Markup:
    """Draw a row for each group of numbers: a line from the 5th to the 95th percentile, a box of the middle half.

    Parameters
    ----------
    groups : dict of str to ndarray
    zero : bool
        Whether the scale is even about zero, with a line there.
    """
    spans = {name: np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]) for name, values in groups.items()}
    low, high = min(s[0] for s in spans.values()), max(s[-1] for s in spans.values())
    if zero:
        high = max(abs(low), abs(high))
        low = -high
    room = 0.05 * (high - low) or 1.0
    low, high = low - room, high + room
    step, top = 44, 4
    bottom = top + step * len(spans)
    parts = []
    for tick in round_ticks(low, high):
        x = fraction(tick, low, high)
        line = '<line class="grid" x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
        line += '<text class="soft" x="{x}" y="{}" text-anchor="middle">{:.4g}</text>'
        parts.append(fill(line, top, bottom, bottom + 16, tick, x=x))
    if zero:
        parts.append(
            fill(
                '<line class="ideal" x1="{x}" x2="{x}" y1="{}" y2="{}"/>',
                top,
                bottom,
                x=fraction(0, low, high),
            )
        )
    for i, (name, span) in enumerate(spans.items()):
        y = top + step * i
        a, b, c, d, e = (fraction(value, low, high) for value in span)
        width = f"{float(d[:-1]) - float(b[:-1]):.2f}%"
        parts.append(
            fill(
                '<g><text x="0" y="{}">{}</text><rect x="{}" y="{}" width="{}" height="12" rx="2"/>'
                '<line class="whisker" x1="{}" x2="{}" y1="{m}" y2="{m}"/>'
                '<line class="median" x1="{c}" x2="{c}" y1="{}" y2="{}"/></g>',
                y + 15, name, b, y + 22, width, a, e, y + 19, y + 37, m=y + 28, c=c,
            )
        )  # fmt: skip
    said = "; ".join(
        f"{name}: median {s[2]:.3g}, middle half {s[1]:.3g} to {s[3]:.3g}" for name, s in spans.items()
    )
    return fill(
        '<svg class="fluid boxes" height="{}" role="img" aria-label="{}">{}</svg>',
        bottom + 24,
        said,
        join(parts),
    )


def ends_of(*values: np.ndarray) -> tuple[float, float]:
    """Choose the ends of an axis: a little beyond all values."""
    everything = np.concatenate([np.asarray(v, dtype=float) for v in values])
    low, high = float(everything.min()), float(everything.max())
    room = 0.05 * (high - low) or 1.0
    return low - room, high + room


def round_ticks(low: float, high: float) -> list[float]:
    """Choose some round numbers between two ends.

    >>> round_ticks(-8.8, 8.1), round_ticks(0.0, 0.47)
    ([-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0], [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
    """
    rough = (high - low) / 5
    unit = 10 ** np.floor(np.log10(rough))
    step = float(unit * next(each for each in (1, 2, 5, 10) if each * unit >= 0.5 * rough))
    first, last = int(np.ceil(low / step)), int(np.floor(high / step))
    return [round(i * step, 12) for i in range(first, last + 1)]
