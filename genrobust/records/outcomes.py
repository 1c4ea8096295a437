"""What became of each source of a run, from which its rates and areas follow."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from genrobust.metrics.success import robust_area
from genrobust.suites.suite import Frozen, Suite

if TYPE_CHECKING:
    from genrobust.records.record import Record

#: The file beside record.json.
OUTCOMES = "outcomes.json"

#: Recounted scores are sums of a few thousand doubles.
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst case of each source, from which all rates follow, (B,) each.

    Args:
        label, target_label: its class, and the one it is to become.
        eligible: whether it counts.
        untargeted, targeted: for each goal the position in the grid of the first radius that broke
            it; the number of radii where none did.
    """

    label: Tensor
    target_label: Tensor
    eligible: Tensor
    untargeted: Tensor
    targeted: Tensor

    def merged(self, others: Sequence[Worst]) -> Worst:
        """With what attacks on the same sources and radii broke; who is eligible is said here."""
        untargeted, targeted = self.untargeted, self.targeted
        for other in others:
            untargeted = torch.minimum(untargeted, other.untargeted)
            targeted = torch.minimum(targeted, other.targeted)
        return replace(self, untargeted=untargeted, targeted=targeted)


class ContradictedError(ValueError):
    """A record claims scores that its outcomes do not give."""


class Outcomes(Frozen):
    """``outcomes.json``: what happened to each source, in the suite's order.

    Boards resample these in pairs, and merge those of a model's attacks sample by sample.
    """

    sample_ids: tuple[int, ...]
    labels: tuple[int, ...]
    target_labels: tuple[int, ...]
    eligible: tuple[bool, ...]
    eps: tuple[float, ...]
    ignore_target: Annotated[
        tuple[int | None, ...],
        Field(description="position in eps of the smallest radius that changed the class"),
    ]
    target: Annotated[
        tuple[int | None, ...],
        Field(description="position in eps of the smallest radius that gave the target's class"),
    ]

    @classmethod
    def of(cls, suite: Suite, worst: Worst) -> Outcomes:
        def places(radius: Tensor) -> tuple[int | None, ...]:
            return tuple(None if e == len(suite.eps) else e for e in radius.tolist())

        return cls(
            sample_ids=suite.sample_ids,
            labels=tuple(worst.label.tolist()),
            target_labels=tuple(worst.target_label.tolist()),
            eligible=tuple(worst.eligible.tolist()),
            eps=suite.eps,
            ignore_target=places(worst.untargeted),
            target=places(worst.targeted),
        )

    @property
    def worst(self) -> Worst:
        def radius(places: tuple[int | None, ...]) -> Tensor:
            return torch.tensor([len(self.eps) if e is None else e for e in places])

        return Worst(
            label=torch.tensor(self.labels),
            target_label=torch.tensor(self.target_labels),
            eligible=torch.tensor(self.eligible),
            untargeted=radius(self.ignore_target),
            targeted=radius(self.target),
        )


def check_outcomes(record: Record, outcomes: Outcomes) -> None:
    """Whether outcomes are those that the record's scores were taken from.

    Raises:
        ContradictedError: they give other scores.
        ValueError: they are none of that suite.
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
            raise ContradictedError(
                f"record.json claims {name} {claimed:.6g} and outcomes.json gives {found:.6g}"
            )


def reached(radius: Tensor, suite: Suite) -> Tensor:
    """Whether each source is broken at each radius of the grid or a smaller one, (E, B) bool."""
    return radius <= torch.arange(len(suite.eps))[:, None]


def robust_at(worst: Worst, suite: Suite) -> Tensor:
    """Whether each source counts and stands at each radius, (E, B) bool: robust accuracy's."""
    return worst.eligible & ~reached(worst.untargeted, suite)


def source_areas(worst: Worst, suite: Suite) -> Tensor:
    """Each source's own robust area (B,), in [0, 1]; 0 where it is not eligible.

    The trapezoids are linear in the sources, so that the mean is the area of all.

    Raises:
        GenrobustError: the grid has no radius above 0.
    """
    above = above_zero(suite)
    radii = [suite.eps[e] for e in above]
    by_place = [
        robust_area(radii, [float(e < place) for e in above], clean=1.0)
        for place in range(len(suite.eps) + 1)
    ]
    areas = torch.tensor(by_place, dtype=torch.float64)[worst.untargeted]
    return torch.where(worst.eligible, areas, 0.0)


def above_zero(suite: Suite) -> list[int]:
    """The positions of the radii above 0: the value at 0 is known without an attack."""
    return [e for e, radius in enumerate(suite.eps) if radius > 0]


def _recounted(record: Record, outcomes: Outcomes) -> Iterator[tuple[str, float, float]]:
    """Names of scores, what the record claims, and what the outcomes give."""
    worst, suite = outcomes.worst, record.suite
    ignore, target = reached(worst.untargeted, suite), reached(worst.targeted, suite)
    eligible = worst.eligible
    yield "sources", record.scores.sources, len(eligible)
    yield "eligible sources", record.scores.eligible, int(eligible.sum())
    if len(record.scores.per_eps) != len(suite.eps):
        yield "radii", len(record.scores.per_eps), len(suite.eps)
    each = zip(record.scores.per_eps, robust_at(worst, suite), ignore, target, strict=True)
    for at, stands, any_, aimed in each:
        shares = {
            "robust accuracy": (at.robust_accuracy, stands),
            "as_ignore_target": (at.as_ignore_target, any_[eligible]),
            "as_target": (at.as_target, aimed[eligible]),
        }
        for name, (claimed, values) in shares.items():
            if claimed is not None and len(values):
                yield f"{name} at eps {at.eps:g}", claimed.value, float(values.double().mean())
    if record.scores.robust_area is not None:
        area = float(source_areas(worst, suite).mean())
        yield "robust area", record.scores.robust_area.value, area
