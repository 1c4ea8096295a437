"""Modules in half or double precision: given what they work in, and float32 outside."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.models.model import GenerativeModel
from genrobust.models.reading.modules import unwrapped
from genrobust.posterior import Posterior

#: Others, such as 8 bits, are what weights are stored in, not what a module works in.
KNOWN = (torch.float16, torch.bfloat16, torch.float64)


def precision_of(function: object, module: nn.Module, half: str) -> torch.dtype:
    """What images or codes must be in for the weights that they meet first.

    Args:
        function: what takes them.
        module: the user's.
        half: which attribute of the module they meet, ``encoder`` or ``decoder``, where it has one.
    """
    own = function if isinstance(function, nn.Module) else getattr(module, half, module)
    owner = own if isinstance(own, nn.Module) else module
    weights = chain(owner.parameters(), owner.buffers())
    found = next((w.dtype for w in weights if w.is_floating_point()), torch.float32)
    return found if found in KNOWN else torch.float32


def own_images(model: GenerativeModel, x: Tensor, function: object) -> Tensor:
    """Images in [0, 1] as a function of the module's own takes them: in its range and precision."""
    low, high = model.spec.get("value_range", (0.0, 1.0))
    return (x * (high - low) + low).to(precision_of(function, unwrapped(model.module), "encoder"))


class Passage:
    """One batch's way through a module in its own precision.

    In half precision a gradient below 6e-8 is 0, and an attack would find none where a judge is
    sure. So on its way back each image's gradient is scaled by a power of two.

    Args:
        given: what goes in.
        precision: what the module works in.
    """

    def __init__(self, given: Tensor, precision: torch.dtype) -> None:
        self._scaled = precision == torch.float16 and torch.is_grad_enabled()
        if self._scaled:
            self.scale = given.new_ones(())
        # A module in float32 takes what it is given; it may work in the precision of its input.
        converted = given if precision == torch.float32 else given.to(precision)
        self.inside: Tensor = _Enter.apply(given, converted, self) if self._scaled else converted

    def leave(self, *outputs: Tensor) -> tuple[Tensor, ...]:
        """What the module gave, in float32 or more."""
        if not self._scaled:
            return outputs
        found: tuple[Tensor, ...] = _Leave.apply(self, *outputs)
        return found

    def leave_posterior(self, posterior: Posterior) -> Posterior:
        """The same of all tensors in a posterior."""
        left = iter(self.leave(*posterior.tensors()))
        return posterior.map(lambda tensor: next(left))


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, given: Tensor, converted: Tensor, passage: Passage) -> Tensor:
        ctx.passage, ctx.precision = passage, given.dtype
        return converted.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0].to(ctx.precision)
        return gradient / _beside(ctx.passage.scale, gradient), None, None


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, passage: Passage, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.passage = passage
        return tuple(output.clone() for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        largest = torch.stack([g.detach().flatten(1).abs().amax(1) for g in gradients]).amax(0)
        exponent = -largest.log2().floor()
        ctx.passage.scale = torch.where(exponent.isfinite(), exponent, 0).clamp(-100, 100).exp2()
        return None, *(g * _beside(ctx.passage.scale, g) for g in gradients)


def _beside(scale: Tensor, gradient: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (gradient.ndim - 1)) if scale.ndim else scale
