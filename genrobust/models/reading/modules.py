"""What a user's module says of itself: what it wraps, its halves, the shape of its images."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from genrobust.errors import GenrobustError
from genrobust.models.reading.outputs import get

#: A half of a model.
_Half = Callable[[Tensor], Any]
HALVES = ("encode", "decode")

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
#: They call a forward, or refuse to be called.
_NO_OWN_CALL = [kind.__call__ for kind in (nn.Module, nn.ParameterList, nn.ParameterDict)]


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
        require_numbers(given)
        return given
    what = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
    advice = module_from(given) or (
        "for functions pass the module that holds their weights, and encode= and decode=; what has "
        "no weights here, such as a service, is called in the forward of a module of your own, and "
        "takes differentiable=False"
    )
    raise GenrobustError(
        f"wrap takes a torch.nn.Module, or the pair (encoder, decoder), not {what}; {advice}"
    )


def module_from(given: object) -> str | None:
    """How to make a module of what was given in the place of one, where that is known.

    >>> module_from(nn.Linear), module_from(3)
    ('give an object of it, such as Linear()', None)
    """
    if isinstance(given, type):
        return f"give an object of it, such as {given.__name__}()"
    if isinstance(given, torch.export.ExportedProgram):
        return "give what its module() gives"
    if isinstance(given, Mapping):
        return "load it into the module that it is the state of, by load_state_dict, and give that"
    if isinstance(given, str):
        return "give what genrobust.load_model makes of a name or a place"
    held = [
        name for name, own in getattr(given, "__dict__", {}).items() if isinstance(own, nn.Module)
    ]
    if held:
        return (
            f"give the module that it holds, such as its .{held[0]}, and, where encode and decode "
            "are its own, these as encode= and decode="
        )
    return None


def require_numbers(module: nn.Module) -> None:
    """Refuse a module with weights of which nothing can be measured.

    Raises:
        GenrobustError: one is lazy, on the device meta, or was made in inference mode.
    """
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if reason := _unfit(tensor):
            raise GenrobustError(f"the weight '{name}' of {type(module).__name__} {reason}")


def _unfit(weight: Tensor) -> str | None:
    """Why nothing can be measured of what has such a weight, and what to do."""
    if is_lazy(weight):
        return (
            "has no numbers yet, as its lazy layer was given nothing so far; before you wrap it "
            "call what holds it on a batch, such as "
            "module.decode(module.encode(torch.zeros(1, 1, 32, 32))[0]), and load its weights"
        )
    if weight.is_meta:
        return (
            "is on the device 'meta', which holds no numbers; load it, such as with "
            "module.to_empty(device='cpu') and module.load_state_dict"
        )
    if isinstance(weight, nn.Parameter) and weight.is_inference():  # a buffer may be added
        return (
            "was made under torch.inference_mode(), and lets no gradient pass outside; build the "
            "module without, or under torch.no_grad()"
        )
    return None


def unwrapped(module: nn.Module) -> nn.Module:
    """What DataParallel, its like and torch.compile hold."""
    while True:
        held = module.module if isinstance(module, _PARALLEL) else module
        held = getattr(held, "_orig_mod", held)
        if held is module or not isinstance(held, nn.Module):
            return module
        module = held


def is_scripted(module: nn.Module) -> bool:
    """Whether a part is TorchScript's, whose second run remembers other tensors than its first."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


def freeze(module: nn.Module) -> None:
    """Put a module in eval mode, and its weights beyond gradients."""
    with suppress(NotImplementedError):  # an exported program has one mode alone
        module.eval()
    for weight in module.parameters():  # TorchScript's modules have no requires_grad_
        weight.requires_grad_(False)


def method(module: nn.Module, *names: str) -> Callable[[Tensor], Any] | None:
    """The first of the methods or parts of those names that a module has, and that can be called.

    A list of layers cannot.
    """
    found = (getattr(unwrapped(module), name, None) for name in names)
    return next((one for one in found if callable(one) and _runs(one)), None)


def _runs(function: object) -> bool:
    return not isinstance(function, nn.Module) or has_forward(function)


def place_of(module: nn.Module, name: str) -> str:
    """How to write a method or a part of a module, which may lie within DataParallel.

    >>> place_of(nn.Linear(1, 1), "forward"), place_of(nn.DataParallel(nn.Linear(1, 1)), "weight")
    ('module.forward', 'module.module.weight')
    >>> place_of(nn.Sequential(nn.Linear(1, 1)), "0.weight")
    'module[0].weight'
    """
    held = "module" if hasattr(module, name.partition(".")[0]) else "module.module"
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", f"{held}.{name}")


def half_of(module: nn.Module, what: str) -> str:
    """``encode`` or ``decode``, or the part of that work where a module has no such method."""
    return f"{what}r" if method(module, what) is None else what


def halves_within(module: nn.Module) -> str | None:
    """What to type of a module with a part that has both halves, as a training module's network.

    >>> class Trainer(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.net = Pair(nn.Linear(4, 2), nn.Linear(2, 4))
    >>> halves_within(Trainer())
    "pass encode=module.net.encoder and decode=module.net.decoder, which its part 'net' has"
    """
    found = next(halves_of_parts(module), None)
    if found is None:
        return None
    name, line, *_ = found
    return f"{line}, which its part '{name}' has"


def halves_of_parts(module: nn.Module) -> Iterator[tuple[str, str, _Half, _Half]]:
    """Each part that has both halves: its name, what to type for them, and they."""
    for name, part in unwrapped(module).named_modules():
        one, two = (method(part, half, f"{half}r") for half in HALVES)
        if name and one and two and not type(part).__module__.startswith("torch.nn"):
            place = place_of(module, name)
            encode, decode = (f"{half}={place}.{half_of(part, half)}" for half in HALVES)
            yield name, f"pass {encode} and {decode}", one, two


def part_of_halves(module: nn.Module, encode: object, decode: object) -> str:
    """The part of a module whose own halves two functions are, by its name; "" of others.

    >>> holder = nn.ModuleDict({"vae": Pair(nn.Linear(4, 2), nn.Linear(2, 4))})
    >>> part_of_halves(holder, holder["vae"].encoder, holder["vae"].decoder)
    'vae'
    """
    if encode is None or decode is None or isinstance(encode, nn.Identity):
        return ""
    for name, part in unwrapped(module).named_modules():
        own = [method(part, half, f"{half}r") for half in HALVES]
        if name and own == [encode, decode]:
            return name
    return ""


def part_called(module: nn.Module, name: str) -> nn.Module:
    """The part of a module by its name; the module as it is given, without one."""
    return unwrapped(module).get_submodule(name) if name else module


def by_name_alone(function: Any) -> str | None:
    """An argument that a function, or a part in its place, takes by name alone; a needed one first.

    >>> by_name_alone(lambda x, *, scale=1, label: x), by_name_alone(lambda x, label: x)
    ('label', None)
    """
    function = function.forward if isinstance(function, nn.Module) else function
    with suppress(TypeError, ValueError):  # some do not say what they take
        given = inspect.signature(function).parameters.values()
        named = [one for one in given if one.kind is one.KEYWORD_ONLY]
        needed = [one for one in named if one.default is one.empty]
        return next((one.name for one in [*needed, *named]), None)
    return None


def has_forward(module: nn.Module) -> bool:
    """Whether a module can be called: by its class, or a forward that was set on it alone."""
    module = unwrapped(module)
    if isinstance(module, torch.jit.ScriptModule):
        return hasattr(module, "forward")
    if type(module).__call__ not in _NO_OWN_CALL:
        return True
    return getattr(module.forward, "__func__", None) is not nn.Module.forward


def own_shape(module: nn.Module) -> tuple[int, int, int] | None:
    """What a module calls its images' shape: attributes of its own, and pythae's ``model_config``.

    A side, or the sides, do not say how many channels.
    """
    module = unwrapped(module)
    config = get(module, "model_config")
    given = (get(module, "input_shape"), get(module, "img_size"), get(config, "input_dim"))
    return next(filter(None, map(_as_shape, given)), None)


def _as_shape(given: Any) -> tuple[int, int, int] | None:
    """Channels, height and width, of which each is 1 or more; None if it is something else."""
    if isinstance(given, str):
        return None
    try:
        shape = tuple(int(n) for n in given)
    except Exception:  # other people's objects
        return None
    return shape if len(shape) == 3 and min(shape) > 0 else None


def shape_of(module: nn.Module, given: Any) -> tuple[int, int, int]:
    """The shape given, the module's own, or that in diffusers' ``config``.

    Raises:
        GenrobustError: it is not known, or what was given is no such shape.
    """
    if given is not None:
        shape = _as_shape(given)
        if shape is None:
            raise GenrobustError(
                f"input_shape is (channels, height, width), such as (1, 32, 32), not {given}"
            )
        return shape
    config = get(unwrapped(module), "config")
    side = get(config, "sample_size")
    shape = own_shape(module) or _as_shape((get(config, "in_channels"), side, side))
    if shape is None:
        raise GenrobustError(
            f"the image shape of {type(module).__name__} is not known; pass "
            "input_shape=(channels, height, width), such as input_shape=(1, 32, 32)"
        )
    return shape


def qualified_name(function: Any) -> str:
    """What a function, or a module in its place, is called where it was written."""
    if isinstance(function, nn.Module):
        return type(function).__qualname__
    return getattr(function, "__qualname__", type(function).__qualname__)
