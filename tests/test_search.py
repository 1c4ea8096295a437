"""The search at each radius, in a world where the size of a change says what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from genrobust.batch import Batch, Goal
from genrobust.runner import radii
from genrobust.runner.measure import Baseline
from genrobust.suites import AttackEntry
from genrobust.threat import ThreatModel

LABEL, TARGET, OTHER = 0, 1, 2
EPS = (0.1, 0.2, 0.4)
STOOD = len(EPS)
NEVER = 2.0


@dataclass(frozen=True)
class Source:
    """Black at first: from which change on it shows another class, its target's, and has itself
    lost its own."""

    falls: float = NEVER
    aims: float = NEVER
    loses: float = NEVER
    eligible: bool = True


class World:
    """Where attacks move every pixel by the whole of a ball, or by a part of it."""

    def __init__(self, *sources: Source) -> None:
        self.sources = sources
        self.model = SimpleNamespace(encode=lambda x: None)

    def reconstruct(self, images: Tensor, sample_ids: Sequence[int]) -> Tensor:
        return images

    def verdict(self, images: Tensor, sources: Baseline) -> Tensor:
        changes = images.flatten(1).amax(1).tolist()
        told = [self.sources[i] for i in sources.sample_ids]
        shown = [
            TARGET if d >= one.aims else OTHER if d >= one.falls else LABEL
            for d, one in zip(changes, told, strict=True)
        ]
        return torch.tensor(shown)

    def keeps_label(self, images: Tensor, sources: Baseline) -> Tensor:
        changes = images.flatten(1).amax(1).tolist()
        told = [self.sources[i].loses for i in sources.sample_ids]
        return torch.tensor([d < loses for d, loses in zip(changes, told, strict=True)])


class Whole:
    """An attack that goes by a part of the ball, and notes whom it met where."""

    def __init__(self, part: float = 1.0) -> None:
        self.part = part
        self.met: list[tuple[float, tuple[int, ...]]] = []

    def __call__(self, model: None, batch: Batch, threat: ThreatModel) -> Any:
        self.met.append((round(threat.eps, 6), batch.sample_ids))
        once = torch.ones(len(batch), dtype=torch.int64)
        moved = (batch.x + self.part * threat.eps).clamp(0, 1)
        return SimpleNamespace(x_adv=moved, forwards=once, backwards=2 * once)

    def expected_passes(self) -> int:
        return 10

    def applies_to(self, posterior: None) -> bool:
        return self.part > 0


@pytest.fixture(autouse=True)
def _asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacks of others are asked twice at first."""
    monkeypatch.setattr(radii, "repeatable", lambda attack, *given: attack(*given))


def a_search(
    world: World,
    *attacks: tuple[Whole, Goal, bool],
    eps: Sequence[float] = EPS,
    stop_after: int | None = None,
    diagnosis: Any = None,
    judge: Any = None,
) -> Any:
    """One by these attacks, each with its goal and whether it descends."""
    count = len(world.sources)
    x, labels = torch.zeros(count, 1, 2, 2), torch.full((count,), LABEL)
    shown = torch.tensor([LABEL if one.eligible else OTHER for one in world.sources])
    ids = tuple(range(count))
    baseline = Baseline(
        *(ids, x, labels, labels + TARGET, x, None), input_verdict=labels, clean_verdict=shown
    )
    batch = Batch(x, ids, target_x=x, target_labels=labels + TARGET, judge=judge)
    entries = [
        AttackEntry(attack="classifier", goal=goal, settings={"steps": row}, descends=down)
        for row, (_, goal, down) in enumerate(attacks)
    ]
    asked: list[None] = []
    begun: list[tuple[str, int, int]] = []
    kept: list[dict[str, Tensor]] = []

    def cancelled() -> bool:
        asked.append(None)
        return stop_after is not None and len(asked) > stop_after

    def keep(state: Callable[[], dict[str, Tensor]]) -> None:
        kept.append({name: tensor.clone() for name, tensor in state().items()})

    pulse = SimpleNamespace(begin=lambda *told: begun.append(told))
    checkpoint: Any = SimpleNamespace(cancelled=cancelled, offer=keep, pulse=pulse)
    spec: Any = SimpleNamespace(
        norm="linf", eps=tuple(eps), attacks=entries, ensemble=diagnosis is not None
    )
    scorer: Any = world
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(radii, "make_attack", lambda name, settings: attacks[settings["steps"]][0])
        patch.setattr(radii, "guided", lambda batch, baseline: batch)
        patch.setattr(radii, "diagnose", lambda *_: diagnosis)
        patch.setattr(radii, "passes_of_looks", lambda spec: 5)
        patch.setattr(radii, "passes_of_attacks", lambda spec: 7)
        search: Any = radii._Search(spec, scorer, batch, baseline, checkpoint)
    search.begun, search.kept, search.asked = begun, kept, asked
    return search


def found(search: Any, goal: Goal = "untargeted") -> list[int]:
    return [int(e) for e in search.smallest[goal].radius]


def tried(search: Any, row: int = 0) -> list[int]:
    return [int(count) for count in search.tally.table[0, row]]


def succeeded(search: Any, row: int = 0) -> list[int]:
    return [int(count) for count in search.tally.table[1, row]]


def test_what_fell_is_left_alone_at_larger_radii_and_who_is_not_eligible_at_all() -> None:
    world = World(Source(0.05), Source(0.15), Source(), Source(0.05, eligible=False))
    search = a_search(world, (Whole(), "untargeted", False))
    assert search.go_on()
    assert found(search) == [0, 1, STOOD, STOOD]
    assert (tried(search), succeeded(search)) == ([3, 2, 1], [1, 1, 0])
    assert search.tally.table[2:, 0].tolist() == [[3, 2, 1], [6, 4, 2]]


def test_each_attack_meets_what_the_one_before_it_left() -> None:
    world = World(Source(0.03), Source(0.15), Source())
    half, whole = Whole(0.5), Whole()
    search = a_search(world, (half, "untargeted", False), (whole, "untargeted", False))
    assert search.go_on()
    assert found(search) == [0, 1, STOOD]
    assert half.met == [(0.1, (0, 1, 2)), (0.2, (1, 2)), (0.4, (2,))]
    assert whole.met == [(0.1, (1, 2)), (0.2, (1, 2)), (0.4, (2,))]


def test_what_is_stored_is_what_broke_it_in_steps_of_its_radius() -> None:
    search = a_search(World(Source(0.15), Source()), (Whole(), "untargeted", False))
    assert search.go_on()
    steps = search.smallest["untargeted"].perturbation
    assert steps[0].unique().tolist() == [127]
    assert not steps[1].any()


def test_who_loses_the_class_is_tried_in_halves_of_the_ball_down_to_the_radius_before() -> None:
    """Of 0.8 these are 0.4, 0.2 and no more where 0.1 was tried; no class is lost in vain."""
    attack = Whole()
    world = World(
        Source(0.15, loses=0.3), Source(0.15, loses=0.5), Source(), Source(0.9, loses=0.7)
    )
    search = a_search(world, (attack, "untargeted", False), eps=(0.1, 0.8))
    assert search.go_on()
    assert found(search) == [1, 1, 2, 2]
    assert attack.met == [
        (0.1, (0, 1, 2, 3)),
        (0.8, (0, 1, 2, 3)),
        (0.4, (0, 1)),
        (0.2, (0,)),
    ]
    steps = search.smallest["untargeted"].perturbation.flatten(1).amax(1)
    assert [round(int(count) / 127 * 0.8, 1) for count in steps[:2]] == [0.2, 0.4]


def test_the_balls_of_the_smallest_radius_are_halved_six_times() -> None:
    attack = Whole()
    search = a_search(World(Source(0.0, loses=0.0)), (attack, "untargeted", False), eps=(0.64,))
    assert search.go_on()
    assert found(search) == [1]
    assert [eps for eps, _ in attack.met] == [0.64, 0.32, 0.16, 0.08, 0.04, 0.02, 0.01]


def test_what_stood_in_a_ball_is_closed_to_what_descends_unless_it_lost_its_class() -> None:
    """The fourth falls at the largest alone: it is met once more, and is then let alone."""
    world = World(Source(0.05), Source(), Source(0.15, loses=0.3), Source(0.3))
    attack = Whole()
    search = a_search(world, (attack, "untargeted", True))
    assert search.go_on()
    assert found(search) == [0, STOOD, 1, 2]
    assert attack.met == [(0.4, (0, 1, 2, 3)), (0.2, (0, 2, 3)), (0.1, (0, 2))]
    assert (tried(search), succeeded(search)) == ([2, 3, 4], [1, 2, 2])


def test_what_descends_meets_what_went_up_before_it_left() -> None:
    world = World(Source(0.03), Source(0.15), Source())
    up, down = Whole(0.5), Whole()
    search = a_search(world, (up, "untargeted", False), (down, "untargeted", True))
    assert search.go_on()
    assert up.met == [(0.1, (0, 1, 2)), (0.2, (1, 2)), (0.4, (1, 2))]
    assert found(search) == [0, 1, STOOD]
    assert down.met == [(0.4, (2,)), (0.2, (1,)), (0.1, (1,))]


def test_a_targeted_attack_that_changes_the_class_counts_for_the_other_goal() -> None:
    """And not the other way round."""
    world = World(Source(0.05, aims=0.15), Source(0.05), Source(aims=0.05))
    search = a_search(world, (Whole(), "targeted", False))
    assert search.go_on()
    assert (found(search), found(search, "targeted")) == ([0, 0, 0], [1, STOOD, 0])
    assert (tried(search), succeeded(search)) == ([3, 2, 1], [1, 1, 0])
    search = a_search(world, (Whole(), "untargeted", False))
    assert search.go_on()
    assert (found(search), found(search, "targeted")) == ([0, 0, 0], [STOOD] * 3)


@pytest.mark.parametrize("stop_after", range(14))
def test_a_search_that_was_stopped_between_two_attacks_ends_as_if_it_had_not_been(
    stop_after: int,
) -> None:
    world = World(
        Source(0.05),
        Source(0.15, loses=0.3),
        Source(0.3),
        Source(),
        Source(0.35, aims=0.38),
        Source(0.06, aims=0.07, loses=0.09),
    )

    def made(stop: int | None) -> Any:
        attacks: list[tuple[Whole, Goal, bool]] = [
            (Whole(0.4), "untargeted", False),
            (Whole(), "targeted", True),
            (Whole(), "untargeted", True),
        ]
        return a_search(world, *attacks, stop_after=stop)

    whole, first, second = made(None), made(stop_after), made(None)
    assert whole.go_on()
    assert first.go_on() == (stop_after >= len(whole.asked))
    assert len(first.kept) == min(stop_after, len(whole.asked))
    if first.kept:
        second.resume(first.kept[-1])
    assert second.go_on()
    ours, theirs = second.state(), whole.state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_longer_attack_meets_what_is_open_at_a_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = Whole()
    monkeypatch.setattr(radii, "longer_attack", lambda attacks: longer)
    world = World(Source(0.03), Source(), Source(0.3), Source(0.03, eligible=False))
    diagnosis = SimpleNamespace(
        positions=torch.tensor([0, 1, 2]),
        x_adv=[torch.zeros(3, 1, 2, 2)] * 3,
        forwards=torch.full((3, 3), 7),
        backwards=torch.full((3, 3), 8),
    )
    judge = SimpleNamespace(of=lambda index: None)
    attacks: tuple[Whole, Goal, bool] = (Whole(0.5), "untargeted", True)
    search = a_search(world, attacks, diagnosis=diagnosis, judge=judge)
    assert search.go_on()
    assert found(search) == [0, STOOD, 2, STOOD]
    assert longer.met == [(0.4, (1, 2)), (0.2, (2,))]
    assert search.longer.tolist() == [[False, True, True, False], [False, False, True, False]]
    assert (tried(search, 1), succeeded(search, 1)) == ([3, 3, 3], [0, 0, 0])
    assert search.tally.table[2:, 1].tolist() == [[21] * 3, [24] * 3]
    assert (tried(search, 2), succeeded(search, 2)) == ([0, 1, 2], [0, 0, 1])


def test_how_much_is_ahead_is_told_before_each_attack() -> None:
    """Each source at each radius that is left by ten passes, and then once where it stands last."""
    world = World(Source(), Source(), Source(0.05), Source(0.3), Source(eligible=False))
    up, down = Whole(), Whole()
    search = a_search(world, (up, "untargeted", False), (down, "untargeted", True))
    assert search.go_on()
    told = [(now, ahead) for _, now, ahead in search.begun]
    assert told[0] == (4 * 5, 4 * 7), "looks, and all attacks"
    assert told[1:] == [(40, 80 + 40), (30, 30 + 30), (30, 30), (20, 10), (10, 0), (0, 0)]
    assert search.begun[1][0] == "classifier untargeted (steps=0) at 0.1 on 4 of 5 sources"


def test_attacks_behind_one_at_its_radius_are_ahead_too() -> None:
    search = a_search(
        World(Source(), Source(0.15)),
        (Whole(0.5), "untargeted", False),
        (Whole(), "untargeted", False),
        (Whole(0.5), "untargeted", True),
    )
    assert search.tally.table.shape == (4, 3 + 2, 3)
    assert search.go_on()
    upwards = [(20, 120), (20, 100), (20, 80), (20, 60), (10, 30), (10, 20)]
    downwards = [(10, 10), (0, 10), (10, 0)]
    assert [(now, ahead) for _, now, ahead in search.begun[1:]] == upwards + downwards


def test_what_does_not_apply_to_a_model_meets_nothing() -> None:
    none, whole = Whole(0.0), Whole()
    world = World(Source(0.05))
    search = a_search(world, (none, "untargeted", False), (whole, "untargeted", False))
    assert search.go_on()
    assert (none.met, tried(search, 0), tried(search, 1)) == ([], [0, 0, 0], [1, 0, 0])


def test_the_first_attack_to_break_a_source_at_a_radius_is_the_one_that_counts() -> None:
    """Though a second one, on its target, which the first missed, changes its class again."""
    half, whole = Whole(0.5), Whole()
    search = a_search(World(Source(0.04)), (half, "targeted", False), (whole, "targeted", False))
    assert search.go_on()
    assert half.met[0] == whole.met[0] == (0.1, (0,))
    assert search.smallest["untargeted"].perturbation.unique().tolist() == [63]


def test_what_short_attacks_broke_needs_no_other() -> None:
    attack = Whole()
    moved = torch.tensor([0.1, 0.0]).view(2, 1, 1, 1).expand(-1, 1, 2, 2)
    diagnosis = SimpleNamespace(
        positions=torch.tensor([0, 1]),
        x_adv=[moved, moved * 2, moved * 4],
        forwards=torch.ones(3, 2),
        backwards=torch.ones(3, 2),
    )
    world = World(Source(0.05), Source(0.05))
    search = a_search(world, (attack, "untargeted", False), diagnosis=diagnosis)
    assert search.go_on()
    assert attack.met == [(0.1, (1,))]
    assert (tried(search, 1), succeeded(search, 1)) == ([2] * 3, [1] * 3)
