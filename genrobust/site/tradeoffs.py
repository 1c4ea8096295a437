"""The geometry of the trade-off charts: robust area against what it may have cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from genrobust.board.board import Board, BoardRow
from genrobust.report.figures import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Axis, Drawing, Tick

#: Taller than a chart of one model, as each dot has a label.
HEIGHT = 420.0
#: About as wide as a letter of a label.
LETTER = 6.6
LABEL_HEIGHT = 16.0
#: Letters of a label where there is room, and where there is less.
LABEL_LENGTHS = (36, 24)

#: Where a label is tried, from its dot.
_LABEL_PLACES = (
    *((10.0, 0.0, "start"), (-10.0, 0.0, "end"), (10.0, -15.0, "start"), (10.0, 15.0, "start")),
    *((-10.0, -15.0, "end"), (-10.0, 15.0, "end"), (0.0, -36.0, "middle"), (0.0, 36.0, "middle")),
)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True)
class Dot:
    """A model: its place, the interval of its area, and its label where there is room."""

    x: float
    y: float
    low: float
    high: float
    row: BoardRow
    value: float
    label: Label | None


@dataclass(frozen=True)
class Frontier:
    """The ranked models that no other beats in both, and the path through their dots."""

    rows: tuple[BoardRow, ...]
    path: str


@dataclass(frozen=True, kw_only=True)
class TradeOff(Drawing):
    """A chart, and who is not in it because the measure is not known."""

    key: str
    title: str
    measure: str
    dots: tuple[Dot, ...]
    missing: tuple[BoardRow, ...]
    frontier: Frontier | None
    height: float = HEIGHT
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Measure:
    """What robustness is set against."""

    key: str
    title: str
    axis: str
    says: str
    of: Callable[[BoardRow], float | None]
    less_is_better: bool = True


MEASURES = (
    Measure(
        "quality",
        "Reconstruction quality",
        "reconstruction error (squared)",
        "The best of both lie to the upper left. Robustness that was bought with blurred "
        "reconstructions lies to the upper right.",
        lambda row: row.best.scores.reconstruction_error.value,
    ),
    Measure(
        "kl",
        "Information in the code",
        "what the code carries (nats an image)",
        "Robustness that was bought with a code that says little of the image lies to the upper "
        "left. What the code carries was measured by a replay, or is the KL to the prior where "
        "none has measured it yet. Models without a bottleneck are not in the chart.",
        lambda row: None if row.standing == "no bottleneck" else row.contender.rate,
    ),
    Measure(
        "disentanglement",
        "Disentanglement",
        "total correlation of the codes (nats)",
        "A lower total correlation is more disentangled: if such codes were more robust, the dots "
        "would fall to the right.",
        lambda row: row.best.scores.total_correlation,
        less_is_better=False,
    ),
)


def trade_offs(board: Board) -> tuple[TradeOff, ...]:
    """A chart for each measure. Failed and unofficial rows are left out."""
    rows = [row for row in board.rows if row.standing not in ("failed", "not official", "repeated")]
    return tuple(_trade_off(measure, rows) for measure in MEASURES)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers that enclose both ends.

    Example:
        >>> ticks(5.6, 13.1)
        [4.0, 6.0, 8.0, 10.0, 12.0, 14.0]
    """
    spread = high - low
    if spread <= 1e-9 * max(1.0, abs(low), abs(high)):
        spread = max(abs(high), 1e-6)
    raw = spread / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def _trade_off(measure: Measure, rows: Sequence[BoardRow]) -> TradeOff:
    known = [(row, value) for row in rows if (value := measure.of(row)) is not None]
    values = [value for _, value in known] or [0.0, 1.0]
    bounds = [bound for row, _ in known for bound in _interval(row)] or [0.0, 1.0]
    x_at, y_at = ticks(min(values), max(values)), ticks(min(bounds), min(1.0, max(bounds)))
    x = Axis(x_at[0], x_at[-1], LEFT, WIDTH - RIGHT)
    y = Axis(y_at[0], y_at[-1], HEIGHT - BOTTOM, TOP)
    return TradeOff(
        key=measure.key,
        title=measure.title,
        measure=measure.axis,
        says=measure.says,
        x_ticks=tuple(Tick(x(value), f"{value:g}") for value in x_at),
        y_ticks=tuple(Tick(y(value), f"{100 * value:g}%") for value in y_at),
        dots=_dots(known, x, y),
        missing=tuple(row for row in rows if measure.of(row) is None),
        frontier=_frontier(known, x, y) if measure.less_is_better else None,
    )


def _frontier(known: Sequence[tuple[BoardRow, float]], x: Axis, y: Axis) -> Frontier:
    """A step down is never on it: what has less of one must have more of the other."""
    ranked = [(value, row) for row, value in known if row.rank is not None]
    found: list[tuple[float, BoardRow]] = []
    for value, row in sorted(ranked, key=lambda one: (one[0], -one[1].area, one[1].contender.id)):
        if not found or row.area > found[-1][1].area:
            found.append((value, row))
    path = "".join(
        f"{f'H{x(value):.1f}V' if step else f'M{x(value):.1f} '}{y(row.area):.1f}"
        for step, (value, row) in enumerate(found)
    )
    return Frontier(tuple(row for _, row in found), path)


def _dots(known: Sequence[tuple[BoardRow, float]], x: Axis, y: Axis) -> tuple[Dot, ...]:
    """The dots, labelled from the best on where a label hits neither a dot nor another label."""
    places = [(x(value), y(row.area)) for row, value in known]
    taken: list[Box] = [(px - 7, py - 7, px + 7, py + 7) for px, py in places]
    for (row, _), (px, _) in zip(known, places, strict=True):
        low, high = _interval(row)
        taken.append((px - 2, y(high), px + 2, y(low)))
    dots = []
    for (row, value), (px, py) in zip(known, places, strict=True):
        label, box = _label(row.contender.name, px, py, taken)
        if box is not None:
            taken.append(box)
        low, high = _interval(row)
        dots.append(Dot(px, py, y(low), y(high), row, value, label))
    return tuple(dots)


def _label(
    name: str, x: float, y: float, taken: Sequence[Box]
) -> tuple[Label, Box] | tuple[None, None]:
    for most, (dx, dy, anchor) in product(LABEL_LENGTHS, _LABEL_PLACES):
        text = name if len(name) <= most else f"{name[: most - 1]}…"
        label = Label(x + dx, y + dy, anchor, text)
        box = _box(label)
        inside = box[0] > LEFT and box[2] < WIDTH and box[1] > TOP and box[3] < HEIGHT - BOTTOM
        if inside and not any(_overlap(box, other) for other in taken):
            return label, box
    return None, None


def _box(label: Label) -> Box:
    wide, half = LETTER * len(label.text), LABEL_HEIGHT / 2
    left = label.x - {"start": 0.0, "middle": wide / 2, "end": wide}[label.anchor]
    return left - 2, label.y - half, left + wide + 2, label.y + half


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _interval(row: BoardRow) -> tuple[float, float]:
    area = row.best.scores.robust_area
    return (area.low, area.high) if area else (row.area, row.area)
