"""Which sources and which radius pictures show."""

from __future__ import annotations

from collections.abc import Iterable

from genrobust.records.outcomes import Outcomes


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
