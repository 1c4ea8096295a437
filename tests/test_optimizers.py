"""Optimizers on losses whose minimum inside the threat model has a closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import torch
from conftest import LinearBuilder
from torch import Tensor

import genrobust
from genrobust.batch import Batch, Context
from genrobust.norms import NORMS
from genrobust.optimizers import Minimum, Penalty, Problem, adam, apgd, pgd, sgd
from genrobust.seeding import generator
from genrobust.threat import ThreatModel

COUNT = 6


class Linear:
    """<w, D E x> + a constant a sample; it counts its own calls."""

    def __init__(self, weights: Tensor, constants: Tensor | None = None) -> None:
        self.weights, self.constants = weights, constants
        self.forwards: dict[int, int] = dict.fromkeys(range(COUNT), 0)
        self.backwards: dict[int, int] = dict.fromkeys(range(COUNT), 0)

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        ids = context.batch.sample_ids
        for i in ids:
            self.forwards[i] += 1

        def count(gradient: Tensor) -> None:
            for i in ids:
                self.backwards[i] += 1

        if x_adv.requires_grad:
            x_adv.register_hook(count)
        loss = (context.model.reconstruct(x_adv).flatten(1) - 0.5) @ self.weights.to(x_adv)
        return loss if self.constants is None else loss + self.constants[list(ids)]


@pytest.fixture
def slope() -> Tensor:
    """The gradient of ``Linear`` with respect to the image."""
    return _decoder().matmul(_encoder()).T @ _weights()


def _encoder() -> Tensor:
    return 0.1 * torch.randn(5, 16, generator=generator("E"))


def _decoder() -> Tensor:
    return 0.1 * torch.randn(16, 5, generator=generator("D"))


def _weights() -> Tensor:
    return torch.randn(16, generator=generator("w"))


@pytest.fixture
def model(linear_vae: LinearBuilder) -> genrobust.GenerativeModel:
    return linear_vae(_encoder(), _decoder())


def sources(low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))


def problem(
    model: genrobust.GenerativeModel,
    x: Tensor,
    constants: Tensor | None = None,
    penalty: Penalty | None = None,
) -> Problem:
    batch = Batch(x, tuple(range(len(x))))
    return Problem.of(Linear(_weights(), constants), Context(model, batch), penalty)


def start_of(x: Tensor, threat: ThreatModel) -> Tensor:
    return threat.random_start(x, range(len(x)), seed=0)


# The closed form


@pytest.mark.parametrize("eps", [0.03, 0.3])
def test_apgd_finds_the_worst_linf_change_where_the_box_cuts_the_ball(
    eps: float, model: genrobust.GenerativeModel, slope: Tensor
) -> None:
    x, threat = sources(0, 1), ThreatModel("linf", eps)
    found = apgd(problem(model, x), start_of(x, threat), threat, steps=30)
    worst = (x.flatten(1) - eps * slope.sign()).clamp(0, 1) @ slope
    gain = x.flatten(1) @ slope - worst
    assert ((found.loss - worst).abs() <= 0.01 * gain).all()


def test_apgd_finds_the_worst_l2_change_inside_the_box(
    model: genrobust.GenerativeModel, slope: Tensor
) -> None:
    x, threat = sources(0.4, 0.6), ThreatModel("l2", 0.3)
    found = apgd(problem(model, x), start_of(x, threat), threat, steps=50)
    gain = x.flatten(1) @ slope - found.loss
    torch.testing.assert_close(gain, (0.3 * slope.norm()).expand(COUNT), rtol=0.01, atol=0)


def test_apgd_comes_near_the_worst_l2_change_where_the_box_cuts_the_ball(
    model: genrobust.GenerativeModel, slope: Tensor
) -> None:
    x, threat = sources(0, 1), ThreatModel("l2", 1.0)
    found = apgd(problem(model, x), start_of(x, threat), threat, steps=100)
    for i in range(COUNT):
        source, g = x[i].flatten().double().numpy(), slope.double().numpy()

        # For each multiplier the best change is clipped; the multiplier makes it of length eps.
        def change(step: float, source=source, g=g):  # type: ignore[no-untyped-def]
            return np.clip(source - step * g, 0, 1) - source

        def surplus(step: float, change=change) -> float:  # type: ignore[no-untyped-def]
            return float(np.linalg.norm(change(step)) - 1.0)

        best = change(scipy.optimize.brentq(surplus, 0, 1e4)) @ g
        ours = float(found.loss[i]) - float(x[i].flatten() @ slope)
        assert best - 1e-5 <= ours <= 0.95 * best


def test_adam_reaches_the_worst_linf_change_too(
    model: genrobust.GenerativeModel, slope: Tensor
) -> None:
    x, threat = sources(0, 1), ThreatModel("linf", 0.1)
    found = adam(problem(model, x), x, threat, steps=100, learning_rate=0.02)
    worst = (x.flatten(1) - 0.1 * slope.sign()).clamp(0, 1) @ slope
    torch.testing.assert_close(found.loss, worst, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [3.0, 0.6, 0.2])
def test_adam_weighs_the_length_of_the_change_against_the_loss(
    share: float, model: genrobust.GenerativeModel, slope: Tensor
) -> None:
    x, threat, weight = sources(0.4, 0.6), ThreatModel("linf", 0.1), share * float(slope.norm())
    of = problem(model, x, penalty=Penalty(weight))
    found = adam(of, start_of(x, threat), threat, 400, 2e-3)
    g = slope.double().numpy()

    def whole(change: np.ndarray) -> float:  # type: ignore[type-arg]
        return float(g @ change + weight * np.sqrt(change @ change + 1e-20))

    best = scipy.optimize.minimize(whole, -0.05 * np.sign(g), bounds=[(-0.1, 0.1)] * 16).fun
    ours = found.loss - x.flatten(1) @ slope
    assert (ours >= best - 1e-4).all()
    assert (ours <= best + 0.03 * 0.1 * float(slope.abs().sum())).all()
    assert share < 1 or (threat.distance(found.x, x) < 0.01).all()


@pytest.mark.parametrize("norm", NORMS.names())
def test_apgd_shortens_its_steps_to_settle_in_a_narrow_valley(
    norm: str, model: genrobust.GenerativeModel
) -> None:
    x = torch.full((COUNT, 1, 4, 4), 0.5)
    threat = ThreatModel(norm, 0.3 if norm == "linf" else 1.2)
    bottom = x + 0.15 * (2 * sources(0, 1) - 1)
    curvature = torch.logspace(0, 1.5, 16).view(1, 4, 4)

    def valley(x_adv: Tensor, context: Context) -> Tensor:
        return (curvature * (x_adv - bottom) ** 2).flatten(1).sum(1)

    of = Problem.of(valley, Context(model, Batch(x, tuple(range(COUNT)))))
    start = start_of(x, threat)
    found = apgd(of, start, threat, steps=100)
    assert (found.loss < 2e-3 * valley(start, of.context)).all()


def algorithm_1(
    loss: Callable[[Tensor], Tensor], source: Tensor, x: Tensor, threat: ThreatModel
) -> tuple[float, Tensor]:
    """One image, 100 steps, as Croce & Hein 2020 print it, with their checkpoints in figures.

    Choices of our own: a search that goes back to its best point arrives there at rest, and a step
    of some length is not spent on pixels that are at the end of their range already.
    """

    def slope_at(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x), x)
        if threat.norm.name == "linf":
            return gradient.sign()
        free = torch.where((x - gradient.sign()).clamp(0, 1) == x, 0, gradient)
        return free / free.norm()

    def inside(x: Tensor) -> Tensor:
        return threat.project(x, source)

    step, before = 2 * threat.eps, x
    best, lowest = x, float(loss(x))
    step_then, lowest_then, fell = step, lowest, []
    for k in range(1, 100):
        z = inside(x - step * slope_at(x))
        after = z if k == 1 else inside(x + 0.75 * (z - x) + 0.25 * (x - before))
        before, x = x, after
        fell.append(bool(loss(x) < loss(before)))
        if float(loss(x)) < lowest:
            best, lowest = x, float(loss(x))
        if k in (22, 41, 57, 70, 80, 87, 93, 99):
            rarely = sum(fell) < 0.75 * len(fell)
            stuck = step == step_then and lowest == lowest_then
            step_then, lowest_then, fell = step, lowest, []
            if rarely or stuck:
                step, x, before = step / 2, best, best
    return lowest, best


@pytest.mark.parametrize("norm", NORMS.names())
def test_apgd_walks_as_the_papers_algorithm_does(
    norm: str, model: genrobust.GenerativeModel
) -> None:
    first, second = (torch.randn(16, 16, generator=generator(key)).double() for key in "ab")

    def rugged(x_adv: Tensor) -> Tensor:
        return ((x_adv.flatten(1) @ first).sin() @ second).square().sum(1)

    x = sources(0, 1).double()
    threat = ThreatModel(norm, 0.125 if norm == "linf" else 0.5)  # exact in any precision
    start = start_of(x, threat)
    context = Context(model, Batch(x, tuple(range(COUNT))))
    found = apgd(Problem.of(lambda x_adv, _: rugged(x_adv), context), start, threat, steps=100)
    for i in range(COUNT):
        lowest, best = algorithm_1(rugged, x[i : i + 1], start[i : i + 1], threat)
        assert float(found.loss[i]) == pytest.approx(lowest, rel=1e-6)
        torch.testing.assert_close(found.x[i : i + 1], best, atol=1e-5, rtol=0)


def test_a_step_size_that_was_just_halved_is_given_time_until_the_checkpoint_after_next() -> None:
    """A loss that falls at each step, and never below where it was at first, is no gain: steps are
    halved, and the search is back at its start, at every second checkpoint."""
    x, threat = torch.full((1, 1, 1, 1), 0.5), ThreatModel("linf", 0.25)
    seen: list[float] = []

    def promising(x_adv: Tensor, context: Context) -> Tensor:
        seen.append(float(x_adv.detach()))
        height = 1000.0 - len(seen) if len(seen) > 1 else 0.0
        return height + (x_adv - x_adv.detach()).flatten(1).sum(1)

    context = Context(genrobust.load_model("vae"), Batch(x, (0,)))
    apgd(Problem.of(promising, context), x, threat, steps=100)
    gone = [(0.5 - place) / 0.25 for place in seen]
    after = {k: gone[k + 1] for k in (22, 41, 57, 70, 80, 87, 93)}
    # From rest a step goes three quarters of its way; between, the search reaches the ball's end.
    assert after == {22: 0.75, 41: 1, 57: 0.375, 70: 1, 80: 0.1875, 87: 1, 93: 0.09375}


def test_a_loss_that_stays_as_it_is_is_no_gain() -> None:
    """Steps are halved, and the search is back at its start with the slope there, each time."""
    x, threat = torch.full((1, 1, 1, 1), 0.5), ThreatModel("linf", 0.25)
    seen: list[float] = []

    def level(x_adv: Tensor, context: Context) -> Tensor:
        seen.append(float(x_adv.detach()))
        slope = 1 if seen[-1] == 0.5 else -1
        return slope * (x_adv - x_adv.detach()).flatten(1).sum(1)

    context = Context(genrobust.load_model("vae"), Batch(x, (0,)))
    apgd(Problem.of(level, context), x, threat, steps=100)
    after = [(0.5 - seen[k + 1]) / 0.25 for k in (22, 41, 57, 70, 80, 87, 93)]
    assert after == [0.75 / 2**i for i in range(7)]
    seen.clear()
    apgd(Problem.of(level, context), x, threat, steps=4)  # looks after 0.88, 1.64 and 2.28 steps
    assert [(0.5 - place) / 0.25 for place in seen] == [0, 1, 0.75, 0.375]


# What is kept


@pytest.mark.parametrize("norm", NORMS.names())
def test_the_best_iterate_is_kept_on_a_jagged_loss(
    norm: str, model: genrobust.GenerativeModel
) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def jagged(x_adv: Tensor, context: Context) -> Tensor:
        loss = (300 * x_adv).sin().flatten(1).sum(1)
        seen.append((x_adv.detach().clone(), loss.detach().clone()))
        return loss

    x, threat = sources(0, 1), ThreatModel(norm, 0.1)
    context = Context(model, Batch(x, tuple(range(COUNT))))
    start = start_of(x, threat)
    for search, last in (
        (partial(apgd, steps=20), False),
        (partial(pgd, steps=20, step_size=0.03), False),
        (partial(pgd, steps=20, step_size=0.03, last=True), True),
        (partial(adam, steps=20, learning_rate=0.05), False),
        (partial(adam, steps=20, learning_rate=0.05, last=True), True),
        (partial(sgd, steps=20, learning_rate=0.001, patience=99), False),
        (partial(sgd, steps=20, learning_rate=0.001, patience=99, last=True), True),
    ):
        seen.clear()
        found = search(Problem.of(jagged, context), start, threat)
        losses = torch.stack([loss for _, loss in seen])
        kept = torch.full((COUNT,), len(seen) - 1) if last else losses.argmin(0)
        each = torch.arange(COUNT)
        torch.testing.assert_close(found.loss, losses[kept, each])
        torch.testing.assert_close(found.x, torch.stack([one for one, _ in seen])[kept, each])
        assert (found.loss > losses.amin(0)).any() == last, "the last is not the best by chance"
        threat.check(found.x, x, "the search")


def test_iterates_with_a_nan_loss_are_never_the_best(model: genrobust.GenerativeModel) -> None:
    def half_defined(x_adv: Tensor, context: Context) -> Tensor:
        total = (x_adv - context.batch.x).flatten(1).sum(1)
        return torch.where(total < -0.1, torch.nan * total, total)

    half_defined.__module__ = genrobust.__name__  # as one of ours, which is called as it is
    x, threat = sources(0.4, 0.6), ThreatModel("linf", 0.1)
    context = Context(model, Batch(x, tuple(range(COUNT))))
    found = apgd(Problem.of(half_defined, context), x, threat, steps=20)
    assert found.loss.isfinite().all()
    assert (found.loss <= 0).all()
    threat.check(found.x, x, "the search")


def test_merging_keeps_the_better_of_each_sample(model: genrobust.GenerativeModel) -> None:
    x = sources(0, 1)
    of = problem(model, x)
    a, b = Minimum(of, x), Minimum(of, x)
    everyone = torch.arange(COUNT)
    a.update(everyone, x, torch.tensor([1.0, 2, 3, 4, 5, 6]))
    b.update(everyone, x + 1, torch.tensor([6.0, 5, 4, 3, 2, torch.nan]))
    a.merge(b)
    assert a.loss.tolist() == [1, 2, 3, 3, 2, 6]
    assert torch.equal(a.x[:3], x[:3])
    assert torch.equal(a.x[3:5], x[3:5] + 1)


# What it costs


@pytest.mark.parametrize("norm", NORMS.names())
@pytest.mark.parametrize("steps", [1, 2, 9, 40, 100])
def test_apgd_takes_as_many_gradients_as_it_is_told_and_counts_them(
    norm: str, steps: int, model: genrobust.GenerativeModel
) -> None:
    x, threat = sources(0, 1), ThreatModel(norm, 0.2)
    of = problem(model, x)
    apgd(of, start_of(x, threat), threat, steps)
    assert of.forwards.tolist() == of.backwards.tolist() == [steps] * COUNT
    assert list(of.objective.forwards.values()) == of.forwards.tolist()  # type: ignore[attr-defined]
    assert list(of.objective.backwards.values()) == of.backwards.tolist()  # type: ignore[attr-defined]


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_adam_takes_its_steps_and_one_look_at_the_end(
    steps: int, model: genrobust.GenerativeModel
) -> None:
    x, threat = sources(0, 1), ThreatModel("linf", 0.2)
    of = problem(model, x, penalty=Penalty(1.0))
    adam(of, x, threat, steps, learning_rate=0.01)
    assert of.forwards.tolist() == list(of.objective.forwards.values()) == [steps + 1] * COUNT  # type: ignore[attr-defined]
    assert of.backwards.tolist() == list(of.objective.backwards.values()) == [steps] * COUNT  # type: ignore[attr-defined]


def test_samples_below_the_stop_are_dropped_and_the_others_searched_on(
    model: genrobust.GenerativeModel,
) -> None:
    x, threat = sources(0, 1), ThreatModel("linf", 0.2)
    hard = torch.tensor([False, True, False, True, True, False])
    of = problem(model, x, constants=torch.where(hard, 100.0, -100.0))
    found = apgd(of, start_of(x, threat), threat, steps=50, stop_below=0.0)
    assert (of.forwards[hard] == 50).all()
    assert (of.forwards[~hard] < 20).all()
    assert list(of.objective.forwards.values()) == of.forwards.tolist()  # type: ignore[attr-defined]
    assert torch.equal(found.loss < 0, ~hard)

    level = problem(model, x)
    still = replace(level, objective=lambda x_adv, _: 0 * x_adv.flatten(1).sum(1))
    apgd(still, start_of(x, threat), threat, steps=50, stop_below=0.0)
    assert (level.forwards == 50).all(), "on the line is not below it"

    plain = apgd(problem(model, x), start_of(x, threat), threat, steps=50)
    torch.testing.assert_close(found.loss[hard] - 100, plain.loss[hard], atol=2e-5, rtol=0)
    torch.testing.assert_close(found.x[hard], plain.x[hard])


def gradients_taken(fall: Callable[[int], float], **how: Any) -> int:
    """Of 50, by a search whose loss after so many steps is that, wherever it goes."""
    seen: list[float] = []

    def scripted(x_adv: Tensor, context: Context) -> Tensor:
        seen.append(fall(len(seen)))
        return seen[-1] + 0 * x_adv.flatten(1).sum(1)

    x = torch.full((1, 1, 1, 1), 0.5)
    context = Context(genrobust.load_model("vae"), Batch(x, (0,)))
    apgd(Problem.of(scripted, context), x, ThreatModel("linf", 0.25), steps=50, **how)
    return len(seen)


@pytest.mark.parametrize(
    ("patience", "loss", "taken"),
    [(1.0, 49.0, 50), (1.0, 49.5, 12), (2.0, 87.0, 21), (2.0, 87.5, 12), (None, 500.0, 50)],
)
def test_a_loss_whose_pace_does_not_reach_0_is_given_up_at_a_checkpoint(
    patience: float | None, loss: float, taken: int
) -> None:
    """It falls by 1 a step; at the first checkpoint, 11, 38 steps are left, and at 20, 29."""
    assert gradients_taken(lambda k: loss - k, patience=patience) == taken


@pytest.mark.parametrize(("loss", "taken"), [(30.0, 50), (30.5, 21)])
def test_the_pace_is_that_since_the_checkpoint_before(loss: float, taken: int) -> None:
    """By 1 a step up to the first checkpoint, and by a half from there to the second."""
    fall = partial(np.interp, xp=[0, 11, 20, 50], fp=[0, 11, 15.5, 45.5])
    assert gradients_taken(lambda k: loss - float(fall(k)), patience=1.0) == taken


def test_with_patience_what_is_done_leaves_within_three_steps() -> None:
    for fell, taken in ((3, 4), (4, 7), (6, 7)):
        how = {"stop_below": 0.0, "patience": 9.0}
        assert gradients_taken(lambda k, fell=fell: 1.0 - 2 * (k >= fell), **how) == taken
    assert gradients_taken(lambda k: 1.0 - 2 * (k >= 4), stop_below=0.0) == 12
    assert gradients_taken(lambda k: 1.0 - 2 * (k >= 4), patience=9.0) == 50


@pytest.mark.parametrize("norm", NORMS.names())
def test_eps_0_leaves_the_images_alone(norm: str, model: genrobust.GenerativeModel) -> None:
    x, threat = sources(0, 1), ThreatModel(norm, 0.0)
    assert torch.equal(apgd(problem(model, x), x, threat, steps=10).x, x)
    assert torch.equal(adam(problem(model, x), x, threat, 10, learning_rate=0.1).x, x)


@pytest.mark.parametrize("norm", NORMS.names())
def test_a_loss_without_slope_ends_inside_the_threat_model(
    norm: str, model: genrobust.GenerativeModel
) -> None:
    x, threat = sources(0, 1), ThreatModel(norm, 0.1)
    context = Context(model, Batch(x, tuple(range(COUNT))))
    flat = lambda x_adv, context: 0 * x_adv.flatten(1).sum(1)  # noqa: E731
    of, penalised = Problem.of(flat, context), Problem.of(flat, context, Penalty(1.0))
    for found in (
        apgd(of, start_of(x, threat), threat, steps=10),
        adam(penalised, start_of(x, threat), threat, 10, learning_rate=0.1),
    ):
        threat.check(found.x, x, "the search")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_loss_in_another_precision_than_the_images_is_fine(
    dtype: torch.dtype, model: genrobust.GenerativeModel
) -> None:
    x, threat = sources(0.4, 0.6), ThreatModel("linf", 0.1)
    context = Context(model, Batch(x, tuple(range(COUNT))))
    total = lambda x_adv, context: x_adv.to(dtype).flatten(1).sum(1)  # noqa: E731
    of, penalised = Problem.of(total, context), Problem.of(total, context, Penalty(0.1))
    for found in (
        apgd(of, x, threat, steps=10),
        adam(penalised, x, threat, steps=50, learning_rate=0.02),
    ):
        assert found.x.dtype == torch.float32
        torch.testing.assert_close(found.x, x - 0.1, atol=1e-3, rtol=0)
