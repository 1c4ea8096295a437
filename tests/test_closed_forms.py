"""Attacks on a linear-Gaussian VAE of three latents, whose worst changes have closed forms.

Those of the published attacks stand in the tests of their files; here are our own two, and the
published ones whose objective is an evidence lower bound.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import LinearBuilder
from scipy.optimize import minimize
from test_published_attacks import COUNT, Plain, close, plain
from torch import Tensor

import genrobust
from genrobust.threat import Norm

__all__ = ["plain"]  # a fixture

#: Of the decoder, so that no reconstruction leaves the box.
SMALL = 0.2


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_our_targeted_attacks_reach_the_least_squares_optimum_in_the_ball(
    eps: float, plain: Plain, linear_vae: LinearBuilder
) -> None:
    D = SMALL * plain.D
    model = linear_vae(plain.E, D)
    run = lambda name: genrobust.attack(  # noqa: E731
        name, model, plain.x, target=plain.target, eps=eps, steps=300
    )
    best = plain.least(plain.E, plain.latent_gap, eps)
    assert (best > 0.01).any()
    close(run("latent").loss, best.sqrt(), atol=2e-3)
    # The attack aims at the target's reconstruction: D E (x_t - x).
    best = plain.least(D @ plain.E, plain.latent_gap @ D.T, eps)
    close(run("output").loss, best.sqrt(), atol=2e-3)


@pytest.mark.parametrize("name", ["latent", "output"])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_our_untargeted_attacks_find_the_change_that_is_stretched_most(
    name: str, norm: Norm, plain: Plain, linear_vae: LinearBuilder
) -> None:
    D = SMALL * plain.D
    matrix = plain.E if name == "latent" else D @ plain.E
    if norm == "l2":
        worst = 0.2 * torch.linalg.svdvals(matrix)[0]
    else:  # a convex function is largest at a corner of the ball
        corners = torch.cartesian_prod(*[torch.tensor([-0.2, 0.2])] * 16)
        worst = (corners @ matrix.T).norm(dim=1).max()
    x = plain.x.clamp(0.3, 0.7)  # so that the box cuts nothing
    model = linear_vae(plain.E, D)
    found = genrobust.attack(name, model, x, eps=0.2, norm=norm, steps=60, restarts=8)
    torch.testing.assert_close(-found.loss, worst.expand(COUNT), rtol=0.01, atol=0)
    assert (-found.loss <= worst * (1 + 1e-4)).all()


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


@pytest.mark.parametrize("weight", [0.1, 0.75])
def test_kos_lvae_attack_solves_its_convex_problem(
    weight: float, plain: Plain, linear_vae: LinearBuilder
) -> None:
    D = SMALL * plain.D
    model = linear_vae(plain.E, D)
    found = genrobust.attack(
        "kos-lvae", model, plain.x, target=plain.target, eps=math.inf, norm="l2", aim="image",
        reconstruct_target=False, distance_weight=weight, steps=500,
    )  # fmt: skip
    rows = zip(plain.x.flatten(1), plain.target.flatten(1), strict=True)
    solved = [convex_optimum(plain.E, D, x, target, weight) for x, target in rows]
    before, best = torch.tensor(solved, dtype=torch.float64).T
    assert (before > best + 0.01).all()
    torch.testing.assert_close(before - found.loss.double(), before - best, rtol=0.01, atol=0)


def convex_optimum(
    E: Tensor, D: Tensor, x: Tensor, target: Tensor, weight: float
) -> tuple[float, float]:
    """w/2 ||y - x||^2 + 1/2 ||E y||^2 + cross-entropy of t and D E y + 1/2, at x and at its least.

    y lies in the box.
    """
    e, d, source, t = (tensor.double().numpy() for tensor in (E, D, x, target))

    def value(y: np.ndarray) -> tuple[float, np.ndarray]:
        code = e @ y
        p = d @ code + 0.5
        loss = weight / 2 * ((y - source) ** 2).sum() + (code**2).sum() / 2
        loss -= (t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        slope = weight * (y - source) + e.T @ (code + d.T @ ((p - t) / (p * (1 - p))))
        return float(loss), slope

    solved = minimize(
        value, np.full(16, 0.5), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 16,
        options={"ftol": 1e-14, "gtol": 1e-10},
    )  # fmt: skip
    return value(source)[0], float(solved.fun)
