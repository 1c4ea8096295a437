"""Two models on the same sources: the differences of their scores, in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.norms import allowed, load_norm
from genrobust.records.display import doubts
from genrobust.records.outcomes import above_zero, robust_at, source_areas
from genrobust.records.record import Estimate, Record
from genrobust.records.statistics import estimates
from genrobust.suites.suite import Frozen, Suite

if TYPE_CHECKING:
    from genrobust.records.curve_record import MinimumNormRecord


class DifferenceAt(Frozen):
    """The difference in robust accuracy at a radius."""

    eps: float
    robust_accuracy: Estimate


class Comparison(Frozen):
    """One model's scores minus another's, each source paired with itself.

    Intervals are of the differences, by the suite's resamples: narrower than what two intervals of
    single models suggest, where the models fall on the same sources. A share is of all sources.
    """

    names: Annotated[tuple[str, str], Field(description="the first's scores minus the second's")]
    suite: str
    norm: str
    eligible: Annotated[
        Estimate, Field(description="in the share of sources that are right without an attack")
    ]
    robust_area: Annotated[Estimate | None, Field(description="None without a radius above 0")]
    per_eps: tuple[DifferenceAt, ...]
    flags: Annotated[
        tuple[str, ...],
        Field(description="of either, or that it may be misread; if any, do not rely on it"),
    ]

    def __repr__(self) -> str:
        one, other = self.names
        rows = [("eligible", self.eligible)]
        if self.robust_area is not None:
            rows.append(("robust area", self.robust_area))
        rows += [(f"robust accuracy at {at.eps:g}", at.robust_accuracy) for at in self.per_eps]
        widest = max(len(name) for name, _ in rows)
        unit = load_norm(self.norm).label
        lines = [
            f"{one} minus {other} on {self.suite} ({unit}), {self.eligible.n} sources in pairs",
            *(f"{name:<{widest}}  {_told(found)}" for name, found in rows),
        ]
        if self.flags:
            lines.append(f"NOT RELIABLE: {', '.join(self.flags)}")
        return "\n".join(lines)

    __str__ = __repr__


def compared(one: Record, other: Record) -> Comparison:
    """The difference of two records of one suite; see :meth:`Record.compare`."""
    _require_alike(one, other)
    suite = one.suite
    first, second = (r.at_hand.outcomes_of(r).worst for r in (one, other))
    rows = [first.eligible.double() - second.eligible.double()]
    rows += list(robust_at(first, suite).double() - robust_at(second, suite).double())
    if above_zero(suite):
        rows.append(source_areas(first, suite) - source_areas(second, suite))
    return _comparison((one, other), suite, rows)


def compared_curves(one: MinimumNormRecord, other: MinimumNormRecord) -> Comparison:
    """Likewise for two curves, whose areas go up to the suite's largest radius."""
    _require_alike(one, other)
    suite = one.suite
    eligible, distance = zip(*map(_distances, (one, other)), strict=True)
    up_to = [allowed(eps) if eps > 0 else 0.0 for eps in suite.eps]
    stands = [torch.stack([d > least for least in up_to]).double() for d in distance]
    most = suite.eps[-1]
    areas = [d.clamp(max=most) / most for d in distance]
    rows = [eligible[0] - eligible[1], *(stands[0] - stands[1]), areas[0] - areas[1]]
    return _comparison((one, other), suite, rows)


def _distances(record: MinimumNormRecord) -> tuple[Tensor, Tensor]:
    """Who is eligible, and the radius up to which each source stands: 0 if it is not eligible."""
    eligible = torch.tensor([float(s.eligible) for s in record.sources], dtype=torch.float64)
    found = [torch.inf if s.distance is None else s.distance for s in record.sources]
    return eligible, torch.where(eligible > 0, torch.tensor(found, dtype=torch.float64), 0.0)


def _comparison(
    records: tuple[Record, Record] | tuple[MinimumNormRecord, MinimumNormRecord],
    suite: Suite,
    rows: Sequence[Tensor],
) -> Comparison:
    """From the differences of sources: eligible, at each radius, and perhaps in area, (B,) each."""
    eligible, *found = estimates(torch.stack(list(rows)).numpy(), suite)
    at = zip(suite.eps, found, strict=False)
    return Comparison(
        names=(records[0].model.name, records[1].model.name),
        suite=f"{suite.name} v{suite.version}",
        norm=suite.norm,
        eligible=eligible,
        robust_area=found[-1] if len(found) > len(suite.eps) else None,
        per_eps=tuple(DifferenceAt(eps=eps, robust_accuracy=one) for eps, one in at),
        flags=tuple(dict.fromkeys(doubt for record in records for doubt in doubts(record))),
    )


def _require_alike(record: Any, given: Any) -> None:
    if not isinstance(given, type(record)):
        raise GenrobustError(
            f"other is a {type(given).__name__}; give a {type(record).__name__}, such as "
            f"{type(record).__name__}.load(FOLDER)"
        )
    one, other = record.suite, given.suite
    if one.sha256 == other.sha256:
        return
    differ = [name for name, value in one if value != getattr(other, name)]
    raise GenrobustError(
        f"the records are not of one protocol ('{one.name}' v{one.version} and '{other.name}' "
        f"v{other.version} differ in {', '.join(differ)}), so that their scores do not compare; "
        "measure both with the same suite and options"
    )


def _told(found: Estimate) -> str:
    words = f"{100 * found.value:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    apart = found.low > 0 or found.high < 0
    return words if apart else f"{words}, not told apart"
