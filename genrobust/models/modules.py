"""What a user's module says of itself: what it wraps, its halves, the shape of its images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

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
        GenrobustError: it is neither, or has no weights yet.
    """
    if isinstance(given, (tuple, list)) and [isinstance(m, nn.Module) for m in given] == [True] * 2:
        given = Pair(*given)
    if isinstance(given, nn.Module):
        _require_numbers(given)
        return given
    what = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    raise GenrobustError(
        f"wrap takes a torch.nn.Module, or the pair (encoder, decoder), not {what}; for functions "
        "pass the module that holds their weights, and encode= and decode="
    )


def _require_numbers(module: nn.Module) -> None:
    lazy = (n for n, t in (*module.named_parameters(), *module.named_buffers()) if is_lazy(t))
    name = next(lazy, None)
    if name is not None:
        raise GenrobustError(
            f"the weight '{name}' of {type(module).__name__} has no numbers yet, as its lazy layer "
            "was given nothing so far; before you wrap it call what holds it on a batch, such as "
            "module.decode(module.encode(torch.zeros(1, 1, 32, 32))[0]), and load its weights"
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
    return half_of(module, "encode")


def half_of(module: nn.Module, what: str) -> str:
    """``encode`` or ``decode``, or the part of that work where a module has no such method."""
    return what if callable(getattr(unwrapped(module), what, None)) else f"{what}r"


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


def qualified_name(function: Any) -> str:
    """What a function, or a module in its place, is called where it was written."""
    if isinstance(function, nn.Module):
        return type(function).__qualname__
    return getattr(function, "__qualname__", type(function).__qualname__)
