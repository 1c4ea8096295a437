"""Images as a model takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrobust import arguments
from genrobust.models.model import GenerativeModel


def inputs(name: str, value: Any, model: GenerativeModel) -> Tensor:
    """Images of any range in float32, or in float64 where they and the model's weights are.

    Args:
        name: of the argument.
        value: a tensor or an array.
        model: what they are for.

    Returns:
        (B, C, H, W), at least one.

    Raises:
        GenrobustError: as :func:`genrobust.arguments.images`.
    """
    found = arguments.images(name, value, model.input_shape)
    is_double = any(weight.dtype == torch.float64 for weight in model.module.parameters())
    return found if is_double else found.float()


def pixels(name: str, value: Any, model: GenerativeModel) -> Tensor:
    """:func:`inputs` in [0, 1], on the model's device.

    Raises:
        GenrobustError: likewise, or a pixel leaves [0, 1].
    """
    found = inputs(name, value, model).detach()
    arguments.require_pixels(name, found)
    return found.to(model.device)
