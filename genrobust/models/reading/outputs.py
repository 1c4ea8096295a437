"""What functions of other people return: what it holds, and what it is in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from genrobust.errors import GenrobustError

#: The most things in a sequence that are told one by one.
_MANY = 6

#: What to type of whole numbers, which an encoder gives at that place.
ENTRIES = (
    "if they say which entries of a codebook a code has, genrobust.Codebook(features, table), and "
    "pass decode=, a function of the entries, or, without a gradient, encode=lambda x: "
    "module.encode(x){}.float(), decode=lambda z: module.decode(z.long()) and differentiable=False"
)

#: What to type of complex numbers, of which a code has both parts.
_PARTS = (
    "torch.view_as_real(output), and pass decode=lambda z: module.decode(torch.view_as_complex(z))"
)


def get(output: Any, name: str) -> Any:
    """What a mapping holds under a name, or an object as an attribute; None where neither does.

    >>> class Attributes(dict):
    ...     def __getattr__(self, name):
    ...         return self[name]
    >>> get(Attributes(mu=1), "mu"), get(Attributes(mu=1), "logvar")
    (1, None)
    """
    if isinstance(output, Mapping) and (own := output.get(name)) is not None:
        return own
    with suppress(Exception):  # other people's __getattr__
        return getattr(output, name)
    return None


def at(output: Any, name: str) -> str:
    """How to write that a mapping's, or an object's, content of that name is taken."""
    is_key = isinstance(output, Mapping) and name in output
    return f"[{name!r}]" if is_key else f".{name}"


def fields(output: Any) -> dict[Any, Any]:
    """What a mapping holds, or an object in its attributes and slots; a sequence has none."""
    if isinstance(output, Mapping):
        return dict(output)
    if isinstance(output, (Tensor, Sequence)):
        return {}
    names = [*getattr(output, "__dict__", {})]
    for kind in type(output).__mro__:
        slots = vars(kind).get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return {name: get(output, name) for name in names}


def members(output: Any) -> list[tuple[str, Any]]:
    """All that a sequence, a mapping or an object holds, each with how to write that it is taken.

    >>> members({"loss": 1}), members([2])
    ([("['loss']", 1)], [('[0]', 2)])
    """
    if isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        return [(f"[{i}]", value) for i, value in enumerate(output)]
    return [(at(output, name), value) for name, value in fields(output).items()]


def describe(output: Any) -> str:
    """In a few words: a type, and the shapes in it."""
    if isinstance(output, Tensor):
        return "a nested tensor" if output.is_nested else f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with keys {sorted(map(str, output))}"
    if isinstance(output, (tuple, list)) and len(output) > _MANY:
        kind = type(output).__name__
        return f"a {kind} of {len(output)}, of which the first is {describe(output[0])}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of ({', '.join(describe(item) for item in output)})"
    return f"a {type(output).__name__}"


def plain(tensor: Tensor, who: str) -> Tensor:
    """The tensor, if it is dense and holds real floating numbers; in float32 at least.

    Raises:
        GenrobustError: it does not.
    """
    encodes = who == "the encoder"
    wrong = {
        "a nested tensor": (tensor.is_nested, "torch.nested.to_padded_tensor(output, 0)"),
        "quantised numbers": (tensor.is_quantized, "output.dequantize()"),
        "a sparse tensor": (tensor.layout != torch.strided, "output.to_dense()"),
        "complex numbers": (tensor.is_complex(), _PARTS if encodes else "output.real"),
        "whole numbers": (
            not tensor.is_floating_point(),
            f"output.float(); or, {ENTRIES.format('')}" if encodes else "output.float()",
        ),
    }
    for what, (is_so, remedy) in wrong.items():
        if is_so:
            raise GenrobustError(
                f"{who} gave {what} ({str(tensor.dtype).removeprefix('torch.')}), and genrobust "
                f"takes dense tensors of real floating numbers; let it return, for instance, "
                f"{remedy}"
            )
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
