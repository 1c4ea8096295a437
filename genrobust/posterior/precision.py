"""Numbers in float64, where divergences neither over- nor underflow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Log-variances are cut to this on both sides where they are exponentiated: a variance of exp(690),
#: or 1e299, still has a sum over a hundred million latents in float64, and none is 0, which could
#: not be divided by.
LARGEST_EXPONENT = 690.0
#: Gradients are cut to this: its square, which optimizers take, is finite in float32.
LARGEST_GRADIENT = 1e18


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float64, where divergences neither over- nor underflow.

    The gradient that comes back through it is cut to :data:`LARGEST_GRADIENT`, so that one which
    its own precision does not hold is large rather than infinite.

    Args:
        tensor: floats of any shape.

    Example:
        >>> wide(torch.ones(2)).dtype
        torch.float64
    """
    found = tensor.double()
    if found.requires_grad:
        largest = min(LARGEST_GRADIENT, torch.finfo(tensor.dtype).max)
        found = found.view_as(found)  # not the caller's own tensor, where it is float64 already
        found.register_hook(lambda gradient: gradient.clamp(-largest, largest))
    return found


def exponential(x: Tensor, scale: float = 1.0) -> Tensor:
    """exp(scale * x), never 0 nor infinite: beyond :data:`LARGEST_EXPONENT` x counts as that.

    Args:
        x: floats of any shape; the result has it too.
        scale: what they are multiplied with.

    Example:
        >>> exponential(torch.tensor([-1e9, 0.0, 4.0], dtype=torch.float64), 0.5)
        tensor([1.4737e-150,  1.0000e+00,  7.3891e+00], dtype=torch.float64)
    """
    value: Tensor = _Exponential.apply(x, scale)
    return value


class _Exponential(torch.autograd.Function):
    """Its own derivative everywhere, where that of a clamp would be 0 beyond the ends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        value = (scale * x.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)).exp()
        ctx.save_for_backward(value)
        ctx.scale = scale
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (value,) = ctx.saved_tensors
        return gradient * ctx.scale * value, None
