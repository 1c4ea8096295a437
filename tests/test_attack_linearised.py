"""Attacks along the directions that a linearised encoder stretches most: Khan and Kuzina 2021."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attack_cases import digits
from conftest import LinearBuilder
from linear_problems import COUNT
from torch import Tensor

import genrobust
from genrobust.attacks import make_attack
from genrobust.judges import Judge
from genrobust.metrics.geometry import encoder_jacobian
from genrobust.seeding import generator


@pytest.fixture
def rows() -> tuple[Tensor, Tensor]:
    """Three orthonormal rows, and how far an encoder stretches each."""
    orthogonal, _ = torch.linalg.qr(torch.randn(16, 3, generator=generator("rows")))
    return orthogonal.T, torch.tensor([3.0, 1.5, 0.5])


def test_khan_goes_along_the_top_eigenvector(
    rows: tuple[Tensor, Tensor], linear_vae: LinearBuilder
) -> None:
    directions, stretch = rows
    E = stretch[:, None] * directions
    model = linear_vae(E, 0.1 * directions.T)
    x = torch.full((2, 1, 4, 4), 0.5)
    found = genrobust.attack("khan", model, x, eps=0.1, norm="l2")
    torch.testing.assert_close(-found.loss, torch.full((2,), 0.1 * 0.1 * 3), rtol=0.01, atol=0)
    change = (found.x_adv - x).flatten(1)
    torch.testing.assert_close(
        (change @ directions[0]).abs(), torch.full((2,), 0.1), rtol=1e-3, atol=0
    )
    # In an L-infinity ball the change is scaled, not cut.
    found = genrobust.attack("khan", model, x, eps=0.05, directions=1)
    longest = 0.05 * directions[0] / directions[0].abs().max()
    torch.testing.assert_close(
        (found.x_adv - x).flatten(1).abs(), longest.abs().expand(2, 16), atol=1e-5, rtol=0
    )


def test_khans_changes_are_s_lambda_u_where_no_ball_cuts_them(
    rows: tuple[Tensor, Tensor], linear_vae: LinearBuilder
) -> None:
    directions, _ = rows
    E = torch.tensor([0.3, 0.2, 0.1])[:, None] * directions
    model = linear_vae(E, 0.1 * directions.T)
    x = torch.full((1, 1, 4, 4), 0.5)
    run = lambda **more: genrobust.attack(  # noqa: E731
        "khan", model, x, eps=math.inf, norm="l2", directions=1, **more
    )
    found = run(smallest=0.1, largest=2.0, scales=4)
    assert float((found.x_adv - x).norm()) == pytest.approx(2 * 0.09, rel=1e-4)
    assert found.forwards.tolist() == [1 + 2 + 8]
    assert found.backwards.tolist() == [6]


def test_khan_believes_a_judge_where_there_is_one(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = shipped
    x, labels = digits(COUNT), genrobust.load_images("digits").labels[:COUNT]
    arguments: dict[str, Any] = {"eps": 1.5, "norm": "l2", "directions": 2, "scales": 4}
    alone = genrobust.attack("khan", model, x, **arguments)
    judged = genrobust.attack("khan", model, x, judge=judge, labels=labels, **arguments)
    image = model.reconstruct(judged.x_adv)
    logits = judge.logits(image)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, labels[:, None])[:, 0] - others
    torch.testing.assert_close(judged.loss, margin)
    moved = (model.reconstruct(alone.x_adv) - model.reconstruct(x)).flatten(1).norm(dim=1)
    torch.testing.assert_close(alone.loss, -moved, atol=1e-4, rtol=1e-4)


def test_the_linearised_attack_finds_the_direction_that_stretches_most(
    rows: tuple[Tensor, Tensor], linear_vae: LinearBuilder
) -> None:
    directions, stretch = rows
    model = linear_vae(stretch[:, None] * directions, directions.T)
    x = torch.full((2, 1, 4, 4), 0.5)
    found = genrobust.attack("kuzina-linearised", model, x, eps=0.1, norm="l2", hops=1, chains=1)
    torch.testing.assert_close(-found.loss, torch.full((2,), 0.3), rtol=0.01, atol=0)
    free = genrobust.attack(
        "kuzina-linearised", model, x, eps=math.inf, norm="l2", hops=1, chains=1, length=0.2
    )
    torch.testing.assert_close(-free.loss, torch.full((2,), 0.6), rtol=0.01, atol=0)
    assert free.backwards.tolist() == [3, 3]
    published = genrobust.attack(
        "kuzina-linearised", model, x, eps=math.inf, norm="l2", hops=1, chains=1, as_published=True
    )
    u = directions[0] - directions[0].min()
    wanted = u / u.max()
    same = torch.minimum(
        (published.x_adv.flatten(1) - wanted).abs().amax(1),
        (published.x_adv.flatten(1) - (1 - wanted)).abs().amax(1),
    )
    assert (same < 1e-2).all()


def test_the_linearised_attack_on_a_network_climbs_its_jacobian(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(2)
    attack = make_attack("kuzina-linearised")
    jacobian = encoder_jacobian(model, x)
    noise = torch.randn(2, 1024, generator=generator("e"))
    e = attack._ascend(jacobian, noise)  # type: ignore[attr-defined]
    reached = (jacobian @ e[..., None])[..., 0].norm(dim=1)
    torch.testing.assert_close(reached, torch.linalg.svdvals(jacobian)[:, 0], rtol=0.01, atol=0)
