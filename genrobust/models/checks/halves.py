"""A module's own halves, where a model is read by them, and what its encoder gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from genrobust.models.model import GenerativeModel
from genrobust.models.reading.forward import Forward
from genrobust.models.reading.kept import kept
from genrobust.models.reading.modules import method, qualified_name, unwrapped
from genrobust.models.reading.outputs import members
from genrobust.models.reading.precision import own_images


def own_half(
    model: GenerativeModel, half: Literal["encode", "decode"]
) -> Callable[..., Any] | None:
    """The module's ``encode``, else its ``encoder``, if that is read; and so of the other half.

    Through functions of one's own a half may see something else.
    """
    own = method(model.network, half, f"{half}r")
    return own if own is not None and model.spec.get(half) == qualified_name(own) else None


def own_halves(model: GenerativeModel) -> tuple[Callable[..., Any], Callable[..., Any]] | None:
    """Both, of a model that takes no labels."""
    encode, decode = own_half(model, "encode"), own_half(model, "decode")
    if encode is None or decode is None or model.condition is not None:
        return None
    return encode, decode


def encoded(model: GenerativeModel, x: Tensor, read: bool = True) -> list[Any]:
    """What the module's own encoder gives for each piece of a batch.

    Args:
        model: the model.
        x: images (B, C, H, W) in [0, 1].
        read: none where it is a function of the user's that is read.
    """
    module = unwrapped(model.network)
    encode = own_half(model, "encode") if read else method(module, "encode", "encoder")
    if encode is None:
        return []
    own = own_images(model, x, encode)

    def run(piece: Tensor) -> Any:
        labels = () if model.condition is None else (model.condition(piece),)
        return Forward(lambda given: encode(given, *labels))(piece.clone())

    with kept(module):
        return [run(piece) for piece in own.split(model.max_batch or len(own))]


def held_in(outputs: list[Any]) -> dict[str, Tensor]:
    """The numbers in what an encoder gave for each piece, in one, by how to write their place."""
    each = [dict(_tensors(output)) for output in outputs]
    return {
        place: torch.cat([held[place] for held in each]).double()
        for place, tensor in (each[0] if each else {}).items()
        if tensor.is_floating_point() and tensor.ndim > 1
    }


def _tensors(output: Any, place: str = "", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """All tensors in an output, each with how to write that it is taken."""
    if isinstance(output, Tensor):
        yield place, output
    elif depth:
        for where, held in members(output):
            yield from _tensors(held, place + where, depth - 1)
