"""Whether a record's scores are those of its outcomes.json, and what pictures show of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from genrobust.evidence.entry import Outcomes
from genrobust.outcomes.scores import reached, source_areas
from genrobust.records.record import Record

#: Recounted scores are sums of a few thousand doubles.
TOLERANCE = 1e-9


def check_outcomes(record: Record, outcomes: Outcomes) -> None:
    """Whether outcomes are those that the record's scores were taken from.

    Raises:
        ValueError: they are not; what differs.
    """
    suite = record.suite
    if outcomes.sample_ids != suite.sample_ids or outcomes.eps != suite.eps:
        raise ValueError("outcomes.json is not on the sources and radii of the record's suite")
    lengths = {len(values) for name, values in outcomes if name != "eps"}
    if len(lengths) != 1:
        raise ValueError("the lists of outcomes.json are of different lengths")
    places = [*outcomes.ignore_target, *outcomes.target]
    if any(place is not None and not 0 <= place < len(suite.eps) for place in places):
        raise ValueError("outcomes.json names a radius that the suite does not have")
    if not all(abs(label) < 2**31 for label in (*outcomes.labels, *outcomes.target_labels)):
        raise ValueError("outcomes.json names a class that no data set has")
    for name, claimed, found in _recounted(record, outcomes):
        if not math.isclose(claimed, found, rel_tol=0, abs_tol=TOLERANCE):
            raise ValueError(
                f"record.json claims {name} {claimed:.6g} and outcomes.json gives {found:.6g}"
            )


def example_positions(outcomes: Outcomes) -> tuple[int, ...]:
    """Positions of the sources that pictures show: the first eligible one of each class."""
    first: dict[int, int] = {}
    for position, (label, eligible) in enumerate(
        zip(outcomes.labels, outcomes.eligible, strict=True)
    ):
        if eligible:
            first.setdefault(label, position)
    return tuple(first[label] for label in sorted(first))


def example_radius(eps: Iterable[float]) -> int:
    """The position of the radius at which pictures show the attack.

    Example:
        >>> example_radius([0.02, 0.04, 0.06, 0.1])
        2
    """
    return len(tuple(eps)) // 2


def _recounted(record: Record, outcomes: Outcomes) -> Iterator[tuple[str, float, float]]:
    """Names of scores, what the record claims, and what the outcomes give."""
    worst, suite = outcomes.worst, record.suite
    ignore, target = reached(worst.ignore, suite), reached(worst.target, suite)
    eligible = worst.eligible
    yield "sources", record.scores.sources, len(eligible)
    yield "eligible sources", record.scores.eligible, int(eligible.sum())
    if len(record.scores.per_eps) != len(suite.eps):
        yield "radii", len(record.scores.per_eps), len(suite.eps)
    for at, any_, aimed in zip(record.scores.per_eps, ignore, target, strict=False):
        shares = {
            "robust accuracy": (at.robust_accuracy, eligible & ~any_),
            "as_ignore_target": (at.as_ignore_target, any_[eligible]),
            "as_target": (at.as_target, aimed[eligible]),
        }
        for name, (claimed, values) in shares.items():
            if claimed is not None and len(values):
                yield f"{name} at eps {at.eps:g}", claimed.value, float(values.double().mean())
    if record.scores.robust_area is not None:
        area = float(source_areas(worst, suite).mean())
        yield "robust area", record.scores.robust_area.value, area
