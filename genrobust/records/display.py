"""A record in a terminal, in a notebook, as a table, and on matplotlib's axes."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genrobust import drawing
from genrobust.arguments import real
from genrobust.errors import GenrobustError
from genrobust.norms import load_norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from genrobust.records.curve_record import MinimumNormRecord
    from genrobust.records.examples import Example
    from genrobust.records.record import Estimate, PairMatrix, Record

#: The scores that a curve is drawn of.
RATES = ("robust accuracy", "as_ignore_target", "as_target")


def doubts(record: Record | MinimumNormRecord) -> tuple[str, ...]:
    """Why its scores are not to be relied on: its flags, each once, and a reading that differs.

    Whatever gives the scores on, to a table, a figure or a comparison, gives these beside them.
    """
    flags = tuple(dict.fromkeys(flag.name for flag in record.flags))
    told = record.fidelity
    return (*flags, "may be misread") if told and told.status == "differs" else flags


def _reliable(record: Record | MinimumNormRecord) -> str:
    found = doubts(record)
    return f"NOT RELIABLE: {', '.join(found)}" if found else "no flags"


def summary(record: Record) -> str:
    """What was measured, the scores, and whether they can be relied on: three lines."""
    scores = record.scores
    at = ", ".join(f"{one.robust_accuracy.value:.1%} at {one.eps:g}" for one in scores.per_eps)
    area = "" if scores.robust_area is None else f"; robust area {_interval(scores.robust_area)}"
    official = "official" if record.official else f"not official ({'; '.join(record.deviations)})"
    return (
        f"{record.model.name} on {record.suite.name} v{record.suite.version}, {official}: "
        f"{scores.sources} sources, clean {scores.clean_accuracy.value:.1%}\n"
        f"robust accuracy ({load_norm(record.suite.norm).label}): {at}{area}\n" + _reliable(record)
    )


def page(record: Record) -> str:
    """The same as HTML, with a table over the radii and the curve, for a notebook."""
    head, *_, last = summary(record).splitlines()
    rows = "".join(
        f"<tr><td>{at.eps:g}</td>"
        + "".join(f"<td>{_interval(getattr(at, _field(name)))}</td>" for name in RATES)
        + "</tr>"
        for at in record.scores.per_eps
    )
    titles = "".join(f"<th>{name}</th>" for name in ("eps", *RATES))
    return (
        f"<p><b>{html.escape(head)}</b><br>{html.escape(last)}</p>"
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"
        + _drawn(lambda ax: plot_curve(record, ax))
    )


def frame(record: Record) -> DataFrame:
    """A row a radius, a column a score, ``_low`` and ``_high`` beside what has an interval."""
    rows, flags = [], "; ".join(doubts(record))
    for at in record.scores.per_eps:
        row: dict[str, Any] = {"model": record.model.name, "suite": record.suite.name}
        for name, value in at:
            if hasattr(value, "low"):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            elif value is None or isinstance(value, float):
                row[name] = value
        rows.append(row | {"official": record.official, "flags": flags})
    return table(rows)


def table(rows: list[dict[str, Any]]) -> DataFrame:
    """Raises GenrobustError if pandas is not installed."""
    try:
        import pandas as pd
    except ImportError as problem:
        raise GenrobustError(
            "a table needs pandas, which is not installed; pip install 'genrobust[pandas]'"
        ) from problem
    return pd.DataFrame(rows)


def plot_curve(record: Record, ax: Axes | None = None, *, label: str | None = None) -> Axes:
    """Robust accuracy over the radius with its interval, and both attack success rates.

    With a ``label``, robust accuracy alone: so several records share one pair of axes.
    """
    ax = drawing.axes(ax)
    scores = record.scores
    for name in RATES[:1] if label else RATES:
        known = [(at.eps, one) for at in scores.per_eps if (one := getattr(at, _field(name)))]
        if not known:
            continue
        eps, found = zip(*known, strict=True)
        clean = scores.eligible / scores.sources if name == "robust accuracy" else 0.0
        before: list[float] = [] if eps[0] == 0 else [0.0]
        values = [*([clean] if before else []), *(one.value for one in found)]
        look: dict[str, Any] = drawing.style(len(ax.lines))
        # The rates of success are then too low: one mark says it of all.
        told = _marked(label or name, record) if name == RATES[0] else name
        (line,) = ax.plot([*before, *eps], values, label=told, clip_on=False, **look)
        low, high = [one.low for one in found], [one.high for one in found]
        ax.fill_between(eps, low, high, color=line.get_color(), alpha=0.15, lw=0)
    ax.set(xlabel=f"eps ({load_norm(record.suite.norm).label})", ylabel="share of the sources")
    ax.set(xlim=(0, None), ylim=(0, 1))
    drawing.legend_above(ax)
    return ax


def curve_summary(record: MinimumNormRecord) -> str:
    """What was measured, what follows from the distances, and whether it can be relied on."""
    at = ", ".join(f"{one.robust_accuracy.value:.1%} at {one.eps:g}" for one in record.per_eps)
    areas = "".join(f"; area to {one.radius:g}: {_interval(one.area)}" for one in record.areas)
    half = "beyond every distance" if record.eps50.value is None else f"{record.eps50.value:.4g}"
    whole = f" ({'; '.join(record.deviations)})" if record.deviations else ""
    return (
        f"{record.model.name} on {record.suite.name} v{record.suite.version}{whole}, smallest "
        f"{load_norm(record.norm).label} changes: {len(record.sources)} sources, "
        f"{record.eligible} eligible, eps50 {half}\n"
        f"robust accuracy: {at}{areas}\n" + _reliable(record)
    )


def curve_page(record: MinimumNormRecord) -> str:
    """The same as HTML with the curve, for a notebook."""
    words = "<br>".join(html.escape(line) for line in curve_summary(record).splitlines())
    return f"<p>{words}</p>{_drawn(lambda ax: plot_steps(record, ax))}"


def curve_frame(record: MinimumNormRecord) -> DataFrame:
    """A row a source."""
    nothing, flags = float("nan"), "; ".join(doubts(record))
    return table(
        [
            {
                "model": record.model.name,
                "suite": record.suite.name,
                **source.model_dump(),
                "distance": nothing if source.distance is None else source.distance,
                "flags": flags,
            }
            for source in record.sources
        ]
    )


def plot_steps(
    record: MinimumNormRecord, ax: Axes | None = None, *, label: str | None = None
) -> Axes:
    """Robust accuracy over the radius: a step at each source's distance."""
    ax, curve = drawing.axes(ax), record.curve
    look: dict[str, Any] = drawing.style(len(ax.lines)) | {"marker": ""}
    name = _marked(label or record.model.name, record)
    (line,) = ax.step(curve.radius, curve.robust_accuracy, where="post", label=name, **look)
    band: dict[str, Any] = {"step": "post", "color": line.get_color(), "alpha": 0.15, "lw": 0}
    ax.fill_between(curve.radius, curve.low, curve.high, **band)
    ax.set(xlabel=f"eps ({load_norm(record.norm).label})", ylabel="share of the sources")
    ax.set(xlim=(0, None), ylim=(0, 1))
    drawing.legend_above(ax)
    return ax


def _marked(name: str, record: Record | MinimumNormRecord) -> str:
    return f"{name} (not reliable)" if doubts(record) else name


def plot_pairs(
    record: Record, eps: float | None = None, ax: Axes | None = None, *, classes: Sequence[str] = ()
) -> Axes:
    """The share of each (source class, target class) that became the target's, as a heat map.

    Args:
        record: with two classes or more.
        eps: one of the suite's radii; default the largest.
        ax: where to; default new axes.
        classes: names for the ticks; default numbers.
    """
    pairs = _pairs_at(record, eps)
    ax = drawing.axes(ax)
    rates = [[float("nan") if rate is None else rate for rate in row] for row in pairs.rate]
    image = ax.imshow(rates, vmin=0, vmax=1, cmap="cividis")
    ax.figure.colorbar(image, ax=ax, label="share that shows the target's class")
    names = list(classes) or [str(c) for c in range(len(rates))]
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="class of the target", ylabel="class of the source")
    return ax


def _pairs_at(record: Record, eps: float | None) -> PairMatrix:
    per_eps = record.scores.per_eps
    chosen = per_eps[-1].eps if eps is None else real("eps", eps, per_eps[-1].eps)
    for at in per_eps:
        if math.isclose(at.eps, chosen, rel_tol=1e-6):  # one may have been a float32
            return at.as_target_pairs
    raise GenrobustError(
        f"eps is {chosen}, which was not measured; choose one of "
        f"{', '.join(f'{at.eps:g}' for at in per_eps)}"
    )


def plot_examples(
    examples: Sequence[Example], classes: Sequence[str] = (), figure: Figure | None = None
) -> Figure:
    """Sources, the images that broke them, what was changed, and the reconstructions."""
    if not examples:
        raise GenrobustError(
            "no source is eligible, so that none was attacked and there is nothing to show; see "
            "record.scores.clean_accuracy"
        )
    fallen = [one.attacked[0] if one.attacked else None for one in examples]
    broken = [(one.source, at.x_adv) for one, at in zip(examples, fallen, strict=True) if at]
    words, moved = "change", list[Tensor]()
    if broken:
        words, moved = drawing.change(*map(torch.stack, zip(*broken, strict=True)))
    changes = iter(moved)
    rows: dict[str, list[Tensor | None]] = {
        "source": [one.source for one in examples],
        "attacked": [at.x_adv if at else None for at in fallen],
        words: [next(changes) if at else None for at in fallen],
        "reconstruction": [one.reconstruction for one in examples],
        "of the attacked": [at.reconstruction if at else None for at in fallen],
    }
    titles = [_title(one, classes) for one in examples]
    return drawing.pictures(rows, titles, figure)


def _title(example: Example, classes: Sequence[str]) -> str:
    def name(label: int) -> str:
        return classes[label] if 0 <= label < len(classes) else str(label)

    if not example.attacked:
        return f"{name(example.label)}\nstood"
    at = example.attacked[0]
    became = f" → {name(at.shows)}" if at.shows >= 0 and at.shows != example.label else ""
    return f"{name(example.label)}{became}\nat {at.eps:.3g}"


def _drawn(plot: Callable[[Axes], object]) -> str:
    """Axes as an inline SVG; nothing is shown on a screen, and no figure is left open."""
    figure = drawing.blank(5, 3)
    plot(figure.subplots())
    drawn = drawing.svg(figure)
    return drawn[drawn.index("<svg") :]  # without XML's own head


def _field(name: str) -> str:
    return name.replace(" ", "_")


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "none"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
