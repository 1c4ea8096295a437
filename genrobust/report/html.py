"""The report: records and pictures as one HTML page that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from genrobust.errors import GenrobustError
from genrobust.norms import load_norm
from genrobust.records.examples import Attacked, Example
from genrobust.records.record import EpsScores, Estimate, Record
from genrobust.report.figures import (
    Chart,
    comparison_chart,
    heat_map,
    model_chart,
)
from genrobust.report.pictures import data_uri
from genrobust.rules.base import RULES, Rule
from genrobust.suites.suite import OWN

#: Stands where there is no number.
NOTHING = "\u2013"


@dataclass(frozen=True)
class Section:
    """What the page says of one model."""

    number: int
    name: str
    record: Record
    headline: str
    chart: Chart
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class SideBySide:
    """Several models side by side. No chart where their radii are of different norms."""

    chart: Chart | None
    radii: tuple[float, ...]
    same_protocol: bool


def render(reports: Sequence[tuple[Record, Sequence[Example]]]) -> str:
    """The page. It loads nothing: its policy forbids the browser any request, and any script.

    Raises:
        GenrobustError: there is nothing to report.
    """
    if not reports:
        raise GenrobustError("there is nothing to report; give at least one record")
    sections = tuple(
        section_of(number, record, examples, several=len(reports) > 1)
        for number, (record, examples) in enumerate(reports, 1)
    )
    comparison = _comparison(sections) if len(sections) > 1 else None
    template = environment().get_template("report.html")
    return template.render(
        title=_title(sections),
        sections=sections,
        comparison=comparison,
        **reading([record for record, _ in reports]),
    )


def headline(record: Record) -> str:
    """What was found, in a sentence: how many reconstructions survive the largest radius."""
    sources, eligible = record.scores.sources, record.scores.eligible
    words = RULES.get(record.suite.rule).words
    if eligible == 0:
        return f"There is nothing to break: {words.found.format(f'none of the {sources}')}."
    last = record.scores.per_eps[-1]
    surviving = _count(last.robust_accuracy)
    recognised = words.found.format(f"{eligible} of {sources}")
    if surviving == 0:
        return (
            f"{_where_all_fall(record)} no reconstruction survives: {recognised}, and the attacks "
            f"{words.changed.format('every one')}."
        )
    where = f"At eps {_number(last.eps)} ({load_norm(record.suite.norm).label})"
    if surviving == eligible:
        return f"{where} every reconstruction survives: {recognised}, and no attack changes any."
    return (
        f"{where} {surviving} of {sources} reconstructions "
        f"{'survives' if surviving == 1 else 'survive'}: {recognised}, and the attacks "
        f"{words.changed.format(eligible - surviving)}."
    )


def _where_all_fall(record: Record) -> str:
    fallen = [s.eps for s in record.scores.per_eps if _count(s.robust_accuracy) == 0]
    first, norm = _number(fallen[0]), load_norm(record.suite.norm).label
    return f"At eps {first} ({norm})" if len(fallen) == 1 else f"From eps {first} ({norm}) on"


def _title(sections: Sequence[Section]) -> str:
    suites = {f"{s.record.suite.name} v{s.record.suite.version}": None for s in sections}
    who = sections[0].record.model.name if len(sections) == 1 else f"{len(sections)} models"
    return f"{who} on {' and '.join(suites)}"


def section_of(number: int, record: Record, examples: Sequence[Example], several: bool) -> Section:
    """What the page says of one model; its name has a number before it beside several."""
    return Section(
        number=number,
        name=f"{number}. {record.model.name}" if several else record.model.name,
        record=record,
        headline=headline(record),
        chart=model_chart(record),
        examples=tuple(examples),
    )


def _comparison(sections: Sequence[Section]) -> SideBySide:
    records = [section.record for section in sections]
    one_norm = len({record.suite.norm for record in records}) == 1
    return SideBySide(
        chart=comparison_chart([(s.name, s.record) for s in sections]) if one_norm else None,
        radii=tuple(sorted({eps for record in records for eps in record.suite.eps})),
        same_protocol=len({record.suite_sha256 for record in records}) == 1,
    )


@cache
def environment(*packages: str) -> Environment:
    """Templates of these packages, then of the report, with its filters. All text is escaped."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name, "") for name in (*packages, "genrobust.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": _percent,
        "number": _number,
        "count": _thousands,
        "seconds": _seconds,
        "pretty": _pretty,
        "picture": data_uri,
        "heat_map": heat_map,
        "sees": _sees,
    }
    made.tests["without_width"] = _without_width
    made.globals |= {
        "norm_of": load_norm,
        "nothing": NOTHING,
        "scores_at": _scores_at,
        "rule_of": RULES.get,
        "OWN": OWN,
    }
    return made


def _count(share: Estimate) -> int:
    """How many of its sources a share stands for."""
    return round(share.value * share.n)


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}"


def _thousands(value: int) -> str:
    # A narrow no-break space: the separator that no country reads as a decimal mark.
    return f"{value:,}".replace(",", "\u202f")


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _without_width(estimate: Estimate | None) -> bool:
    """Whether all sources agree, which leaves the bootstrap nothing to vary."""
    return estimate is not None and estimate.low == estimate.high


def reading(records: Sequence[Record]) -> dict[str, Any]:
    """What ``reading.html`` is told: each rule once, judges with two roles, where all agree."""
    rules = dict.fromkeys(record.suite.rule for record in records)
    return {
        "rules": [RULES.get(name) for name in rules],
        "shared": sorted({name for record in records for name in record.suite.shared_judges}),
        "unanimous": _unanimous(records),
    }


def _unanimous(records: Iterable[Record]) -> list[tuple[int, float]]:
    """The sample sizes of shares on which all sources agree, each with its rule-of-three bound."""
    shares: list[Estimate | None] = []
    for record in records:
        shares.append(record.scores.clean_accuracy)
        for at in record.scores.per_eps:
            shares += [at.robust_accuracy, at.as_ignore_target, at.as_target]
    sizes = {share.n for share in shares if share and _without_width(share)}
    return [(n, min(1.0, 3 / n)) for n in sorted(sizes, reverse=True)]


def _sees(attacked: Attacked, rule: type[Rule]) -> str:
    """What the rule says of a reconstruction that an attack changed."""
    return rule.words.shows.format(attacked.shows)


def _scores_at(record: Record, eps: float) -> EpsScores | None:
    return next((scores for scores in record.scores.per_eps if scores.eps == eps), None)
