"""Perturbations as whole numbers of a step: small to keep, and the same wherever they are read.

The norm says how many steps the radius has. No stored perturbation leaves the ball.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrobust.outcomes.outcome import Broken
from genrobust.threat import ThreatModel, allowed

#: Part of a step by which rounding in the attack's own arithmetic may fall short.
_SLACK = 1e-3


def quantise(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """The perturbation in steps, rounded towards 0, which leads out of neither ball nor box.

    Args:
        x_adv: images inside the threat model, (B, C, H, W).
        x: their sources.
        threat: norm and radius.

    Returns:
        (B, C, H, W), of the norm's ``dtype``: int8 under L-inf and int16 under L2.

    Example:
        >>> x = torch.full((1, 1, 1, 2), 0.5)
        >>> quantise(x + torch.tensor([0.1, -0.05]), x, ThreatModel("linf", 0.1)).tolist()
        [[[[127, -63]]]]
    """
    levels, dtype = threat.norm.levels, threat.norm.dtype
    if threat.eps == 0:
        return torch.zeros_like(x, dtype=dtype)
    step = step_of(threat)
    steps = (x_adv - x).double() / step
    whole = (steps + _SLACK * steps.sign()).trunc()
    # What many pixels fall short by may sum up to more than rounding.
    out = threat.norm.length(whole * step) > allowed(threat.eps)
    whole = torch.where(out.view(-1, 1, 1, 1), steps.trunc(), whole)
    return whole.clamp(-levels, levels).to(dtype)


def images_of(broken: Broken, x: Tensor, threats: Sequence[ThreatModel]) -> Tensor:
    """The images that broke the sources, each at its own radius; the others as they are."""
    steps = torch.tensor([*map(step_of, threats), 0.0]).to(x)
    return restore(broken.perturbation, x, steps[broken.radius])


def restore(perturbation: Tensor, x: Tensor, step: float | Tensor) -> Tensor:
    """The images again: x + perturbation * step, in the sources' precision, in the box.

    Args:
        perturbation: from :func:`quantise`, (B, C, H, W).
        x: the sources.
        step: from :func:`step_of`; one for all, or one a sample, (B,).
    """
    if isinstance(step, Tensor):
        step = step.view(-1, 1, 1, 1).to(x)
    return (x + perturbation.to(x) * step).clamp(0, 1)


def fits(perturbation: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """Whether stored perturbations keep to ball and box by themselves, before any clipping.

    Args:
        perturbation: in steps of the radius, (B, C, H, W).
        x: the sources.
        threat: norm and radius.

    Returns:
        (B,) bool; what :func:`quantise` gives always does.

    Example:
        >>> x, threat = torch.full((1, 1, 1, 1), 0.5), ThreatModel("linf", 0.1)
        >>> [bool(fits(torch.tensor([[[[steps]]]]), x, threat)) for steps in (127, -128)]
        [True, False]
    """
    step = step_of(threat)
    change = perturbation.double() * step
    moved = x.double() + change
    rounding = _SLACK * step + 1e-6
    inside = (moved >= -rounding) & (moved <= 1 + rounding)
    inside &= perturbation.to(torch.int64).abs() <= threat.norm.levels
    return inside.flatten(1).all(1) & (threat.norm.length(change) <= allowed(threat.eps))


def step_of(threat: ThreatModel) -> float:
    """The step in pixel units."""
    return min(threat.eps, threat.norm.widest_levels) / threat.norm.levels
