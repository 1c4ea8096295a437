"""A run for a model's whole robustness curve: each source's smallest change, and the record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError
from genrobust.metrics.exact import exact_accuracy, exact_area, exact_eps50
from genrobust.models.model import GenerativeModel
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Counts, MinimumNormOutcome
from genrobust.outcomes.scores import finite, mean
from genrobust.records.curve_record import (
    Area,
    AtRadius,
    Curve,
    MinimumNormRecord,
    Radius,
    SearchCost,
    Source,
)
from genrobust.records.examples import Attacked, Example
from genrobust.records.record import Estimate, Flag
from genrobust.records.statistics import interval, resamples
from genrobust.rules.base import RULES
from genrobust.runner import collect
from genrobust.runner.options import Options
from genrobust.runner.plan import ShardSpec
from genrobust.runner.prepare import Prepared, chosen_suite, prepare
from genrobust.runner.purpose import Purpose
from genrobust.runner.smallest import SEARCHES, MinimumNormSpec
from genrobust.suites.suite import Suite
from genrobust.threat import allowed

#: Nearer images by the suite's attacks, per eligible source, above which a flag is raised.
BEATEN = 0.25

#: Radii of a curve at a time: bounds memory on large suites.
RADII = 1000


def prepare_curve(
    model: str | nn.Module | GenerativeModel,
    suite: str | Suite,
    options: Options,
) -> Prepared[MinimumNormRecord]:
    """Load and check all that a run needs; nothing is written. The suite gets the norm measured.

    Raises:
        GenrobustError: what :func:`genrobust.runner.prepare.prepare` refuses; a suite whose
            attacks or rule do not fit; a norm or a radius that is none.
    """
    chosen = chosen_suite(suite, options.data_root)
    radius = options.radius
    if not RULES.get(chosen.rule).labelled:
        raise GenrobustError(
            f"the smallest change is found through judges, and the suite '{chosen.name}' scores by "
            f"{chosen.rule}, without them; choose a suite with judges, such as 'digits'"
        )
    for up_to in (chosen.eps[-1], chosen.eps[-1] if radius is None else radius):
        if not 0 < up_to < math.inf:
            raise GenrobustError(
                f"an area cannot go up to the radius {up_to}; give a number above 0, such as 0.1"
            )
    run: Prepared[Any] = prepare(model, chosen, options)
    command = run.command.replace("genrobust bench", "genrobust curve", 1)
    return replace(run, command=command, purpose=SmallestChanges())


class SmallestChanges(Purpose[MinimumNormOutcome, MinimumNormRecord]):
    """Of each source."""

    command, file, kind = "curve", "curve.json", MinimumNormOutcome

    def shards(self, prepared: Prepared[Any]) -> list[ShardSpec]:
        return [MinimumNormSpec(**dict(s), searches=SEARCHES) for s in super().shards(prepared)]

    def record(
        self,
        prepared: Prepared[Any],
        shards: Sequence[Mapping[str, Tensor]],
        common: dict[str, Any],
    ) -> MinimumNormRecord:
        suite, found = prepared.suite, MinimumNormOutcome.joined(shards)
        distance = found.distance.double()
        known = distance[(distance > 0) & distance.isfinite()]
        drawn = torch.cat([exact_eps50(some) for some in _resampled(distance, suite)])
        return MinimumNormRecord(
            norm=suite.norm,
            flags=tuple(_flags(suite, found)),
            eligible=int(found.eligible.sum()),
            found=len(known),
            eps50=_radius(exact_eps50(distance), drawn, suite),
            median_distance=float(known.median()) if len(known) else None,
            areas=tuple(
                Area(radius=up_to, area=mean(exact_area(distance[:, None], up_to), suite))
                for up_to in _areas(prepared)
            ),
            per_eps=tuple(_at(eps, distance, suite) for eps in suite.eps),
            curve=_curve(distance, suite),
            sources=tuple(_sources(suite, found)),
            searches=tuple(_costs(suite, found.counts)),
            forwards=int(found.counts.forwards.sum()),
            backwards=int(found.counts.backwards.sum()),
            **common,
        )

    def accuracies(
        self, suite: Suite, shards: Sequence[Mapping[str, Tensor]]
    ) -> Iterator[tuple[str, Estimate]]:
        distance = MinimumNormOutcome.joined(shards).distance.double()
        for eps in suite.eps:
            yield f"eps {eps:g}", _at(eps, distance, suite).robust_accuracy

    def example(
        self, prepared: Prepared[Any], found: MinimumNormOutcome, i: int, sample_id: int
    ) -> Example:
        """With the nearest image that was found for it."""
        distance = float(found.distance[i])
        nearest = Attacked(
            eps=distance,
            x_adv=found.x_adv[i],
            reconstruction=found.adversarial_reconstruction[i],
            shows=int(found.verdict[i]),
        )
        return Example(
            sample_id=sample_id,
            label=int(found.label[i]),
            source=found.source[i],
            reconstruction=found.reconstruction[i],
            attacked=(nearest,) if math.isfinite(distance) else (),
        )


def _areas(prepared: Prepared[Any]) -> tuple[float, ...]:
    """The radii up to which an area is told."""
    radius = prepared.options.radius
    return (prepared.suite.eps[-1], *([] if radius is None else [radius]))


def _resampled(distance: Tensor, suite: Suite) -> Iterator[Tensor]:
    """The distances of the sources in each resample, (some resamples, N) at a time."""
    for picks in resamples(len(distance), suite):
        yield distance[torch.from_numpy(picks)]


def _radius(value: Tensor, drawn: Tensor, suite: Suite) -> Radius:
    # Interpolating between a number and infinity gives NaN, so the draws next to the tails count.
    tail = (1 - suite.confidence) / 2
    low, high = np.quantile(drawn.numpy(), [tail, 1 - tail], method="nearest")
    return Radius(value=finite(float(value)), low=finite(float(low)), high=finite(float(high)))


def _at(eps: float, distance: Tensor, suite: Suite) -> AtRadius:
    up_to = [allowed(eps)] if eps > 0 else [0.0]
    stands = exact_accuracy(distance[:, None], up_to)[:, 0]
    return AtRadius(eps=eps, robust_accuracy=mean(stands, suite))


def _curve(distance: Tensor, suite: Suite) -> Curve:
    radii = torch.cat([distance.new_zeros(1), distance[distance.isfinite()]]).unique()
    fallen = torch.cat([_fallen(drawn, radii) for drawn in _resampled(distance, suite)])
    ends = [
        interval((1 - some.T.double() / len(distance)).numpy(), suite)
        for some in fallen.split(RADII, 1)
    ]
    low, high = map(np.concatenate, zip(*ends, strict=True))
    return Curve(
        radius=tuple(radii.tolist()),
        robust_accuracy=tuple(exact_accuracy(distance, radii.tolist()).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
    )


def _fallen(drawn: Tensor, radii: Tensor) -> Tensor:
    """How many sources of each resample fell up to each radius, (resamples, R)."""
    ascending, wanted = drawn.sort(1).values, radii.expand(len(drawn), -1).contiguous()
    return torch.searchsorted(ascending, wanted, right=True, out_int32=True)


def _sources(suite: Suite, found: MinimumNormOutcome) -> Iterator[Source]:
    columns = (found.label, found.eligible, found.distance)
    rows = zip(suite.sample_ids, *(column.tolist() for column in columns), strict=True)
    for sample_id, label, eligible, distance in rows:
        yield Source(
            sample_id=sample_id,
            label=label,
            eligible=eligible,
            distance=finite(distance) if eligible else None,
        )


def _costs(suite: Suite, counts: Counts) -> Iterator[SearchCost]:
    """In the order of the work: the flags' short attacks, the searches, the suite's attacks."""
    attacks = len(suite.attacks)
    rows: list[tuple[int, str, dict[str, Any]]] = [(attacks, collect.DIAGNOSTICS[0], {})]
    rows += [(attacks + 1 + s, e.label, e.settings) for s, e in enumerate(SEARCHES)]
    rows += [(a, e.label, e.settings) for a, e in enumerate(suite.attacks)]
    for row, label, settings in rows:
        yield SearchCost(
            label=label,
            settings=settings,
            tried=int(counts.tried[row].sum()),
            nearer=int(counts.succeeded[row].sum()),
            forwards=int(counts.forwards[row].sum()),
            backwards=int(counts.backwards[row].sum()),
        )


def _flags(suite: Suite, found: MinimumNormOutcome) -> Iterator[Flag]:
    """Those of a bench, and that the search for the smallest change was beaten."""
    radii = torch.tensor([allowed(eps) for eps in suite.eps], dtype=torch.float64)
    yield from flags.raised(
        suite,
        found.eligible,
        found.signs,
        found.counts,
        found.damaged,
        radius=torch.bucketize(found.distance.double(), radii),
        label=found.label,
    )
    eligible = int(found.eligible.sum())
    beaten = int(found.counts.succeeded[: len(suite.attacks)].sum())
    if beaten > BEATEN * eligible:
        yield Flag(
            name="the search for the smallest change is beaten",
            evidence=f"the suite's attacks found {beaten} nearer images inside its radii, for "
            f"{eligible} eligible sources; between the radii the curve may be too high",
            value=beaten / eligible,
            limit=BEATEN,
        )
