"""Atomic files: a reader sees the old content or the new, never a half."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genrobust.errors import GenrobustError


def write_bytes(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename.

    Raises:
        GenrobustError: the folder is read-only, the disk full, or the like.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # noqa: PTH101 - mkstemp gives 0600
        os.replace(temporary, path)  # noqa: PTH105
        temporary = None
    except OSError as problem:
        raise GenrobustError(
            f"cannot write '{path}' ({problem.strerror or problem}); choose a folder with --out "
            "that can be written to and has space left"
        ) from problem
    finally:  # also after an interrupt
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` for UTF-8 text."""
    write_bytes(path, content.encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata as one safetensors file."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ValueError: it is not a whole safetensors file.
        OSError: it cannot be read.
    """
    try:
        with safe_open(str(path), "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as problem:
        raise ValueError(f"not a whole safetensors file: {problem}") from problem


def sha256_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, types and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


_UMASK = _read_umask()
