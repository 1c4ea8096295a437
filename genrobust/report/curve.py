"""The page of a robustness curve: one HTML file that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence

from genrobust.norms import load_norm
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.examples import Example
from genrobust.report.figures import step_chart
from genrobust.report.html import environment


def render_curve(record: MinimumNormRecord, examples: Sequence[Example]) -> str:
    """The page: what was found, the curve, its numbers, pictures, attacks and provenance."""
    return (
        environment()
        .get_template("curve.html")
        .render(
            record=record,
            headline=curve_headline(record),
            chart=step_chart(record),
            examples=examples,
        )
    )


def curve_headline(record: MinimumNormRecord) -> str:
    """What was found, in a sentence: how large a change turns half of the reconstructions."""
    if record.eligible == 0:
        return (
            f"There is nothing to break: none of the {len(record.sources)} sources is seen as its "
            "class both before and after reconstruction."
        )
    if record.eps50.value is None:
        return (
            f"For {record.found} of {record.eligible} eligible sources a change was found that "
            "turns their reconstruction into another class: fewer than half."
        )
    norm = load_norm(record.norm).label
    return (
        f"A change of {record.eps50.value:.3g} ({norm}) or less turns half of "
        f"the {record.eligible} eligible sources' reconstructions into another class."
    )
