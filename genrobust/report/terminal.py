"""What a bench prints at its end: a table, and what must be known to read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from genrobust.benchmark.record import Estimate, Record

LEGEND = """\
robust accuracy: of all sources, reconstructed right and not changed by any attack
changed, to target: of the sources reconstructed right; [95% interval]"""

LEGEND_BY_DISTANCE = """\
robust accuracy: of all sources, not brought nearer to their target's reconstruction by any attack
changed: by any attack; to target: by one that aimed at it; [95% interval]"""


def score_table(records: Sequence[Record]) -> Group:
    """A row per model and radius, in percent; below it, what makes a number unreliable."""
    suite = records[0].suite
    norm = {"linf": "L-inf", "l2": "L2"}[suite.norm]
    table = Table(title=f"{suite.name} v{suite.version}")
    table.add_column("model", overflow="fold", min_width=8)
    for head in (f"{norm} eps", "robust accuracy %", "changed %", "to target %"):
        table.add_column(head, justify="right", no_wrap=True)
    for record in records:
        mark = " ?" if record.flags else ""
        clean = _percent(record.scores.clean_accuracy)
        table.add_row(record.model.name, "clean", clean + mark, "", "")
        for at in record.scores.per_eps:
            table.add_row(
                "",
                f"{at.eps:g}",
                _percent(at.robust_accuracy) + mark,
                _percent(at.as_ignore_target),
                _percent(at.as_target),
            )
        table.add_section()
    legend = LEGEND_BY_DISTANCE if suite.rule == "distance" else LEGEND
    return Group(table, Text("\n".join([legend, *_notes(records)])))


def _notes(records: Sequence[Record]) -> list[str]:
    flags = [f"? {r.model.name} is not reliable: {f.evidence}" for r in records for f in r.flags]
    deviations = sorted({d for record in records for d in record.deviations})
    return flags + ([f"not official: {'; '.join(deviations)}"] if deviations else [])


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
