"""Projected gradient descent by steps that fall evenly from a part of the radius to next to none.

The search of Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks".
With few gradients to spend it finds more than adaptive PGD, which halves a step only once it has
failed, and so does it on pictures of thousands of numbers, where adaptive PGD halves too soon.
"""

from __future__ import annotations

from torch import Tensor

from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel

#: The last step, as a part of the first.
FINAL = 0.01
#: Steps between two looks at who is done, each of which a device waits for.
LOOK = 4


def falling(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    first: float | None = None,
    stop_below: float | None = None,
) -> Minimum:
    """Step against the norm's steepest direction by less and less, and project.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W), inside the threat model.
        threat: the ball and box around the sources.
        steps: gradients to take.
        first: the first step, as a part of the radius; None: half of it where the ball is a box, of
            which it moves every pixel by that, else all of it.
        stop_below: a sample whose loss is below this is done within a few steps.

    Returns:
        The best iterate of each sample.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> threat = genrobust.ThreatModel("linf", 0.1)
        >>> found = falling(problem, x, threat, 10)
        >>> threat.check(found.x, x, "it")  # raises nothing: all are in ball and box
        >>> bool((found.loss < problem.loss(x)).all())
        True
    """
    minimum = Minimum(problem, start)
    project = threat.projector(problem.context.batch.x)
    radius = min(threat.eps, threat.norm.reach(start.shape[1:].numel()))
    if first is None:
        first = 0.5 if threat.norm.is_box else 1.0
    x = start
    for k in range(steps):
        loss, gradient = problem.gradient(x)
        minimum.update(problem.index, x, loss)
        if stop_below is not None and k % LOOK == 0:
            keep = minimum.loss[problem.index] >= stop_below
            if not keep.any():
                return minimum
            if not keep.all():
                problem, x, gradient = problem.narrow(keep), x[keep], gradient[keep]
                project = threat.projector(problem.context.batch.x)
        size = first * radius * (1 - (1 - FINAL) * k / steps)
        x = project(x - size * threat.steepest(gradient, x))
    minimum.update(problem.index, x, problem.loss(x))
    return minimum
