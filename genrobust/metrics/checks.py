"""What every metric asks of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from genrobust import arguments
from genrobust.errors import GenrobustError


def same_shape(kind: Callable[[str, Any], Tensor], **values: Any) -> tuple[Tensor, ...]:
    """The named values as tensors, read by ``kind``, of one shape and with a batch dimension.

    Args:
        kind: :func:`genrobust.arguments.floats`, ``classes`` or ``flags``.
        values: tensors or arrays.

    Raises:
        GenrobustError: they differ in shape or device, or one of them is a bare number or not of
            the kind.

    Example:
        >>> import torch
        >>> from genrobust.arguments import floats
        >>> same_shape(floats, x=torch.zeros(2, 3), x_adv=torch.zeros(2, 4))
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: x is (2, 3), x_adv is (2, 4); give them one shape
    """
    found = {name: kind(name, value) for name, value in values.items()}
    require_same_shape(**found)
    return tuple(found.values())


def require_same_shape(**tensors: Tensor) -> None:
    """Check that the named tensors have one shape and a batch dimension, and lie on one device.

    Raises:
        GenrobustError: they differ, or one of them is a bare number.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        given = ", ".join(f"{name} is {shape}" for name, shape in shapes.items())
        raise GenrobustError(f"{given}; give them one shape")
    if () in shapes.values():
        raise GenrobustError(f"{next(iter(shapes))} is a bare number; give one entry a sample")
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        given = ", ".join(f"{name} is on {device}" for name, device in devices.items())
        raise GenrobustError(f"{given}; move them to one device")


def one_id_each(sample_ids: object, samples: int) -> tuple[int, ...]:
    """The numbers that key each sample's draws.

    Raises:
        GenrobustError: they are no whole numbers, or fewer or more than samples.

    Example:
        >>> one_id_each(range(2), 2)
        (0, 1)
    """
    found = arguments.several("sample_ids", sample_ids, arguments.whole, 0)
    if len(found) != samples:
        raise GenrobustError(
            f"there are {len(found)} sample ids for {samples} images; give one each"
        )
    return found


#: Half a grey level of an 8-bit image: a smaller change is gone once the image is saved.
HALF_LEVEL = 0.5 / 255


def pictures(name: str, value: Any) -> Tensor:
    """Images in float32 at least, (B, C, H, W) in [0, 1] up to half a grey level.

    What is measured of pixels on another scale is another number, and nothing shows it.

    Raises:
        GenrobustError: another shape or range, whole numbers, NaN or infinite pixels.

    Example:
        >>> import torch
        >>> pictures("x", torch.full((1, 1, 2, 2), 255.0))
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: x has pixels from 255 to 255; give them in [0, 1]: ...
    """
    found = arguments.images(name, value)
    low, high = float(found.detach().min()), float(found.detach().max())
    if low < -HALF_LEVEL or high > 1 + HALF_LEVEL:
        raise GenrobustError(
            f"{name} has pixels from {low:.4g} to {high:.4g}; give them in [0, 1]: divide bytes by "
            f"255, or clip a reconstruction that leaves it by {name}.clamp(0, 1)"
        )
    return found


def require_positive(**numbers: float) -> None:
    """Check that the named numbers are finite and above 0.

    Raises:
        GenrobustError: one is not.
    """
    for name, number in numbers.items():
        if not 0 < arguments.real(name, number) < float("inf"):
            raise GenrobustError(f"{name} is {number}; it must be a finite number above 0")
