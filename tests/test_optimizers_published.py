"""What published attacks search with: penalties, variables and step rules, by hand or as torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from linear_problems import COUNT, Plain
from torch import Tensor, nn

from genrobust.batch import Batch, Context
from genrobust.optimizers import Minimum, Penalty, Problem, adam, lbfgsb, pgd, sgd, tanh
from genrobust.optimizers.plateau import Plateau
from genrobust.seeding import generator
from genrobust.threat import ThreatModel


def test_a_penalty_is_added_and_follows_its_samples(plain: Plain) -> None:
    context = Context(plain.model, plain.batch)
    weights = torch.tensor([0.0, 1.0, 2.0, 3.0])
    nothing: Callable[[Tensor, Context], Tensor] = lambda x_adv, _: 0 * x_adv.flatten(1).sum(1)  # noqa: E731
    problem = Problem.of(nothing, context, Penalty(weights, 2))
    x_adv = plain.x + 0.5
    torch.testing.assert_close(problem.loss(x_adv), weights * 4)
    torch.testing.assert_close(problem.penalised(Penalty(weights)).loss(x_adv), weights * 2)
    part = problem.narrow(torch.tensor([False, True, False, True]))
    loss, gradient = part.gradient(x_adv[[1, 3]])
    torch.testing.assert_close(loss, torch.tensor([4.0, 12.0]))
    torch.testing.assert_close(gradient[:, 0, 0, 0], torch.tensor([1.0, 3.0]))
    assert problem.penalised(None).loss(x_adv).tolist() == [0] * COUNT
    assert problem.forwards.tolist() == [3, 4, 3, 4]


def test_images_and_their_tanh_variables_belong_together() -> None:
    x = torch.rand(2, 1, 4, 4, generator=generator("x"))
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    w = tanh.from_image(x)
    assert w.isfinite().all()
    torch.testing.assert_close(tanh.to_image(w), x, atol=1e-6, rtol=0)
    leaf = w.clone().requires_grad_()
    tanh.to_image(leaf).sum().backward()
    torch.testing.assert_close(tanh.chain(w, torch.ones_like(w)), leaf.grad)
    moved = x.clone()
    moved[1] = 0.5
    followed = tanh.follow(w, moved)
    assert torch.equal(followed[0], w[0])
    assert followed[1].abs().max() < 1e-6


def test_a_minimum_can_be_told_to_keep_what_is_worse(plain: Plain) -> None:
    problem = Problem.of(
        lambda x_adv, _: x_adv.flatten(1).sum(1), Context(plain.model, plain.batch)
    )
    minimum = Minimum(problem, plain.x)
    minimum.update(problem.index, plain.x, torch.zeros(COUNT))
    minimum.update(problem.index, plain.x + 2, torch.zeros(COUNT))
    assert torch.equal(minimum.x, plain.x), "of two that are as good the first is kept"
    minimum.replace(torch.tensor([1]), plain.x[[1]] + 1, torch.tensor([5.0]))
    assert minimum.loss.tolist() == [0, 5, 0, 0]
    assert torch.equal(minimum.x[1], plain.x[1] + 1)


def test_an_l2_ball_is_searched_to_its_edge_by_lbfgsb(plain: Plain) -> None:
    row = 0.3 * torch.randn(16, generator=generator("row"))
    problem = Problem.of(lambda x_adv, _: x_adv.flatten(1) @ row, Context(plain.model, plain.batch))
    found = lbfgsb(problem, plain.x, ThreatModel("l2", 0.2))
    gained = plain.x.flatten(1) @ row - found.loss
    torch.testing.assert_close(gained, (0.2 * row.norm()).expand(COUNT), rtol=0.01, atol=0)


# Step rules


@pytest.mark.parametrize(
    ("losses", "rate"),
    [
        ([5.0, 4.0, 4.0, 4.0, 4.0, 3.0, 3.5, 3.5, 3.5, 3.5, 3.5, 3.5], 0.125),
        ([1000.0, 999.92, 999.92, 999.92], 0.5),  # lower, and by too little to count
        ([1000.0, 999.88, 999.88, 999.88], 1.0),
        ([0.0, 0.0, 0.0, 0.0], 0.5),
    ],
)
def test_plateau_halves_as_torch_does_and_each_sample_alone(
    losses: list[float], rate: float
) -> None:
    mine = Plateau(2, torch.zeros(2), 1.0, patience=2)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2, factor=0.5)
    for step, loss in enumerate(torch.tensor(losses)):
        mine.update(torch.tensor([1]), loss[None])
        optimizer.step()
        theirs.step(loss)
        assert mine.rates.tolist() == [1.0, optimizer.param_groups[0]["lr"]], step
    assert mine.rates[1] == rate


def test_sgd_steps_along_the_gradient_and_stops_when_its_rate_is_spent(plain: Plain) -> None:
    context = Context(plain.model, plain.batch)
    row = 0.01 * torch.randn(16, generator=generator("row"))
    threat = ThreatModel("linf", 0.3)
    problem = Problem.of(lambda x_adv, _: x_adv.flatten(1) @ row, context)
    found = sgd(problem, plain.x, threat, 3, 0.5, patience=5)
    wanted = threat.project(plain.x - 1.5 * row.view(1, 1, 4, 4), plain.x)
    torch.testing.assert_close(found.x, wanted)
    flat = Problem.of(lambda x_adv, _: 0 * x_adv.flatten(1).sum(1) + 1, context)
    found = sgd(flat, plain.x, threat, 100, 1.0, patience=0, smallest=0.125)
    # 1, then 1/2, 1/4, 1/8 and 1/16 after a step each without gain.
    assert flat.backwards.tolist() == [5] * COUNT
    assert torch.equal(found.x, plain.x)


def test_a_sample_whose_rate_is_spent_leaves_the_others_to_go_on(plain: Plain) -> None:
    def flat_for_the_first(x_adv: Tensor, context: Context) -> Tensor:
        falls = torch.tensor([float(i > 0) for i in context.batch.sample_ids])
        return falls * x_adv.flatten(1).sum(1)

    problem = Problem.of(flat_for_the_first, Context(plain.model, plain.batch))
    sgd(problem, plain.x, ThreatModel("linf", 0.3), 9, 0.01, patience=0, smallest=0.004)
    assert problem.backwards.tolist() == [3, *[9] * (COUNT - 1)]


def test_sgd_can_keep_pixels_between_a_sources_darkest_and_brightest(plain: Plain) -> None:
    x = 0.2 + 0.6 * torch.rand(2, 2, 4, 4, generator=generator("colours"))
    darkest = x.amin((1, 2, 3), keepdim=True).expand_as(x)
    problem = Problem.of(
        lambda x_adv, _: x_adv.flatten(1).sum(1), Context(plain.model, Batch(x, (0, 1)))
    )
    found = sgd(problem, x, ThreatModel("linf", 1.0), 3, 1.0, patience=9, in_range=True)
    assert torch.equal(found.x, darkest)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("in_tanh", [False, True])
def test_adam_is_torchs_from_one_projected_image_to_the_next(
    in_tanh: bool, accumulate: bool, plain: Plain
) -> None:
    """It turns at the ball's edge as soon as the gradient does."""
    context, eps = Context(plain.model, plain.batch), 0.1
    goal = plain.x + 0.12 * torch.randn(plain.x.shape, generator=generator("goal"))
    swings = torch.tensor([1.0, 1, 1, 1, -1, -1, 1, -1, 1, 1, -1, -1])
    calls: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        calls.append(x)
        return swings[len(calls) - 1] * (x - goal).square().flatten(1).sum(1)

    low, high = (plain.x - eps).clamp(0, 1), (plain.x + eps).clamp(0, 1)
    image = (lambda w: (torch.tanh(w) + 1) / 2) if in_tanh else lambda w: w
    variable = (torch.atanh(2 * plain.x - 1) if in_tanh else plain.x).clone().requires_grad_()
    optimizer = torch.optim.Adam([variable], lr=0.2 if in_tanh else 0.05)
    for _ in swings:
        if not accumulate:
            optimizer.zero_grad()
        loss(image(variable)).sum().backward()
        optimizer.step()
        with torch.no_grad():
            x = image(variable).clamp(low, high)
            moved = (x - image(variable)).abs() > 1e-6
            variable[moved] = (torch.atanh(2 * x - 1) if in_tanh else x)[moved]
    assert (x == low).any(), "the ball was left"
    assert (x != low).any()
    calls.clear()
    problem = Problem.of(lambda x_adv, _: loss(x_adv), context)
    how = {"in_tanh": in_tanh, "accumulate": accumulate, "last": True}
    swings = torch.cat([swings, torch.ones(1)])  # of the last look
    found = adam(problem, plain.x, ThreatModel("linf", eps), 12, 0.2 if in_tanh else 0.05, **how)
    torch.testing.assert_close(found.x, x, atol=1e-5, rtol=0)


def test_adam_with_patience_is_torchs_with_its_scheduler_for_each_sample(plain: Plain) -> None:
    both = torch.tensor([0, 1])
    context = Context(plain.model, plain.batch)[both]
    row = torch.randn(16, generator=generator("row"))
    loss = lambda x: (3 * (x.flatten(1) @ row) - 1).abs()  # noqa: E731
    wanted, rates = [], []
    for i in both:
        x = plain.x[i][None].clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.02)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
        for _ in range(15):
            optimizer.zero_grad()
            value = loss(x).sum()
            value.backward()
            optimizer.step()
            scheduler.step(value.detach())
        wanted.append(x.detach().clamp(0, 1))
        rates.append(optimizer.param_groups[0]["lr"])
    assert min(rates) < 0.01
    assert rates[0] != rates[1], "each has its own"
    problem = Problem.of(lambda x_adv, _: loss(x_adv), context)
    found = adam(problem, plain.x[both], ThreatModel("linf", 5.0), 15, 0.02, patience=1, free=True)
    torch.testing.assert_close(found.x, torch.cat(wanted), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("norm", "each"), [("linf", 1.0), ("l2", 0.25)])  # of 16 pixels
@pytest.mark.parametrize(
    ("how", "sizes"), [({"final_share": 0.0}, 1 + 0.75 + 0.5 + 0.25), ({}, 4.0)]
)
def test_pgds_steps_fall_evenly_or_stay(
    how: dict[str, float], sizes: float, norm: str, each: float, plain: Plain
) -> None:
    problem = Problem.of(
        lambda x_adv, _: x_adv.flatten(1).sum(1), Context(plain.model, plain.batch)
    )
    found = pgd(problem, plain.x, ThreatModel(norm, 0.25), 4, 0.04, **how)
    gone = 0.04 * each * sizes
    torch.testing.assert_close(found.x, plain.x - gone, atol=1e-6, rtol=0)
