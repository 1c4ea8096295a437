"""What a module's encode hands to its decode, where that is more than one code.

A pair of tensors has the form of a mean and a log-variance, and may be the codes of two levels, or
numbers beside the places that they belong to. Where decode takes all of it, that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.models.checks.fidelity import reads_alone
from genrobust.models.checks.halves import held_in, own_half, own_halves
from genrobust.models.model import FORWARD_ALONE, GenerativeModel
from genrobust.models.reading.adapters import is_batch, posterior_of
from genrobust.models.reading.forward import Forward, pictures_in
from genrobust.models.reading.outputs import ENTRIES, describe, members
from genrobust.models.reading.precision import own_images

#: A way to hand something over, and how it is written of all the codes.
_Way = tuple[Callable[[], Any], str]


def handed_whole(model: GenerativeModel, x: Tensor) -> str | None:
    """What to type of a module whose decode takes all that its encode gives; None if it does not.

    Args:
        model: one that is read as giving its decoder less, which fails.
        x: images (B, C, H, W) in [0, 1].
    """
    halves = own_halves(model)
    if halves is None:
        return None
    encode, decode = halves
    own = own_images(model, x[: model.max_batch], encode)
    with suppress(Exception), torch.enable_grad():  # other people's code
        output = Forward(encode)(own.requires_grad_(model.differentiable))
        if (place := _numbers(decode, output, own)) is not None:
            return model.typed.put(_of_entries(output, place))
        inside = [(where, held) for where, held in members(output) if _is_several(held)]
        single = len(inside) == 1  # else they may be layers, each a mean beside its log-variance
        if _is_flat(output) and (written := _taken(decode, output[::2], own)):
            return model.typed.put(_of_layers(output, written))
        for where, held in [("", output), *(inside if single else [])]:
            written = _taken(decode, held, own)
            if written is not None:
                return model.typed.put(_remedy(held, where, written, reads_alone(model, x)))
    return None


def handed_apart(model: GenerativeModel, x: Tensor) -> str | None:
    """What to type of a module whose decode takes the codes of layers one by one; None of others.

    Args:
        model: one that is read as giving its decoder a list of them, which fails.
        x: images (B, C, H, W) in [0, 1].
    """
    decode = own_half(model, "decode")
    if decode is None:
        return None
    with suppress(Exception):  # other people's code
        codes = [part.mode() for part in model.encode(x[: model.max_batch]).parts]
        for put, written in _ways(decode, codes)[1:]:
            if _gives_pictures(put, x[: model.max_batch]):
                return model.typed.put(f"pass decode=lambda codes: module.decode({written})")
    return None


def handed_laid_out(model: GenerativeModel, x: Tensor) -> str | None:
    """What to type of a module whose halves take videos, or channels last; None of others.

    Args:
        model: one whose encode fails on images, or its forward, where that is all there is.
        x: images (B, C, H, W) in [0, 1].
    """
    alone, halves = bool(model.spec.get(FORWARD_ALONE)), own_halves(model)
    if not alone and halves is None:
        return None
    encode, decode = halves or (None, None)
    own = own_images(model, x[: model.max_batch], encode)
    for what, there, back, lay in _LAID_OUT:
        line = (
            f"encode=lambda x: module.encode(x{there}) and decode=lambda z: module.decode(z)"
            if encode
            else f"encode=torch.nn.Identity() and decode=lambda x: module(x{there})"
        )
        with suppress(Exception), torch.no_grad():  # other people's code
            given = lay(own)
            if encode and decode:
                shown = decode(_code_in(encode(given)).to(own.dtype))
            else:
                shown = model.network(given)
            for where, held in held_in([shown]).items():
                if held.shape == given.shape:
                    return model.typed.put(f"it takes {what}: pass {line}{where}{back}")
    return None


#: What a module may take in place of images, how to write it and its way back, and it.
_LAID_OUT: tuple[tuple[str, str, str, Callable[[Tensor], Tensor]], ...] = (
    ("videos, such as of one frame", ".unsqueeze(2)", ".squeeze(2)", lambda x: x.unsqueeze(2)),
    (
        "images with their channels last",
        ".permute(0, 2, 3, 1)",
        ".permute(0, 3, 1, 2)",
        lambda x: x.permute(0, 2, 3, 1),
    ),
)


def _code_in(output: Any) -> Tensor:
    """The code in what an encoder gave; of more than a mean and its spread, the first."""
    try:
        return posterior_of(output).mode()
    except GenrobustError:
        return next(iter(held_in([output]).values()))


def _taken(decode: Callable[..., Any], held: Any, x: Tensor) -> str | None:
    """How decode takes all of something, written of ``codes``; None where it takes one of it.

    Beside it a decoder of a conditional model may ask for a label, which need not be given.
    """
    singles = [item for item in held if isinstance(item, Tensor)] if _is_several(held) else []
    alone = ((item, *label) for item in singles for label in ((), (None,)))
    if any(_gives_pictures(partial(decode, *given), x) for given in alone):
        return None
    return next((written for put, written in _ways(decode, held) if _gives_pictures(put, x)), None)


def _ways(decode: Callable[..., Any], held: Any) -> list[_Way]:
    if isinstance(held, Mapping):
        return [(lambda: decode(held), "codes"), (lambda: decode(**held), "**codes")]
    if not _is_several(held):
        return []
    listed: _Way = (lambda: decode([*held]), "codes")
    return [listed, (lambda: decode(*held), "*codes"), (lambda: decode(held), "tuple(codes)")]


def _is_several(held: Any) -> bool:
    return isinstance(held, (tuple, list)) and len(held) > 1


def _gives_pictures(put: Callable[[], Any], x: Tensor) -> bool:
    """Whether what decode makes of it is pictures, which gradients reach if they are to."""
    with suppress(Exception):  # other people's code
        found = [image for _, image in pictures_in(put(), tuple(x.shape))]
        return any(image.requires_grad or not x.requires_grad for image in found)
    return False


def _is_flat(output: Any) -> bool:
    """Whether it may be the mean and the log-variance of each layer, one after the other."""
    if not _is_several(output) or len(output) < 4 or len(output) % 2:
        return False
    pairs = zip(output[::2], output[1::2], strict=True)
    return all(map(is_batch, output)) and all(mean.shape == other.shape for mean, other in pairs)


def _numbers(decode: Callable[..., Any], output: Any, x: Tensor) -> str | None:
    """Where in an output the whole numbers are of which alone decode makes pictures."""
    held = [(where, item) for where, item in _tensors(output) if not item.is_floating_point()]
    free = x.detach()  # no gradient goes through them
    found = (where for where, item in held if _gives_pictures(partial(decode, item), free))
    return next(found, None)


def _tensors(output: Any) -> list[tuple[str, Tensor]]:
    held = [] if isinstance(output, Tensor) else members(output)
    return [(where, item) for where, item in held if isinstance(item, Tensor)]


def _of_entries(output: Any, place: str) -> str:
    return (
        f"decode takes the whole numbers at {place} of what the encoder returned, "
        f"{describe(output)}: let encode= give, {ENTRIES.format(place)}"
    )


def _of_layers(output: Any, written: str) -> str:
    line = "encode=lambda x: (lambda o: list(zip(o[::2], o[1::2])))(module.encode(x))"
    if written != "codes":
        line += f" and decode=lambda codes: module.decode({written})"
    return (
        f"decode takes every second of what the encoder returned, {describe(output)}: pass {line} "
        "if these are the mean and the log-variance of each layer of a hierarchy"
    )


def _remedy(held: Any, where: str, written: str, alone: bool) -> str:
    codes = f"module.encode(x){where}"
    remedy = "encode=torch.nn.Identity()"
    if alone:
        remedy += " to read it by its forward alone"
    else:
        given = written.replace("tuple(codes)", "codes").replace("codes", codes)
        remedy += f" and decode=lambda x: module.decode({given}) to read both halves as one"
    if _is_several(held) and all(map(is_batch, held)):
        levels = f"encode=lambda x: [genrobust.Point(code) for code in {codes}]"
        if written != "codes":
            levels += f" and decode=lambda codes: module.decode({written})"
        remedy = f"{levels} if these are the codes of a hierarchy's levels, or {remedy}"
    return (
        f"decode takes all of what the encoder returned{f' as {where}' if where else ''}, "
        f"{describe(held)}, and not one code of it: pass {remedy}"
    )
