"""Attacks of Willetts: closed forms, weights, and their objectives by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from linear_problems import COUNT, Plain, close
from torch import Tensor

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.sweep import PenaltySweep
from genrobust.batch import Batch, Context
from genrobust.objectives.divergence import LatentWasserstein
from genrobust.objectives.elbo import TargetELBO
from genrobust.optimizers import Problem


def in_l2(E: Tensor, gap: Tensor, eps: float) -> Tensor:
    """min ||E d - gap_i||_2 over ||d||_2 <= eps by the secular equation, without a box."""
    _, s, right = np.linalg.svd(E.double().numpy(), full_matrices=False)
    u = E.double().numpy() @ right.T / s
    found = []
    for row in gap.double().numpy() @ u:

        def change(shift: float, row: Any = row) -> Any:
            return s * row / (s**2 + shift)

        low, high = 0.0, 1e6
        if np.linalg.norm(change(0.0)) > eps:
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (
                    (middle, high) if np.linalg.norm(change(middle)) > eps else (low, middle)
                )
        found.append(np.linalg.norm(s * change(high if low > 0 else 0.0) - row))
    return torch.tensor(found)


def test_willetts_latent_attacks_reach_the_optimum_of_an_l2_ball_at_a_small_weight(
    plain: Plain,
) -> None:
    best = in_l2(plain.E, plain.latent_gap, 0.25)
    assert (best > 0.01).all()
    run = lambda name: genrobust.attack(  # noqa: E731
        name, plain.model, plain.x, target=plain.target, eps=0.25, norm="l2", points=2, highest=1e-5
    )
    close(run("willetts-w2").loss, best)
    close(run("willetts-kl").loss, best**2 / 2)


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_willetts_output_attack_reaches_the_targets_highest_elbo(eps: float, plain: Plain) -> None:
    # KL(N(m, I) || p) - log N(x_t; D m + 1/2, s^2), with m = E (x + d), is a sum of squares of d.
    std = 0.5
    code = plain.x.flatten(1) @ plain.E.T
    A = torch.cat([plain.E, plain.D @ plain.E / std])
    b = torch.cat([-code, plain.output_gap / std], 1)
    constant = 16 * (math.log(std) + 0.5 * math.log(2 * math.pi))
    best = plain.least(A, b, eps) / 2 + constant
    found = genrobust.attack(
        "willetts-output", plain.model, plain.x, target=plain.target, eps=eps,
        likelihood="gaussian", std=std, points=2, highest=1e-6,
    )  # fmt: skip
    close(found.loss - constant, best - constant, atol=1e-4)


def test_willetts_penalty_is_not_squared(plain: Plain) -> None:
    # Where its slope at the source exceeds that of the objective, nothing moves.
    slope = (plain.latent_gap @ plain.E).norm(dim=1)
    attack = make_attack(
        "willetts-kl", {"points": 2, "lowest": 1e-6, "highest": 2 * float(slope.max())}
    )
    assert isinstance(attack, PenaltySweep)
    sweep = attack.sweep(plain.model, plain.batch)
    torch.testing.assert_close(sweep.x_adv[1], plain.x, atol=1e-4, rtol=0)
    assert ((sweep.x_adv[0] - plain.x).flatten(1).norm(dim=1) > 0.1).all()


def test_fifty_weights_are_geometric_from_2_to_the_minus_20_to_2_to_the_20() -> None:
    attack = make_attack("willetts-w2")
    assert isinstance(attack, PenaltySweep)
    weights = attack.weights().double()
    assert len(weights) == 50
    assert float(weights[0]) == 2.0**-20
    assert float(weights[-1]) == pytest.approx(2.0**20)
    torch.testing.assert_close(
        weights[1:] / weights[:-1], torch.full((49,), 2.0 ** (40 / 49)).double()
    )


def test_the_wasserstein_distance_has_a_gradient_where_posteriors_agree(plain: Plain) -> None:
    context = Context(plain.model, Batch(plain.x, tuple(range(COUNT)), target_x=plain.x))
    _, gradient = Problem.of(LatentWasserstein(), context).gradient(plain.x)
    assert gradient.isfinite().all()


def test_the_targets_elbo_is_its_likelihood_less_the_divergence(plain: Plain) -> None:
    context = Context(plain.model, plain.batch)
    mean = plain.x.flatten(1) @ plain.E.T
    prior = 0.5 * mean.square().sum(1)  # with unit variances
    image = mean @ plain.D.T + 0.5
    goal = plain.target.flatten(1)
    gaussian = torch.distributions.Normal(image, 0.5).log_prob(goal).sum(1)
    found = TargetELBO("gaussian", 0.5)(plain.x, context)
    torch.testing.assert_close(found, (prior - gaussian).double())
    image, goal = image.double().clamp(1e-6, 1 - 1e-6), goal.double()
    bernoulli = (goal * image.log() + (1 - goal) * (1 - image).log()).sum(1)
    torch.testing.assert_close(TargetELBO()(plain.x, context), prior - bernoulli)
    # E ||x_t - D z - 1/2||^2 over draws has the mean's error plus the trace of D D^T.
    drawn = TargetELBO("gaussian", 0.5, draws=3000)(plain.x[:1], context[torch.tensor([0])])
    expected = prior[0] - gaussian[0] + 0.5 * plain.D.square().sum() / 0.5**2
    assert float(drawn) == pytest.approx(float(expected), rel=0.03)
