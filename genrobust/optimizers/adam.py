"""Adam on the image itself, projected after each step: how the thesis' attack searches."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.distance import euclidean
from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel


def adam(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    learning_rate: float,
    distance_weight: float = 0.0,
) -> Minimum:
    """Minimise distance_weight * ||x_adv - x||_2 + loss inside the threat model.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W).
        threat: the ball and box around the sources.
        steps: gradients to take.
        learning_rate: Adam's, in pixel units.
        distance_weight: the weight of the Euclidean length of the change (not squared).

    Returns:
        The best iterate of each sample, by the whole loss.
    """
    source = problem.context.batch.x
    x = threat.project(start, source).clone().requires_grad_()
    minimum = Minimum(problem, x.detach())
    optimizer = torch.optim.Adam([x], lr=learning_rate)
    for _ in range(steps):
        loss, gradient = problem.gradient(x)
        with torch.enable_grad():
            change = distance_weight * euclidean(x, source)
            (shrink,) = torch.autograd.grad(change.sum(), x)
        minimum.update(problem.index, x.detach(), loss + change.detach())
        x.grad = gradient + shrink
        optimizer.step()
        with torch.no_grad():
            x.copy_(threat.project(x, source))
    final = problem.loss(x.detach()) + distance_weight * euclidean(x, source).detach()
    minimum.update(problem.index, x.detach(), final)
    return minimum
