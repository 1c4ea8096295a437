"""The search of one shard: every attack at every radius, and of each source the first to fall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.attacks.base import Attack, make_attack
from genrobust.batch import Batch
from genrobust.benchmark.perturbation import quantise, restore, step_of
from genrobust.benchmark.plan import ShardSpec
from genrobust.benchmark.probes import Diagnosis, diagnose, longer_attack
from genrobust.benchmark.score import Baseline, Fallen
from genrobust.benchmark.scoring import Scorer
from genrobust.threat import TOLERANCE, ThreatModel


@dataclass(frozen=True, eq=False)
class Found:
    """What a shard's search found and what it cost.

    ``counts`` holds ``tried``, ``succeeded``, ``forwards`` and ``backwards``, (A + 2, E) each: a
    row an attack of the suite, then the short attacks and the longer one that flags rest on.
    ``signs`` is the evidence for flags, tensors by name.
    """

    ignore: Fallen
    target: Fallen
    counts: dict[str, Tensor]
    signs: dict[str, Tensor]


def search(
    spec: ShardSpec,
    scorer: Scorer,
    batch: Batch,
    baseline: Baseline,
    cancelled: Callable[[], bool],
) -> Found | None:
    """Attack the eligible sources of a batch.

    In an ensemble the radii go from the largest down: the balls are nested, so that a source that
    stands at one is not attacked inside it, and gets the whole budget once. Attacks that are
    measured by themselves, weak ones perhaps, get it at every radius, from the smallest up. Either
    way a success counts for all larger radii.

    Returns:
        What was found, or None if ``cancelled`` said so between two attacks.
    """
    threats = [ThreatModel(spec.norm, eps) for eps in spec.eps]
    ignore = _Hunt(scorer, batch, baseline, threats, None)
    target = _Hunt(scorer, batch, baseline, threats, baseline.target_labels)
    tally = _Tally(len(spec.attacks), len(threats))
    diagnosis = _diagnosed(spec, scorer, batch, baseline)
    if diagnosis is not None and spec.ensemble:
        for e, x_adv in enumerate(diagnosis.x_adv):
            reached = ignore.offer(diagnosis.positions, x_adv)
            tally.add(tally.short, e, reached, diagnosis.forwards[e], diagnosis.backwards[e])
    posterior = scorer.model.encode(batch.x)
    attacks = [make_attack(entry.attack, entry.settings) for entry in spec.attacks]
    applicable = [attack.applies_to(posterior) for attack in attacks]
    for e in reversed(range(len(threats))) if spec.ensemble else range(len(threats)):
        for a, (entry, attack) in enumerate(zip(spec.attacks, attacks, strict=True)):
            if cancelled():
                return None
            aim = target if entry.goal == "targeted" else ignore
            positions = aim.to_attack(e, spec.ensemble)
            if not applicable[a] or not len(positions):
                continue
            part = batch[positions] if aim is target else batch.untargeted()[positions]
            found = attack(scorer.model, part, threats[e])
            reached = aim.offer(positions, found.x_adv)
            if aim is target:  # a targeted attack that misses may still change the class
                ignore.offer(positions, found.x_adv)
            tally.add(a, e, reached, found.forwards.sum(), found.backwards.sum())
    signs = {} if diagnosis is None else dict(diagnosis.signs)
    if diagnosis is not None and spec.ensemble:
        signs |= _try_longer(spec, scorer, batch, threats, ignore, tally)
    return Found(ignore.fallen(), target.fallen(), tally.counts(), signs)


class _Hunt:
    """For one goal, the smallest radius so far at which each source fell, and how."""

    def __init__(
        self,
        scorer: Scorer,
        batch: Batch,
        baseline: Baseline,
        threats: list[ThreatModel],
        wanted: Tensor | None,
    ) -> None:
        self.scorer, self.batch, self.baseline = scorer, batch, baseline
        self.threats, self.wanted = threats, wanted
        self.perturbation = torch.zeros_like(quantise(batch.x, batch.x, threats[0]))
        self.radius = torch.full_like(baseline.labels, len(threats))

    def to_attack(self, e: int, ensemble: bool) -> Tensor:
        """Positions of the sources that an attack at radius ``e`` is for."""
        still = self.radius == e + 1 if ensemble else self.radius > e
        return (self.baseline.eligible & still).nonzero()[:, 0]

    def offer(self, positions: Tensor, x_adv: Tensor) -> Tensor:
        """Score images as they will be stored; keep those that need the smallest radius.

        Returns:
            Which of them reach the goal, a mask over ``positions``.
        """
        x = self.batch.x[positions]
        reached = torch.zeros_like(positions, dtype=torch.bool)
        fits = self._smallest_radius(self.threats[0].distance(x_adv, x))
        for e in fits.unique().tolist():
            chosen = (fits == e).nonzero()[:, 0]
            at, source = positions[chosen], x[chosen]
            steps = quantise(x_adv[chosen], source, self.threats[e])
            hit = self._reaches(restore(steps, source, step_of(self.threats[e])), at)
            reached[chosen] = hit
            better = hit & (self.radius[at] > e)
            self.radius[at[better]] = e
            self.perturbation[at[better]] = steps[better]
        return reached

    def fallen(self) -> Fallen:
        return Fallen(self.perturbation, self.radius)

    def _smallest_radius(self, distance: Tensor) -> Tensor:
        """The position of the smallest radius that each distance fits in."""
        allowed = [threat.eps * (1 + TOLERANCE) + TOLERANCE * 0.1 for threat in self.threats]
        grid = torch.tensor(allowed, dtype=torch.float64, device=distance.device)
        return torch.searchsorted(grid, distance.double()).clamp_max(len(grid) - 1)

    def _reaches(self, x_adv: Tensor, positions: Tensor) -> Tensor:
        wanted = None if self.wanted is None else self.wanted[positions]
        ids = [self.batch.sample_ids[i] for i in positions.tolist()]
        part = self.baseline[positions]
        verdict = self.scorer.verdict(self.scorer.reconstruct(x_adv, ids), ids, part.anchors)
        return part.reached(verdict, wanted) & self.scorer.keeps_label(x_adv, part.labels)


class _Tally:
    """What was tried, reached and spent, by attack and radius."""

    def __init__(self, attacks: int, radii: int) -> None:
        self.short, self.longer = attacks, attacks + 1
        self.table = torch.zeros(4, attacks + 2, radii, dtype=torch.int64)

    def add(self, row: int, e: int, reached: Tensor, forwards: Tensor, backwards: Tensor) -> None:
        spent = (len(reached), reached.sum(), forwards, backwards)
        self.table[:, row, e] += torch.tensor([int(number) for number in spent])

    def counts(self) -> dict[str, Tensor]:
        return dict(zip(("tried", "succeeded", "forwards", "backwards"), self.table, strict=True))


def _diagnosed(
    spec: ShardSpec, scorer: Scorer, batch: Batch, baseline: Baseline
) -> Diagnosis | None:
    """Short attacks by the attacker's judge; None where the suite has no judge."""
    if batch.judge is None or batch.labels is None:
        return None
    return diagnose(scorer.model, batch.untargeted(), baseline.eligible, spec.norm, spec.eps)


def _try_longer(
    spec: ShardSpec,
    scorer: Scorer,
    batch: Batch,
    threats: list[ThreatModel],
    ignore: _Hunt,
    tally: _Tally,
) -> dict[str, Tensor]:
    """Twice the steps on each source at the largest radius that it withstands."""
    attack: Attack = longer_attack(spec.attacks)
    success = torch.zeros_like(ignore.baseline.eligible)
    stands = ignore.baseline.eligible & (ignore.radius > 0)
    last = ignore.radius - 1
    for e, threat in enumerate(threats):
        positions = (stands & (last == e)).nonzero()[:, 0]
        if not len(positions):
            continue
        found = attack(scorer.model, batch.untargeted()[positions], threat)
        reached = ignore.offer(positions, found.x_adv)
        success[positions] = reached
        tally.add(tally.longer, e, reached, found.forwards.sum(), found.backwards.sum())
    return {"longer.tried": stands, "longer.success": success}
