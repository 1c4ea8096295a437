"""Two codes in the form of a mean and a log-variance: where decode also takes both, it is told."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from genrobust.models.adapters import is_batch
from genrobust.models.batches import tolerance_of
from genrobust.models.decoded import image_of
from genrobust.models.finding import Finding
from genrobust.models.forward import Forward
from genrobust.models.held_noise import HeldNoise
from genrobust.models.model import GenerativeModel
from genrobust.models.modules import method, qualified_name, unwrapped
from genrobust.models.precision import own_images


def takes_both(model: GenerativeModel, x: Tensor) -> Finding | None:
    """Whether decode makes another picture of both that encode gives than of the first alone.

    Args:
        model: one of which no forward says how it is to be read.
        x: images (B, C, H, W) in [0, 1].
    """
    module = unwrapped(model.module)
    halves = {half: method(module, half, f"{half}r") for half in ("encode", "decode")}
    encode, decode = halves.values()
    if encode is None or decode is None or model.condition is not None:
        return None
    read = {half: qualified_name(own) for half, own in halves.items()}
    if any(model.spec.get(half) != name for half, name in read.items()) or not _may_take(decode):
        return None
    with suppress(Exception), HeldNoise(0.0):  # other people's code
        codes = Forward(encode)(own_images(model, x[: model.max_batch], encode))
        if not _is_pair(codes):
            return None
        one, both = (image_of(decode(*given)).double() for given in (codes[:1], codes))
        if one.shape != both.shape or (one - both).abs().max() <= tolerance_of(model):
            return None
        return Finding(
            "decode also takes both that the encoder gives, and makes another picture of them than "
            "of the first, which is scored alone and read as a mean beside its log-variance",
            "pass encode=lambda x: [genrobust.Point(code) for code in module.encode(x)] and "
            "decode=lambda codes: module.decode(*codes) if they are two codes",
        )
    return None


def _is_pair(output: Any) -> bool:
    if not isinstance(output, (tuple, list)) or len(output) != 2:
        return False
    return all(map(is_batch, output)) and output[0].shape == output[1].shape


def _may_take(decode: Callable[..., Any]) -> bool:
    """Whether a second argument may be a code: it is not a number unless it is given."""
    function = decode.forward if isinstance(decode, nn.Module) else decode
    with suppress(TypeError, ValueError):  # some do not say what they take
        given = inspect.signature(function).parameters.values()
        placed = [one for one in given if one.kind is not one.KEYWORD_ONLY]
        second = placed[:2][-1]
        many = second.kind is second.VAR_POSITIONAL
        optional = second.default is None or second.default is second.empty
        return many or (len(placed) > 1 and optional)
    return False
