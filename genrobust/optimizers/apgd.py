"""Projected gradient descent with momentum and a step size that adapts to each sample.

Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", Algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.optimizers.problem import Minimum, Problem
from genrobust.threat import ThreatModel

MOMENTUM = 0.75
SUFFICIENT = 0.75
#: Steps between two looks at who is done, each of which a device waits for.
LOOK = 3


def apgd(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    stop_below: float | None = None,
    patience: float | None = None,
) -> Minimum:
    """Minimise inside the threat model; at checkpoints, halve step sizes that no longer pay.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W), inside the threat model.
        threat: the ball and box around the sources.
        steps: gradients to take.
        stop_below: a sample whose loss is below this at a checkpoint is done.
        patience: a sample is given up at a checkpoint where this many times the pace since the
            one before would not bring its loss to 0 in the steps left, and one that is done
            leaves within a few steps; None: neither.

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
        >>> found = apgd(problem, x, threat, 10)
        >>> threat.check(found.x, x, "it")  # raises nothing: all are in ball and box
        >>> bool((found.loss < problem.loss(x)).all())
        True
    """
    minimum = Minimum(problem, start)
    project = threat.projector(problem.context.batch.x)
    x, previous = start, start
    step = torch.full((len(start),), 2 * threat.eps, device=start.device)
    loss, gradient = problem.gradient(x)
    minimum.update(problem.index, x, loss)
    best_gradient = gradient
    improved = torch.zeros_like(step)
    best_before, halved_before = loss, torch.zeros_like(step, dtype=torch.bool)
    checkpoints = _checkpoints(steps)
    last = 0
    for k in range(1, steps):
        moved = project(x - _scale(step, threat.steepest(gradient, x)))
        if k > 1:
            # x + a (moved - x) + (1 - a) (x - previous), in place: fresh memory costs more.
            drift = (x - previous).mul_(1 - MOMENTUM)
            moved = project((moved - x).mul_(MOMENTUM).add_(x).add_(drift))
        x, previous = moved, x
        before = loss
        loss, gradient = problem.gradient(x)
        improved += loss < before
        better = loss < minimum.loss[problem.index]
        best_gradient = torch.where(_like(better, x), gradient, best_gradient)
        minimum.update(problem.index, x, loss)
        checks, looks = k in checkpoints, patience is not None and k % LOOK == 0
        if not (checks or looks):
            continue
        best = minimum.loss[problem.index]
        keep = torch.ones_like(halved_before) if stop_below is None else best >= stop_below
        if checks:
            halve = (improved < SUFFICIENT * (k - last)) | (~halved_before & (best >= best_before))
            step = torch.where(halve, step / 2, step)
            # A halved sample goes on from its best iterate.
            x = torch.where(_like(halve, x), minimum.x[problem.index], x)
            previous = torch.where(_like(halve, x), x, previous)
            gradient = torch.where(_like(halve, x), best_gradient, gradient)
            loss = torch.where(halve, best, loss)
            if patience is not None:
                pace = (best_before - best) / (k - last)
                keep &= best <= patience * pace * (steps - 1 - k)
            best_before, halved_before, improved, last = best, halve, torch.zeros_like(improved), k
        if not keep.all():
            problem = problem.narrow(keep)
            if not len(problem.index):
                break
            project = threat.projector(problem.context.batch.x)
            x, previous, step = x[keep], previous[keep], step[keep]
            improved, best_before = improved[keep], best_before[keep]
            halved_before, loss = halved_before[keep], loss[keep]
            gradient, best_gradient = gradient[keep], best_gradient[keep]
    return minimum


def _checkpoints(steps: int) -> frozenset[int]:
    """The paper's schedule: p_0 = 0, p_1 = 0.22, p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)."""
    shares, gap = [0.22], 0.22
    while shares[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        shares.append(shares[-1] + gap)
    return frozenset(max(1, round(share * steps)) for share in shares)


def _scale(step: Tensor, direction: Tensor) -> Tensor:
    return _like(step, direction) * direction


def _like(per_sample: Tensor, images: Tensor) -> Tensor:
    return per_sample.view(-1, *[1] * (images.ndim - 1))
