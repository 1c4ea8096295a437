"""The search for the smallest change of each source that the scoring judges call a success."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from genrobust.attacks.base import make_attack
from genrobust.attacks.fmn import shorten
from genrobust.attacks.repeated import repeatable
from genrobust.batch import Batch
from genrobust.outcomes.outcome import Counts, Damaged, MinimumNormOutcome, Signs
from genrobust.runner.checkpoint import Checkpoint, nowhere
from genrobust.runner.damage import without_noise
from genrobust.runner.expected import LOOKING, passes_of_attacks, passes_of_looks
from genrobust.runner.measure import Baseline, measure_baseline
from genrobust.runner.plan import ShardSpec
from genrobust.runner.radii import Tally
from genrobust.runner.scorer import Scorer
from genrobust.runner.shard import Loaded, Measured, make_batch, run_shard
from genrobust.runner.signs import diagnose, signs_of
from genrobust.suites.suite import AttackEntry
from genrobust.threat import ThreatModel, allowed


def _fmn(**settings: float) -> AttackEntry:
    return AttackEntry(attack="fmn", goal="untargeted", settings=settings)


#: What looks for the smallest change, before the suite's own attacks. The scoring judges are often
#: fooled only where the attacker's is fooled clearly, and how clearly differs from source to
#: source; which objective leads there is mostly settled by the first.
SEARCHES = (
    _fmn(confidence=2.0),
    _fmn(confidence=4.0, classes=1, categories=1),
    _fmn(confidence=1.0, classes=1, categories=1),
)


class MinimumNormSpec(ShardSpec):
    """Some samples of a suite, for each of which the nearest adversarial image is sought."""

    searches: tuple[AttackEntry, ...]

    @property
    def searched(self) -> tuple[AttackEntry, ...]:
        """The searches."""
        return self.searches


@run_shard.register
def search_minimum_norm(
    spec: MinimumNormSpec, loaded: Loaded, checkpoint: Checkpoint | None = None
) -> Measured | None:
    """Attack the eligible sources of a shard, from the checkpoint on if there is one.

    First come attacks that look for the smallest change in the whole box. Then the suite's attacks
    try to do better, from its largest radius down, inside each radius on the sources whose nearest
    image lies between it and the next larger one. Whatever succeeds is moved straight towards its
    source as far as it stays a success.

    Returns:
        A :class:`~genrobust.outcomes.outcome.MinimumNormOutcome` as it is stored; None if it was
        cancelled, between two attacks.
    """
    checkpoint = checkpoint or nowhere()
    scorer, batch = loaded.scorer, make_batch(spec, loaded)
    baseline = measure_baseline(scorer, batch)
    so_far = _NearestSoFar(scorer, batch, baseline, ThreatModel(spec.norm, math.inf))
    rows, columns = len(spec.attacks) + 1 + len(spec.searches), len(spec.eps) + 1
    tally, done = Tally(rows, columns), 0
    earlier = checkpoint.read()
    if earlier is not None:
        so_far.x_adv, so_far.distance = (
            earlier[n].to(batch.x.device) for n in ("x_adv", "distance")
        )
        tally.table, done = earlier["counts"], int(earlier["done"])

    with scorer.keyed("search", spec.sample_ids):
        left = int(baseline.eligible.sum())
        looks, attacks = left * passes_of_looks(spec), left * passes_of_attacks(spec)
        checkpoint.pulse.begin(LOOKING, looks, attacks)
        found = diagnose(scorer.model, batch.untargeted(), baseline.eligible, spec.norm, spec.eps)
        for e, x_adv in enumerate(found.x_adv if earlier is None else []):
            spent = (found.forwards[e], found.backwards[e])
            nearer = so_far.offer(found.positions, x_adv)
            tally.add(len(spec.attacks), e, len(found.positions), nearer, *spent)
        posterior = scorer.model.encode(batch.x)
        radii = [*spec.eps, math.inf, math.inf]
        made = [(*at, make_attack(at[1].attack, at[1].settings)) for at in _stages(spec)]
        stages = [stage for stage in made if stage[-1].applies_to(posterior)]
        for number, (row, entry, e, attack) in enumerate(stages):
            if number < done:
                continue
            if checkpoint.cancelled():
                return None
            checkpoint.offer(partial(_state, so_far, tally.table, number))
            positions = so_far.between(radii[e], radii[e + 1])
            if not len(positions):
                continue
            ahead = [
                len(so_far.between(radii[at], radii[at + 1])) * one.expected_passes()
                for _, _, at, one in stages[number:]
            ]
            note = f"{entry.label} at {radii[e]:g} on {len(positions)} of {len(batch)} sources"
            checkpoint.pulse.begin(note, ahead[0], sum(ahead[1:]))
            aimed = batch[positions].aimed(entry.goal)
            threat = ThreatModel(spec.norm, radii[e])
            result = repeatable(attack, scorer.model, aimed, threat)
            nearer = so_far.offer(positions, result.x_adv)
            tally.add(row, e, len(positions), nearer, result.forwards, result.backwards)
        signs = signs_of(scorer.model, batch.untargeted(), found)
    scorer.check_unchanged(batch.x, batch.sample_ids, baseline.reconstruction)
    nearest = so_far.result(signs, Counts(*tally.table))
    return Measured(nearest.tensors(), checkpoint.seconds)


def _state(so_far: _NearestSoFar, counts: Tensor, done: int) -> dict[str, Tensor]:
    """What a search goes on from after so many stages."""
    found = {"x_adv": so_far.x_adv, "distance": so_far.distance}
    return {**found, "counts": counts, "done": torch.tensor(done)}


def _stages(spec: MinimumNormSpec) -> Iterator[tuple[int, AttackEntry, int]]:
    """Rows of the counts, attacks, and positions of their radii; past the last is the box."""
    for s, entry in enumerate(spec.searches):
        yield len(spec.attacks) + 1 + s, entry, len(spec.eps)
    for e in reversed(range(len(spec.eps))):
        if spec.eps[e] > 0:
            for a, entry in enumerate(spec.attacks):
                yield a, entry, e


class _NearestSoFar:
    """The nearest adversarial image of each source so far."""

    def __init__(
        self, scorer: Scorer, batch: Batch, baseline: Baseline, threat: ThreatModel
    ) -> None:
        self.scorer, self.batch, self.baseline, self.threat = scorer, batch, baseline, threat
        self.x_adv = batch.x.clone()
        none = torch.full_like(batch.x[:, 0, 0, 0], torch.inf)
        self.distance = torch.where(baseline.eligible, none, 0)

    def between(self, radius: float, larger: float) -> Tensor:
        """Positions of the eligible sources that stand at a radius and not at a larger one.

        At an infinite radius it is all of them.
        """
        stands = torch.ones_like(self.baseline.eligible)
        if radius < math.inf:
            stands = (self.distance > allowed(radius)) & (self.distance <= allowed(larger))
        return (self.baseline.eligible & stands).nonzero()[:, 0]

    def offer(self, positions: Tensor, x_adv: Tensor) -> Tensor:
        """Move what succeeds towards its source, keep what is nearer, and say which of it was."""
        hit = self._succeeds(x_adv, positions)
        positions, x_adv = positions[hit], x_adv[hit]
        if not len(positions):
            return hit
        source = self.batch.x[positions]
        x_adv = shorten(x_adv, source, lambda images: self._succeeds(images, positions))
        distance = self.threat.distance(x_adv, source)
        nearer = distance < self.distance[positions]
        self.distance[positions[nearer]] = distance[nearer]
        self.x_adv[positions[nearer]] = x_adv[nearer]
        return nearer

    def result(self, signs: Signs, counts: Counts) -> MinimumNormOutcome:
        images = self.scorer.reconstruct(self.x_adv, self.batch.sample_ids)
        return MinimumNormOutcome(
            label=self.baseline.labels,
            eligible=self.baseline.eligible,
            verdict=self.scorer.verdict(images, self.baseline),
            distance=self.distance,
            source=self.batch.x,
            reconstruction=self.baseline.reconstruction,
            x_adv=self.x_adv,
            adversarial_reconstruction=images[0],
            damaged=Damaged(**without_noise(self.batch, self.baseline)),
            signs=signs,
            counts=counts,
        )

    def _succeeds(self, x_adv: Tensor, positions: Tensor) -> Tensor:
        part = self.baseline[positions]
        verdict = self.scorer.verdict(self.scorer.reconstruct(x_adv, part.sample_ids), part)
        return part.reached(verdict, None) & self.scorer.keeps_label(x_adv, part)
