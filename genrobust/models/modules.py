"""What a user's module says of itself: what it wraps, its halves, the shape of its images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from genrobust.errors import GenrobustError

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Pair(nn.Module):
    """An encoder and a decoder that nobody put into one module."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


def as_module(given: object) -> nn.Module:
    """A module, or the one of an encoder and a decoder.

    Raises:
        GenrobustError: it is neither.
    """
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, (tuple, list)) and [isinstance(m, nn.Module) for m in given] == [True] * 2:
        return Pair(*given)
    what = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    raise GenrobustError(
        f"wrap takes a torch.nn.Module, or the pair (encoder, decoder), not {what}; for functions "
        "pass the module that holds their weights, and encode= and decode="
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """What DataParallel, its like and torch.compile hold."""
    while True:
        held = module.module if isinstance(module, _PARALLEL) else module
        held = getattr(held, "_orig_mod", held)
        if held is module or not isinstance(held, nn.Module):
            return module
        module = held


def freeze(module: nn.Module) -> None:
    """Put a module in eval mode, and its weights beyond gradients."""
    with suppress(NotImplementedError):  # an exported program has one mode alone
        module.eval()
    for weight in module.parameters():  # TorchScript's modules have no requires_grad_
        weight.requires_grad_(False)


def method(module: nn.Module, *names: str) -> Callable[[Tensor], Any] | None:
    """The first of the methods or parts of those names that a module has."""
    found = (getattr(unwrapped(module), name, None) for name in names)
    return next((one for one in found if callable(one)), None)


def encoder_of(module: nn.Module) -> str:
    """How to write what gives a module's codes."""
    return "encode" if callable(getattr(unwrapped(module), "encode", None)) else "encoder"


def has_forward(module: nn.Module) -> bool:
    """Whether a module can be called."""
    return getattr(type(module), "forward", None) is not nn.Module.forward


def own_shape(module: nn.Module) -> Any:
    """What a module calls its images' shape, unless that is a side alone: attributes of its own,
    and pythae's ``model_config``."""
    module = unwrapped(module)
    found = getattr(module, "input_shape", None) or getattr(module, "img_size", None)
    found = found or getattr(getattr(module, "model_config", None), "input_dim", None)
    return None if isinstance(found, int) else found


def shape_of(module: nn.Module, given: Any) -> tuple[int, int, int]:
    """The shape given, the module's own, or that in diffusers' ``config``.

    Raises:
        GenrobustError: it is not known, or no such shape.
    """
    found = own_shape(module) if given is None else given
    if isinstance(found, int):
        found = None  # a side alone does not say how many channels
    if found is None:
        config = getattr(unwrapped(module), "config", None)
        sides = [getattr(config, name, None) for name in ("in_channels", "sample_size")]
        if all(isinstance(side, int) for side in sides):
            found = [sides[0], sides[1], sides[1]]
    if found is None:
        raise GenrobustError(
            f"the image shape of {type(module).__name__} is not known; pass "
            "input_shape=(channels, height, width), such as input_shape=(1, 32, 32)"
        )
    try:
        shape = tuple(int(n) for n in found)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) != 3 or min(shape) < 1 or isinstance(found, str):
        raise GenrobustError(
            f"input_shape is (channels, height, width), such as (1, 32, 32), not {found}"
        )
    return shape[0], shape[1], shape[2]
