"""Of a module that is known by its forward alone, a part with both halves that forward runs.

Attacks on the code, and what switches a category, are then left out for want of a name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from genrobust.errors import GenrobustWarning
from genrobust.models.checks.batches import tolerance_of
from genrobust.models.inputs import probe_images
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.kept import kept
from genrobust.models.reading.modules import halves_of_parts
from genrobust.seeding import generators_kept


@torch.no_grad()
def warn_of_halves_behind(model: GenerativeModel, read: Callable[..., GenerativeModel]) -> None:
    """Warn where a part's ``decode(encode(x))`` gives the very pictures, with what to type.

    Args:
        model: one that is read by its forward alone.
        read: reads the same module by an ``encode`` and a ``decode``.
    """
    parts = halves_of_parts(model.module)
    with kept(model.module), generators_kept(model.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are said once it is read so
        found = next((line for part in parts if (line := _line(model, read, *part))), None)
    if found:
        warnings.warn(found, GenrobustWarning, stacklevel=4)


def _line(
    model: GenerativeModel,
    read: Callable[..., GenerativeModel],
    name: str,
    line: str,
    encode: Callable[[Tensor], Any],
    decode: Callable[[Tensor], Any],
) -> str | None:
    with suppress(Exception):  # other people's code
        x = probe_images(model.input_shape, min(4, model.max_batch or 4)).to(model.device)
        same = read(encode=encode, decode=decode).reconstruct(x)
        if (same - model.reconstruct(x)).abs().max() <= tolerance_of(model):
            return (
                f"{model.name} is read by its forward alone, so that no attack knows its code, "
                f"and its part '{name}' gives the same pictures by way of one; {line}"
            )
    return None
