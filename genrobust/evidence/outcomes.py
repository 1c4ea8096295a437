"""What follows from the outcomes of single sources: areas, worst cases, and scores recounted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from genrobust.evidence.entry import Outcomes
from genrobust.metrics.success import robust_area
from genrobust.records.record import Record

Array = NDArray[np.float64]

#: Recounted scores are sums of a few thousand doubles.
TOLERANCE = 1e-9


def merge(outcomes: Outcomes, others: Sequence[Outcomes]) -> Outcomes:
    """The worst case of each source: the smallest radius at which any of them broke it.

    Args:
        outcomes: of a model's own run: it says who is eligible.
        others: of attacks on the same sources and radii.
    """
    every = (outcomes, *others)
    return outcomes.model_copy(
        update={
            "ignore_target": _smallest([one.ignore_target for one in every]),
            "target": _smallest([one.target for one in every]),
        }
    )


def source_areas(outcomes: Outcomes) -> Array:
    """Each source's own robust area (B,), in [0, 1]; 0 where it is not eligible.

    Raises:
        GenrobustError: the grid has no radius above 0.
    """
    radii = [eps for eps in outcomes.eps if eps > 0]
    skipped = len(outcomes.eps) - len(radii)
    by_place = [
        robust_area(radii, [float(e + skipped < place) for e in range(len(radii))], clean=1.0)
        for place in range(len(outcomes.eps) + 1)
    ]
    places = [len(radii) + skipped if p is None else p for p in outcomes.ignore_target]
    return np.array(
        [by_place[p] if on else 0.0 for p, on in zip(places, outcomes.eligible, strict=True)]
    )


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
    pairs = list(zip(outcomes.eligible, outcomes.ignore_target, outcomes.target, strict=True))
    eligible = sum(outcomes.eligible)
    yield "sources", record.scores.sources, len(pairs)
    yield "eligible sources", record.scores.eligible, eligible
    if len(record.scores.per_eps) != len(outcomes.eps):
        yield "radii", len(record.scores.per_eps), len(outcomes.eps)
    for e, at in enumerate(record.scores.per_eps[: len(outcomes.eps)]):
        changed = sum(1 for on, any_, _ in pairs if on and any_ is not None and any_ <= e)
        aimed = sum(1 for on, _, target in pairs if on and target is not None and target <= e)
        shares = {
            "robust accuracy": (at.robust_accuracy, eligible - changed, len(pairs)),
            "as_ignore_target": (at.as_ignore_target, changed, eligible),
            "as_target": (at.as_target, aimed, eligible),
        }
        for name, (claimed, count, n) in shares.items():
            if claimed is not None and n:
                yield f"{name} at eps {at.eps:g}", claimed.value, count / n
    if record.scores.robust_area is not None:
        yield "robust area", record.scores.robust_area.value, float(source_areas(outcomes).mean())


def _smallest(places: Sequence[tuple[int | None, ...]]) -> tuple[int | None, ...]:
    return tuple(
        min((place for place in of_source if place is not None), default=None)
        for of_source in zip(*places, strict=True)
    )
