"""A record in a terminal, in a notebook, as a table, and on matplotlib's axes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genrobust.errors import GenrobustError
from genrobust.norms import load_norm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

    from genrobust.records.record import Estimate, PairMatrix, Record

#: Okabe & Ito 2008: told apart with any colour vision; dashes and marks tell them apart without.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES, _MARKS = ("-", "--", ":", "-."), ("o", "s", "^", "D", "v")
#: The scores that a curve is drawn of.
RATES = ("robust accuracy", "as_ignore_target", "as_target")


def summary(record: Record) -> str:
    """What was measured, the scores, and whether they can be relied on: three lines."""
    scores = record.scores
    at = ", ".join(f"{one.robust_accuracy.value:.1%} at {one.eps:g}" for one in scores.per_eps)
    area = "" if scores.robust_area is None else f"; robust area {_interval(scores.robust_area)}"
    flags = ", ".join(dict.fromkeys(flag.name for flag in record.flags))
    official = "official" if record.official else f"not official ({'; '.join(record.deviations)})"
    return (
        f"{record.model.name} on {record.suite.name} v{record.suite.version}, {official}: "
        f"{scores.sources} sources, clean {scores.clean_accuracy.value:.1%}\n"
        f"robust accuracy ({load_norm(record.suite.norm).label}): {at}{area}\n"
        + (f"NOT RELIABLE: {flags}" if flags else "no flags")
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
        f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>{_drawn(record)}"
    )


def frame(record: Record) -> DataFrame:
    """A row a radius, a column a score, ``_low`` and ``_high`` beside what has an interval."""
    try:
        import pandas as pd
    except ImportError as problem:
        raise GenrobustError(
            "a table of a record needs pandas, which is not installed; pip install pandas"
        ) from problem
    rows = []
    for at in record.scores.per_eps:
        row: dict[str, Any] = {"model": record.model.name, "suite": record.suite.name}
        for name, value in at:
            if hasattr(value, "low"):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            elif value is None or isinstance(value, float):
                row[name] = value
        rows.append(row)
    return pd.DataFrame(rows)


def plot_curve(record: Record, ax: Axes | None = None, *, label: str | None = None) -> Axes:
    """Robust accuracy over the radius with its interval, and both attack success rates.

    With a ``label``, robust accuracy alone: so several records share one pair of axes.
    """
    ax = _axes(ax)
    scores = record.scores
    for name in RATES[:1] if label else RATES:
        known = [(at.eps, one) for at in scores.per_eps if (one := getattr(at, _field(name)))]
        if not known:
            continue
        eps, found = zip(*known, strict=True)
        clean = scores.eligible / scores.sources if name == "robust accuracy" else 0.0
        before: list[float] = [] if eps[0] == 0 else [0.0]
        values = [*([clean] if before else []), *(one.value for one in found)]
        drawn = len(ax.lines)
        (line,) = ax.plot(
            [*before, *eps],
            values,
            color=COLOURS[drawn % len(COLOURS)],
            ls=_DASHES[drawn % len(_DASHES)],
            marker=_MARKS[drawn % len(_MARKS)],
            label=label or name,
            clip_on=False,
        )
        low, high = [one.low for one in found], [one.high for one in found]
        ax.fill_between(eps, low, high, color=line.get_color(), alpha=0.15, lw=0)
    ax.set(xlabel=f"eps ({load_norm(record.suite.norm).label})", ylabel="share of the sources")
    ax.set(xlim=(0, None), ylim=(0, 1))
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return ax


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
    ax = _axes(ax)
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
    chosen = per_eps[-1].eps if eps is None else eps
    for at in per_eps:
        if at.eps == chosen:
            return at.as_target_pairs
    raise GenrobustError(
        f"eps is {eps}, which was not measured; choose one of "
        f"{', '.join(f'{at.eps:g}' for at in per_eps)}"
    )


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained")[1]


def _drawn(record: Record) -> str:
    """The curve as an inline SVG; nothing is shown on a screen, and no figure is left open."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    plot_curve(record, figure.subplots())
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]  # without XML's own head


def _field(name: str) -> str:
    return name.replace(" ", "_")


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "none"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
