"""Our own attacks on a linear-Gaussian VAE, whose worst changes have closed forms."""

from __future__ import annotations

import pytest
import torch
from conftest import LinearBuilder
from linear_problems import COUNT, SMALL, Plain, close

import genrobust


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
    name: str, norm: str, plain: Plain, linear_vae: LinearBuilder
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
