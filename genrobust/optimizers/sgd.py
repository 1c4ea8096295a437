"""Gradient descent whose step falls on a plateau, sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.optimizers.plateau import Plateau
from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel


def sgd(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    learning_rate: float,
    *,
    patience: int,
    smallest: float = 0.0,
    in_range: bool = False,
    last: bool = False,
) -> Minimum:
    """Step along the gradient itself, not its sign or direction, and project.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W).
        threat: the ball and box around the sources.
        steps: gradients to take, at most.
        learning_rate: the first, in pixel units a unit of the gradient.
        patience: a sample's learning rate is halved after more than so many steps without gain.
        smallest: a sample whose learning rate is below this is done.
        in_range: keep pixels between the source's darkest and brightest.
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
        >>> found = sgd(problem, x, threat, 10, 1.0, patience=2)
        >>> threat.check(found.x, x, "it")  # raises nothing: all are in ball and box
        >>> bool((found.loss < problem.loss(x)).all())
        True
    """

    def inside(x: Tensor, source: Tensor) -> Tensor:
        if in_range:
            dims = tuple(range(1, source.ndim))
            low, high = source.amin(dims, keepdim=True), source.amax(dims, keepdim=True)
            x = torch.minimum(torch.maximum(x, low), high)
        return threat.project(x, source)

    x = inside(start, problem.context.batch.x)
    minimum = Minimum(problem, x)
    plateau = Plateau(len(minimum.loss), x, learning_rate, patience)
    keep_iterate = minimum.replace if last else minimum.update
    for _ in range(steps):
        loss, gradient = problem.gradient(x)
        keep_iterate(problem.index, x, loss)
        rate = plateau.rates[problem.index].view(-1, *[1] * (x.ndim - 1))
        x = x - rate * gradient
        plateau.update(problem.index, loss)
        going = plateau.rates[problem.index] >= smallest
        if not going.all():
            problem, x = problem.narrow(going), x[going]
            if not len(x):
                return minimum
        x = inside(x, problem.context.batch.x)
    keep_iterate(problem.index, x, problem.loss(x))
    return minimum
