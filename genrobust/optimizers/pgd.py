"""Projected gradient descent with a fixed step: FGSM, BIM and PGD are settings of it."""

from __future__ import annotations

from torch import Tensor

from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel


def pgd(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    step_size: float,
    *,
    last: bool = False,
) -> Minimum:
    """Step against the gradient's sign (L-infinity) or direction (L2), and project.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W), inside the threat model.
        threat: the ball and box around the sources.
        steps: gradients to take.
        step_size: in pixel units.
        last: return the last iterate of each sample.

    Returns:
        The best iterate of each sample, or the last.
    """
    source = problem.context.batch.x
    x = start
    minimum = Minimum(problem, x)
    for _ in range(steps):
        loss, gradient = problem.gradient(x)
        minimum.update(problem.index, x, loss)
        x = threat.project(x - step_size * steepest(gradient, threat), source)
    loss = problem.loss(x)
    if last:
        minimum.replace(problem.index, x, loss)
    else:
        minimum.update(problem.index, x, loss)
    return minimum


def steepest(gradient: Tensor, threat: ThreatModel) -> Tensor:
    """The change of norm 1 along which the loss rises most."""
    if threat.norm == "linf":
        return gradient.sign()
    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-20)
    return gradient / length.view(-1, *[1] * (gradient.ndim - 1))
