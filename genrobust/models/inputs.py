"""Images as a model takes them: what people pass, and a few to try it on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from genrobust import arguments
from genrobust.errors import GenrobustError
from genrobust.models.model import GenerativeModel
from genrobust.modes import outside
from genrobust.seeding import generator


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


def probe_images(shape: tuple[int, int, int], count: int = 4) -> Tensor:
    """Soft blobs at different places over faint noise: a stand-in for images, always the same."""
    channels, height, width = shape
    rows = torch.linspace(-1, 1, height)[:, None]
    columns = torch.linspace(-1, 1, width)[None]
    noise = 0.05 * torch.rand(count, *shape, generator=generator("probe"))
    turns = torch.linspace(0, 5, count)[:, None, None]
    blobs = torch.exp(-8 * ((rows - 0.4 * turns.sin()) ** 2 + (columns - 0.4 * turns.cos()) ** 2))
    return (0.9 * blobs[:, None].expand(-1, channels, -1, -1) + noise).clamp(0, 1)
