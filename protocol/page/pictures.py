"""What is drawn, as numbers and SVG paths: bars of assignments, loss curves, the map. Pure, and without libraries.

Colours and patterns are the style sheet's; shapes and words say the same without them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from protocol.page.state import Campaign, Panel

CURVE_WIDTH, CURVE_HEIGHT, CURVE_EDGE = 120.0, 36.0, 2.0
MAP_SIZE, MAP_EDGE, DOT = 600.0, 14.0, 4.2
DOT_SMALL, FEW = 3.0, 400  # with more dots than that they are smaller


class Piece(NamedTuple):
    """A stretch of a bar, in percent of its length."""

    name: str
    words: str
    number: int
    begin: float
    width: float


def bar(campaign: Campaign) -> list[Piece]:
    """All assignments of a campaign by where they are, done first."""
    leased = min(max(0, campaign.pending), campaign.leased or 0)
    waiting = max(0, campaign.pending) - leased
    unknown = campaign.leased is None
    parts = (
        ("admitted", "admitted", campaign.admitted),
        ("checking", "being checked", campaign.checking),
        ("committed", "handed in, not yet checked", campaign.committed),
        ("leased", "leased to a volunteer", leased),
        ("waiting", "waiting or leased" if unknown else "waiting", waiting),
    )
    total, begin, pieces = max(1, sum(count for _, _, count in parts)), 0.0, []
    for name, words, count in parts:
        if name == "leased" and unknown:
            continue
        width = 100.0 * count / total
        pieces.append(Piece(name, words, count, round(begin, 3), round(width, 3)))
        begin += width
    return pieces


def curve(values: Sequence[float | None], low: float, high: float) -> str:
    """Losses as a path on a logarithmic scale from `low` to `high`; "" when there is nothing to draw."""
    usable = [(i, v) for i, v in enumerate(values) if v is not None and math.isfinite(v) and v > 0]
    if len(usable) < 2 or not low > 0:
        return ""
    span = max(math.log(high) - math.log(low), 1e-9)
    across, down = CURVE_WIDTH - 2 * CURVE_EDGE, CURVE_HEIGHT - 2 * CURVE_EDGE
    places = (
        (CURVE_EDGE + across * i / (len(values) - 1), CURVE_EDGE + down * (math.log(high) - math.log(v)) / span)
        for i, v in usable
    )
    points = [f"{x:.1f} {y:.1f}" for x, y in places]
    return "M" + "L".join(points)


def loss_range(curves: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """(lowest, highest) loss of all curves that share a picture; (0, 0) when there is none."""
    values = [v for one in curves for v in one if v is not None and math.isfinite(v) and v > 0]
    return (min(values), max(values)) if values else (0.0, 0.0)


CORNERS = {  # in units of a dot's size, around its middle
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": ((0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    "diamond": ((0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)),
    "cross": (
        *((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4)),
        *((0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ),
}
SHAPES = ("circle", *CORNERS)  # filled, then hollow: ten classes


class Dots(NamedTuple):
    """All networks of one class."""

    name: str
    colour: int  # of the style sheet
    shape: str
    hollow: bool
    networks: int
    path: str
    key: str  # one such dot in the middle of a 16 x 16 picture


def dots(panel: Panel) -> list[Dots]:
    """A path a class, in a picture of MAP_SIZE x MAP_SIZE."""
    size = DOT if len(panel.points) <= FEW else DOT_SMALL
    across = MAP_SIZE - 2 * MAP_EDGE
    found = []
    for number, name in enumerate(panel.classes):
        shape, hollow = SHAPES[number % len(SHAPES)], number >= len(SHAPES)
        places = [(x, y) for x, y, label in panel.points if label == number]
        path = "".join(dot(shape, MAP_EDGE + across * x, MAP_EDGE + across * (1 - y), size) for x, y in places)
        found.append(Dots(name, number, shape, hollow, len(places), path, dot(shape, 8.0, 8.0, 5.0)))
    return found


def dot(shape: str, x: float, y: float, r: float) -> str:
    """The path of one dot of about `r` around (x, y)."""
    if shape == "circle":
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r:.1f} 0a{r} {r} 0 1 0 {-2 * r:.1f} 0z"
    corners = [f"{x + r * dx:.1f} {y + r * dy:.1f}" for dx, dy in CORNERS[shape]]
    return f"M{'L'.join(corners)}z"
