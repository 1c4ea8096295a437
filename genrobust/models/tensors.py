"""Tensors in bytes that come without trust: safetensors, checked before a byte is believed."""

from __future__ import annotations

import itertools
import json
import math
import pickletools
import re
from dataclasses import dataclass
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from genrobust.errors import GenrobustError

#: safetensors' names of the types that models and evidence are made of, with their bytes.
DTYPES = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8},
    **{"F16": 2, "BF16": 2, "F32": 4, "F64": 8},
}

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}")
_MAX_DIMENSIONS = 8


@dataclass(frozen=True)
class TensorLimits:
    """How much a safetensors file may hold; the defaults suit a model of 250 million numbers."""

    bytes: int = 1 << 30
    header_bytes: int = 4 << 20
    tensors: int = 10_000


def refuse_pickle(content: bytes, what: str) -> None:
    """Refuse bytes that are a pickle, or torch's zip around one; none of it is unpickled.

    Args:
        content: the bytes of a file.
        what: what to call it, such as ``"the file 'weights.safetensors'"``.

    Raises:
        GenrobustError: they are a pickle.

    Example:
        >>> refuse_pickle(b"{}", "the file")
        >>> import pickle
        >>> refuse_pickle(pickle.dumps([1]), "the file")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: the file is a pickle (torch.save), which could run ...
    """
    zipped = content[:4] == b"PK\x03\x04" and b"data.pkl" in content
    if zipped or _reads_as_pickle(content):
        raise GenrobustError(
            f"{what} is a pickle (torch.save), which could run code; save the state dict as "
            "safetensors: safetensors.torch.save_file(module.state_dict(), 'weights.safetensors')"
        )


def read_safetensors(
    content: bytes, limits: TensorLimits | None = None, what: str = "the safetensors file"
) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file, by name.

    The header is checked first: its size, names, types, shapes against bytes, and that the tensors
    lie side by side and fill the file. Whether values are finite is for the caller to say.

    Args:
        content: the whole file.
        limits: how much it may hold.
        what: what to call it in an error.

    Raises:
        GenrobustError: it is a pickle, damaged, too large or inconsistent.

    Example:
        >>> import torch
        >>> from safetensors.torch import save
        >>> read_safetensors(save({"w": torch.ones(2)}))
        {'w': tensor([1., 1.])}
    """
    limits = limits or TensorLimits()
    refuse_pickle(content, what)
    if len(content) > limits.bytes:
        raise GenrobustError(
            f"{what} has {len(content)} bytes and {limits.bytes} are allowed; give a smaller one"
        )
    problem = _problem(content, limits)
    if problem is None:
        try:
            return dict(sorted(load(content).items()))  # whose own order is chance's
        except (SafetensorError, ValueError, RuntimeError) as raised:
            problem = str(raised).splitlines()[0]
    raise GenrobustError(
        f"{what} is not a whole safetensors file ({problem}); write it with "
        "safetensors.torch.save_file"
    )


def _reads_as_pickle(content: bytes) -> bool:
    if content[8:9] == b"{":  # a safetensors header, whatever its length's bytes look like
        return False
    if content[:1] == b"\x80":
        return content[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    if not content.endswith(b"."):
        return False
    try:  # the text protocols have no mark at their start; reading opcodes runs none of them
        opcodes = [op.name for op, _, _ in itertools.islice(pickletools.genops(content), 1000)]
    except Exception:  # whatever it is, it is no pickle
        return False
    return len(opcodes) > 1


def _problem(content: bytes, limits: TensorLimits) -> str | None:
    """What is wrong with the header, if anything."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        return "it is cut short"
    if size > limits.header_bytes:
        return f"its header has {size} bytes and {limits.header_bytes} are allowed"
    try:
        header = json.loads(content[8 : 8 + size].decode(), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        return "its header is not JSON, or names something twice"
    if not isinstance(header, dict):
        return "its header is not a table"
    header.pop("__metadata__", None)
    if len(header) > limits.tensors:
        return f"it holds {len(header)} tensors and {limits.tensors} are allowed"
    spans = []
    for name, entry in header.items():
        if not _NAME.fullmatch(name):
            return f"the tensor name {name[:40]!a} is not allowed"
        span = _span(entry)
        if span is None:
            return f"the type, shape and place of tensor '{name[:40]}' do not fit together"
        spans.append(span)
    end = 0
    for first, last in sorted(spans):
        if first != end:
            return "its tensors overlap, or leave a gap"
        end = last
    return None if end == len(content) - 8 - size else "it has bytes that belong to no tensor"


def _span(entry: Any) -> tuple[int, int] | None:
    """First and last byte of a tensor; None where its entry contradicts itself."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    shape, offsets, width = entry["shape"], entry["data_offsets"], DTYPES.get(str(entry["dtype"]))
    if not (_are_counts(shape) and _are_counts(offsets)) or width is None:
        return None
    if len(shape) > _MAX_DIMENSIONS or len(offsets) != 2:
        return None
    first, last = offsets
    return (first, last) if last - first == math.prod(shape) * width else None


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in values)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found
