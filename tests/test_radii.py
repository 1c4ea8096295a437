"""A score at a radius is that radius's own, and no radius stands higher than a smaller one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from principal import principal
from torch import Tensor

import genrobust
from genrobust import files
from genrobust.attacks import ATTACKS, Attack
from genrobust.batch import Batch, Context
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Minimum, Problem
from genrobust.outcomes.outcome import GOALS
from genrobust.records.record import Record
from genrobust.runner import radii
from genrobust.suites import AttackEntry, Suite, load_suite
from genrobust.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("brief")

GRIDS = {"linf": ([0.06], [0.06, 0.1], [0.06, 1.0]), "l2": ([1.9], [1.9, 3.0], [1.9, 32.0])}


def suite_of(*attacks: str, ensemble: bool, **settings: float) -> Suite:
    """Digits by these attacks, untargeted, in one chunk, as one judge sees them."""
    entries = tuple(AttackEntry(attack=a, goal="untargeted", settings=settings) for a in attacks)
    suite = load_suite("digits-v1")
    update = {"attacks": entries, "ensemble": ensemble, "resamples": 50}
    return suite.model_copy(update={**update, "scoring_judges": suite.scoring_judges[:1]})


def standing(record: Record) -> list[float]:
    return [at.robust_accuracy.value for at in record.scores.per_eps]


def require_falling(record: Record) -> None:
    shares = standing(record)
    assert all(before >= after for before, after in pairwise(shares)), shares


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "norm"), [("vae-wd", "linf"), ("jointvae", "linf"), ("vae-wd", "l2")]
)
def test_larger_radii_beside_it_leave_a_score_as_it_is(model: str, norm: str) -> None:
    suite = suite_of("classifier", ensemble=True, steps=15)
    records = [genrobust.bench(model, suite, limit=12, norm=norm, eps=eps) for eps in GRIDS[norm]]
    assert len({standing(record)[0] for record in records}) == 1
    assert 0 < standing(records[0])[0] < 0.9, "some fall and some stand, or it shows nothing"
    for record in records:
        require_falling(record)


@pytest.mark.slow
def test_the_whole_ensemble_keeps_to_the_radius_too() -> None:
    alone, beside, far = (
        genrobust.bench("vae-wd", limit=3, eps=eps) for eps in ([0.06], [0.06, 1.0], [1.0])
    )
    assert standing(alone)[0] == standing(beside)[0]
    assert standing(far)[0] == standing(beside)[1] <= standing(beside)[0]


@pytest.mark.parametrize(
    "attack",
    ["noise", "pgd", *(pytest.param(a, marks=pytest.mark.slow) for a in ("fmn", "carlini-wagner"))],
)
def test_attacks_by_themselves_keep_to_the_radius(attack: str) -> None:
    """What an attack on a large ball finds near the source is no merit of the small ball's."""
    settings = {} if attack == "noise" else {"steps": 10}
    suite = suite_of(attack, ensemble=False, **settings)
    norm: str = "l2" if attack == "carlini-wagner" else "linf"
    small, large = GRIDS[norm][1]
    alone, beside = (
        genrobust.bench(principal(), suite, limit=6, norm=norm, eps=eps)
        for eps in ([small], [small, 2 * large])
    )
    assert standing(alone)[0] == standing(beside)[0]
    require_falling(beside)


@pytest.mark.parametrize("rule", ["single", "distance"])
def test_other_rules_keep_to_the_radius(rule: str) -> None:
    suite = suite_of("latent" if rule == "distance" else "classifier", ensemble=True, steps=10)
    changes: dict[str, object] = {"rule": rule}
    if rule == "distance":
        targeted = tuple(e.model_copy(update={"goal": "targeted"}) for e in suite.attacks)
        changes |= {"scoring_judges": (), "attacker_judge": None, "attacks": targeted}
    suite = suite.model_copy(update=changes)
    alone, beside = (
        genrobust.bench(principal(), suite, limit=3, eps=eps) for eps in ([0.04], [0.04, 1.0])
    )
    assert standing(alone)[0] == standing(beside)[0]
    require_falling(beside)


@dataclass(frozen=True)
class Overshoot(Attack):
    """Uses the whole ball: towards the target image, and in a large ball to where it is it.

    So its images lose their own class in large balls, and change reconstructions in small ones.
    """

    name = "overshoot"
    paper = "a test"
    goals = ("untargeted",)
    norms = ("any",)
    needs_judge = True

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch, model = context.batch, context.model
        problem = Problem.of(JudgeMargin(), context)
        x = batch.x.clone()
        for _ in range(5):
            _, gradient = problem.gradient(x)
            x = threat.project(x - threat.eps / 2 * gradient.sign(), batch.x)
        if threat.eps >= 0.5:  # of what it holds only the class is left, and it is another
            x = threat.project(model.reconstruct(x), batch.x)
        found = Minimum(problem, x)
        found.loss = problem.loss(x)
        return problem, found


@pytest.fixture
def overshoot() -> Iterator[str]:
    ATTACKS._registered["overshoot"] = Overshoot
    yield "overshoot"
    del ATTACKS._registered["overshoot"]


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [True, False])
def test_images_that_lose_their_class_are_tried_in_smaller_balls(
    overshoot: str, ensemble: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without that, a source that falls at 0.12 would stand at 1."""
    suite, model = suite_of(overshoot, ensemble=ensemble), "vae" if ensemble else principal()
    count = 3 if ensemble else 6
    whole, small = (genrobust.bench(model, suite, limit=count, eps=[eps]) for eps in (1.0, 0.125))
    monkeypatch.setattr(radii, "HALVINGS", 0)
    single = genrobust.bench(model, suite, limit=count, eps=[1.0])
    assert standing(whole)[0] <= standing(small)[0] < standing(single)[0]
    tried = whole.attacks[0].tried[0]
    assert tried > whole.scores.eligible, "what was tried again is counted again"
    assert single.attacks[0].tried[0] == single.scores.eligible


@pytest.mark.slow
def test_the_longer_attack_counts_at_every_radius() -> None:
    """It was made at the largest radius alone, whose being there then mattered to the others."""
    suite = suite_of("classifier", ensemble=True, steps=3)
    alone, beside = (
        genrobust.bench(principal(), suite, limit=6, eps=eps) for eps in ([0.12], [0.12, 0.18])
    )
    assert alone.attacks[-1].succeeded[0] > 0
    assert alone.attacks[-1].succeeded[0] == beside.attacks[-1].succeeded[0]
    assert standing(alone)[0] == standing(beside)[0]


def test_the_images_of_a_radius_lie_in_its_ball(tmp_path: Path) -> None:
    """Those that were found in smaller balls are stored in steps of the radius that counts."""
    suite = suite_of("classifier", ensemble=True, steps=15)
    genrobust.bench(principal(), suite, limit=6, eps=[0.06, 1.0], out=tmp_path)
    (shard,) = tmp_path.glob("shards/*.safetensors")
    tensors = files.read_tensors(shard)[0]
    radius: Tensor = tensors["ignore.radius"]
    change = (tensors["ignore.x_adv"] - tensors["source"]).abs().amax((1, 2, 3))
    assert set(radius.tolist()) <= {0, 1, 2}
    assert (change[radius == 0] <= 0.06 + 1e-6).all()
    assert torch.equal(change[radius == 2], torch.zeros_like(change[radius == 2]))


def descending(suite: Suite) -> Suite:
    entries = tuple(e.model_copy(update={"descends": True}) for e in suite.attacks)
    return suite.model_copy(update={"attacks": entries})


@pytest.mark.slow
def test_what_stands_in_a_ball_is_left_alone_in_those_inside_it() -> None:
    suite = suite_of("classifier", ensemble=True, steps=10)
    eps = [0.02, 0.05, 0.1]
    up, down = (
        genrobust.bench(principal(), each, limit=4, eps=eps) for each in (suite, descending(suite))
    )
    assert standing(up) == standing(down)
    attack, last = down.attacks[0], down.scores.eligible
    require_falling(down)
    for e in (2, 1, 0):
        assert attack.tried[e] <= last, "of those that were tried in the ball around it, who fell"
        last = attack.succeeded[e] + down.attacks[-2].succeeded[e]
    assert 0 < attack.tried[0] < up.attacks[0].tried[0]
    assert sum(a.forwards for a in down.attacks) < sum(a.forwards for a in up.attacks)


@pytest.mark.slow
def test_what_lost_its_class_in_a_large_ball_is_attacked_in_the_small_one(
    overshoot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radii, "HALVINGS", 0)  # no ball between the two lets it fall first
    suite = descending(suite_of(overshoot, ensemble=True))
    alone = genrobust.bench(principal(), suite, limit=6, eps=[0.125])
    beside = genrobust.bench(principal(), suite, limit=6, eps=[0.125, 1.0])
    assert standing(alone)[0] == standing(beside)[0] < 1
    assert beside.attacks[0].tried[0] == alone.attacks[0].tried[0]


def a_search(**parts: Any) -> radii._Search:
    """One of which only these parts are made."""
    search = object.__new__(radii._Search)
    search.__dict__.update(parts)
    return search


def test_what_the_longer_attack_reached_once_it_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """It meets a source that fell to it again at a smaller radius, and may miss it there."""
    met = torch.tensor([0, 2])
    reached = [torch.tensor([True, False]), torch.tensor([False, False])]
    untargeted = SimpleNamespace(
        unbroken_here=lambda: met, look=lambda *_: None, offer=lambda _: reached.pop(0)
    )
    given, counted = [], []

    def attack(model: None, part: Tensor, threat: float) -> Any:
        given.append((part.tolist(), threat))
        return SimpleNamespace(x_adv=part, forwards=torch.ones(2), backwards=torch.ones(2))

    monkeypatch.setattr(radii, "longer_attack", lambda attacks: attack)
    search = a_search(
        spec=SimpleNamespace(attacks=()),
        scorer=SimpleNamespace(model=None),
        batch=SimpleNamespace(untargeted=lambda: torch.tensor([10, 11, 12])),
        threats=[0.1, 0.2],
        smallest={"untargeted": untargeted},
        longest=7,
        tally=SimpleNamespace(add=lambda row, e, *_: counted.append((row, e))),
        longer=torch.zeros(2, 3, dtype=torch.bool),
    )
    search._try_longer(1)
    search._try_longer(0)
    assert search.longer.tolist() == [[True, False, True], [True, False, False]]
    assert given == [([10, 12], 0.2), ([10, 12], 0.1)]
    assert counted == [(7, 1), (7, 0)]


@pytest.mark.parametrize("judge", [object(), None], ids=["judged", "without a judge"])
@pytest.mark.parametrize("descends", [False, True])
def test_short_attacks_come_first_and_the_longer_one_in_the_last_sweep(
    descends: bool, judge: object
) -> None:
    called: list[tuple[str, int]] = []

    def goal() -> Any:
        return SimpleNamespace(begin=lambda e: None, retry=lambda: False, end=lambda descends: None)

    sweeps = [radii._Sweep((0, 1), [], False)]
    sweeps += [radii._Sweep((1, 0), [], True)] if descends else []
    search = a_search(
        spec=SimpleNamespace(ensemble=True),
        batch=SimpleNamespace(x=torch.zeros(1), judge=judge),
        diagnosis=object(),
        threats=[ThreatModel("linf", 0.1), ThreatModel("linf", 0.2)],
        smallest={name: goal() for name in GOALS},
        sweeps=sweeps,
        place=radii._Place(),
        _offer_short=lambda diagnosis, e: called.append(("short", e)),
        _try_longer=lambda e: called.append(("longer", e)),
    )
    assert search.go_on()
    by_name = {name: [e for one, e in called if one == name] for name in ("short", "longer")}
    longer = [1, 0] if descends else [0, 1]
    assert by_name == {"short": [0, 1], "longer": longer if judge else []}
    assert (
        not (descends and judge) or [name for name, _ in called] == ["short"] * 2 + ["longer"] * 2
    )


@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
def test_untargeted_attacks_are_given_no_target(goal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Attacks of others are asked twice at first.
    monkeypatch.setattr(radii, "repeatable", lambda attack, *given: attack(*given))
    given: list[str] = []

    def attack(model: None, part: Batch, threat: None) -> Any:
        given.append(part.goal)
        return SimpleNamespace(x_adv=part.x, forwards=torch.ones(1), backwards=torch.ones(1))

    offered: list[str] = []

    def aim(name: str) -> Any:
        def offer(seen: None) -> Tensor:
            offered.append(name)
            return torch.tensor([True])

        return SimpleNamespace(
            to_attack=lambda: torch.tensor([0]), look=lambda *_: None, offer=offer
        )

    search = a_search(
        batch=Batch(torch.rand(1, 1, 2, 2), (7,), target_labels=torch.tensor([3])),
        scorer=SimpleNamespace(model=None),
        smallest={name: aim(name) for name in GOALS},
        tally=SimpleNamespace(add=lambda *_: None),
    )
    given_attack: Any = attack
    threat: Any = None
    search._run(0, AttackEntry(attack="classifier", goal=goal), given_attack, threat, 0)
    assert given == [goal]
    assert offered == (["targeted", "untargeted"] if goal == "targeted" else ["untargeted"])
