"""What a run is for: the shards that it consists of, and the record of what they found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from torch import Tensor
from typing_extensions import TypeVar

from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Outcome, Sizes
from genrobust.outcomes.scores import clean_accuracy, mean, scores
from genrobust.outcomes.table import Stored
from genrobust.records.at_hand import AtHand
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.examples import Attacked, Example
from genrobust.records.outcomes import Outcomes, robust_at
from genrobust.records.record import Estimate, Record
from genrobust.runner import collect
from genrobust.runner.plan import ShardSpec, plan
from genrobust.runner.provenance import device_of
from genrobust.suites.suite import Suite

if TYPE_CHECKING:
    from genrobust.runner.prepare import Prepared

AnyRecord = TypeVar("AnyRecord", Record, MinimumNormRecord, default=Record)
AnyFound = TypeVar("AnyFound", bound=Stored)


class Purpose(ABC, Generic[AnyFound, AnyRecord]):
    """Of a run.

    Attributes:
        command: that has such runs.
        file: what their record is called.
        kind: of what their shards found.
    """

    command: ClassVar[str]
    file: ClassVar[str]
    kind: type[AnyFound]

    def shards(self, prepared: Prepared[Any]) -> list[ShardSpec]:
        """That the run consists of."""
        return plan(
            prepared.suite,
            prepared.model.fingerprint,
            prepared.options.seed,
            device_of(prepared.options, prepared.loaded.scorer.model),
        )

    def condensed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a record needs of a shard, without pictures: a run of any length fits in memory."""
        return self.kind.without_pixels(tensors)

    @abstractmethod
    def record(
        self,
        prepared: Prepared[Any],
        shards: Sequence[Mapping[str, Tensor]],
        common: dict[str, Any],
    ) -> AnyRecord:
        """From what is left of all shards, in their order, and what all records say."""

    @abstractmethod
    def accuracies(
        self, suite: Suite, shards: Sequence[Mapping[str, Tensor]]
    ) -> Iterator[tuple[str, Estimate]]:
        """What is known of the sources of some shards, by name."""

    @abstractmethod
    def example(self, prepared: Prepared[Any], found: AnyFound, i: int, sample_id: int) -> Example:
        """The picture of a source, the i-th of a shard."""


class RobustAccuracy(Purpose[Outcome, Record]):
    """At each radius of a suite."""

    command, file, kind = "bench", "record.json", Outcome

    def condensed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """With the sizes of what the pictures were."""
        sizes = Sizes.of_pictures(Outcome.of(tensors))
        return {**super().condensed(tensors), **sizes.tensors()}

    def record(
        self,
        prepared: Prepared[Any],
        shards: Sequence[Mapping[str, Tensor]],
        common: dict[str, Any],
    ) -> Record:
        suite, outcome = prepared.suite, Outcome.joined(shards)
        return Record(
            official=not prepared.deviations,
            radii="each",
            flags=flags.raised(
                *(suite, outcome.eligible, outcome.signs, outcome.counts),
                *(outcome.damaged, outcome.untargeted.radius, outcome.label),
            ),
            scores=scores(outcome, suite, Sizes.joined(shards)),
            attacks=collect.attack_costs(suite, outcome.counts),
            forwards=int(outcome.counts.forwards.sum()),
            backwards=int(outcome.counts.backwards.sum()),
            **common,
        ).beside(AtHand(Outcomes.of(suite, outcome.worst)))

    def accuracies(
        self, suite: Suite, shards: Sequence[Mapping[str, Tensor]]
    ) -> Iterator[tuple[str, Estimate]]:
        outcome = Outcome.joined(shards)
        yield "clean", clean_accuracy(outcome, suite)
        for eps, stands in zip(suite.eps, robust_at(outcome.worst, suite), strict=True):
            yield f"eps {eps:g}", mean(stands, suite)

    def example(self, prepared: Prepared[Any], found: Outcome, i: int, sample_id: int) -> Example:
        """With the worst that was found for it."""
        clean, effect, e = found.clean, found.untargeted.effect, int(found.untargeted.radius[i])
        assert clean is not None
        assert effect is not None
        worst = Attacked(
            eps=prepared.suite.eps[min(e, len(prepared.suite.eps) - 1)],
            x_adv=effect.x_adv[i],
            reconstruction=effect.reconstruction[i],
            shows=int(effect.verdict[i]),
        )
        return Example(
            sample_id=sample_id,
            label=int(found.label[i]),
            source=clean.source[i],
            reconstruction=clean.reconstruction[i],
            attacked=(worst,) if e < len(prepared.suite.eps) else (),
        )
