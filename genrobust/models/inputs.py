"""Images as a model takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genrobust import arguments
from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.modes import outside


def require_model(given: Any) -> GenerativeModel:
    """The model, if it is one.

    Raises:
        GenrobustError: it is a name, a bare module, or something else.
    """
    if isinstance(given, GenerativeModel):
        return given
    if isinstance(given, str):
        advice = f"is the name {given!r}; load it first: model=genrobust.load_model({given!r})"
    elif isinstance(given, nn.Module):
        advice = f"is a bare {type(given).__name__}; wrap it first: model=genrobust.wrap(module)"
    else:
        advice = f"is a {type(given).__name__}; pass what genrobust.wrap or load_model gives"
    raise GenrobustError(f"model {advice}")


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
    found = outside(arguments.images(name, value, require_model(model).input_shape))
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
