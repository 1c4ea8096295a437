"""Camuto's maximum-damage attack: its closed form, and draws that are fresh and a sample's own."""

from __future__ import annotations

import torch
from attack_cases import digits
from conftest import LinearBuilder
from linear_problems import COUNT, Plain

import genrobust
from genrobust.batch import Batch, Context
from genrobust.judges import Judge
from genrobust.objectives.draws import DrawnOutputDistance, FreshNoise


def test_camuto_finds_the_top_singular_direction(plain: Plain, linear_vae: LinearBuilder) -> None:
    eps = 0.2
    D = 0.2 * plain.D  # so that no reconstruction leaves the box
    model = linear_vae(plain.E, D)
    sigma = torch.linalg.svdvals(D @ plain.E)[0]
    found = genrobust.attack("camuto", model, plain.x, eps=eps, norm="l2")
    torch.testing.assert_close(-found.loss, (eps * sigma).expand(COUNT), rtol=0.01, atol=0)
    assert (-found.loss <= eps * sigma * (1 + 1e-4)).all()
    moved = (model.reconstruct(found.x_adv) - model.reconstruct(plain.x)).flatten(1)
    torch.testing.assert_close(moved.norm(dim=1), -found.loss, atol=1e-5, rtol=1e-3)


def test_camutos_published_draws_are_fresh_and_a_samples_own(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(3)
    context = Context(model, Batch(x, (5, 6, 7)))
    objective, again = DrawnOutputDistance(3), DrawnOutputDistance(3)
    with torch.no_grad():
        first, second = objective(x, context), objective(x, context)
        assert not torch.equal(first, second)
        part = context[torch.tensor([2, 0])]
        torch.testing.assert_close(again(x[[2, 0]], part), first[[2, 0]])
        torch.testing.assert_close(again(x[[2, 0]], part), second[[2, 0]])
        assert not torch.allclose(DrawnOutputDistance(4)(x, context), first)


def test_samples_with_one_id_get_one_noise(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    posterior = shipped[0].encode(digits(3))
    (drawn,) = FreshNoise(0)(posterior, (1, 2, 1))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
