"""The third depth: parts of the run again, stronger attacks, and what broke other models.

What an entry claims is its robust accuracy. A claim may be beaten by luck: it is refused if the
share of its sources that a stronger attack breaks, at the least that the number tried allows for,
puts the truth below the claim's interval. The targeted rate is what the suite's budget gives, and
grows with it: by how much is said, and refuses nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from scipy.stats import beta
from torch import Tensor

from genrobust.batch import Goal
from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import (
    EVIDENCE,
    Evidence,
    read_evidence,
)
from genrobust.evidence.checks import NamedCheck, RejectionError, is_trouble, rejecting
from genrobust.outcomes.outcome import COUNTS, GOALS, Broken, Found, Outcome, Signs
from genrobust.runner.checkpoint import Checkpoint
from genrobust.runner.execute import Progress, results_of
from genrobust.runner.measure import measure_baseline, measure_outcome
from genrobust.runner.perturbation import images_of, quantise
from genrobust.runner.plan import ShardSpec
from genrobust.runner.prepare import Prepared, prepare
from genrobust.runner.shard import Measured, make_batch, run_shard
from genrobust.runner.signs import doubled
from genrobust.threat import ThreatModel
from genrobust.verify.claims import highest, positions
from genrobust.verify.replay import Replay, differing, misfits

#: On another machine: by how much the passes of a rerun may differ, and what share of its sources.
PASSES_NEAR, RERUN_DIFFERING = 0.1, 0.1
#: Likewise, for how many of its sources a short attack may end otherwise: a step of rounding grows.
SHORT_DIFFERING = 0.2
#: Probability with which a share is no lower than its lower bound.
BOUND = 0.975


@dataclass(frozen=True)
class Choice:
    """What is attacked again, drawn by a seed that a submitter cannot have known.

    Args:
        seed: of the draw, and of the fresh attack.
        shards: whole shards to run again as they were.
        sources: positions to attack afresh.
    """

    seed: int
    shards: tuple[int, ...]
    sources: tuple[int, ...]


def choose(evidence: Evidence, share: float, seed: int) -> Choice:
    """Draw about ``share`` of the shards, one at the least, and of the sources that stand."""
    draw = random.Random(seed)
    numbers = range(len(evidence.shards))
    stands = evidence.outcome.eligible & (evidence.outcome.untargeted.radius > 0)
    able = stands.nonzero()[:, 0].tolist()
    count = max(1, round(share * len(evidence.record.suite.sample_ids)))
    return Choice(
        seed=seed,
        shards=tuple(sorted(draw.sample(numbers, max(1, round(share * len(numbers)))))),
        sources=tuple(sorted(draw.sample(able, min(count, len(able))))),
    )


def attackers_for(found: Replay) -> Prepared:
    """What the suite's attacks need, beside what a replay does.

    Raises:
        GenrobustError: an attack of the suite is not installed.
    """
    prepared = found.prepared
    return prepare(prepared.loaded.scorer.model, found.evidence.record.suite, prepared.options)


def checks(
    found: Replay, choice: Choice, others: Sequence[Path], on_progress: Progress
) -> list[NamedCheck]:
    """What is tried against a claim that a replay has confirmed."""
    prepared = attackers_for(found)
    return [
        ("shards again", partial(check_rerun, found, prepared, choice, on_progress)),
        ("fresh attack", partial(check_fresh, found, prepared, choice, on_progress)),
        ("transfers", partial(check_transfers, found, others, on_progress)),
    ]


def check_rerun(found: Replay, prepared: Prepared, choice: Choice, on_progress: Progress) -> str:
    """The run's own shards, run again with its seed, count and find what is said."""
    evidence = found.evidence
    specs = [evidence.shards[number] for number in choice.shards]
    again = _run(specs, prepared, on_progress)
    searched_alike = evidence.record.radii == "each"
    for number, measured in zip(choice.shards, again, strict=True):
        claimed = evidence.shard(number)
        if searched_alike and found.elsewhere is None:
            _require_same(number, claimed, measured.without_misses())
            continue
        if searched_alike:
            _require_like_passes(number, claimed, measured)
        _require_like_signs(number, claimed, measured, searched_alike=searched_alike)
        _require_like_outcomes(number, claimed, measured)
    if not searched_alike:
        how = (
            "signs and outcomes within tolerance, though radii are no longer searched from the "
            "largest down"
        )
    elif found.elsewhere is None:
        how = "the same counts, signs and outcomes"
    else:
        how = f"counts and outcomes within tolerance, on another machine ({found.elsewhere})"
    which = f"{', '.join(map(str, choice.shards))} of {len(evidence.shards)}"
    seeds = f"drawn by seed {choice.seed}, run again with seed {evidence.record.seed}"
    return f"shards {which}, {seeds}: {how}"


def check_fresh(found: Replay, prepared: Prepared, choice: Choice, on_progress: Progress) -> str:
    """Attacks with a fresh seed and twice the budget break no more than chance allows."""
    evidence, suite = found.evidence, found.evidence.record.suite
    if not choice.sources:
        return "no source is claimed to stand: there is nothing to break"
    spec = evidence.shards[0].model_copy(
        update={"seed": choice.seed, "attacks": tuple(map(doubled, suite.attacks))}
    )
    groups = [
        choice.sources[first : first + suite.chunk_size]
        for first in range(0, len(choice.sources), suite.chunk_size)
    ]
    specs = [_of_sources(spec, evidence, group) for group in groups]
    fresh = [again.goals for again in _run(specs, prepared, on_progress)]
    found_radii = {goal: torch.cat([goals[goal].radius for goals in fresh]) for goal in GOALS}
    broken = _broken(evidence, torch.tensor(choice.sources), found_radii)
    _require_within(evidence, broken["untargeted"], all_tried=False)
    return (
        f"{len(choice.sources)} sources that stand, with seed {choice.seed} and twice the budget: "
        + _in_words(broken)
    )


def check_transfers(found: Replay, others: Sequence[Path], on_progress: Progress) -> str:
    """Adversarial inputs of other entries, and its own cut to smaller radii, break no more."""
    evidence = found.evidence
    given = [goals for path in others if (goals := _goals_of(path, evidence)) is not None]
    tries = [one for goals in (*_own_cut(found), *given) for one in goals.values()]
    lowest = _lowest_radii(found, tries, on_progress)
    broken = _broken(evidence, torch.arange(len(evidence.outcome.eligible)), lowest)
    _require_within(evidence, broken["untargeted"], all_tried=True)
    return f"inputs of {len(given)} other entries, its own at smaller radii: {_in_words(broken)}"


def _run(specs: list[ShardSpec], prepared: Prepared, on_progress: Progress) -> list[Outcome]:
    """Attack shards, and give their results in the order of the specs."""

    def work(spec: ShardSpec, checkpoint: Checkpoint) -> Measured | None:
        with rejecting():  # such as NaN from the model
            return run_shard(spec, prepared.loaded.watched(checkpoint.pulse), checkpoint)

    again = results_of(specs, work, prepared.workers, on_progress)
    return [Outcome.of(one.tensors) for one in again]


def _require_same(number: int, claimed: Outcome, again: Outcome) -> None:
    """On the machine that made a shard it comes out to the bit."""
    theirs, ours = claimed.tensors(), again.tensors()
    for name in sorted(theirs, key=lambda name: name not in COUNTS):
        a, b = theirs[name], ours[name]
        if not torch.isclose(a, b, rtol=1e-4, atol=1e-7, equal_nan=True).all():
            raise RejectionError(
                f"shard {number}, run again with the record's seed, gives another '{name}'"
                + _by_how_much(name, a, b)
            )


def _require_like_passes(number: int, claimed: Outcome, again: Outcome) -> None:
    """On another machine a few sources may come out otherwise, and passes with them."""
    theirs, ours = claimed.counts.tensors(), again.counts.tensors()
    for name in ("forwards", "backwards"):
        a, b = int(theirs[name].sum()), int(ours[name].sum())
        if abs(a - b) > PASSES_NEAR * max(a, b):
            raise RejectionError(
                f"shard {number}, run again with the record's seed, takes another budget"
                + _by_how_much(name, theirs[name], ours[name])
            )


def _require_like_signs(
    number: int, claimed: Outcome, again: Outcome, *, searched_alike: bool = True
) -> None:
    """What attacks alone show, which no replay recomputes: what short and longer ones fooled, what
    is seen where they led, the damage that they do, and the counts by which one kind beats another.
    """
    theirs, ours = claimed.tensors(), again.tensors()
    shown = [name for name, column in Outcome.table().items() if column.proof == "rerun"]
    of_search = [name for name in shown if name.startswith("longer.")]
    names = [name for name in shown if name not in (*of_search, *COUNTS)]
    for name in [*names, *([*of_search, "succeeded"] if searched_alike else [])]:
        if name not in theirs:
            continue
        a, b = theirs[name], ours[name]
        apart = (
            differing(a, b, exact=False) if a.is_floating_point() else (a.long() - b.long()).abs()
        )
        most = max(2, SHORT_DIFFERING * int(claimed.eligible.sum()))
        if int(apart.reshape(-1, a.shape[-1]).sum(1).max()) > most:
            raise RejectionError(
                f"shard {number}, run again with the record's seed, gives another '{name}'"
            )


def _require_like_outcomes(number: int, claimed: Outcome, again: Outcome) -> None:
    """On another machine, or by another search, a few sources may come out otherwise."""
    for goal, broken in again.goals.items():
        differ = claimed.goals[goal].radius != broken.radius
        if int(differ.sum()) > max(1, RERUN_DIFFERING * len(differ)):
            raise RejectionError(
                f"shard {number}, run again with the record's seed, gives other outcomes for "
                f"'{goal}' at {int(differ.sum())} of {len(differ)} sources, {positions(differ)}"
            )


def _by_how_much(name: str, theirs: Tensor, ours: Tensor) -> str:
    if name in COUNTS:
        return f": {int(theirs.sum()):,} claimed, {int(ours.sum()):,} now"
    if name in Signs.table():
        return ""
    differ = (theirs != ours).flatten(1).any(1) if theirs.ndim > 1 else theirs != ours
    return f" at {int(differ.sum())} of {len(differ)} sources, {positions(differ)}"


def _of_sources(spec: ShardSpec, evidence: Evidence, chosen: Sequence[int]) -> ShardSpec:
    suite = evidence.record.suite
    return spec.model_copy(
        update={
            "sample_ids": tuple(suite.sample_ids[i] for i in chosen),
            "target_ids": tuple(suite.target_ids[i] for i in chosen),
        }
    )


def _broken(
    evidence: Evidence, chosen: Tensor, reached: dict[Goal, Tensor]
) -> dict[Goal, list[tuple[int, int]]]:
    """By goal and radius, how many sources are claimed to stand, and how many of them fell."""
    found: dict[Goal, list[tuple[int, int]]] = {}
    for goal, claimed in evidence.outcome.goals.items():
        found[goal] = []
        for e in range(len(evidence.record.suite.eps)):
            stands = (evidence.outcome.eligible & (claimed.radius > e))[chosen]
            fell = stands & (reached[goal] <= e)
            found[goal].append((int(stands.sum()), int(fell.sum())))
    return found


def _require_within(evidence: Evidence, broken: list[tuple[int, int]], *, all_tried: bool) -> None:
    """Refuse a claim whose interval does not hold what was broken of it, at any radius."""
    for (tried, fell), at in zip(broken, evidence.record.scores.per_eps, strict=True):
        rate = at.as_ignore_target
        if rate is None or not tried:
            continue
        least = fell / tried if all_tried else _lower_bound(fell, tried)
        really = rate.value + (1 - rate.value) * least
        if really > highest(rate):
            raise RejectionError(
                f"at eps {at.eps:g}, {fell} of {tried} sources that are claimed to stand were "
                f"broken: as_ignore_target is claimed to be {rate.value:.3g}, at most "
                f"{highest(rate):.3g}, and is {really:.3g} or more"
            )


def _in_words(broken: dict[Goal, list[tuple[int, int]]]) -> str:
    """The largest share of those that stand, at any radius."""
    worst = {
        goal: max((fell / tried for tried, fell in counts if tried), default=0.0)
        for goal, counts in broken.items()
    }
    return (
        f"at most {worst['untargeted']:.0%} of those that stand were changed, and "
        f"{worst['targeted']:.0%} of those not yet there were led to their target's class"
    )


def _lower_bound(broken: int, tried: int) -> float:
    """The share that is really broken is at least this (Clopper & Pearson 1934)."""
    return float(beta.ppf(1 - BOUND, broken, tried - broken + 1)) if broken else 0.0


def _goals_of(path: Path, evidence: Evidence) -> dict[Goal, Broken] | None:
    """What another entry found of the same sources, radii and images; None if it is unlike."""
    try:
        other = read_evidence(path / EVIDENCE)
    except GenrobustError as problem:
        if is_trouble(problem):
            raise
        return None  # it is for its own verification to say so
    ours, theirs = evidence.record.suite, other.record.suite
    same = ("dataset", "split", "data_sha256", "sample_ids", "target_ids", "norm", "eps")
    if any(getattr(ours, name) != getattr(theirs, name) for name in same):
        return None
    if other.record.model.input_shape != evidence.record.model.input_shape:
        return None
    return other.outcome.goals


def _own_cut(found: Replay) -> Iterator[dict[Goal, Broken]]:
    """Its own adversarial inputs, cut to each radius smaller than their own."""
    suite, clean = found.evidence.record.suite, found.outcome.clean
    assert clean is not None
    x = clean.source
    threats = [ThreatModel(suite.norm, eps) for eps in suite.eps]
    for e, threat in enumerate(threats):
        goals = {}
        for goal, given in found.evidence.outcome.goals.items():
            larger = (given.radius > e) & (given.radius < len(threats))
            cut = quantise(threat.project(images_of(given, x, threats), x), x, threat)
            kept = cut.masked_fill(~larger.view(-1, 1, 1, 1), 0)
            goals[goal] = Broken(torch.where(larger, e, len(threats)), kept)
        yield goals


def _lowest_radii(
    found: Replay, tries: Sequence[Broken], on_progress: Progress
) -> dict[Goal, Tensor]:
    """By goal, the smallest radius at which any perturbation reaches it on this model, (B,)."""
    evidence, loaded = found.evidence, found.prepared.loaded
    size, radii = evidence.record.suite.chunk_size, len(evidence.record.suite.eps)
    shards = list(enumerate(evidence.shards))
    threats = [ThreatModel(evidence.record.suite.norm, eps) for eps in evidence.record.suite.eps]

    def work(item: tuple[int, ShardSpec], checkpoint: Checkpoint) -> dict[Goal, Tensor]:
        number, spec = item
        sources = slice(number * size, (number + 1) * size)
        given = [Broken(one.radius[sources], one.perturbation[sources]) for one in tries]
        ahead = sum(int((one.radius < radii).sum()) for one in given)
        checkpoint.pulse.begin("images of other entries", ahead + len(spec.sample_ids), 0)
        scorer, batch = loaded.watched(checkpoint.pulse).scorer, make_batch(spec, loaded)
        baseline = measure_baseline(scorer, batch)
        lowest = {goal: torch.full_like(baseline.labels, radii) for goal in GOALS}
        for one in given:
            # What leaves the ball, as an entry that was never verified may hold, breaks nothing.
            at = ((one.radius < radii) & ~misfits(one, batch.x, threats)).nonzero()[:, 0]
            if checkpoint.cancelled() or not len(at):
                continue
            few = Broken(one.radius[at], one.perturbation[at])
            said = evidence.outcome
            both = Found(untargeted=few, targeted=few, signs=said.signs, counts=said.counts)
            with rejecting():
                outcome = measure_outcome(spec, scorer, batch[at], baseline[at], both)
            for goal, broken in outcome.goals.items():
                lowest[goal][at] = torch.minimum(lowest[goal][at], broken.radius)
        return lowest

    by_shard = results_of(shards, work, found.prepared.workers, on_progress)
    return {goal: torch.cat([one[goal] for one in by_shard]) for goal in GOALS}
