"""Descent under a radius that adapts to each sample: it ends close to the nearest success.

Pintor, Roli, Brendel & Biggio 2021, "Fast minimum-norm adversarial attacks through adaptive norm
constraints", Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.norms import L2
from genrobust.optimizers.problem import Problem
from genrobust.threat import ThreatModel

#: Shares of the first step size, and the value of gamma, that the last step has.
FINAL_STEP, FINAL_GAMMA = 0.01, 0.001

#: Steps are unit vectors times their size under every norm.
_EUCLIDEAN = L2()


def fmn(
    problem: Problem,
    start: Tensor,
    threat: ThreatModel,
    steps: int,
    visit: Callable[[Tensor], Tensor],
    *,
    step_size: float,
    gamma: float,
    below: float = 0.0,
    within: Tensor | None = None,
) -> None:
    """Shrink a sample's radius after each success and let it grow after each failure.

    Until a sample's first success, its radius is where its loss would be ``below`` if the loss
    were linear.

    Args:
        problem: the loss, and the samples to search.
        start: their first iterates, (B, C, H, W), inside the threat model.
        threat: the norm, the largest radius and the box.
        steps: gradients to take.
        visit: called with every iterate, (B, C, H, W); says which of them are successes, (B,)
            bool, and keeps what it wants to keep.
        step_size: Euclidean length of the first step, in pixel units; later ones are shorter.
        gamma: by which share a radius changes at first; later by less.
        below: the loss at which a success is expected.
        within: a largest radius for each sample, (B,), besides the threat model's.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> from genrobust.objectives.latent import LatentDistance
        >>> vae, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> context = Context(vae, Batch(x, (0, 1), target_x=x.flip(0)))
        >>> problem = Problem.of(LatentDistance(), context)
        >>> seen = []
        >>> def visit(moved):
        ...     seen.append(moved)
        ...     return problem.loss(moved) < 1
        >>> threat = genrobust.ThreatModel("l2", 9.0)
        >>> fmn(problem, x, threat, 5, visit, step_size=1.0, gamma=0.05)
        >>> len(seen), seen[-1].shape
        (6, torch.Size([2, 1, 32, 32]))
    """
    source = problem.context.batch.x
    x = start
    largest = torch.full((len(x),), threat.eps, dtype=x.dtype, device=x.device)
    if within is not None:
        largest = torch.minimum(largest, within)
    radius, nearest = largest, torch.full_like(largest, torch.inf)
    for k in range(steps):
        share = (1 + math.cos(math.pi * k / steps)) / 2
        step = step_size * (FINAL_STEP + (1 - FINAL_STEP) * share)
        change = FINAL_GAMMA + (gamma - FINAL_GAMMA) * share
        loss, gradient = problem.gradient(x)
        success = visit(x)
        distance = threat.distance(x, source)
        nearest = torch.where(success, torch.minimum(nearest, distance), nearest)
        slope = threat.norm.dual(gradient).clamp_min(1e-20)
        linear = distance + (loss - below).abs() / slope
        grown = torch.where(nearest.isinf(), linear, radius * (1 + change))
        radius = torch.where(success, torch.minimum(radius * (1 - change), nearest), grown)
        radius = torch.minimum(radius, largest)
        x = threat.project(x - step * _EUCLIDEAN.steepest(gradient, x), source, radius)
    visit(x)
