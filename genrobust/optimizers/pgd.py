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
    """Step against the norm's steepest direction, such as the gradient's sign, and project.

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

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> threat = genrobust.ThreatModel("linf", 0.1)
        >>> found = pgd(problem, x, threat, 10, 0.02)
        >>> threat.check(found.x, x, "it")  # raises nothing: all are in ball and box
        >>> bool((found.loss < problem.loss(x)).all())
        True
    """
    project = threat.projector(problem.context.batch.x)
    x = start
    minimum = Minimum(problem, x)
    for k in range(steps):
        loss, gradient = problem.gradient(x)
        minimum.update(problem.index, x, loss)
        size = step_size * (1 - (1 - final_share) * k / steps)
        x = project(x - size * threat.norm.steepest(gradient, x))
    keep = minimum.replace if last else minimum.update
    keep(problem.index, x, problem.loss(x))
    return minimum
