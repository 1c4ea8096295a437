"""Tensors in bytes that come without trust: safetensors, checked before a byte is believed."""

from __future__ import annotations

import itertools
import pickletools
import re
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from genrobust import files
from genrobust.errors import GenrobustError, in_a_line

#: Of which models and evidence are made.
DTYPES = {
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
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

    Its size, names, types and shapes are checked, and that the tensors lie side by side and fill
    the file. Whether values are finite is for the caller to say.

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
    try:
        return _read(content, limits)
    except (SafetensorError, ValueError, RuntimeError, RecursionError) as problem:
        raise GenrobustError(
            f"{what} is not a whole safetensors file ({in_a_line(problem)}); write it with "
            "safetensors.torch.save_file"
        ) from problem


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


def _read(content: bytes, limits: TensorLimits) -> dict[str, Tensor]:
    """The tensors; the library sees that shapes are those of the bytes, which they fill.

    Raises:
        ValueError: what else is wrong.
    """
    size = int.from_bytes(content[:8], "little")
    if size > limits.header_bytes:
        raise ValueError(f"its header has {size} bytes and {limits.header_bytes} are allowed")
    if reason := files.repeats(content[8 : 8 + size]):
        raise ValueError(reason)
    found = load(content)
    if len(found) > limits.tensors:
        raise ValueError(f"it holds {len(found)} tensors and {limits.tensors} are allowed")
    for name, tensor in found.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"the tensor name {name[:40]!a} is not allowed")
        if tensor.dtype not in DTYPES or tensor.ndim > _MAX_DIMENSIONS:
            raise ValueError(f"the type or shape of tensor '{name[:40]}' is not allowed")
    return dict(sorted(found.items()))  # whose own order is chance's
