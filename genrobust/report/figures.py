"""The geometry of the figures. The templates draw them as inline SVG and tables.

Drawn in the page, they take its fonts and colours, follow its dark mode, and stay text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from genrobust.norms import load_norm
from genrobust.records.curve_record import AtRadius, Curve, MinimumNormRecord
from genrobust.records.record import Estimate, PairMatrix, Record

WIDTH, HEIGHT = 680.0, 328.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 22.0, 14.0, 58.0

#: A chart's labels need this much room, also in the larger letters of a phone.
LABEL_ROOM = 56.0

#: Circle, square, triangle, diamond, cross: curves differ in more than colour.
MARKS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "M-4-4h8v8h-8z",
    "M0-5.5L5 4H-5z",
    "M0-6L5 0L0 6L-5 0z",
    "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
)
#: How many colours and dashes the style sheet has.
HUES = 6


@dataclass(frozen=True)
class Look:
    """How a curve is told from the others."""

    hue: int
    mark: str

    @classmethod
    def of(cls, number: int) -> Look:
        """A look of its own for each of the first 30 curves."""
        return cls(number % HUES, MARKS[number % len(MARKS)])


@dataclass(frozen=True)
class Marker:
    """A measured point of a curve, and what it says when pointed at."""

    x: float
    y: float
    says: str


@dataclass(frozen=True)
class Line:
    """A curve, its interval as a band (or none), and its points."""

    label: str
    look: Look
    path: str
    band: str | None
    marks: tuple[Marker, ...]


@dataclass(frozen=True)
class Tick:
    """A place on an axis; its text is empty where a label would not fit."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Two axes and the room between them."""

    says: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True, kw_only=True)
class Chart(Drawing):
    """Rates over the radius."""

    x_label: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Axis:
    """From values to places: ``low`` lies at ``first``, ``high`` at ``last``."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map: a rate, an empty pair (hatched) or the empty diagonal."""

    kind: Literal["rate", "empty", "diagonal"]
    source: int
    target: int
    rate: float
    n: int


def model_chart(record: Record) -> Chart:
    """Robust accuracy with its interval, and both attack success rates, over eps."""
    per_eps = record.scores.per_eps
    ignore_target = [(scores.eps, scores.as_ignore_target) for scores in per_eps]
    target = [(scores.eps, scores.as_target) for scores in per_eps]
    scale = Scale(record.suite.eps)
    lines = [
        _robust_line(scale, "robust accuracy", Look.of(0), record),
        scale.line("as_ignore_target", Look.of(1), ignore_target, at_zero=0.0),
        scale.line("as_target", Look.of(2), target, at_zero=0.0),
    ]
    return scale.chart(
        f"Robust accuracy and attack success rates of {record.model.name} over eps; the table "
        "below holds the numbers",
        record.suite.norm,
        [line for line in lines if line.marks],
    )


def comparison_chart(named: Sequence[tuple[str, Record]]) -> Chart:
    """The robust accuracy of each model over eps. All must be measured under one norm."""
    scale = Scale([eps for _, record in named for eps in record.suite.eps])
    return scale.chart(
        f"Robust accuracy of {len(named)} models over eps; the table below holds the numbers",
        named[0][1].suite.norm,
        [
            _robust_line(scale, name, Look.of(number), record)
            for number, (name, record) in enumerate(named)
        ],
    )


def step_chart(record: MinimumNormRecord) -> Chart:
    """Robust accuracy at every radius with its interval; marks at the suite's radii."""
    scale = Scale([*record.suite.eps, *(area.radius for area in record.areas)])
    return scale.chart(
        f"Robust accuracy of {record.model.name} at every radius; the table below holds the "
        "numbers at the suite's",
        record.norm,
        [scale.steps("robust accuracy", Look.of(0), record.curve, record.per_eps)],
    )


def heat_map(pairs: PairMatrix) -> tuple[tuple[Cell, ...], ...]:
    """The cells of a matrix, sources down and targets across."""
    return tuple(
        tuple(
            _cell(source, target, rate, n)
            for target, (rate, n) in enumerate(zip(rates, counts, strict=True))
        )
        for source, (rates, counts) in enumerate(zip(pairs.rate, pairs.n, strict=True))
    )


def _robust_line(scale: Scale, label: str, look: Look, record: Record) -> Line:
    """Robust accuracy with its band. At eps 0 it is, by definition, the share of the eligible."""
    scores = record.scores
    measured = [(at.eps, at.robust_accuracy) for at in scores.per_eps]
    return scale.line(label, look, measured, at_zero=scores.eligible / scores.sources, band=True)


class Scale:
    """From rates and radii to places in the drawing."""

    def __init__(self, radii: Iterable[float]) -> None:
        self.radii = sorted({0.0, *radii})
        self.largest = self.radii[-1] or 1.0
        self.x = Axis(0.0, self.largest, LEFT, WIDTH - RIGHT)
        self.y = Axis(0.0, 1.0, HEIGHT - BOTTOM, TOP)

    def chart(self, says: str, norm: str, lines: Sequence[Line]) -> Chart:
        """Lines over eps, with a tick for each radius and each quarter."""
        return Chart(
            says=says,
            x_label=f"eps ({load_norm(norm).label})",
            x_ticks=self._x_ticks(),
            y_ticks=tuple(Tick(self.y(p / 100), f"{p}%") for p in (0, 25, 50, 75, 100)),
            lines=tuple(lines),
        )

    def _x_ticks(self) -> tuple[Tick, ...]:
        """A tick for each radius, labelled where there is room: both ends, then from the right."""
        labelled: list[float] = []
        for eps in (0.0, *reversed(self.radii)):
            if all(abs(self.x(eps) - self.x(other)) >= LABEL_ROOM for other in labelled):
                labelled.append(eps)
        return tuple(
            Tick(self.x(eps), f"{eps:.4g}" if eps in labelled else "") for eps in self.radii
        )

    def line(
        self,
        label: str,
        look: Look,
        points: Iterable[tuple[float, Estimate | None]],
        at_zero: float,
        band: bool = False,
    ) -> Line:
        """A curve through rates at radii, from what is known without a measurement at eps 0."""
        known = [(eps, rate) for eps, rate in points if rate is not None]
        places = [(eps, rate.value) for eps, rate in known]
        if places and places[0][0] > 0:
            places.insert(0, (0.0, at_zero))
        high = [(eps, rate.high) for eps, rate in known]
        low = [(eps, rate.low) for eps, rate in known]
        return Line(
            label=label,
            look=look,
            path=self._path(places),
            band=self._band(high, low) if band else None,
            marks=self._marks(label, places),
        )

    def steps(self, label: str, look: Look, curve: Curve, marked: Sequence[AtRadius]) -> Line:
        """A curve that falls at its radii and is level between them, as far as the axis goes."""
        shown = sum(radius <= self.largest for radius in curve.radius)
        ends = [*curve.radius[1:shown], self.largest]

        def level(shares: Sequence[float]) -> list[tuple[float, float]]:
            levels = zip(curve.radius, ends, shares, strict=False)
            return [place for start, end, y in levels for place in ((start, y), (end, y))]

        return Line(
            label=label,
            look=look,
            path=self._path(level(curve.robust_accuracy)),
            band=self._band(level(curve.high), level(curve.low)),
            marks=self._marks(label, [(at.eps, at.robust_accuracy.value) for at in marked]),
        )

    def _marks(self, label: str, places: Iterable[tuple[float, float]]) -> tuple[Marker, ...]:
        return tuple(
            Marker(self.x(eps), self.y(rate), f"{label} at eps {eps:.4g}: {rate:.1%}")
            for eps, rate in places
        )

    def _band(self, high: Sequence[tuple[float, float]], low: Sequence[tuple[float, float]]) -> str:
        return self._path([*high, *reversed(low)]) + "Z"

    def _path(self, places: Iterable[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.x(eps)} {self.y(rate)}" for eps, rate in places)


def _cell(source: int, target: int, rate: float | None, n: int) -> Cell:
    if rate is not None:
        return Cell("rate", source, target, rate, n)
    return Cell("diagonal" if source == target else "empty", source, target, 0.0, 0)
