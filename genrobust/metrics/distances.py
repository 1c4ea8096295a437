"""How large a perturbation is: norms of the difference of two images, one number a sample.

Images are tensors or arrays of any type and scale, and each may have its own: bytes are compared as
the numbers they hold. Computed in float32 at least, and in float64 for whole numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrobust.arguments import floats, real
from genrobust.errors import GenrobustError
from genrobust.metrics.checks import HALF_LEVEL, same_shape


def l0(x: Tensor, x_adv: Tensor, tolerance: float = HALF_LEVEL) -> Tensor:
    r"""How many values changed: :math:`\#\{j : |x'_j - x_j| > \tau\}`.

    A pixel of a colour image counts once for each channel that changed.

    Args:
        x: sources, (B, ...), in [0, 1].
        x_adv: the changed images, of the same shape.
        tolerance: :math:`\tau`, in pixel units; changes up to it do not count.

    Returns:
        (B,) int64, from 0 to the number of values in an image; NaN counts as changed.

    Raises:
        GenrobustError: the shapes differ.

    Example:
        >>> l0(torch.zeros(1, 4), torch.tensor([[0.0, 0.001, 0.1, 1.0]]))
        tensor([2])
    """
    return (~(_change(x, x_adv).abs() <= real("tolerance", tolerance))).sum(1)


def l2(x: Tensor, x_adv: Tensor) -> Tensor:
    r"""The Euclidean length of the change: :math:`\|x' - x\|_2`.

    Args:
        x: sources, (B, ...).
        x_adv: the changed images, of the same shape.

    Returns:
        (B,), in pixel units; in [0, 1] images of n values at most :math:`\sqrt n`.

    Raises:
        GenrobustError: the shapes differ.

    Example:
        >>> l2(torch.zeros(1, 2), torch.tensor([[0.3, 0.4]]))
        tensor([0.5000])
    """
    return torch.linalg.vector_norm(_change(x, x_adv), dim=1)


def linf(x: Tensor, x_adv: Tensor) -> Tensor:
    r"""The largest change of a value: :math:`\max_j |x'_j - x_j|`.

    Args:
        x: sources, (B, ...).
        x_adv: the changed images, of the same shape.

    Returns:
        (B,), in pixel units.

    Raises:
        GenrobustError: the shapes differ.

    Example:
        >>> linf(torch.zeros(1, 2), torch.tensor([[0.3, -0.4]]))
        tensor([0.4000])
    """
    return _change(x, x_adv).abs().amax(1)


def rmse(x: Tensor, x_adv: Tensor) -> Tensor:
    r"""The root of the mean squared change: :math:`\|x' - x\|_2 / \sqrt n` for n values.

    Unlike the L2 norm it compares across image sizes; Kos, Fischer & Song 2018 report it.

    Args:
        x: sources, (B, ...).
        x_adv: the changed images, of the same shape.

    Returns:
        (B,), in pixel units.

    Raises:
        GenrobustError: the shapes differ.

    Example:
        >>> rmse(torch.zeros(1, 4), torch.full((1, 4), 0.25))
        tensor([0.2500])
    """
    return _change(x, x_adv).square().mean(1).sqrt()


def _change(x: Tensor, x_adv: Tensor) -> Tensor:
    x, x_adv = same_shape(floats, x=x, x_adv=x_adv)
    if not x[:1].numel() and len(x):
        raise GenrobustError(f"the images are {tuple(x.shape)}, without a value to compare")
    return (x_adv - x).reshape(len(x), -1) if len(x) else x.new_zeros(0, 1)
