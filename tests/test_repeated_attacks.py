"""Attacks of others that draw from the process's generators, or that keep something."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import genrobust
from genrobust import GenerativeModel
from genrobust.attacks import ATTACKS, Attack, Batch
from genrobust.attacks.repeated import repeatable
from genrobust.batch import Context
from genrobust.errors import GenrobustWarning
from genrobust.objectives.base import OBJECTIVES
from genrobust.optimizers import Minimum, Problem
from genrobust.runner.signs import _fools_unbounded
from genrobust.threat import ThreatModel

THREAT = ThreatModel("linf", 0.1)
X = torch.linspace(0.2, 0.8, 3 * 1024).view(3, 1, 32, 32)
BATCH = Batch(X, (0, 1, 2))


def brightness(x: Tensor, context: Context) -> Tensor:
    return x.flatten(1).mean(1)


def attack_by(change: Callable[[Tensor], Tensor]) -> Attack:
    """A new class each, as of each is known what it does."""

    @dataclass(frozen=True)
    class Theirs(Attack):
        name: ClassVar[str] = "theirs"
        paper: ClassVar[str] = "none"
        norms: ClassVar[tuple[str, ...]] = ("any",)

        def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
            problem, x = Problem.of(brightness, context), context.batch.x
            best = Minimum(problem, x)
            x_adv = threat.project(x + change(x), x)
            best.replace(problem.index, x_adv, problem.loss(x_adv))
            return problem, best

    return Theirs()


def shuffled(x: Tensor) -> Tensor:
    signs = [1, -1] * (x.numel() // 2)
    random.shuffle(signs)
    return torch.tensor(signs).view_as(x).to(x)


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch": torch.randn_like,
    "numpy": lambda x: torch.from_numpy(np.random.standard_normal(x.shape)).to(x),
    "Python": shuffled,
}


@pytest.mark.parametrize("case", DRAWS)
def test_what_is_drawn_from_the_process_is_the_same_again(
    case: str, tiny_vae: GenerativeModel
) -> None:
    """In a notebook, and in runs: whatever ran before, and whatever runs beside it."""
    attack = attack_by(DRAWS[case])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = repeatable(attack, tiny_vae, BATCH, THREAT).x_adv
        torch.rand(5), np.random.random(5), random.random()
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(repeatable, attack, tiny_vae, BATCH, THREAT) for _ in range(8)]
            assert all(torch.equal(call.result().x_adv, first) for call in calls)
    other = repeatable(attack, tiny_vae, Batch(X, (0, 1, 2), seed=1), THREAT).x_adv
    assert not torch.equal(other, first)


def test_an_attack_may_begin_to_draw_late(tiny_vae: GenerativeModel) -> None:
    """As one does that starts anew where a source stood."""
    attack = attack_by(lambda x: torch.rand_like(x) if x[0, 0, 0, 0] > 0.3 else 0 * x)
    plain, late = BATCH, Batch(X.flip(0), (0, 1, 2))
    assert torch.equal(repeatable(attack, tiny_vae, plain, THREAT).x_adv, X)
    found = [repeatable(attack, tiny_vae, late, THREAT).x_adv for _ in range(2)]
    assert torch.equal(*found)


def test_an_attack_that_keeps_something_is_told(tiny_vae: GenerativeModel) -> None:
    kept = [torch.zeros(())]

    def warm(x: Tensor) -> Tensor:
        kept[0] = kept[0] + 0.01
        return kept[0] * torch.ones_like(x)

    attack = attack_by(warm)
    with pytest.warns(GenrobustWarning, match="'theirs' gave other images when it was asked again"):
        repeatable(attack, tiny_vae, BATCH, THREAT)
    own = np.random.default_rng()
    attack = attack_by(lambda x: torch.from_numpy(own.random(x.shape)).to(x))
    with pytest.warns(GenrobustWarning, match="per_sample"):
        repeatable(attack, tiny_vae, BATCH, THREAT)


def test_the_seed_of_one_call_is_that_of_what_it_draws(
    tiny_vae: GenerativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTACKS._registered, "theirs", type(attack_by(torch.randn_like)))
    first, again, other = (
        genrobust.attack("theirs", tiny_vae, X, seed=seed).x_adv for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_objective_of_others_may_draw(
    tiny_vae: GenerativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Noisy:
        def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
            return (x_adv * torch.randn_like(x_adv)).flatten(1).sum(1)

    monkeypatch.setitem(OBJECTIVES._registered, "noisy", Noisy)
    attack = genrobust.attacks.make_attack("objective:noisy", {"steps": 1})
    found = [repeatable(attack, tiny_vae, BATCH, THREAT).x_adv for _ in range(2)]
    assert torch.equal(*found)


def test_what_is_looked_at_beside_leaves_the_generators_to_those_that_draw(
    tiny_vae: GenerativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads share them, and a bridge's library draws from them meanwhile."""
    judge = genrobust.load_judge("digits", "lenet")
    batch = Batch(X[:1], (0,), labels=torch.tensor([1]), judge=judge)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeded"))
    assert _fools_unbounded(tiny_vae, batch).shape == (1,)
