"""Kuzina's attacks on posteriors and PhotoGuard's on codes: closed forms, and as published."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from attack_cases import digits, given
from linear_problems import COUNT, Plain, close

import genrobust
from genrobust.batch import Batch, Context
from genrobust.judges import Judge
from genrobust.objectives.divergence import LatentWasserstein
from genrobust.objectives.kuzina import PosteriorMatch


@pytest.mark.parametrize("eps", [0.05, 0.15])
def test_posterior_attacks_reach_the_least_squares_optimum_in_the_ball(
    eps: float, plain: Plain
) -> None:
    plain.x[:, 0, 0, :2] = torch.tensor([0.0, 1.0])  # so that the source's range is the box
    best = plain.least(plain.E, plain.latent_gap, eps)
    assert (best > 0.01).any()
    run = lambda name, **settings: genrobust.attack(  # noqa: E731
        name, plain.model, plain.x, target=plain.target, eps=eps, **settings
    )
    # All posteriors have variance 1: both divergences are 1/2 ||m - m_t||^2. The problem is convex,
    # so that one start does as well as ten.
    close(run("kuzina", restarts=1, objective="means", steps=250).loss, best, atol=1e-4)
    for between in ("skl", "kl-forward", "kl-reverse") if eps == 0.05 else ():
        close(run("kuzina", restarts=1, objective=between, steps=250).loss, best / 2, atol=1e-4)
    supervised = run("kuzina-supervised", distance_weight=0.0, patience=20, steps=300)
    close(supervised.loss, best / 2, atol=1e-4)
    close(run("photoguard", steps=400).loss, best.sqrt(), atol=2e-3)


def test_photoguard_without_a_target_brings_the_code_to_zero(plain: Plain) -> None:
    best = plain.least(plain.E, -plain.x.flatten(1) @ plain.E.T, 0.1)
    found = genrobust.attack("photoguard", plain.model, plain.x, eps=0.1)
    close(found.loss, best.sqrt(), atol=2e-3)


def test_posteriors_are_matched_in_every_way(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(3)
    targeted = Context(model, Batch(x, (0, 1, 2), target_x=x.flip(0)))
    away = Context(model, Batch(x, (0, 1, 2)))
    x_adv = (x + 0.1).clamp(0, 1)
    with torch.no_grad():
        found, other, own = model.encode(x_adv), model.encode(x.flip(0)), model.encode(x)
        for between, distance in {
            "kl-forward": lambda r: r.kl(found),
            "kl-reverse": lambda r: found.kl(r),
            "skl": lambda r: 0.5 * (r.kl(found) + found.kl(r)),
            "means": lambda r: (r.vector() - found.vector()).norm(dim=1) ** 2,
        }.items():
            objective = PosteriorMatch(between)  # type: ignore[arg-type]
            torch.testing.assert_close(objective(x_adv, targeted), distance(other))
            torch.testing.assert_close(objective(x_adv, away), -distance(own))
        wasserstein = LatentWasserstein()
        torch.testing.assert_close(wasserstein(x_adv, targeted), found.wasserstein2(other))
        torch.testing.assert_close(wasserstein(x_adv, away), -found.wasserstein2(own))


def test_kuzinas_probe_attack_fools_a_linear_probe(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    from genrobust.metrics.latent import fit_probe

    model, judge = shipped
    arguments = given("targeted", judge)
    found = genrobust.attack(
        "kuzina", model, digits(COUNT), objective="clf", eps=0.3, steps=60, **arguments
    )
    with torch.no_grad():
        images, labels = arguments["references"]
        probe = fit_probe(model.encode(images).vector(), labels)
        chosen = probe.labels(model.encode(found.x_adv).vector())
    assert torch.equal(chosen, arguments["target_labels"])


# The published codes' own ways


def test_kuzina_supervised_as_published_searches_freely_and_returns_the_last(plain: Plain) -> None:
    x_adv = plain.x.clone().requires_grad_()
    optimizer = torch.optim.Adam([x_adv], lr=0.5)
    goal = plain.target.flatten(1) @ plain.E.T
    for _ in range(12):
        optimizer.zero_grad()
        length = ((x_adv - plain.x).flatten(1).square().sum(1) + 1e-24).sqrt()
        divergence = 0.5 * (x_adv.flatten(1) @ plain.E.T - goal).square().sum(1)
        (0.3 * length + divergence).sum().backward()
        optimizer.step()
    outside = x_adv.detach()
    assert float(outside.max()) > 1
    run = lambda **more: genrobust.attack(  # noqa: E731
        "kuzina-supervised", plain.model, plain.x, target=plain.target, eps=math.inf, steps=12,
        distance_weight=0.3, learning_rate=0.5, **more,
    )  # fmt: skip
    published, corrected = run(as_published=True), run()
    torch.testing.assert_close(published.x_adv, outside.clamp(0, 1), atol=1e-5, rtol=0)
    assert (corrected.loss <= published.loss).any()
    assert not torch.allclose(corrected.x_adv, published.x_adv, atol=1e-3)


@pytest.mark.parametrize("name", ["kuzina", "photoguard"])
def test_as_published_the_last_iterate_is_returned(
    name: str, shipped: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    more = {"restarts": 1, "learning_rate": 3.0} if name == "kuzina" else {"step_size": 0.2}
    run = lambda **also: genrobust.attack(  # noqa: E731
        name, shipped[0], digits(COUNT), target=digits(COUNT).flip(0), steps=5, **more, **also
    )
    published, corrected = run(as_published=True), run()
    assert (corrected.loss <= published.loss).all()
    assert (corrected.loss < published.loss).any()


def test_kuzinas_pixels_stay_in_the_sources_range(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    x = 0.3 + 0.4 * digits(2)
    found = genrobust.attack("kuzina", shipped[0], x, eps=0.2, steps=5, restarts=1)
    assert float(found.x_adv.min()) >= float(x.min())
    assert float(found.x_adv.max()) <= float(x.max())
    assert float((found.x_adv - x).abs().max()) > 0.1


def test_kuzina_takes_its_published_number_of_steps(plain: Plain) -> None:
    # A rate that never falls runs to the end.
    endless: dict[str, Any] = {"objective": "means", "smallest": 0.0}
    found = genrobust.attack("kuzina", plain.model, plain.x[:1], **endless)
    assert found.forwards.tolist() == [10 * 51]
    found = genrobust.attack("kuzina", plain.model, plain.x[:1], target=plain.target[:1], **endless)
    assert found.forwards.tolist() == [501]
