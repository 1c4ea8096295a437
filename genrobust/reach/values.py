"""What values are, told alike in every process: plain ones, containers, tensors, attributes."""

from __future__ import annotations

import dis
import inspect
import re
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping
from types import CellType, CodeType, MappingProxyType, MemberDescriptorType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrobust.projects import plain_name
from genrobust.reach.contents import dictionary

#: Values that are what they look like.
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range)
ALL_PLAIN = frozenset(PLAIN)
#: Of these one object may stand for two of one value in one process, and not in all,
#: unless they hold something else than values.
UNSHARED = (tuple, frozenset, re.Pattern)

#: Up to where a number may be somebody's choice; hashes are larger, and others in each process.
LARGEST_NUMBER = 2**40

#: Whether code is a function's, with names of its own, and no class' or module's.
_FUNCTION = inspect.CO_OPTIMIZED

#: Where torch.compile's objects lie in memory, and from which line torch.fx has a graph.
_WHERE = {"_torchdynamo_wrapper_id", "_co_fields"}


def as_plain(value: object) -> object:
    """The value, or what stands for it in every process.

    Python gives no decimal digits of huge numbers, and a file's ``__name__`` counts up.
    """
    if type(value) is int:
        return hex(value)
    return plain_name(value) if type(value) is str else value


def as_text(value: object) -> str:
    """A constant of code as text that is one in every process."""
    if isinstance(value, frozenset):
        return f"frozenset({sorted(map(as_text, value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(as_text, value))},)"
    return f"{type(value).__name__} {as_plain(value)!r}"


def taken_by(code: CodeType) -> list[object]:
    """What a function takes, by which names: callers may give any of them by its name."""
    return [
        *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_varnames),
        code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS),
    ]


def caught_in(code: CodeType) -> bytes:
    """Which part of code is in which ``try``: since Python 3.11 the code itself does not say."""
    return getattr(code, "co_exceptiontable", b"")


def constants_of(code: CodeType) -> tuple[list[object], str | None]:
    """What code works with, and what is said about a function in its first line, if anything is.

    >>> def f(x): "A remark."; return x + 1
    >>> constants_of(f.__code__)
    ([None, 1], 'A remark.')
    """
    first, *rest = code.co_consts or (None,)
    # Other code than a function's, whose name is in such brackets, has no such line.
    if type(first) is not str or code.co_name.startswith("<") or not code.co_flags & _FUNCTION:
        return list(code.co_consts), None
    if any(step.arg == 0 and step.opcode in dis.hasconst for step in dis.get_instructions(code)):
        return list(code.co_consts), None
    return [None, *rest], first


def is_constant(value: object) -> bool:
    parts = [value]
    while parts:
        part = parts.pop()
        if type(part) is tuple or type(part) is frozenset:
            parts.extend(part)
        elif type(part) not in PLAIN:
            return False
    return True


def is_number(value: object) -> bool:
    """Whether it is a plain value, or plain values in a tensor or an array."""
    return type(value) in PLAIN or issubclass(type(value), (Tensor, np.ndarray, np.generic))


def may_be_shared(value: object, kind: type) -> bool:
    """Whether Python may have made one object of two of one value, in this process alone."""
    return kind is re.Pattern or (kind in UNSHARED and is_constant(value))


def held_in(value: Collection[Any]) -> list[Any]:
    """What a container of Python's holds, also where its class has code for going through it."""
    kinds: tuple[Any, ...] = (list, tuple, deque, set, frozenset)
    plain = next(kind for kind in kinds if issubclass(type(value), kind))
    return [*plain.__iter__(value)]


def items_in(value: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """The same of a dictionary, in pairs."""
    kinds: tuple[Any, ...] = (OrderedDict, dict, MappingProxyType)
    plain = next(kind for kind in kinds if issubclass(type(value), kind))
    return [*plain.items(value)]


def attributes(value: object, kind: type) -> Iterator[tuple[str, object]]:
    """Of an object: what its dictionary and its slots hold; nothing is computed."""
    scripted = issubclass(kind, torch.jit.ScriptModule)
    for name, attribute in list(dictionary(value, kind).items()):
        # A scripted module keeps an object of a method from when it is first asked for it.
        if not (scripted and type(attribute) is torch._C.ScriptMethod):
            yield name, attribute
    for base in kind.__mro__:
        # Not by what `__slots__` says: Python keeps private names under others.
        for name, member in vars(base).items() if "__slots__" in vars(base) else ():
            if isinstance(member, MemberDescriptorType):
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # not set
                    continue


def lasting(name: str, attribute: Any, owner: object) -> object:
    """What an attribute is in every process: hooks are numbered, and the numbers count up."""
    if name in _WHERE:
        return None
    if "hash" in name and type(attribute) is int and abs(attribute) > LARGEST_NUMBER:
        return None  # kept so as not to be computed again
    table, hooks, rest = name.partition("_hooks")
    if not (hooks and isinstance(attribute, dict)) or (rest and not attribute):
        return in_one_order(name, attribute)
    if not rest:
        return list(attribute.values())
    numbers: Any = dictionary(owner, type(owner)).get(table + hooks, ())
    places = {number: place for place, number in enumerate(numbers)}
    return {places[number]: value for number, value in attribute.items() if number in places}


def in_one_order(key: object, held: Any) -> object:
    """What lies under a name: diffusers makes a list of a set, which each process orders anew."""
    return sorted(held) if key == "_use_default_values" and isinstance(held, list) else held


def is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty one raises
    except ValueError:
        return False
    return True


def without_class(tensor: Tensor) -> Tensor:
    """The tensor itself, without what its class does where it is looked at."""
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def numbers_of(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, whatever it keeps them in."""
    if tensor.is_quantized:
        return tensor.int_repr()
    if tensor.layout != torch.strided:
        return tensor.to_dense()
    return tensor.resolve_conj().resolve_neg()


def quantised_by(tensor: Tensor) -> list[object]:
    """What the whole numbers of a quantised tensor stand for."""
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [tensor.q_scale(), tensor.q_zero_point()]
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return [scales.tolist(), zeros.tolist(), tensor.q_per_channel_axis()]
