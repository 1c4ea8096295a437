"""Adam on the image itself or on its tanh variable, projected after each step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.optimizers import tanh
from genrobust.optimizers.plateau import Plateau
from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel


def adam(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    learning_rate: float,
    *,
    in_tanh: bool = False,
    adjust: Callable[[Tensor], Tensor] | None = None,
    accumulate: bool = False,
    patience: int | None = None,
    free: bool = False,
    last: bool = False,
) -> Minimum:
    """Minimise inside the threat model.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W).
        threat: the ball and box around the sources.
        steps: gradients to take.
        learning_rate: Adam's, in pixel units; with ``in_tanh`` in units of w.
        in_tanh: search w with x = (tanh(w) + 1) / 2 in place of x.
        adjust: applied to the gradient with respect to the variable, (B, C, H, W), such as
            clipping.
        accumulate: never zero the gradient: each step takes the sum of all so far.
        patience: halve a sample's learning rate after more than so many steps without gain.
        free: search without the threat model; only the last iterate is projected, and returned.
        last: return the last iterate of each sample.

    Returns:
        The best iterate of each sample, by the whole loss; or the last.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> threat = genrobust.ThreatModel("linf", 0.1)
        >>> found = adam(problem, x, threat, 10, 0.02)
        >>> threat.check(found.x, x, "it")  # raises nothing: all are in ball and box
        >>> bool((found.loss < problem.loss(x)).all())
        True
    """
    project = threat.projector(problem.context.batch.x)
    x = project(start)
    minimum = Minimum(problem, x)
    variable = (tanh.from_image(x) if in_tanh else x).clone()
    optimizer = torch.optim.Adam([variable], lr=learning_rate)
    plateau = None if patience is None else Plateau(len(minimum.loss), x, learning_rate, patience)
    for _ in range(steps):
        loss, gradient = problem.gradient(x)
        minimum.update(problem.index, x, loss)
        if in_tanh:
            gradient = tanh.chain(variable, gradient)
        if adjust is not None:
            gradient = adjust(gradient)
        if accumulate and variable.grad is not None:
            gradient = gradient + variable.grad
        variable.grad = gradient
        before = variable.clone() if plateau is not None else variable
        optimizer.step()
        if plateau is not None:
            # Adam's step is proportional to its rate, and its moments do not depend on it.
            share = (plateau.rates[problem.index] / learning_rate).view(-1, *[1] * (x.ndim - 1))
            variable.copy_(before + share * (variable - before))
            plateau.update(problem.index, loss)
        x = tanh.to_image(variable) if in_tanh else variable
        if not free:
            x = project(x)
            variable.copy_(tanh.follow(variable, x) if in_tanh else x)
    if free:
        x = project(x)
    keep = minimum.replace if last or free else minimum.update
    keep(problem.index, x, problem.loss(x))
    return minimum
