"""What TorchScript keeps in C: the programs of functions and modules, and modules' attributes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from genrobust import files

#: The kinds of objects that it makes.
SCRIPTED: tuple[type, ...] = (
    *(torch._C.ScriptObject, torch._C.ScriptMethod, torch._C.ScriptFunction),
)

#: In a program: numbers of a project and of a class, where an object lies in memory, and, where a
#: line ends, the place that it comes from.
_PASSING = re.compile(
    r"_project\d+\.|___torch_mangle_\d+\.|(?<=object\()0x[0-9a-f]+|"
    r" # (?:(?! # ).)*:\d+:\d+$",
    re.MULTILINE,
)


def held_by_script(value: Any, kind: type) -> list[object]:
    """What such an object holds; of a module without its parts, which Python has too.

    >>> layer = torch.jit.script(torch.nn.Dropout(0.3))
    >>> programs, attributes = held_by_script(layer._c, type(layer._c))
    >>> list(programs), list(attributes)
    (['forward'], ['_is_full_backward_hook', 'training'])
    """
    if issubclass(kind, torch._C.ScriptFunction):
        return _program(value)
    if issubclass(kind, torch._C.ScriptMethod):
        return [value.name, torch.jit._recursive.wrap_cpp_module(value.owner)]
    if not issubclass(kind, torch._C.ScriptModule):
        return _state(value)
    known: Any = torch._C.ConcreteModuleType.from_jit_type(value._type())
    return [
        {name: _program(value._get_method(name)) for name in sorted(value._method_names())},
        {name: _attribute(value, name) for name in sorted(known.get_attributes())},
    ]


def _program(function: Any) -> list[object]:
    """A function, those that it calls, and what is in the text by its place alone."""
    graph = function.inlined_graph
    return [_PASSING.sub("", str(graph)), *_not_in_text(graph)]


def _not_in_text(block: Any) -> Iterator[object]:
    for node in block.nodes():
        if node.kind() == "prim::PythonOp":
            yield node.pyobj()
        elif node.kind() == "prim::Constant" and node.hasAttribute("value"):
            if node.kindOf("value") == "t":  # part of a program, and no weight
                yield files.sha256_of_tensors({"": node.t("value")})
            elif node.kindOf("value") == "ival":
                yield node.ival("value")
        for inner in node.blocks():
            yield from _not_in_text(inner)


def _attribute(module: Any, name: str) -> object:
    try:
        return module.getattr(name)
    except RuntimeError:  # an object of a scripted class that this process does not have
        return None


def _state(value: Any) -> list[object]:
    """The numbers of a layer that packs them, such as a quantised one."""
    try:
        return [value.__getstate__()]
    except Exception:  # it cannot be saved
        return []
