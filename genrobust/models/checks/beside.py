"""What an encoder gives beside its code, in any form: where decode takes that too, it is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.models.checks.batches import tolerance_of
from genrobust.models.checks.finding import Finding
from genrobust.models.checks.halves import encoded, own_halves
from genrobust.models.model import GenerativeModel
from genrobust.models.reading.decoded import image_of
from genrobust.models.reading.held_noise import HeldNoise
from genrobust.models.reading.outputs import at, fields

_Held = dict[Any, tuple[str, Any]]


def takes_more(model: GenerativeModel, x: Tensor) -> Finding | None:
    """Whether decode makes another picture of more that encode gives than of the code alone.

    Args:
        model: one of which no forward says how it is to be read.
        x: images (B, C, H, W) in [0, 1].
    """
    halves, x = own_halves(model), x[: model.max_batch]
    if halves is None:
        return None
    _, decode = halves
    with suppress(Exception), HeldNoise(0.0):  # other people's code
        (output,) = encoded(model, x)
        held = _held(output)
        code = model.encode(x).mode()
        first = next(key for key, (_, value) in held.items() if _is(value, code))
        more = _more(held, first, _optional(decode))
        named = {key: held[key][1] for key in more if isinstance(key, str)}
        placed = [held[key][1] for key in more if not isinstance(key, str)]
        one = image_of(decode(held[first][1])).double()
        both = image_of(decode(held[first][1], *placed, **named)).double()
        if one.shape == both.shape and (one - both).abs().max() > tolerance_of(model):
            return _finding(held, [first, *more])
    return None


def _finding(held: _Held, taken: list[Any]) -> Finding:
    first, *others = (f"o{held[key][0]}" for key in taken)
    keys = [f"{key}=" if isinstance(key, str) else "" for key in taken]

    def given(codes: list[str]) -> str:
        return ", ".join([codes[0], *(k + c for k, c in zip(keys[1:], codes[1:], strict=True))])

    points = ", ".join(f"genrobust.Point({one})" for one in (first, *others))
    codes = [f"codes[{i}]" for i in range(len(taken))]
    mend = (
        f"pass encode=lambda x: (lambda o: [{points}])(module.encode(x)) and decode=lambda codes: "
        f"module.decode({given(codes)}) if they are one code"
    )
    if not all(isinstance(held[key][1], Tensor) for key in taken):
        mend = (
            "pass encode=torch.nn.Identity() and decode=lambda x: (lambda o: module.decode("
            f"{given([first, *others])}))(module.encode(x)) to read both halves as one"
        )
    return Finding(
        f"of what the encoder gives, o, decode takes {' and '.join(others)} too, and makes another "
        f"picture of it than of {first} alone, which is scored",
        mend,
    )


def _held(output: Any) -> _Held:
    """What an output holds, by its place or its name, each with how to write that it is taken."""
    if hasattr(output, "_asdict"):
        return {name: (f".{name}", value) for name, value in output._asdict().items()}
    if isinstance(output, (tuple, list)):
        return {i: (f"[{i}]", value) for i, value in enumerate(output)}
    return {name: (at(output, name), value) for name, value in fields(output).items()}


def _is(value: Any, code: Tensor) -> bool:
    return (
        isinstance(value, Tensor)
        and value.shape == code.shape
        and torch.allclose(value.to(code.dtype), code)
    )


def _more(held: _Held, first: Any, optional: list[str] | None) -> list[Any]:
    """What else decode may take: by its name, or what stands beside the code at its place."""
    if isinstance(first, str):
        return [key for key in held if key != first and key in (optional or ())]
    others = [key for key in held if key != first]
    if len(held) > 2:  # a code's mean, spread and sample are of one shape
        shape = held[first][1].shape
        others = [key for key in others if getattr(held[key][1], "shape", None) != shape]
    return others if optional is None or 0 < len(others) <= len(optional) else []


def _optional(function: Callable[..., Any]) -> list[str] | None:
    """The arguments after the first that may be codes, which no number stands for; None: any."""
    function = function.forward if isinstance(function, nn.Module) else function
    given = list(inspect.signature(function).parameters.values())
    if any(one.kind is one.VAR_POSITIONAL for one in given[:2]):
        return None
    return [one.name for one in given[1:] if one.default is None or one.default is one.empty]
