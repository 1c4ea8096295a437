"""What every metric asks of its arguments."""

from __future__ import annotations

from torch import Tensor

from genrobust.errors import GenrobustError


def require_same_shape(**tensors: Tensor) -> None:
    """Check that the named tensors have one shape and a batch dimension.

    Raises:
        GenrobustError: they differ, or one of them is a bare number.

    Example:
        >>> import torch
        >>> require_same_shape(x=torch.zeros(2, 3), x_adv=torch.zeros(2, 4))
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: x is (2, 3), x_adv is (2, 4); give them one shape
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        given = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise GenrobustError(f"{given}; give them one shape")
    if () in shapes.values():
        raise GenrobustError(f"{next(iter(shapes))} is a bare number; give one entry a sample")


def require_positive(**numbers: float) -> None:
    """Check that the named numbers are finite and above 0.

    Raises:
        GenrobustError: one is not.
    """
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise GenrobustError(f"{name} is {number}; it must be a finite number above 0")
