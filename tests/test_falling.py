"""Steps that fall evenly: how long each is, who is done, and what the box keeps out of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import genrobust
from genrobust.batch import Batch, Context
from genrobust.optimizers import Problem, falling
from genrobust.threat import ThreatModel


def grey(count: int, level: float = 0.5) -> Context:
    batch = Batch(torch.full((count, 1, 32, 32), level), tuple(range(count)))
    return Context(genrobust.load_model("vae"), batch)


def darkness(x_adv: Tensor, context: Context) -> Tensor:
    """Lower where the image is lighter, from a height that is the sample's id."""
    height = torch.tensor([float(i) for i in context.batch.sample_ids])
    return height - x_adv.flatten(1).mean(1)


def distance(x_adv: Tensor, context: Context) -> Tensor:
    """From grey."""
    return (x_adv - 0.5).abs().flatten(1).mean(1)


@pytest.mark.parametrize(("steps", "moved"), [(1, 0.5), (2, 0.5 + 0.5 * (1 - 0.99 / 2)), (9, 1.0)])
def test_steps_fall_evenly_from_a_part_of_the_radius(steps: int, moved: float) -> None:
    problem = Problem.of(darkness, grey(1))
    x = problem.context.batch.x
    found = falling(problem, x, ThreatModel("linf", 0.1), steps, 0.5)
    torch.testing.assert_close(found.x - x, torch.full_like(x, 0.1 * moved), atol=1e-6, rtol=0)
    assert problem.backwards.tolist() == [steps]


def test_the_last_step_is_a_hundredth_of_the_first() -> None:
    """Of a loss that is least at the source, all steps but the last ones go too far."""
    problem = Problem.of(distance, grey(1))
    start = problem.context.batch.x + 0.03
    found = falling(problem, start, ThreatModel("linf", 0.1), 40, 1.0)
    assert 0 < float(found.loss) < 0.1 * (1 - 0.99 * 37 / 40)


def test_who_is_low_enough_is_done_at_the_next_look() -> None:
    problem = Problem.of(darkness, grey(3))
    x = problem.context.batch.x
    # From 0.5 below its id each falls by 0.1 at most: the first is done from the start, the second
    # once it has moved, the third never.
    falling(problem, x, ThreatModel("linf", 0.1), 20, 0.5, stop_below=0.45)
    assert problem.backwards.tolist() == [1, 5, 20]
    problem = Problem.of(darkness, grey(1))
    falling(problem, x[:1], ThreatModel("linf", 0.1), 20, 0.5, stop_below=-0.5)
    assert problem.backwards.tolist() == [5]  # at the limit itself nobody is done


@pytest.mark.parametrize(("norm", "share"), [("linf", 0.5), ("l2", 1.0)])
def test_the_first_step_is_half_of_a_radius_that_every_pixel_may_go(
    norm: str, share: float
) -> None:
    problem, threat = Problem.of(darkness, grey(1)), ThreatModel(norm, 0.1)
    x = problem.context.batch.x
    start = threat.project(x - 1, x)  # from the far end, so that the ball does not cut the step
    found = falling(problem, start, threat, 1)
    assert float(threat.distance(found.x, start)) == pytest.approx(0.1 * share, abs=1e-5)


def test_a_ball_wider_than_the_box_has_steps_as_long_as_the_box() -> None:
    problem = Problem.of(darkness, grey(1))
    found = falling(problem, problem.context.batch.x, ThreatModel("linf", math.inf), 5, 0.3)
    assert bool((found.x == 1).all())


def test_a_ball_wider_than_the_box_has_steps_as_long_as_from_end_to_end_of_it() -> None:
    """Under L2 that is the root of how many numbers an image has."""
    x, threat = torch.full((1, 3, 8, 8), 0.5), ThreatModel("l2", math.inf)
    problem = Problem.of(darkness, Context(genrobust.load_model("vae"), Batch(x, (0,))))
    found = falling(problem, x, threat, 1, 0.25)
    assert float(threat.distance(found.x, x)) == pytest.approx(0.25 * math.sqrt(192), abs=1e-4)


def test_no_length_is_spent_on_pixels_that_the_box_stops() -> None:
    x = torch.tensor([[[[0.0, 0.5, 1.0, 0.0, 1.0]]]])
    gradient = torch.tensor([[[[4.0, 3.0, -2.0, -4.0, 0.0]]]])
    found = ThreatModel("l2", 1.0).steepest(gradient, x)
    torch.testing.assert_close(found, torch.tensor([[[[0.0, 0.6, 0.0, -0.8, 0.0]]]]))
    found = ThreatModel("linf", 1.0).steepest(gradient, x)
    torch.testing.assert_close(found, gradient.sign())
