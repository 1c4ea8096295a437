"""What a bench prints at its end: a table, and what must be known to read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from genrobust.benchmark.curve_record import MinimumNormRecord
from genrobust.benchmark.record import Estimate, Record
from genrobust.norms import load_norm
from genrobust.rules.base import RULES

CURVE_LEGEND = """\
eps50: the radius at which half of the eligible sources have fallen; [95% interval]
robust area: robust accuracy averaged over all radii up to one"""


def score_table(records: Sequence[Record]) -> Group:
    """A row per model and radius, in percent; below it, what makes a number unreliable."""
    suite = records[0].suite
    norm = load_norm(suite.norm).ascii_label
    table = Table(title=_text(f"{suite.name} v{suite.version}"))
    table.add_column("model", overflow="fold", min_width=8)
    for head in (f"{norm} eps", "robust accuracy %", "changed %", "to target %"):
        table.add_column(head, justify="right", overflow="fold")
    for record in records:
        mark = " ?" if record.flags else ""
        clean = _percent(record.scores.clean_accuracy)
        table.add_row(_text(record.model.name), "clean", clean + mark, "", "")
        for at in record.scores.per_eps:
            table.add_row(
                "",
                f"{at.eps:g}",
                _percent(at.robust_accuracy) + mark,
                _percent(at.as_ignore_target),
                _percent(at.as_target),
            )
        table.add_section()
    legend = RULES.get(suite.rule).words.legend
    return Group(table, _text("\n".join([legend, *_notes(records)])))


def curve_table(record: MinimumNormRecord) -> Group:
    """What the smallest changes say of a model: a column of names and one of numbers."""
    eps50, norm = record.eps50, load_norm(record.norm).ascii_label
    suite = record.suite
    table = Table(title=_text(f"{record.model.name} on {suite.name} v{suite.version}"))
    table.add_column("smallest changes", overflow="fold")
    table.add_column(norm, justify="right", overflow="fold")
    low, high = _radius(eps50.low), _radius(eps50.high)
    table.add_row("eps50", f"{_radius(eps50.value)} [{low}, {high}]")
    for up_to in record.areas:
        table.add_row(f"robust area % to eps {up_to.radius:.4g}", _percent(up_to.area))
    for at in record.per_eps:
        table.add_row(f"robust accuracy % at eps {at.eps:.4g}", _percent(at.robust_accuracy))
    table.add_row("median distance", _radius(record.median_distance))
    table.add_row("found, of the eligible", f"{record.found} of {record.eligible}")
    table.add_row("attack seconds", f"{record.times.attack_seconds:.0f}")
    return Group(table, _text("\n".join([CURVE_LEGEND, *_notes([record])])))


def _text(words: str) -> Text:
    """As it stands: a user's names are no markup, and no codes for the terminal."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in words))


def _radius(value: float | None) -> str:
    return "above all" if value is None else f"{value:.4g}"


def _notes(records: Sequence[Record | MinimumNormRecord]) -> list[str]:
    flags = [f"? {r.model.name} is not reliable: {f.evidence}" for r in records for f in r.flags]
    deviations = sorted({d for record in records for d in record.deviations})
    return flags + ([f"not official: {'; '.join(deviations)}"] if deviations else [])


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
