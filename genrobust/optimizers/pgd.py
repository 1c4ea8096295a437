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
    final_share: float = 1.0,
    last: bool = False,
) -> Minimum:
    """Step against the gradient's sign (L-infinity) or direction (L2), and project.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W), inside the threat model.
        threat: the ball and box around the sources.
        steps: gradients to take.
        step_size: the first, in pixel units.
        final_share: of it, to which steps fall evenly; 1 leaves them as they are.
        last: return the last iterate of each sample.

    Returns:
        The best iterate of each sample, or the last.
    """
    source = problem.context.batch.x
    x = start
    minimum = Minimum(problem, x)
    for k in range(steps):
        loss, gradient = problem.gradient(x)
        minimum.update(problem.index, x, loss)
        size = step_size * (1 - (1 - final_share) * k / steps)
        x = threat.project(x - size * steepest(gradient, threat), source)
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
