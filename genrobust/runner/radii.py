"""The search of one shard: every attack at every radius, and of each source the first to fall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from genrobust.attacks.base import Attack, make_attack
from genrobust.attacks.repeated import repeatable
from genrobust.batch import Batch, Goal
from genrobust.outcomes.outcome import GOALS, Broken, Counts, Found, Longer, Signs
from genrobust.runner.checkpoint import Checkpoint
from genrobust.runner.expected import LOOKING, passes_of_attacks, passes_of_looks
from genrobust.runner.likeness import guided
from genrobust.runner.measure import Baseline
from genrobust.runner.perturbation import quantise, restore, step_of
from genrobust.runner.plan import ShardSpec
from genrobust.runner.scorer import Scorer
from genrobust.runner.signs import Diagnosis, diagnose, longer_attack, signs_of
from genrobust.suites.suite import AttackEntry
from genrobust.threat import ThreatModel

#: How often a ball is halved for sources whose class was lost in it.
HALVINGS = 6


@dataclass(frozen=True)
class _Place:
    """How far a search is: the positions of the pass over the radii, of the radius in it, of the
    ball, and of the next attack."""

    sweep: int = 0
    radius: int = 0
    ball: int = 0
    attack: int = 0


@dataclass(frozen=True)
class _Sweep:
    """Attacks that go over the radii, and in which order."""

    radii: tuple[int, ...]
    attacks: list[tuple[int, AttackEntry, Attack]]
    descends: bool


def search(
    spec: ShardSpec,
    scorer: Scorer,
    batch: Batch,
    baseline: Baseline,
    checkpoint: Checkpoint,
) -> Found | None:
    """Attack the eligible sources of a batch at each radius, from the smallest up.

    A success counts for all larger radii, as their balls hold it, and a source that fell is not
    attacked in them. Nothing that is found at a radius counts for a smaller one: so no score is
    higher than at a smaller radius.

    Then come the attacks that descend, from the largest radius down: what stood against one of
    them in a ball is left to the others in the balls inside it, unless it lost its class. So a
    source pays once for the dearest attacks, and not at each radius that is too small for it.

    Returns:
        What was found, or None if it was cancelled, between two attacks.
    """
    work = _Search(spec, scorer, batch, baseline, checkpoint)
    state = checkpoint.read()
    if state is not None:
        work.resume(state)
    return work.found() if work.go_on() else None


class _Search:
    """A search under way: at which radius, in which ball, which attack is next."""

    def __init__(
        self,
        spec: ShardSpec,
        scorer: Scorer,
        batch: Batch,
        baseline: Baseline,
        checkpoint: Checkpoint,
    ) -> None:
        self.spec, self.scorer, self.batch, self.checkpoint = spec, scorer, batch, checkpoint
        self.threats = [ThreatModel(spec.norm, eps) for eps in spec.eps]
        wanted: dict[Goal, Tensor | None]
        wanted = {"untargeted": None, "targeted": baseline.target_labels}
        self.smallest = {
            goal: _SmallestRadii(scorer, batch, baseline, self.threats, classes)
            for goal, classes in wanted.items()
        }
        self.tally = Tally(len(spec.attacks) + 2, len(self.threats))
        self.short, self.longest = len(spec.attacks), len(spec.attacks) + 1
        left = len(self.untargeted.unbroken())
        looks, ahead = left * passes_of_looks(spec), left * passes_of_attacks(spec)
        checkpoint.pulse.begin(LOOKING, looks, ahead)
        self.guided = guided(batch.untargeted(), baseline)
        self.diagnosis = diagnose(scorer.model, self.guided, baseline.eligible, spec.norm, spec.eps)
        posterior = scorer.model.encode(batch.x)
        attacks = [make_attack(entry.attack, entry.settings) for entry in spec.attacks]
        apply = [
            (row, entry, attack)
            for row, (entry, attack) in enumerate(zip(spec.attacks, attacks, strict=True))
            if attack.applies_to(posterior)
        ]
        up, down = ([a for a in apply if a[1].descends == side] for side in (False, True))
        radii = tuple(range(len(self.threats)))
        self.sweeps = [_Sweep(radii, up, False)]
        if any(entry.descends for entry in spec.attacks):
            self.sweeps.append(_Sweep(radii[::-1], down, True))
        self.longer = torch.zeros(2, len(batch), dtype=torch.bool, device=batch.x.device)
        self.place = _Place()

    def go_on(self) -> bool:
        """Attack at all radii from here on; False if cancelled."""
        while self.place.sweep < len(self.sweeps):
            sweep = self.sweeps[self.place.sweep]
            while self.place.radius < len(sweep.radii):
                if not self._attack_here(sweep):
                    return False
                self.place = _Place(self.place.sweep, self.place.radius + 1)
            self.place = _Place(self.place.sweep + 1)
        return True

    def _attack_here(self, sweep: _Sweep) -> bool:
        """Attack what stands at the radius; False if cancelled."""
        at, position = self.place.sweep, self.place.radius
        e = sweep.radii[position]
        if self.place == _Place(at, position):
            self._begin(sweep, e)
        for ball, threat in enumerate(self._balls(e)):
            if ball < self.place.ball:
                continue
            for number in range(self.place.attack, len(sweep.attacks)):
                if self.checkpoint.cancelled():
                    return False
                self._tell(sweep, number, threat)
                self._run(*sweep.attacks[number], threat, e)
                self.place = _Place(at, position, ball, number + 1)
                self.checkpoint.offer(self.state)
            if not any([smallest.retry() for smallest in self.smallest.values()]):
                break
            self.place = _Place(at, position, ball + 1)
        if self._tries_longer and sweep is self.sweeps[-1]:
            self._try_longer(e)
        for smallest in self.smallest.values():
            smallest.end(sweep.descends)
        return True

    def _tell(self, sweep: _Sweep, number: int, threat: ThreatModel) -> None:
        """How much work is ahead if nothing more falls.

        To what descends a source is left once: where it stands.
        """
        waiting, unbroken = (
            {goal: len(of(smallest)) for goal, smallest in self.smallest.items()}
            for of in (_SmallestRadii.to_attack, _SmallestRadii.unbroken)
        )

        def each(sweep: _Sweep) -> list[tuple[Goal, int]]:
            return [(entry.goal, attack.expected_passes()) for _, entry, attack in sweep.attacks]

        def inside(e: int, sweep: _Sweep) -> int:
            left = {goal: len(smallest.left_inside(e)) for goal, smallest in self.smallest.items()}
            return sum(left[goal] * passes for goal, passes in each(sweep))

        here = each(sweep)
        goal, passes = here[number]
        ahead = sum(waiting[other] * cost for other, cost in here[number + 1 :])
        if sweep.descends:
            ahead += inside(self.untargeted.e, sweep)
        else:
            later = sum(unbroken[other] * cost for other, cost in here)
            ahead += later * (len(sweep.radii) - self.place.radius - 1)
            ahead += sum(inside(len(self.threats), last) for last in self.sweeps[1:])
        label = sweep.attacks[number][1].label
        note = f"{label} at {threat.eps:g} on {waiting[goal]} of {len(self.batch)} sources"
        self.checkpoint.pulse.begin(note, waiting[goal] * passes, ahead)

    def _begin(self, sweep: _Sweep, e: int) -> None:
        for smallest in self.smallest.values():
            smallest.begin(e)
        if self.spec.ensemble and not sweep.descends:
            self._offer_short(self.diagnosis, e)

    def state(self) -> dict[str, Tensor]:
        """All that a search that goes on from here needs."""
        return {
            **{
                GOALS[goal] + name: tensor
                for goal, smallest in self.smallest.items()
                for name, tensor in smallest.state().items()
            },
            **{"tally": self.tally.table, "longer": self.longer},
            "place": torch.tensor(astuple(self.place)),
        }

    def resume(self, state: dict[str, Tensor]) -> None:
        """Go on from a state of the same search."""
        for goal, smallest in self.smallest.items():
            prefix = GOALS[goal]
            own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
            smallest.resume({name: t.to(self.batch.x.device) for name, t in own.items()})
        self.tally.table, self.longer = state["tally"], state["longer"].to(self.batch.x.device)
        self.place = _Place(*state["place"].tolist())
        e = self.sweeps[self.place.sweep].radii[self.place.radius]
        for smallest in self.smallest.values():
            smallest.e = e

    def _balls(self, e: int) -> Iterator[ThreatModel]:
        """The ball of a radius and smaller ones for those whose class was lost.

        Balls are nested and success is not: what changes a reconstruction by the whole of a large
        ball may change the image's own class too, where less of it would not. Inside the next
        smaller radius of the grid everything was attacked before.
        """
        threat = self.threats[e]
        yield threat
        tried = self.threats[e - 1].eps if e else 0.0
        for _ in range(HALVINGS):
            threat = threat.halved(self.batch.x)
            if threat.eps <= tried:
                return
            yield threat

    def found(self) -> Found:
        return Found(
            untargeted=self.untargeted.broken(),
            targeted=self.smallest["targeted"].broken(),
            signs=self._signs(),
            counts=Counts(*self.tally.table),
        )

    def _signs(self) -> Signs:
        longer = Longer(*self.longer) if self._tries_longer else None
        return signs_of(self.scorer.model, self.guided, self.diagnosis, longer)

    @property
    def untargeted(self) -> _SmallestRadii:
        """For the goal that any attack may reach."""
        return self.smallest["untargeted"]

    @property
    def _tries_longer(self) -> bool:
        """The longer attack is one on a judge."""
        return self.spec.ensemble and self.batch.judge is not None

    def _run(
        self, row: int, entry: AttackEntry, attack: Attack, threat: ThreatModel, e: int
    ) -> None:
        smallest = self.smallest[entry.goal]
        positions = smallest.to_attack()
        if not len(positions):
            return
        aimed = self.batch[positions].aimed(entry.goal)
        found = repeatable(attack, self.scorer.model, aimed, threat)
        seen = smallest.look(positions, found.x_adv)
        reached = smallest.offer(seen)
        if entry.goal == "targeted":  # an attack that misses its target may change the class
            self.untargeted.offer(seen)
        self.tally.add(row, e, len(positions), reached, found.forwards, found.backwards)

    def _offer_short(self, diagnosis: Diagnosis, e: int) -> None:
        positions = diagnosis.positions
        reached = self.untargeted.offer(self.untargeted.look(positions, diagnosis.x_adv[e]))
        spent = (diagnosis.forwards[e], diagnosis.backwards[e])
        self.tally.add(self.short, e, len(positions), reached, *spent)

    def _try_longer(self, e: int) -> None:
        """Twice the steps on each source that stands."""
        positions = self.untargeted.unbroken_here()
        if not len(positions):
            return
        attack = longer_attack(self.spec.attacks)
        part = self.batch.untargeted()[positions]
        found = attack(self.scorer.model, part, self.threats[e])
        reached = self.untargeted.offer(self.untargeted.look(positions, found.x_adv))
        self.longer[0, positions] = True
        self.longer[1, positions] |= reached
        self.tally.add(self.longest, e, len(positions), reached, found.forwards, found.backwards)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What attacked images show: which sources, perturbations, images, and verdicts on them."""

    positions: Tensor
    sources: Baseline
    steps: Tensor
    stored: Tensor
    verdict: Tensor


class _SmallestRadii:
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
        self.open = torch.ones_like(baseline.eligible)
        self.begin(0)

    def begin(self, e: int) -> None:
        """Go on to a radius: all that stands there waits for attacks, if it is open to them."""
        self.e = e
        self.waits = self.open.clone()
        self.spoiled = torch.zeros_like(self.open)
        self.lost = torch.zeros_like(self.open)

    def end(self, closes: bool) -> None:
        """Leave the radius; what stood in its whole ball may be closed to attacks inside it."""
        if closes:
            self.open &= (self.radius <= self.e) | self.lost

    def state(self) -> dict[str, Tensor]:
        """What a search for it among the same sources goes on from."""
        names = ("perturbation", "radius", "open", "waits", "spoiled", "lost")
        return {name: getattr(self, name) for name in names}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Go on from such a state."""
        self.perturbation, self.radius = state["perturbation"], state["radius"]
        self.open, self.waits = state["open"], state["waits"]
        self.spoiled, self.lost = state["spoiled"], state["lost"]

    def retry(self) -> bool:
        """Let those wait again whose class was lost on the way to the goal; are there any?"""
        self.lost |= self.spoiled
        self.waits, self.spoiled = self.spoiled, torch.zeros_like(self.spoiled)
        return bool(len(self.to_attack()))

    def unbroken(self) -> Tensor:
        """Positions of the eligible sources that did not fall at this radius or a smaller one."""
        return (self.baseline.eligible & (self.radius > self.e)).nonzero()[:, 0]

    def unbroken_here(self) -> Tensor:
        """Positions of those of them that are open at this radius."""
        unbroken = self.unbroken()
        return unbroken[self.open[unbroken]]

    def left_inside(self, e: int) -> Tensor:
        """Positions of those that fell by this radius, or stand if there is none such, and stand at
        a smaller one that is open to attacks."""
        left = self.baseline.eligible & self.open & (self.radius <= e) & (self.radius > 0)
        return left.nonzero()[:, 0]

    def to_attack(self) -> Tensor:
        """Positions of those of them that wait for an attack."""
        unbroken = self.unbroken()
        return unbroken[self.waits[unbroken]]

    def look(self, positions: Tensor, x_adv: Tensor) -> _Seen:
        """Score images of the radius's ball as they will be stored; it is the same for any goal."""
        source, threat = self.batch.x[positions], self.threats[self.e]
        steps = quantise(x_adv, source, threat)
        stored = restore(steps, source, step_of(threat))
        sources = self.baseline[positions]
        images = self.scorer.reconstruct(stored, sources.sample_ids)
        return _Seen(positions, sources, steps, stored, self.scorer.verdict(images, sources))

    def offer(self, seen: _Seen) -> Tensor:
        """Keep what succeeds.

        Returns:
            Which of them reach the goal, a mask over ``seen.positions``.
        """
        positions = seen.positions
        hit = seen.sources.reached(
            seen.verdict, None if self.wanted is None else self.wanted[positions]
        )
        shown = hit.nonzero()[:, 0]
        if len(shown):  # few are, and only they must still show their class
            kept = self.scorer.keeps_label(seen.stored[shown], seen.sources[shown])
            hit[shown] = kept
            self.spoiled[positions[shown]] |= ~kept
        new = hit & (self.radius[positions] > self.e)
        self.radius[positions[new]] = self.e
        self.perturbation[positions[new]] = seen.steps[new]
        return hit

    def broken(self) -> Broken:
        return Broken(self.radius, self.perturbation)


class Tally:
    """What was tried, reached and spent, by attack and radius: the table of `Counts`."""

    def __init__(self, attacks: int, radii: int) -> None:
        self.table = torch.zeros(4, attacks, radii, dtype=torch.int64)

    def add(
        self, row: int, e: int, tried: int, reached: Tensor, forwards: Tensor, backwards: Tensor
    ) -> None:
        spent = (tried, reached.sum(), forwards.sum(), backwards.sum())
        self.table[:, row, e] += torch.tensor([int(number) for number in spent])
