"""The table at the end of a bench."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from genrobust.benchmark.record import Estimate, Record


def score_table(records: Sequence[Record]) -> Table:
    """A row per model and radius; all numbers are percentages but the error."""
    suite = records[0].suite
    norm = {"linf": "L-inf", "l2": "L2"}[suite.norm]
    table = Table(
        title=f"{suite.name} v{suite.version}", caption=_caption(records), show_lines=False
    )
    table.add_column("model")
    table.add_column(f"{norm} eps", justify="right")
    table.add_column("robust accuracy %", justify="right")
    table.add_column("changed %", justify="right")
    table.add_column("to target %", justify="right")
    for record in records:
        scores = record.scores
        table.add_row(record.model.name, "clean", _percent(scores.clean_accuracy), "", "")
        for at in scores.per_eps:
            table.add_row(
                "",
                f"{at.eps:g}",
                _percent(at.robust_accuracy) + (" ?" if record.flags else ""),
                _percent(at.as_ignore_target),
                _percent(at.as_target),
            )
        table.add_section()
    return table


def _caption(records: Sequence[Record]) -> str:
    lines = [
        "robust accuracy: of all sources, reconstructed right and no attack changed that",
        "[95% interval]; changed, to target: of the sources reconstructed right",
        "(as_ignore_target, as_target)",
    ]
    for record in records:
        lines += [f"UNRELIABLE {record.model.name}: {f.name}: {f.evidence}" for f in record.flags]
    odd = {d for record in records for d in record.deviations}
    if odd:
        lines.append(f"not official: {'; '.join(sorted(odd))}")
    return "\n".join(lines)


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
