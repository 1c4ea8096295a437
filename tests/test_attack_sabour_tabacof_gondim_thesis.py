"""Attacks of Sabour, Tabacof, Gondim and the thesis: closed forms, and as published."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from linear_problems import COUNT, Plain, close
from torch import nn

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.sweep import PenaltySweep
from genrobust.batch import Batch, Context
from genrobust.objectives import OBJECTIVES
from genrobust.posterior import Gaussian, Point, Posterior
from genrobust.threat import ThreatModel


def test_latent_attacks_reach_the_least_squares_optimum_in_the_ball(plain: Plain) -> None:
    eps = 0.15
    best = plain.least(plain.E, plain.latent_gap, eps)
    assert (best > 0.01).any()
    run = lambda name, **settings: genrobust.attack(  # noqa: E731
        name, plain.model, plain.x, target=plain.target, eps=eps, **settings
    )
    close(run("sabour").loss, best)
    # KL(N(m, I) || N(m_t, I)) = 1/2 ||m - m_t||^2.
    close(run("tabacof", points=1).loss, best / 2)
    close(run("gondim-latent", points=1, optimizer="lbfgsb").loss, best / 2)
    by_adam = run("gondim-latent", points=1, steps=800, learning_rate=2e-3)
    close(by_adam.loss, best / 2, atol=5e-5)
    thesis = run("thesis", steps=400, learning_rate=2e-3, distance_weight=0.0)
    close(thesis.loss, best.sqrt(), atol=1e-3)


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_output_attacks_reach_the_least_squares_optimum_in_the_ball(
    eps: float, plain: Plain
) -> None:
    best = plain.least(plain.D @ plain.E, plain.output_gap, eps)
    for settings in ({"optimizer": "lbfgsb"}, {"steps": 400, "learning_rate": 2e-3}):
        found = genrobust.attack(
            "gondim-output",
            plain.model,
            plain.x,
            target=plain.target,
            eps=eps,
            points=1,
            **settings,
        )
        close(found.loss, best)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("tabacof", {}),
        ("gondim-latent", {"optimizer": "lbfgsb"}),
        ("gondim-output", {"steps": 400, "learning_rate": 5e-3}),
    ],
)
def test_a_sweep_finds_the_optimum_of_every_weight_in_the_box(
    name: str, settings: dict[str, Any], plain: Plain
) -> None:
    attack = make_attack(name, {"points": 4, "lowest": 0.01, "highest": 10.0, **settings})
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    assert sweep.weights.tolist()[-4:] == pytest.approx([0.01, 0.1, 1.0, 10.0], rel=1e-5)
    if name == "gondim-output":
        A, b, scale = plain.D @ plain.E, plain.output_gap, 1.0
    else:
        A, b, scale = plain.E, plain.latent_gap, 0.5
    for weight, x_adv, loss in zip(sweep.weights, sweep.x_adv, sweep.loss, strict=True):
        whole = loss + weight * (x_adv - plain.x).flatten(1).square().sum(1)
        best = scale * plain.least(A, b, math.inf, float(weight) / scale)
        torch.testing.assert_close(whole.double(), best, rtol=0.01, atol=1e-3)
        ThreatModel("linf", math.inf).check(x_adv, plain.x, "the sweep")


def test_the_result_of_a_sweep_is_its_best_weight(plain: Plain) -> None:
    attack = make_attack(
        "tabacof", {"points": 4, "lowest": 0.001, "highest": 100.0, "iterations": 10}
    )
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    found = attack(plain.model, plain.batch, ThreatModel("l2", math.inf))
    for i in range(COUNT):
        images = plain.model.reconstruct(sweep.x_adv[:, i])
        nearer = (images - plain.target[i]).flatten(1).norm(dim=1) < (images - plain.x[i]).flatten(
            1
        ).norm(dim=1)
        held = next((w for w, yes in enumerate(nearer.tolist()) if not yes), len(nearer)) - 1
        chosen = held if held >= 0 else int(sweep.loss[:, i].argmin())
        assert torch.equal(found.x_adv[i], sweep.x_adv[chosen, i])
    inside = attack.sweep(plain.model, plain.batch, ThreatModel("linf", 0.1))
    found = attack(plain.model, plain.batch, ThreatModel("linf", 0.1))
    assert torch.equal(found.loss, inside.loss.amin(0))


def test_without_a_ball_the_last_weight_that_still_leads_to_the_target_is_shown(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds again after it did not is another image than the one that was to be shown."""
    held = [[1, 1, 1, 1], [1, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 1]]  # of each source, by weight
    by_weight = torch.tensor(held, dtype=torch.bool).T
    monkeypatch.setattr(PenaltySweep, "_nearer_to_target", lambda *_: by_weight)
    attack = make_attack("tabacof", {"points": 4, "iterations": 5, "lowest": 0.01, "highest": 10.0})
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    found = attack(plain.model, plain.batch, ThreatModel("l2", math.inf))
    shown = [3, 1, 0, int(sweep.loss[:, 3].argmin())]
    assert torch.equal(found.x_adv, sweep.x_adv[shown, range(COUNT)])


def test_autoencoders_get_the_squared_distance_of_codes() -> None:
    codes = iter([Posterior((Point(torch.tensor([[v, 0.0]])),)) for v in (1.0, 4.0)])
    module = nn.Identity()
    model = genrobust.GenerativeModel("points", module, (1, 1, 1), lambda x: next(codes), module)
    x = torch.zeros(1, 1, 1, 1)
    objective = OBJECTIVES.get("latent-divergence")()
    assert float(objective(x, Context(model, Batch(x, (0,), target_x=x)))) == 9


# The published codes' own ways


def test_the_thesis_as_published_adds_up_gradients_and_returns_the_last_iterate(
    plain: Plain,
) -> None:
    settings = {"steps": 25, "learning_rate": 0.02, "distance_weight": 0.5, "start_noise": 0.0}
    x, target = plain.x, plain.target
    low, high = (x - 0.1).clamp(min=0), (x + 0.1).clamp(max=1)
    goal = target.flatten(1) @ plain.E.T
    x_adv = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x_adv], lr=0.02)
    for _ in range(25):
        length = ((x_adv - x).flatten(1).square().sum(1) + 1e-24).sqrt()
        (0.5 * length + (x_adv.flatten(1) @ plain.E.T - goal).norm(dim=1)).sum().backward()
        optimizer.step()
        x_adv.data = torch.minimum(torch.maximum(x_adv.data, low), high)
    run = lambda **more: genrobust.attack(  # noqa: E731
        "thesis", plain.model, x, target=target, eps=0.1, **settings, **more
    )
    published, corrected = run(as_published=True), run()
    torch.testing.assert_close(published.x_adv, x_adv.detach(), atol=1e-5, rtol=0)
    assert not torch.allclose(corrected.x_adv, published.x_adv, atol=1e-3)
    assert (corrected.loss <= published.loss + 1e-4).all()


def test_tabacofs_published_divergence_is_twice_the_right_one_and_more_where_variances_are_1(
    plain: Plain,
) -> None:
    # With unit variances it is ||m - m_t||^2 + latents / 2: half the weight for the same change.
    published = make_attack("tabacof", {"points": 1, "lowest": 2.0, "as_published": True})
    corrected = make_attack("tabacof", {"points": 1, "lowest": 1.0})
    assert isinstance(published, PenaltySweep)
    assert isinstance(corrected, PenaltySweep)
    theirs, ours = (a.sweep(plain.model, plain.batch) for a in (published, corrected))
    torch.testing.assert_close(theirs.x_adv, ours.x_adv, atol=1e-3, rtol=0)
    torch.testing.assert_close(theirs.loss, 2 * ours.loss + 1.5, atol=1e-3, rtol=1e-3)


def test_tabacofs_published_divergence_uses_standard_deviations_for_variances() -> None:
    found, other = (
        Posterior((Gaussian(torch.tensor([[mean]]), torch.tensor([[logvar]])),))
        for mean, logvar in ((1.0, math.log(4.0)), (3.0, math.log(9.0)))
    )
    codes = iter([found, other])
    module = nn.Identity()
    model = genrobust.GenerativeModel("fixed", module, (1, 1, 1), lambda x: next(codes), module)
    x = torch.zeros(1, 1, 1, 1)
    context = Context(model, Batch(x, (0,), target_x=x))
    value = OBJECTIVES.get("latent-divergence")(as_published=True)(x, context)  # type: ignore[call-arg]
    expected = (2 + (1 - 3) ** 2) / 3 + math.log(9 / 4) - 0.5
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(found.kl(other)) == pytest.approx((4 + 4) / 18 + math.log(3 / 2) - 0.5, rel=1e-5)
