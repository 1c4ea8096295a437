"""What every published attack does: it stays inside, does not get worse, repeats and counts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from attack_cases import EPS, QUICK, VARIANTS, Coarse, digits, explained, given, norms_of
from linear_problems import COUNT, linear_judge
from torch import Tensor

import genrobust
from genrobust.attacks import make_attack
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.models.wrapping import adapt
from genrobust.posterior import Posterior

#: Every attack, and its settings, by a name for the test.
CASES = {**{name: (name, settings) for name, settings in QUICK.items()}, **VARIANTS}
ALL_GOALS = [(key, goal) for key, (name, _) in CASES.items() for goal in make_attack(name).goals]
RANDOM = ("pgd", "thesis", "kos-classifier", "camuto", "kuzina", "photoguard", "alma", "grill")
#: Sources of attacks under each norm.
FEW = 2
#: Attacks that take many products with the derivative from one pass through the encoder.
MANY_PRODUCTS = ("kuzina-linearised", "khan")


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_the_result_is_inside_the_ball_and_better_than_the_source(key: str, goal: str) -> None:
    model, judge = explained()
    x, (name, settings) = digits(FEW), CASES[key]
    for norm in norms_of(name):
        run = lambda eps, norm=norm: genrobust.attack(  # noqa: E731
            name, model, x, eps=eps, norm=norm, **given(goal, judge, FEW), **settings
        )
        found, idle = run(EPS[norm]), run(0.0)
        order = np.inf if norm == "linf" else 2
        change = (found.x_adv - x).flatten(1).numpy()
        assert (np.linalg.norm(change, ord=order, axis=1) <= EPS[norm] + 1e-5).all()
        assert float(found.x_adv.min()) >= 0
        assert float(found.x_adv.max()) <= 1
        assert found.x_adv.shape == x.shape
        assert found.x_adv.dtype == found.loss.dtype == torch.float32
        assert found.success is not None
        for entries in (found.loss, found.success, found.forwards, found.backwards):
            assert entries.shape == (FEW,)
            assert not entries.requires_grad
        assert (found.forwards > 0).all()
        assert (found.backwards > 0).all()
        assert torch.equal(idle.x_adv, x)
        assert found.loss.mean() < idle.loss.mean()
        one_step_or_one_change = name == "fgsm" or make_attack(name).couples_samples
        assert one_step_or_one_change or (found.loss < idle.loss + 1e-6).all()


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_the_box_alone_is_searched_by_attacks_with_a_penalty_and_refused_by_others(
    key: str, goal: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    x, (name, settings) = digits(COUNT), CASES[key]
    attack = make_attack(name, settings)
    for norm in norms_of(name):
        arguments = {**given(goal, judge), **settings, "eps": math.inf, "norm": norm}
        if attack.needs_ball:
            with pytest.raises(GenrobustError, match=f"'{name}' needs a finite eps"):
                genrobust.attack(name, model, x, **arguments)
            continue
        found = genrobust.attack(name, model, x, **arguments)
        assert float(found.x_adv.min()) >= 0
        assert float(found.x_adv.max()) <= 1
        assert found.loss.isfinite().all()


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_a_sample_gets_the_same_result_in_any_batch_and_any_run(key: str, goal: str) -> None:
    name, settings = CASES[key]
    model = adapt(Coarse().double())
    judge = linear_judge(1024)
    judge.module.double()
    x, ids = digits(COUNT).double(), (4, 8, 15, 16)

    def part(chosen: list[int], seed: int = 0) -> genrobust.AttackResult:
        arguments = given(goal, judge)
        for field in ("labels", "target", "target_labels"):
            if field in arguments:
                arguments[field] = arguments[field][chosen]
        if "target" in arguments:
            arguments["target"] = arguments["target"].double()
        norm = norms_of(name)[0]
        return genrobust.attack(
            name, model, x[chosen], sample_ids=[ids[i] for i in chosen], seed=seed, norm=norm,
            **arguments, **settings,
        )  # fmt: skip

    torch.manual_seed(1)
    whole = part([0, 1, 2, 3])
    torch.manual_seed(2)
    assert torch.equal(part([0, 1, 2, 3]).x_adv, whole.x_adv)
    found = part([3, 1])
    if not make_attack(name).couples_samples:
        torch.testing.assert_close(found.x_adv, whole.x_adv[[3, 1]], atol=1e-6, rtol=0)
        torch.testing.assert_close(found.loss, whole.loss[[3, 1]], atol=1e-6, rtol=1e-6)
        assert torch.equal(found.forwards, whole.forwards[[3, 1]])
    if name in RANDOM:
        assert not torch.equal(part([3, 1], seed=1).x_adv, found.x_adv)


@pytest.mark.parametrize(("key", "goal"), ALL_GOALS)
def test_every_pass_through_the_encoder_is_counted(
    key: str, goal: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    name, settings = CASES[key]
    with_gradient = without = 0

    def encoder(x: Tensor) -> Posterior:
        nonlocal with_gradient, without
        if x.requires_grad:
            with_gradient += len(x)
        else:
            without += len(x)
        return model.encode(x)

    spied = genrobust.GenerativeModel(
        "spied", model.module, model.input_shape, encoder, model.decode
    )
    arguments = given(goal, judge)
    norm = norms_of(name)[-1]
    found = genrobust.attack(
        name, spied, digits(COUNT), norm=norm, eps=EPS[norm], **arguments, **settings
    )
    if name not in MANY_PRODUCTS:
        assert int(found.backwards.sum()) == with_gradient
    # Beyond what the search looks at: targets, sources, references, the final look.
    spare = 3 * COUNT
    if "kos" in key or "clf" in key:
        spare += len(arguments["references"][0])
    if name in ("tabacof", "gondim-latent"):
        spare += 3 * COUNT  # the targets' posteriors, once for each weight
    if "willetts" in name:
        spare += 2 * COUNT
    looks = int(found.forwards.sum())
    assert looks <= with_gradient + without <= looks + spare


@pytest.mark.parametrize(
    ("name", "forwards", "backwards"),
    [
        ("fgsm", 2, 1),
        ("bim", 7, 6),
        ("pgd", 7, 6),
        ("gondim-latent", 3 * (5 + 2), 3 * 5),
        ("gondim-output", 3 * (5 + 2), 3 * 5),
        ("kos-classifier", 11, 10),
        ("kos-lvae", 10, 9),
        ("kos-latent", 11, 10),
        ("thesis", 9, 8),
    ],
)
def test_attacks_of_a_fixed_number_of_steps_cost_that(
    name: str,
    forwards: int,
    backwards: int,
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = untrained
    found = genrobust.attack(name, model, digits(2), **given("targeted", judge, 2), **QUICK[name])
    assert found.forwards.tolist() == [forwards] * 2
    assert found.backwards.tolist() == [backwards] * 2
